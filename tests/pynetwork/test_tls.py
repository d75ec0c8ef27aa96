"""TLS with the usual kinds of trust."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from handshakes.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    RemoteProtocolError,
)
from pynetwork.endpoints import connect
from pynetwork.tls import TLS, GatewayTLS, for_controller
from tests.certificates import Certificates
from tests.serving import PATIENCE, Background

# The caller's side


def tls_connect(certificates: Certificates, options: TLS | ssl.SSLContext, server: TLS | None = None) -> bytes:
    """The certificate hash that a caller sees, after a byte went each way."""
    context = (server or certificates.gateway).server_context()

    def serve(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted:
            try:
                secured = context.wrap_socket(accepted, server_side=True)
            except OSError:
                return  # the caller turned away; the caller's error is what counts
            with secured:
                secured.settimeout(PATIENCE)
                with suppress(OSError):
                    secured.sendall(secured.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = Background(serve, listener)
        try:
            stream = connect("127.0.0.1", listener.getsockname()[1], timeout=PATIENCE, tls=options)
            try:
                stream.send([b"!"])
                answer = bytearray(1)
                if not stream.receive_into(memoryview(answer), PATIENCE) or answer != b"!":
                    raise ConnectionLost("the server hung up")
                return stream.certificate
            finally:
                stream.close()
        finally:
            serving.result()


def test_trusted_by_an_authority(certificates: Certificates) -> None:
    assert tls_connect(certificates, certificates.controller).hex() == certificates.fingerprint


def test_a_context_of_the_users_own(certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    assert tls_connect(certificates, context).hex() == certificates.fingerprint


def test_an_authority_that_did_not_sign(certificates: Certificates) -> None:
    with pytest.raises(AuthenticationFailed, match="is not trusted"):
        tls_connect(certificates, TLS(ca=certificates.other_ca))


def test_without_authority_the_systems_are_asked(certificates: Certificates) -> None:
    with pytest.raises(AuthenticationFailed, match="is not trusted"):
        tls_connect(certificates, TLS())


@pytest.mark.parametrize(
    "form", [str.lower, str.upper, lambda text: "SHA256:" + ":".join(map("".join, zip(*[iter(text)] * 2, strict=True)))]
)
def test_a_pinned_fingerprint_in_any_form(certificates: Certificates, form: Callable[[str], str]) -> None:
    options = TLS(fingerprint=form(certificates.fingerprint))
    assert tls_connect(certificates, options).hex() == certificates.fingerprint


def test_another_fingerprint_than_the_pinned(certificates: Certificates) -> None:
    with pytest.raises(AuthenticationFailed, match=f"has the fingerprint {certificates.fingerprint}, pinned is 00"):
        tls_connect(certificates, TLS(fingerprint="00" * 32))


def test_both_sides_show_a_certificate(certificates: Certificates) -> None:
    server = TLS(certificates.server, certificates.server_key, ca=certificates.ca)
    caller = TLS(certificates.caller, certificates.caller_key, ca=certificates.ca)
    assert tls_connect(certificates, caller, server).hex() == certificates.fingerprint


@pytest.mark.parametrize("shown", ["none", "strange"])
def test_a_caller_without_the_right_certificate(certificates: Certificates, shown: str) -> None:
    server = TLS(certificates.server, certificates.server_key, ca=certificates.ca)
    caller = TLS(ca=certificates.ca)
    if shown == "strange":
        caller = TLS(certificates.other, certificates.other_key, ca=certificates.ca)
    with pytest.raises((ConnectionLost, RemoteProtocolError)):
        tls_connect(certificates, caller, server)


def test_tls_options_that_can_not_be_used(certificates: Certificates) -> None:
    with pytest.raises(ConfigurationError, match="needs certificate="):
        TLS(ca=certificates.ca).server_context()
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        TLS(certificate="missing.pem", private_key="missing.key").server_context()
    with pytest.raises(ConfigurationError, match="can't be used"):
        TLS(ca=certificates.server_key).client_context()
    with pytest.raises(ConfigurationError, match="can't be used"):
        TLS(certificate=certificates.server, private_key=certificates.other_key).server_context()


def test_a_server_that_speaks_no_tls(certificates: Certificates) -> None:
    def answer(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"220 this is something else\r\n")
            accepted.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = Background(answer, listener)
        with pytest.raises(RemoteProtocolError, match="does not speak TLS as expected"):
            connect("127.0.0.1", listener.getsockname()[1], timeout=PATIENCE, tls=certificates.controller)
        answering.result()


def test_a_server_that_breaks_the_connection_in_the_tls_handshake(certificates: Certificates) -> None:
    def reset(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        accepted.recv(1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = Background(reset, listener)
        with pytest.raises(ConnectionLost, match="does that gateway have tls="):
            connect("127.0.0.1", listener.getsockname()[1], timeout=PATIENCE, tls=certificates.controller)
        answering.result()


def test_a_server_that_does_not_answer_the_tls_handshake(certificates: Certificates) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(DeadlineExceeded, match="did not answer the TLS handshake"),
    ):
        connect("127.0.0.1", listener.getsockname()[1], timeout=0.2, tls=certificates.controller)


# The gateway's side


def test_a_gateway_knows_the_certificate_that_was_named(certificates: Certificates) -> None:
    assert GatewayTLS(certificates.gateway).certificate.hex() == certificates.fingerprint
    assert GatewayTLS(certificates.gateway.server_context()).certificate == b""


def test_what_a_handshake_waits_for(certificates: Certificates) -> None:
    tls = GatewayTLS(certificates.gateway)
    near, far = socket.socketpair()
    near.setblocking(False)
    with far, tls.wrap(near) as sock:
        with pytest.raises(ssl.SSLWantReadError) as early:
            sock.do_handshake()
        assert tls.awaited(early.value) == selectors.EVENT_READ
        far.sendall(b"220 this is something else\r\n")
        with pytest.raises(ssl.SSLError) as broken:
            sock.do_handshake()
        assert tls.awaited(broken.value) == 0
    assert tls.awaited(ssl.SSLWantWriteError()) == selectors.EVENT_WRITE


# Both


@pytest.mark.parametrize("kind", [GatewayTLS, for_controller])
def test_what_is_no_tls(kind: Callable[..., object]) -> None:
    with pytest.raises(ConfigurationError, match=r"tls='ca\.pem' must be a TLS\(.*or an ssl\.SSLContext"):
        kind("ca.pem")

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator

import pytest

from handshakes.errors import AuthenticationFailed, ConnectionLost, DeadlineExceeded, RemoteProtocolError
from pynetwork.aio.endpoints import connect
from pynetwork.endpoints import TLS
from tests.certificates import Certificates
from tests.pynetwork.aio.looping import add, controller_of, on_loop
from tests.serving import PATIENCE, serving


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


async def ended(listener: socket.socket) -> bool:
    """Whether the connection that was made here is ended from afar, after whatever was said."""
    accepted, _ = await asyncio.to_thread(listener.accept)
    with accepted:
        accepted.settimeout(PATIENCE)
        while await asyncio.to_thread(accepted.recv, 65536):
            pass
    return True


# Nobody there


@on_loop
async def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = port_of(bound)
        with pytest.raises(ConnectionLost, match=f"no gateway can be reached at 127.0.0.1:{port}: [^;]*$") as caught:
            await connect("127.0.0.1", port, timeout=PATIENCE)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@on_loop
async def test_an_unknown_host_is_named() -> None:
    for host in ("no.such.host.invalid", "raspberrypi.local:1857"):
        with pytest.raises(ConnectionLost, match=f"'{host}' is no known host: .*; a port is given by itself"):
            await connect(host, 1, timeout=PATIENCE)


@on_loop
async def test_a_host_that_does_not_answer(certificates: Certificates, silent: socket.socket) -> None:
    """Here to the TLS handshake."""
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.1 s"):
        await connect("127.0.0.1", port_of(silent), timeout=0.1, tls=certificates.controller)
    assert await ended(silent)


# Cancelling


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_connecting_is_cancelled(certificates: Certificates, silent: socket.socket, times: int) -> None:
    connecting = asyncio.ensure_future(connect("127.0.0.1", port_of(silent), tls=certificates.controller))
    accepted, _ = await asyncio.to_thread(silent.accept)
    with accepted:
        accepted.settimeout(PATIENCE)
        assert await asyncio.to_thread(accepted.recv, 65536)
        for _ in range(times):
            connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert await asyncio.to_thread(accepted.recv, 65536) == b""


# TLS


@on_loop
async def test_trusted_by_an_authority_or_its_fingerprint(certificates: Certificates) -> None:
    with serving(add, tls=certificates.gateway) as gateway:
        own = ssl.create_default_context(cafile=certificates.ca)
        for tls in (certificates.controller, TLS(fingerprint=certificates.fingerprint), own):
            async with controller_of(gateway, tls=tls).get_client() as client:
                assert await client.call("add", 1) == 2


@on_loop
async def test_an_authority_that_did_not_sign(certificates: Certificates) -> None:
    with serving(tls=certificates.gateway) as gateway:
        for tls in (TLS(ca=certificates.other_ca), TLS()):
            with pytest.raises(AuthenticationFailed, match="is not trusted"):
                await connect("127.0.0.1", gateway.port, timeout=PATIENCE, tls=tls)


@on_loop
async def test_another_fingerprint_than_the_pinned(certificates: Certificates) -> None:
    shown = f"has the fingerprint {certificates.fingerprint}, pinned is 00"
    with serving(tls=certificates.gateway) as gateway, pytest.raises(AuthenticationFailed, match=shown):
        await connect("127.0.0.1", gateway.port, timeout=PATIENCE, tls=TLS(fingerprint="00" * 32))


@on_loop
async def test_tls_at_the_gateway_only(certificates: Certificates) -> None:
    told = "if that gateway has tls=, it is needed here too"
    with serving(tls=certificates.gateway) as gateway, pytest.raises(ConnectionLost, match=told):
        await controller_of(gateway).get_client()


@on_loop
async def test_tls_at_the_caller_only(certificates: Certificates) -> None:
    told = "does that gateway have tls="
    with serving() as gateway, pytest.raises((ConnectionLost, RemoteProtocolError), match=told):
        await controller_of(gateway, tls=certificates.controller).get_client()

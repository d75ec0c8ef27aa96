"""TLS for both sides: the usual kinds of trust, and how a connected socket becomes a secured stream.

Imported only where there is a ``tls=``, as importing `ssl` takes a while.
"""

from __future__ import annotations

import hashlib
import selectors
import socket
import ssl
from dataclasses import dataclass
from os import PathLike

from handshakes.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    RemoteProtocolError,
)
from pynetwork.transport import Deadline, TlsStream

__all__ = ["TLS", "GatewayTLS", "for_controller", "secure"]


@dataclass(frozen=True)
class TLS:
    """The usual kinds of TLS, for ``tls=`` of a gateway or a controller. All files are PEM.

    Gateway: ``certificate`` and ``private_key``; with ``ca`` too, callers must show a certificate signed by it
    (mutual TLS). Controller: ``ca`` (a file) or ``fingerprint`` (the SHA-256 of the gateway's certificate in hex,
    pinned: the name in the certificate is then of no matter); with ``certificate`` and ``private_key``, it shows its
    own. With neither ``ca`` nor ``fingerprint`` the system's authorities are trusted.
    """

    certificate: str | PathLike[str] | None = None
    private_key: str | PathLike[str] | None = None
    ca: str | PathLike[str] | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        digits = _digits(self.fingerprint or "0" * 64)
        if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
            raise ConfigurationError(f"fingerprint={self.fingerprint!r} is no SHA-256 in hex: that has 64 digits")

    def server_context(self) -> ssl.SSLContext:
        """For a gateway. Raises `ConfigurationError` for missing or unreadable files."""
        if self.certificate is None:
            raise ConfigurationError("a gateway's tls= needs certificate= and private_key=")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(context)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a controller. Raises `ConfigurationError` for missing or unreadable files."""
        context = ssl.create_default_context() if self.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.fingerprint is not None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._load(context)
        return context

    def certificate_hash(self) -> bytes:
        """SHA-256 of the gateway's own certificate."""
        assert self.certificate is not None
        with open(self.certificate, encoding="ascii", errors="replace") as file:
            text = file.read()
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        first = text[text.index(begin) : text.index(end) + len(end)]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()

    def check_fingerprint(self, certificate: bytes) -> None:
        """Raises `AuthenticationFailed` when a pinned fingerprint is not that of the DER ``certificate``."""
        if self.fingerprint is None:
            return
        wanted = _digits(self.fingerprint)
        shown = hashlib.sha256(certificate).hexdigest()
        if shown != wanted:
            raise AuthenticationFailed(f"the gateway's certificate has the fingerprint {shown}, pinned is {wanted}")

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.private_key)
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except OSError as error:
            raise ConfigurationError(f"tls= can't be used: {error} ({self})") from error


def for_controller(tls: TLS | ssl.SSLContext) -> TLS | ssl.SSLContext:
    """A controller's ``tls=`` with its files read: a context, or the `TLS` itself where it pins a fingerprint.

    Raises `ConfigurationError` for what is neither, and for files that can't be used.
    """
    if not isinstance(tls, (TLS, ssl.SSLContext)):
        raise ConfigurationError(f"tls={tls!r} must be a TLS(ca=) or TLS(fingerprint=), or an ssl.SSLContext")
    return tls.client_context() if isinstance(tls, TLS) and tls.fingerprint is None else tls


def secure(sock: socket.socket, host: str, place: str, tls: ssl.SSLContext | TLS, deadline: Deadline) -> TlsStream:
    """A stream over ``sock``, which is connected to ``host`` and closed when this fails.

    Raises `AuthenticationFailed`, `ConnectionLost` and `DeadlineExceeded`, and `RemoteProtocolError` where no TLS is
    spoken.
    """
    context = tls.client_context() if isinstance(tls, TLS) else tls
    try:
        sock.settimeout(deadline.remaining())
        secured = context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise AuthenticationFailed(f"the certificate of {place} is not trusted: {error.verify_message}") from error
    except TimeoutError as error:
        sock.close()
        raise DeadlineExceeded(f"{place} did not answer the TLS handshake in time") from error
    except ConnectionError as error:
        sock.close()
        raise ConnectionLost(
            f"{place} ended the connection in the TLS handshake ({error.strerror}); does that gateway have tls=?"
        ) from error
    except OSError as error:
        sock.close()
        raise RemoteProtocolError(
            f"{place} does not speak TLS as expected ({error}); does that gateway have tls=?"
        ) from error
    certificate = secured.getpeercert(binary_form=True) or b""
    try:
        if isinstance(tls, TLS):
            tls.check_fingerprint(certificate)
    except AuthenticationFailed:
        secured.close()
        raise
    return TlsStream(secured, place, hashlib.sha256(certificate).digest())


class GatewayTLS:
    """What a gateway does with its ``tls=``: from a socket that was accepted to a stream, without ever waiting.

    ``certificate`` is the SHA-256 of the gateway's own certificate, empty where only a context was given. Raises
    `ConfigurationError` for what is neither a `TLS` nor a context, and for files that can't be used.
    """

    def __init__(self, tls: TLS | ssl.SSLContext) -> None:
        if not isinstance(tls, (TLS, ssl.SSLContext)):
            raise ConfigurationError(f"tls={tls!r} must be a TLS(certificate=, private_key=) or an ssl.SSLContext")
        self._context = tls.server_context() if isinstance(tls, TLS) else tls
        self.certificate = tls.certificate_hash() if isinstance(tls, TLS) else b""

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """``sock``, whose handshake is still to be done. Raises `OSError`."""
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def awaited(self, error: OSError) -> int:
        """The events of a selector that a wrapped socket waits for when it raises ``error``; 0 when it broke."""
        if isinstance(error, ssl.SSLWantReadError):
            return selectors.EVENT_READ
        return selectors.EVENT_WRITE if isinstance(error, ssl.SSLWantWriteError) else 0

    def stream(self, sock: socket.socket, peer: str) -> TlsStream:
        """The stream over a wrapped socket whose handshake is done."""
        assert isinstance(sock, ssl.SSLSocket)
        return TlsStream(sock, peer, self.certificate)


def _digits(fingerprint: str) -> str:
    return fingerprint.lower().replace(":", "").removeprefix("sha256")

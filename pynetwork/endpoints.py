"""Where streams come from: connecting to a gateway, listening for callers, and the usual kinds of TLS for both."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from handshakes.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    RemoteProtocolError,
)
from pynetwork.transport import Deadline, TcpStream, TlsStream

__all__ = ["TLS", "connect", "listen"]


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


def _digits(fingerprint: str) -> str:
    return fingerprint.lower().replace(":", "").removeprefix("sha256")


def connect(
    host: str, port: int, *, timeout: float | None = None, tls: ssl.SSLContext | TLS | None = None
) -> TcpStream:
    """A stream to ``host``, at any of its addresses. Raises `ConnectionLost`, `DeadlineExceeded`,
    `AuthenticationFailed`.
    """
    deadline = Deadline(timeout)
    place = f"{host}:{port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConnectionLost(f"{host!r} is no known host: {reason}; a port is given by itself") from error
    failure: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(deadline.remaining())
            sock.connect(address)
        except OSError as error:
            if sock is not None:
                sock.close()
            failure = error
            continue
        return TcpStream(sock, place) if tls is None else _secure(sock, host, place, tls, deadline)
    if isinstance(failure, TimeoutError) or deadline.passed:
        raise DeadlineExceeded(f"{place} did not answer within {timeout} s") from failure
    reason = failure.strerror or str(failure) if failure else "it has no address"
    if isinstance(failure, ConnectionRefusedError) and not ipaddress.ip_address(address[0]).is_loopback:
        reason += "; a gateway without key= and tls= serves only the machine it runs on"
    raise ConnectionLost(f"no gateway can be reached at {place}: {reason}") from failure


def _secure(sock: socket.socket, host: str, place: str, tls: ssl.SSLContext | TLS, deadline: Deadline) -> TlsStream:
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


def listen(hosts: Sequence[str], port: int, *, backlog: int = 512) -> list[socket.socket]:
    """Listening sockets on the same port of every address in ``hosts`` that this machine has.

    ``port`` 0 takes one that is free on all. `ConfigurationError` names a busy port, and who holds it as far as the
    system tells.
    """
    for attempt in range(20):
        sockets: list[socket.socket] = []
        number = port
        try:
            for host in hosts:
                sock = _listen_one(host, number, backlog, needed=not sockets)
                if sock is not None:
                    sockets.append(sock)
                    number = sock.getsockname()[1]
            return sockets
        except OSError as error:
            for sock in sockets:
                sock.close()
            if port or attempt == 19 or error.errno != errno.EADDRINUSE:
                holder = _holder(host, number) if error.errno == errno.EADDRINUSE else "what holds it"
                raise ConfigurationError(
                    f"port {number} of {host} can't be listened on: {error.strerror}; "
                    f"stop {holder}, or take another (0 takes any that is free)"
                ) from error
    raise AssertionError("unreachable")


def _holder(host: str, port: int) -> str:
    """Who listens on a port of this machine, rather on this address than on all, as far as this process may know."""
    # Only now, as it takes a while.
    import psutil  # noqa: PLC0415

    try:
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        holding = [(each.laddr.ip == host, each.pid) for each in listening if each.laddr and each.laddr.port == port]
        _, pid = max((known, pid) for known, pid in holding if pid)
        if pid == os.getpid():
            return "what holds it in this very process"
        return f"{psutil.Process(pid).name()} (process {pid}), which holds it"
    except (psutil.Error, ValueError, OSError):
        return "what holds it"


def _listen_one(host: str, port: int, backlog: int, needed: bool) -> socket.socket | None:
    """One listening socket; None for an address this machine lacks, unless it is the one that is ``needed``."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError:
        if needed:
            raise
        return None
    try:
        if sys.platform != "win32":
            # On Windows this option would let a second process take the port; elsewhere it only skips TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
        return sock
    except OSError as error:
        sock.close()
        if needed or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        return None

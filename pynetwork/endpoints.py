"""Where streams come from: connecting to a gateway, and listening for callers."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from handshakes.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    PynetworkError,
    RemoteProtocolError,
)
from pynetwork.transport import Deadline, TcpStream

if TYPE_CHECKING:
    import ssl

    from pynetwork.tls import TLS

__all__ = ["addresses_for", "connect", "explained", "listen"]


def connect(
    host: str,
    port: int,
    *,
    timeout: float | None = None,
    tls: ssl.SSLContext | TLS | None = None,
    peer: str = "gateway",
) -> TcpStream:
    """A stream to ``host``, at any of its addresses; ``peer`` is what errors call who should be there.

    Raises `ConnectionLost`, `DeadlineExceeded`, `AuthenticationFailed`.
    """
    deadline = Deadline(timeout)
    place = f"{host}:{port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "; a port is given by itself" if ":" in host else ""
        raise ConnectionLost(f"{host!r} is no known host: {reason}{hint}") from error
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
        if tls is None:
            return TcpStream(sock, place)
        # Only now, as it takes a while.
        from pynetwork.tls import secure  # noqa: PLC0415

        return secure(sock, host, place, tls, deadline)
    if isinstance(failure, TimeoutError) or deadline.passed:
        raise DeadlineExceeded(f"{place} did not answer within {timeout} s") from failure
    reason = failure.strerror or str(failure) if failure else "it has no address"
    if isinstance(failure, ConnectionRefusedError) and not ipaddress.ip_address(address[0]).is_loopback:
        reason += f"; a {peer} without key= and tls= serves only the machine it runs on"
    raise ConnectionLost(f"no {peer} can be reached at {place}: {reason}") from failure


def explained(
    error: OSError | UnicodeError, host: str, place: str, *, secured: bool, peer: str = "gateway"
) -> PynetworkError:
    """What `connect` raises for the same, for those who connect in another way; ``secured``: with TLS."""
    # Whoever asks has it already; to import it takes a while.
    import ssl  # noqa: PLC0415

    reason = getattr(error, "strerror", None) or str(error) or "the connection was ended"
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthenticationFailed(f"the certificate of {place} is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return RemoteProtocolError(f"{place} does not speak TLS as expected ({error}); does that {peer} have tls=?")
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{place} did not answer in time")
    if isinstance(error, (socket.gaierror, UnicodeError)):
        hint = "; a port is given by itself" if ":" in host else ""
        return ConnectionLost(f"{host!r} is no known host: {reason}{hint}")
    if secured and isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
        return ConnectionLost(
            f"{place} ended the connection in the TLS handshake ({reason}); does that {peer} have tls=?"
        )
    if isinstance(error, ConnectionRefusedError) and not _is_loopback(host):
        reason += f"; a {peer} without key= and tls= serves only the machine it runs on"
    return ConnectionLost(f"no {peer} can be reached at {place}: {reason}")


def addresses_for(host: str | None, *, protected: bool) -> list[str]:
    """What to listen on. Raises `ConfigurationError` for an address beyond this machine without any protection."""
    if host is None:
        return ["0.0.0.0", "::"] if protected else ["127.0.0.1", "::1"]
    if not protected and not _is_loopback(host):
        raise ConfigurationError(
            f"host={host!r} would let anyone who reaches this machine use it; give key= (and tls=, where "
            "others can listen in), or leave host= out to serve this machine only"
        )
    return [host]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
                raise ConfigurationError(
                    f"port {number} of {host} can't be listened on: {error.strerror}; {_way_out(error, host, number)}"
                ) from error
    raise AssertionError("unreachable")


def _way_out(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "host= takes an address of this machine"
    if error.errno == errno.EADDRINUSE:
        return f"stop {_holder(host, port)}, or take another (0 takes any that is free)"
    return "take another (0 takes any that is free)"


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

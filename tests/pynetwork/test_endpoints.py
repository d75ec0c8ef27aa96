"""Connecting and listening."""

from __future__ import annotations

import errno
import itertools
import re
import select
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack

import psutil
import pytest

from handshakes.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    RemoteProtocolError,
)
from pynetwork import endpoints
from pynetwork.endpoints import connect, explained, listen
from tests.serving import PATIENCE
from tests.waiting import wait_until

# Connecting


def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(ConnectionLost, match=f"no gateway can be reached at 127.0.0.1:{port}: [^;]*$") as caught:
            connect("127.0.0.1", port, timeout=PATIENCE)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_whoever_is_refused_by_another_machine_is_told_why_that_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_sock: socket.socket, _address: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for host in ("192.0.2.1", "2001:db8::1"):
        with pytest.raises(ConnectionLost, match="Connection refused; a gateway without key= and tls= serves only the"):
            connect(host, 1857)
        with pytest.raises(ConnectionLost, match=r"no server can be .* refused; a server without key= and tls= serves"):
            connect(host, 1857, peer="server")


@pytest.mark.parametrize(
    ("error", "secured", "kind", "says"),
    [
        (
            ConnectionRefusedError(111, "refused"),
            False,
            ConnectionLost,
            "no store can be reached at there:7: refused; a",
        ),
        (ConnectionResetError(104, "reset"), False, ConnectionLost, "no store can be reached at there:7: reset$"),
        (
            ConnectionResetError(104, "reset"),
            True,
            ConnectionLost,
            r"TLS handshake \(reset\); does that store have",
        ),
        (
            ssl.SSLError(1, "wrong version"),
            True,
            RemoteProtocolError,
            "does not speak TLS .* does that store have",
        ),
        (TimeoutError(), False, DeadlineExceeded, "there:7 did not answer in time"),
        (socket.gaierror(-2, "unknown"), False, ConnectionLost, "'there' is no known host: unknown$"),
        (OSError(), False, ConnectionLost, "no store can be reached at there:7: the connection was ended"),
    ],
)
def test_what_another_way_of_connecting_raises(error: OSError, secured: bool, kind: type[Exception], says: str) -> None:
    found = explained(error, "there", "there:7", secured=secured, peer="store")
    assert type(found) is kind
    with pytest.raises(kind, match=says):
        raise found


def test_a_certificate_that_is_not_trusted_says_so_in_another_way_too() -> None:
    error = ssl.SSLCertVerificationError(1, "no")
    error.verify_message = "it is too old"
    found = explained(error, "there", "there:7", secured=True)
    assert type(found) is AuthenticationFailed
    assert str(found) == "the certificate of there:7 is not trusted: it is too old"


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(ConnectionLost, match=r"'no\.such\.host\.invalid' is no known host: [^;]*$"):
        connect("no.such.host.invalid", 1, timeout=PATIENCE)
    with pytest.raises(ConnectionLost, match=r"local:1857' is no known host: .*; a port is given by itself"):
        connect("raspberrypi.local:1857", 1, timeout=PATIENCE)


def test_a_host_that_does_not_answer() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        # Two fill the queue of a listener that accepts nobody; the next is not answered.
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        with pytest.raises(DeadlineExceeded, match="did not answer within"):
            connect(*address, timeout=0.2)


def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", sock.getsockname()) for sock in (dead, server)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: addresses)
        stream = connect("twofold", 7, timeout=PATIENCE)
        assert stream.peer == "twofold:7"
        stream.close()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [])
        with pytest.raises(ConnectionLost, match="it has no address"):
            connect("nowhere", 7)


# Listening


def close_all(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def test_both_families_on_one_free_port() -> None:
    listeners = listen(["127.0.0.1", "::1"], 0)
    assert [each.family for each in listeners] == [socket.AF_INET, socket.AF_INET6]
    assert len({each.getsockname()[1] for each in listeners}) == 1
    for host in ("127.0.0.1", "::1"):
        connect(host, listeners[0].getsockname()[1], timeout=PATIENCE).close()
    close_all(listeners)


def test_a_busy_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} of 127.0.0.1 can't be listened on.*0 takes any"):
            listen(["127.0.0.1"], port)
        with pytest.raises(ConfigurationError, match="stop what holds it in this very process, or"):
            listen(["127.0.0.1"], port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_no_busy_port(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"of {host} can't be .*; host= takes an address of this machine$"):
        listen([host], 0)


HOLDER = """
import socket, sys
holder = socket.create_server(("127.0.0.1", 0))
print(holder.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_who_holds_a_busy_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        name = re.escape(psutil.Process(holder.pid).name())
        with pytest.raises(ConfigurationError, match=rf"stop {name} \(process {holder.pid}\), which holds it, or"):
            listen(["127.0.0.1"], port)

        def forbidden(*_arguments: object) -> None:
            raise psutil.AccessDenied

        monkeypatch.setattr(psutil, "net_connections", forbidden)
        with pytest.raises(ConfigurationError, match="stop what holds it, or"):
            listen(["127.0.0.1"], port)
        monkeypatch.setattr(psutil, "net_connections", lambda _kind: [])
        with pytest.raises(ConfigurationError, match="stop what holds it, or"):
            listen(["127.0.0.1"], port)
        holder.communicate()


def test_a_port_is_free_again_at_once() -> None:
    """Connections that linger in TIME_WAIT hold no port, and two listeners never share one."""
    (listener,) = listen(["127.0.0.1"], 0)
    port = listener.getsockname()[1]
    with pytest.raises(ConfigurationError, match="in this very process"):
        listen(["127.0.0.1"], port)
    caller = socket.create_connection(("127.0.0.1", port), PATIENCE)
    wait_until(lambda: select.select([listener], [], [], 0)[0])
    accepted, _ = listener.accept()
    # Whoever closes first is left with TIME_WAIT.
    accepted.close()
    assert caller.recv(1) == b""
    caller.close()
    listener.close()
    close_all(listen(["127.0.0.1"], port))


def test_a_port_that_is_busy_on_the_second_address_only() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} of ::1"):
            listen(["127.0.0.1", "::1"], port)
    close_all(listen(["127.0.0.1", "::1"], port))  # the first listener was given back


def test_a_free_port_that_is_busy_elsewhere_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = itertools.count()
    real = endpoints._listen_one

    def crowded(host: str, port: int, backlog: int, needed: bool) -> socket.socket | None:
        if host == "::1" and next(tries) < 3:
            raise OSError(errno.EADDRINUSE, "taken")
        return real(host, port, backlog, needed)

    monkeypatch.setattr(endpoints, "_listen_one", crowded)
    listeners = listen(["127.0.0.1", "::1"], 0)
    assert len(listeners) == 2
    close_all(listeners)


def test_an_address_this_machine_lacks() -> None:
    listeners = listen(["127.0.0.1", "192.0.2.1"], 0)
    assert len(listeners) == 1
    close_all(listeners)
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1"):
        listen(["192.0.2.1"], 0)
    with pytest.raises(ConfigurationError, match=r"no\.such\.host\.invalid"):
        listen(["no.such.host.invalid"], 0)

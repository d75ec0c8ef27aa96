"""Ctrl-C while somebody waits for bytes: what can be known of those that were on their way."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import DeadlineExceeded
from pynetwork import tcp_info, transport
from pynetwork.transport import MemoryStream, TcpStream
from tests.certificates import Certificates
from tests.pynetwork.test_transport import read, tls_pair
from tests.serving import PATIENCE

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much was received")


class Interrupted(socket.socket):
    """Receives up to the ``harmless`` th time, and then Ctrl-C comes: before it has received, or just after."""

    harmless = 0
    too_late = False

    def recv_into(self, *arguments: Any) -> int:
        self.harmless -= 1
        if self.harmless >= 0:
            return super().recv_into(*arguments)
        if self.too_late:
            super().recv_into(*arguments)
        raise KeyboardInterrupt


@pytest.fixture
def both() -> Iterator[tuple[Interrupted, TcpStream, TcpStream]]:
    """A socket that is interrupted, the stream over it, and its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname(), PATIENCE)
        accepted, _ = server.accept()
    sock = Interrupted(fileno=accepted.detach())
    near, other = TcpStream(sock), TcpStream(far)
    yield sock, near, other
    near.close()
    other.close()


def interrupted(stream: TcpStream | MemoryStream) -> KeyboardInterrupt:
    with pytest.raises(KeyboardInterrupt) as caught:
        stream.receive_into(memoryview(bytearray(4)), PATIENCE)
    return caught.value


@linux
@pytest.mark.parametrize("before", [0, 3])
def test_nothing_was_received(both: tuple[Interrupted, TcpStream, TcpStream], before: int) -> None:
    sock, near, far = both
    far.send([b"abc" * before, b"defg"], PATIENCE)
    sock.harmless = before
    for _ in range(before):
        assert read(near, 3) == b"abc"
    interrupt = interrupted(near)
    assert near.spared_by(interrupt)
    # Told once: another one has to be asked about anew.
    assert not near.spared_by(interrupt)
    sock.harmless = 1
    assert read(near, 4) == b"defg"


@pytest.mark.parametrize("size", [1, 4, 100])
def test_something_was_received(both: tuple[Interrupted, TcpStream, TcpStream], size: int) -> None:
    sock, near, far = both
    far.send([b"x" * size], PATIENCE)
    sock.too_late = True
    assert not near.spared_by(interrupted(near))


def test_another_interrupt_is_not_that_one(both: tuple[Interrupted, TcpStream, TcpStream]) -> None:
    _, near, _ = both
    interrupted(near)
    assert not near.spared_by(KeyboardInterrupt())
    assert not near.spared_by(DeadlineExceeded())


@pytest.mark.parametrize("missing", [b"", b"short"])
def test_a_system_that_does_not_tell(
    both: tuple[Interrupted, TcpStream, TcpStream], missing: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, near, _ = both
    monkeypatch.setattr(Interrupted, "getsockopt", lambda *_arguments: missing, raising=False)
    assert not near.spared_by(interrupted(near))
    assert tcp_info.handed_out(sock) is None
    monkeypatch.setattr(transport.sys, "platform", "another")
    assert tcp_info.handed_out(sock) is None


def test_a_closed_socket_tells_nothing() -> None:
    sock = socket.socket()
    sock.close()
    assert tcp_info.handed_out(sock) is None


def test_others_never_know(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = tls_pair(certificates)
    far.send([b"x"], PATIENCE)
    assert read(near, 1) == b"x"

    def interrupt(*_arguments: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(near._sock, "recv_into", interrupt)  # type: ignore[attr-defined]
    assert isinstance(near, TcpStream)
    assert not near.spared_by(interrupted(near))
    near.close()
    far.close()
    one, other = MemoryStream.pair()
    assert not one.spared_by(KeyboardInterrupt())
    one.close()
    other.close()

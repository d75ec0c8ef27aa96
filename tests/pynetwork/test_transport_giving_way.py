"""A stream that gives way keeps its contract."""

from __future__ import annotations

import os
import socket

import pytest

from handshakes.errors import Closed, ConnectionLost, DeadlineExceeded
from pynetwork.pacing import Bottleneck, Lane
from pynetwork.transport import MemoryStream, Stream, TcpStream
from tests.pynetwork.test_transport import MEGABYTE, Pair, pair, read, tcp_pair
from tests.serving import PATIENCE, Background

__all__ = ["pair"]


class Narrow(Bottleneck):
    """A bottleneck whose lanes send in small pieces, and which counts how often they asked."""

    def __init__(self, piece: int = 1000) -> None:
        super().__init__()
        self.steered = 0
        self._piece = piece

    def join(self, sock: socket.socket) -> Lane:
        lane = super().join(sock)
        lane.steered, lane.piece = True, self._piece
        return lane

    def steer(self, lane: Lane) -> None:
        self.steered += 1


def test_everything_arrives_in_order_and_is_counted(pair: Pair) -> None:
    near, far = pair
    parts = [b"head", b"", bytearray(b"-array-"), os.urandom(200_000), memoryview(b"xviewx")[1:5], b"", b"tail"]
    wanted = b"".join(parts)
    with near.giving_way(Narrow()):
        sending = Background(near.send, parts, PATIENCE)
        assert read(far, len(wanted)) == wanted
        sending.result()
        near.send([])
        near.send([b""])
    near.send([b"after"])
    assert read(far, 5) == b"after"
    assert near.sent == len(wanted) + 5


@pytest.mark.parametrize("apart", [True, False])
def test_a_real_bottleneck(pair: Pair, apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if apart:
        monkeypatch.setattr("pynetwork.pacing._on_one_machine", lambda _sock: False)
    near, far = pair
    wanted = os.urandom(4 * MEGABYTE)
    bottleneck = Bottleneck()
    for _ in range(2):
        with near.giving_way(bottleneck):
            sending = Background(near.send, [wanted[:MEGABYTE], wanted[MEGABYTE:]])
            assert read(far, len(wanted)) == wanted
            sending.result()


def test_it_is_looked_at_the_way_between_pieces_only() -> None:
    near, far = tcp_pair()
    bottleneck = Narrow(1000)
    near.send([b"x" * 5000])
    assert bottleneck.steered == 0
    with near.giving_way(bottleneck):
        near.send([b"x" * 900, b"x" * 1100, b"x" * 500])
        assert bottleneck.steered == 3
    near.send([b"x" * 5000])
    assert bottleneck.steered == 3
    near.close()
    far.close()


def test_a_head_travels_with_the_beginning_of_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = tcp_pair()
    sent: list[list[bytes]] = []
    monkeypatch.setattr(
        TcpStream, "_send_all", lambda _self, piece, _size, _timeout: sent.append(list(map(bytes, piece)))
    )
    with near.giving_way(Narrow(10)):
        near.send([b"head", b"body" * 4])
    assert sent == [[b"head", b"bodybo"], [b"dybodybody"]]
    near.close()
    far.close()


@pytest.mark.parametrize("timeout", [0.0, 0.05])
def test_waiting_is_bounded_over_all_pieces(timeout: float) -> None:
    near, far = tcp_pair()
    with near.giving_way(Narrow(100_000)), pytest.raises(DeadlineExceeded):
        near.send([b"x" * (64 * MEGABYTE)], timeout)
    near.close()
    far.close()


def test_a_peer_that_left(pair: Pair) -> None:
    near, far = pair
    far.close()
    with near.giving_way(Narrow()), pytest.raises(ConnectionLost):  # noqa: PT012 - nobody knows which one it will be
        while True:
            near.send([b"x" * MEGABYTE], PATIENCE)


def test_a_stream_that_was_closed_meanwhile(pair: Pair) -> None:
    near, _ = pair
    with near.giving_way(Bottleneck()):
        near.close()
        with pytest.raises(Closed):
            near.send([b"x"])


def test_it_ends_with_the_context_whatever_happens() -> None:
    near, far = tcp_pair()
    assert isinstance(near, TcpStream)
    marks: list[int] = []

    def fail() -> None:
        marks.append(near._sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS))
        raise KeyError

    with pytest.raises(KeyError), near.giving_way(Bottleneck()):
        fail()
    assert marks == [4]
    assert near._sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0
    near.close()
    far.close()


def test_no_network_no_change() -> None:
    near, far = MemoryStream.pair()
    bottleneck = Narrow()
    with near.giving_way(bottleneck):
        near.send([b"x" * 5000])
    assert bottleneck.steered == 0
    streams: list[Stream] = [near, far]
    for stream in streams:
        stream.close()

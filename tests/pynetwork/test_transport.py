"""The contract of `Stream`, kept by every transport, then what each has of its own."""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from handshakes.errors import (
    Closed,
    ConnectionLost,
    DeadlineExceeded,
)
from pynetwork import transport
from pynetwork.endpoints import connect
from pynetwork.transport import Deadline, MemoryStream, Stream, TcpStream, TlsStream, backoff
from tests.certificates import Certificates
from tests.serving import PATIENCE, Background
from tests.waiting import wait_until

MEGABYTE = 1 << 20
Pair = tuple[Stream, Stream]


def tcp_pair(host: str = "127.0.0.1") -> Pair:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        near = connect(host, server.getsockname()[1], timeout=PATIENCE)
        accepted, _ = server.accept()
    return near, TcpStream(accepted)


def tls_pair(certificates: Certificates) -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        joining = Background(lambda: connect("127.0.0.1", port, timeout=PATIENCE, tls=certificates.controller))
        accepted, _ = server.accept()
    secured = certificates.gateway.server_context().wrap_socket(accepted, server_side=True)
    return joining.result(), TlsStream(secured, certificate=certificates.gateway.certificate_hash())


@pytest.fixture(params=["tcp", "tls", "memory"])
def pair(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Pair]:
    makers: dict[str, Callable[[], Pair]] = {
        "tcp": tcp_pair,
        "tls": lambda: tls_pair(certificates),
        "memory": MemoryStream.pair,
    }
    near, far = makers[request.param]()
    yield near, far
    near.close()
    far.close()


def read(stream: Stream, size: int, timeout: float | None = PATIENCE) -> bytes:
    """Exactly ``size`` bytes, or those before the end."""
    buffer = memoryview(bytearray(size))
    got = 0
    while got < size:
        count = stream.receive_into(buffer[got:], timeout)
        if not count:
            break
        got += count
    return bytes(buffer[:got])


def stuff(stream: Stream) -> None:
    """Send until the other side would have to read."""
    with pytest.raises(DeadlineExceeded):  # noqa: PT012 - nobody knows which one it will be
        while True:
            stream.send([b"x" * MEGABYTE], 0.1)


# The contract


def test_bytes_arrive_in_order_both_ways(pair: Pair) -> None:
    near, far = pair
    near.send([b"ask"])
    assert read(far, 3) == b"ask"
    far.send([b"answer"])
    assert read(near, 6) == b"answer"


def test_buffers_of_every_kind_and_size_are_gathered(pair: Pair) -> None:
    near, far = pair
    parts = [b"head", bytearray(b"-array-"), memoryview(b"xviewx")[1:5], b"", os.urandom(40000), b"tail"]
    near.send(parts)
    wanted = b"".join(parts)
    assert read(far, len(wanted)) == wanted


def test_more_buffers_than_one_system_call_takes(pair: Pair) -> None:
    near, far = pair
    parts = [bytes([number % 256]) * (number % 7) for number in range(3000)]
    near.send(parts)
    wanted = b"".join(parts)
    assert read(far, len(wanted)) == wanted


def test_nothing_to_send_is_nothing_sent(pair: Pair) -> None:
    near, far = pair
    near.send([])
    near.send([b""])
    near.send([b"", b""])
    near.send([b"after"])
    assert read(far, 5) == b"after"


def test_large_amounts_are_whole_and_counted(pair: Pair) -> None:
    near, far = pair
    data = os.urandom(MEGABYTE) * 9
    reading = Background(read, far, len(data))
    near.send([b"", data[:3], memoryview(data)[3 : 5 * MEGABYTE], data[5 * MEGABYTE :]], PATIENCE)
    assert reading.result() == data
    assert (near.sent, far.received) == (len(data), len(data))
    assert (near.received, far.sent) == (0, 0)


def test_receiving_gives_what_is_there_and_no_more_than_fits(pair: Pair) -> None:
    near, far = pair
    near.send([b"abcdef"])
    buffer = memoryview(bytearray(4))
    first = far.receive_into(buffer, PATIENCE)
    assert 1 <= first <= 4
    assert bytes(buffer[:first]) + read(far, 6 - first) == b"abcdef"


@pytest.mark.parametrize("timeout", [0.0, 0.02])
def test_waiting_ends_in_time_and_harms_nothing(pair: Pair, timeout: float) -> None:
    near, far = pair
    buffer = memoryview(bytearray(8))
    with pytest.raises(DeadlineExceeded) as caught:
        far.receive_into(buffer, timeout)
    assert isinstance(caught.value, TimeoutError)
    near.send([b"late"])
    assert read(far, 4) == b"late"


def test_a_wait_that_is_long_enough_succeeds(pair: Pair) -> None:
    near, far = pair
    waiting = Background(read, far, 4)
    near.send([b"here"])
    assert waiting.result() == b"here"


def test_ready_tells_whether_there_is_something(pair: Pair) -> None:
    near, far = pair
    assert not far.ready()
    near.send([b"xy"])
    wait_until(far.ready)
    assert read(far, 1) == b"x"
    assert far.ready()  # also when TLS has taken both bytes off the socket
    assert read(far, 1) == b"y"
    near.close()
    wait_until(far.ready)
    assert read(far, 1) == b""


def test_the_end_comes_after_the_last_byte(pair: Pair) -> None:
    near, far = pair
    near.send([b"last words"])
    near.close()
    assert read(far, 100) == b"last words"
    assert far.receive_into(memoryview(bytearray(1)), PATIENCE) == 0


def test_sending_to_one_who_has_gone_is_a_lost_connection(pair: Pair) -> None:
    near, far = pair
    far.close()
    with pytest.raises(ConnectionLost) as caught:  # noqa: PT012 - nobody knows which one it will be
        for _ in range(100):
            near.send([b"x" * 65536], PATIENCE)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_closed_stream_says_so(pair: Pair) -> None:
    near, _ = pair
    near.close()
    near.close()
    with pytest.raises(Closed):
        near.receive_into(memoryview(bytearray(1)))
    with pytest.raises(Closed):
        near.send([b"x"])
    assert near.ready()


def test_sending_waits_for_the_reader_up_to_its_deadline(pair: Pair) -> None:
    near, far = pair
    stuff(near)
    assert read(far, 100_000) == b"x" * 100_000


def test_a_sender_goes_on_when_the_reader_does(pair: Pair) -> None:
    near, far = pair
    data = os.urandom(16 * MEGABYTE)
    sending = Background(near.send, [data])
    assert read(far, 1000) == data[:1000]
    assert read(far, len(data) - 1000) == data[1000:]
    sending.result()


def test_shutdown_wakes_one_who_receives(pair: Pair) -> None:
    near, _ = pair
    begun = threading.Event()

    def receive() -> int:
        begun.set()
        return near.receive_into(memoryview(bytearray(1)))

    waiting = Background(receive)
    assert begun.wait(PATIENCE)
    near.shutdown()
    with contextlib.suppress(ConnectionLost):  # as good: it was woken
        assert waiting.result() == 0


def test_shutdown_wakes_one_who_sends(pair: Pair) -> None:
    near, _ = pair
    stuff(near)
    sending = Background(near.send, [b"x" * MEGABYTE])
    near.shutdown()
    with pytest.raises(ConnectionLost):
        sending.result()


def test_shutdown_tells_the_other_side(pair: Pair) -> None:
    near, far = pair
    near.shutdown()
    assert read(far, 1) == b""


def test_streams_name_their_peer(pair: Pair) -> None:
    near, far = pair
    assert near.peer
    assert far.peer


# TCP and TLS


def test_peers_are_named_as_people_write_them() -> None:
    with ExitStack() as stack:
        for host, start in (("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")):
            near, far = tcp_pair(host)
            stack.callback(near.close)
            stack.callback(far.close)
            assert far.peer.startswith(start)
            assert far.peer.removeprefix(start).isdigit()


def test_a_socket_without_peer_has_a_name_too() -> None:
    with socket.socket() as sock:
        assert transport.address_name(sock) == "a peer that has gone"
    one, other = socket.socketpair()
    with one, other:
        assert transport.address_name(one) == "a local socket"


def test_small_messages_are_not_delayed_and_idle_peers_are_probed() -> None:
    near, far = tcp_pair()
    for stream in (near, far):
        sock = stream._sock  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == transport.KEEPALIVE_IDLE
        stream.close()


@pytest.mark.parametrize("made", ["tcp", "tls"])
def test_a_reset_is_a_lost_connection_with_its_cause(made: str, certificates: Certificates) -> None:
    near, far = tcp_pair() if made == "tcp" else tls_pair(certificates)
    sock = far._sock  # type: ignore[attr-defined]
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    waiting = Background(near.receive_into, memoryview(bytearray(1)))
    far.close()
    try:
        # OpenSSL may take a reset for an end; whether that is one in the middle of a message is the link's to say.
        assert waiting.result() == 0
        assert made == "tls"
    except ConnectionLost as lost:
        if not isinstance(lost.__cause__, ConnectionResetError):
            raise
    near.close()


def test_a_peer_that_vanished_is_noticed_without_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half open: the other machine has forgotten the connection and never says so (Linux, CAP_NET_ADMIN)."""
    monkeypatch.setattr(transport, "KEEPALIVE_IDLE", 1)
    monkeypatch.setattr(transport, "KEEPALIVE_INTERVAL", 1)
    near, far = tcp_pair()
    try:
        far._sock.setsockopt(socket.IPPROTO_TCP, 19, 1)  # type: ignore[attr-defined]  # TCP_REPAIR
    except OSError:
        pytest.skip("a connection can't be made to vanish here")
    else:
        far.close()
        with pytest.raises(ConnectionLost):
            near.receive_into(memoryview(bytearray(1)), PATIENCE)
    finally:
        near.close()
        far.close()


def test_a_peer_that_acknowledges_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = tcp_pair()
    monkeypatch.setattr(transport, "KEEPALIVE_INTERVAL", 0.02)
    looks = itertools.count()
    monkeypatch.setattr(transport, "peer_is_silent", lambda _sock: next(looks) >= 2)
    with pytest.raises(ConnectionLost, match="not acknowledged") as caught:
        near.receive_into(memoryview(bytearray(1)))
    assert isinstance(caught.value.__cause__, TimeoutError)
    near.close()
    far.close()


def test_a_slow_peer_is_not_a_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = tcp_pair()
    monkeypatch.setattr(transport, "KEEPALIVE_INTERVAL", 0.02)
    monkeypatch.setattr(transport, "DEAD_AFTER", 0.1)
    with pytest.raises(DeadlineExceeded):
        near.receive_into(memoryview(bytearray(1)), 0.3)
    sending = Background(near.send, [b"x" * (16 * MEGABYTE)])
    assert len(read(far, 16 * MEGABYTE)) == 16 * MEGABYTE
    sending.result()
    near.close()
    far.close()


@pytest.mark.parametrize(("unanswered", "silent"), [(0.0, False), (24.9, False), (25.0, True)])
def test_a_peer_is_silent_after_a_while(monkeypatch: pytest.MonkeyPatch, unanswered: float, silent: bool) -> None:
    monkeypatch.setattr(transport, "unanswered_for", lambda _sock: unanswered)
    with socket.socket() as sock:
        assert transport.peer_is_silent(sock) is silent


# Small things


def test_a_deadline_passes() -> None:
    assert Deadline(None).remaining() is None
    assert not Deadline(None).passed
    assert Deadline(0).passed
    assert Deadline(-5).remaining() == 0
    assert 0 < (Deadline(100).remaining() or 0) <= 100


def test_pauses_grow_up_to_a_bound_and_differ() -> None:
    pauses = list(itertools.islice(backoff(0.1, 1.0), 50))
    assert 0.05 <= pauses[0] <= 0.1
    assert all(0.5 <= pause <= 1.0 for pause in pauses[5:])
    assert len(set(pauses)) > 40


def test_views_of_larger_elements_are_sent_whole(pair: Pair) -> None:
    near, far = pair
    values = array.array("d", range(5000))
    near.send([b"head", memoryview(values).cast("B")])
    assert read(far, 4 + 40000) == b"head" + values.tobytes()

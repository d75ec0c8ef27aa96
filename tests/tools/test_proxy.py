from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving import PATIENCE, Background
from tests.waiting import wait_until
from tools.proxy import DOWN, UP, Direction, Fault, Kind, Proxy, Weather

SAID = bytes(range(256)) * 4


class Ends:
    """A proxy, and both ends of a connection through it."""

    def __init__(self, proxy: Proxy, listener: socket.socket, stack: contextlib.ExitStack) -> None:
        self.proxy = proxy
        self._listener = listener
        self._stack = stack
        self.near, self.far = self.connect()

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Both ends of one more connection."""
        near = self._stack.enter_context(socket.create_connection(("127.0.0.1", self.proxy.port), PATIENCE))
        far = self._stack.enter_context(self._listener.accept()[0])
        far.settimeout(PATIENCE)
        return near, far

    def of(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        """Who speaks and who hears."""
        return (self.near, self.far) if direction is UP else (self.far, self.near)


@contextlib.contextmanager
def proxied(weather: Weather | None = None) -> Iterator[Ends]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        proxy = stack.enter_context(Proxy(listener.getsockname()[1], weather))
        listener.settimeout(PATIENCE)
        yield Ends(proxy, listener, stack)


def heard(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if the connection ends before."""
    found = b""
    while len(found) < size and (piece := sock.recv(size - len(found))):
        found += piece
    return found


both_ways = pytest.mark.parametrize("direction", [UP, DOWN])


@both_ways
@pytest.mark.parametrize("weather", [Weather(), Weather(piece=1), Weather(latency=0.01), Weather(rate=20_000)])
def test_everything_arrives_as_it_was_said(direction: Direction, weather: Weather) -> None:
    with proxied(weather) as ends:
        speaker, hearer = ends.of(direction)
        speaker.sendall(SAID)
        assert heard(hearer, len(SAID)) == SAID
        assert ends.proxy.count(direction) == len(SAID)
        speaker.shutdown(socket.SHUT_WR)
        assert hearer.recv(1) == b""
        hearer.sendall(b"still")
        assert heard(speaker, 5) == b"still"


def test_each_connection_is_shown_by_itself() -> None:
    shown: list[dict[Direction, bytes]] = []

    def tap() -> Callable[[Direction, bytes], None]:
        shown.append(mine := {UP: b"", DOWN: b""})
        return lambda direction, data: mine.update({direction: mine[direction] + data})

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        contextlib.ExitStack() as stack,
        Proxy(listener.getsockname()[1], tap=tap) as proxy,
    ):
        for word in (b"first", b"second"):
            near = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), PATIENCE))
            far = stack.enter_context(listener.accept()[0])
            near.sendall(word)
            assert heard(far, len(word)) == word
            far.sendall(b"heard")
            assert heard(near, 5) == b"heard"
    assert shown == [{UP: b"first", DOWN: b"heard"}, {UP: b"second", DOWN: b"heard"}]


def test_latency_and_rate_take_their_time() -> None:
    with proxied(Weather(latency=0.1)) as ends:
        began = time.monotonic()
        ends.near.sendall(SAID)
        assert heard(ends.far, len(SAID)) == SAID
        assert time.monotonic() - began >= 0.1
    with proxied(Weather(rate=10_000)) as ends:
        began = time.monotonic()
        ends.near.sendall(b"x" * 3000)
        heard(ends.far, 3000)
        assert time.monotonic() - began >= 0.2


def test_pieces_are_small() -> None:
    with proxied(Weather(piece=1)) as ends:
        ends.near.sendall(b"ab")
        assert ends.far.recv(100) in (b"a", b"ab")  # the kernel may have joined them again


def test_a_slow_reader_holds_the_speaker_back() -> None:
    with proxied() as ends:
        ends.near.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ends.near.sendall(bytes(200 << 20))


@both_ways
@pytest.mark.parametrize("at", [0, 1, 500, len(SAID) - 1])
def test_a_flipped_bit(direction: Direction, at: int) -> None:
    with proxied() as ends:
        ends.proxy.inject(Fault(Kind.FLIP, direction, at, bit=3))
        speaker, hearer = ends.of(direction)
        speaker.sendall(SAID)
        expected = bytearray(SAID)
        expected[at] ^= 8
        assert heard(hearer, len(SAID)) == bytes(expected)
        assert ends.proxy.happened
        speaker.sendall(SAID)
        assert heard(hearer, len(SAID)) == SAID  # once only


@both_ways
@pytest.mark.parametrize("at", [0, 7])
@pytest.mark.parametrize("kind", [Kind.RESET, Kind.END])
def test_a_cut(direction: Direction, at: int, kind: Kind) -> None:
    with proxied() as ends:
        ends.proxy.inject(Fault(kind, direction, at))
        speaker, hearer = ends.of(direction)
        speaker.sendall(SAID)
        if kind is Kind.END:
            assert heard(hearer, len(SAID)) == SAID[:at]
            assert speaker.recv(1) == b""
        else:
            for sock in (hearer, speaker):
                with pytest.raises(ConnectionResetError):
                    assert heard(sock, len(SAID)) == b""
        near, far = ends.connect()
        near.sendall(b"others go on")
        assert heard(far, 12) == b"others go on"


@both_ways
def test_a_half_close(direction: Direction) -> None:
    with proxied() as ends:
        ends.proxy.inject(Fault(Kind.HALF_CLOSE, direction, 5))
        speaker, hearer = ends.of(direction)
        speaker.sendall(SAID)
        assert heard(hearer, len(SAID)) == SAID[:5]
        hearer.sendall(SAID)
        assert heard(speaker, len(SAID)) == SAID
        hearer.shutdown(socket.SHUT_WR)
        assert speaker.recv(1) == b""


@both_ways
def test_a_stall_that_ends(direction: Direction) -> None:
    with proxied() as ends:
        ends.proxy.inject(Fault(Kind.STALL, direction, 9, seconds=0.1))
        speaker, hearer = ends.of(direction)
        began = time.monotonic()
        speaker.sendall(SAID)
        assert heard(hearer, len(SAID)) == SAID
        assert time.monotonic() - began >= 0.1


def test_a_stall_for_good_until_everything_is_cut() -> None:
    with proxied() as ends:
        ends.proxy.inject(Fault(Kind.STALL, UP, 9))
        ends.near.sendall(SAID)
        assert heard(ends.far, 9) == SAID[:9]
        wait_until(lambda: ends.proxy.happened)
        ends.far.sendall(b"the other way")
        assert heard(ends.near, 13) == b"the other way"
        ends.proxy.cut()
        for sock in (ends.near, ends.far):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_an_orderly_cut_of_everything() -> None:
    with proxied() as ends:
        ends.near.sendall(b"x")
        heard(ends.far, 1)
        ends.proxy.cut(reset=False)
        assert ends.near.recv(1) == ends.far.recv(1) == b""


def test_bytes_are_counted_over_all_connections_and_from_the_injection() -> None:
    with proxied() as ends:
        other_near, other_far = ends.connect()
        ends.near.sendall(bytes(50))
        heard(ends.far, 50)
        ends.proxy.inject(Fault(Kind.END, UP, 100))
        ends.near.sendall(bytes(99))
        heard(ends.far, 99)
        assert not ends.proxy.happened
        other_near.sendall(b"ab")
        assert heard(other_far, 2) == b"a"
        assert ends.proxy.happened
        ends.near.sendall(b"goes on")
        assert heard(ends.far, 7) == b"goes on"


@both_ways
def test_a_reset_by_one_side_reaches_the_other_after_what_was_said(direction: Direction) -> None:
    with proxied() as ends:
        speaker, hearer = ends.of(direction)
        speaker.sendall(b"last words")
        wait_until(lambda: ends.proxy.count(direction) == 10)
        speaker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        speaker.close()
        assert heard(hearer, 10) == b"last words"
        with pytest.raises(ConnectionResetError):
            hearer.recv(1)


def test_nobody_behind_the_proxy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    # The reset may come before the caller knows that it is connected.
    with (
        Proxy(port) as proxy,
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as near,
    ):
        near.recv(1)


def test_closing_gives_everything_back() -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with proxied() as ends:
        ends.near.sendall(SAID)
        ends.proxy.close()
        ends.proxy.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ends.proxy.port), PATIENCE)
    assert threading.active_count() == before[0]
    if before[1]:
        assert len(os.listdir("/proc/self/fd")) == before[1]


def test_the_command() -> None:
    root = Path(__file__).resolve().parents[2]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "tools.proxy", "0", target, "--latency", "0.01", "--piece", "100"]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                said = Background(process.stdout.readline).result()
                assert target in said
                port = int(said.partition(" ")[0].rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as near, listener.accept()[0] as far:
                    near.sendall(SAID)
                    assert heard(far, len(SAID)) == SAID
                process.send_signal(2)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()

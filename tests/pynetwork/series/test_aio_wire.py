"""What only the connection of the channel for event loops does; most is in tests/conformance/test_channels.py."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence

import pytest

from handshakes.errors import Closed, ConnectionLost, DeadlineExceeded
from handshakes.messages import Bytes
from pynetwork.series import aio_wire
from pynetwork.series.aio_wire import Wire
from pynetwork.series.exchange import Receive, Send
from pynetwork.transport import Deadline
from tests.pynetwork.aio.looping import a_turn, on_loop, until
from tests.serving import PATIENCE

LARGE = bytes(20_000_000)
"""More than the system takes at once from one who sends it to nobody."""


class Kept:
    """A sink of ``capacity`` bytes that keeps what it is given."""

    def __init__(self, capacity: int = 100) -> None:
        self.data = b""
        self._memory = memoryview(bytearray(capacity))

    def buffer(self) -> memoryview:
        return self._memory

    def received(self, count: int) -> None:
        self.data += self._memory[:count]


@contextlib.asynccontextmanager
async def wired(timeout: float | None = PATIENCE) -> AsyncIterator[tuple[Wire, socket.socket]]:
    """A wire, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    far.settimeout(PATIENCE)
    _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire("the server", timeout), sock=near)
    try:
        yield wire, far
    finally:
        wire.close(Closed("the test is over"))
        await wire.wait_closed()
        far.close()


@on_loop
async def test_what_arrives_waits_for_one_who_asks() -> None:
    async with wired() as (wire, far):
        far.sendall(b"abcdef")
        sink = Kept(4)
        assert await wire.carry_out(Receive(sink)) == ()
        assert sink.data == b"abcd"
        await wire.carry_out(Receive(sink))
        assert sink.data == b"abcdef"


@on_loop
async def test_what_came_aside_is_given_as_far_as_it_fits() -> None:
    async with wired() as (wire, _):
        # As TLS does, which may hold more than there is room for.
        wire.get_buffer(100)[:6] = b"abcdef"
        wire.buffer_updated(6)
        sink = Kept(4)
        await wire.carry_out(Receive(sink))
        assert sink.data == b"abcd"
        assert await wire.carry_out(Send([b"not yet"], sink)) == [b"not yet"]
        assert sink.data == b"abcdef"


@on_loop
async def test_the_last_words_of_one_who_hung_up_are_heard() -> None:
    failure = struct.pack("<iQ", -1, 0)
    async with wired() as (wire, far):
        far.sendall(failure)
        # With bytes that it has not read, this resets the connection.
        await wire.carry_out(Send([b"unread"]))
        await asyncio.to_thread(lambda: far.recv(1))
        far.close()
        sink, unsent = Kept(), (LARGE,)
        rest: Sequence[Bytes] = unsent
        with contextlib.suppress(ConnectionLost):
            while not sink.data:
                rest = await wire.carry_out(Send(rest or unsent, sink))
        assert sink.data == failure


@on_loop
async def test_an_end_while_nobody_waits() -> None:
    async with wired() as (wire, far):
        far.close()
        with pytest.raises(ConnectionLost, match="ended the connection without a word"):
            await wire.carry_out(Receive(Kept()))
        with pytest.raises(ConnectionLost):
            await wire.carry_out(Send([b"more"]))


@on_loop
async def test_waiting_ends_in_time() -> None:
    async with wired(0.05) as (wire, far):
        with pytest.raises(DeadlineExceeded, match="in time"):
            await wire.carry_out(Receive(Kept()))
        with pytest.raises(DeadlineExceeded, match="in time"):
            await wire.carry_out(Send([LARGE]))
        far.close()


@on_loop
async def test_a_slow_reader_is_waited_for_as_long_as_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float | None] = []

    class Noted(Deadline):
        def __init__(self, seconds: float | None) -> None:
            super().__init__(seconds)
            begun.append(seconds)

    def read(count: int) -> None:
        while count:
            piece = far.recv(min(count, 1 << 20))
            assert piece
            count -= len(piece)

    monkeypatch.setattr(aio_wire, "Deadline", Noted)
    async with wired(0.5) as (wire, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sending = asyncio.ensure_future(wire.carry_out(Send([LARGE], Kept())))
        for times in range(1, 5):
            # The time was up before each part but the first, and begins anew as something was taken meanwhile.
            await until(lambda times=times: len(begun) >= times)
            await asyncio.to_thread(read, len(LARGE) // 4)
        assert await sending == ()


@on_loop
async def test_a_server_that_acknowledges_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_wire, "KEEPALIVE_INTERVAL", 0.02)
    monkeypatch.setattr(aio_wire, "peer_is_silent", lambda _sock: True)
    async with wired(None) as (wire, _):
        with pytest.raises(ConnectionLost, match="has not acknowledged anything"):
            await wire.carry_out(Receive(Kept()))


@on_loop
async def test_closing_wakes_one_who_waits() -> None:
    async with wired(None) as (wire, _):
        waiting = asyncio.ensure_future(wire.carry_out(Receive(Kept())))
        await a_turn()
        wire.close(Closed("closed here"))
        with pytest.raises(Closed, match="closed here"):
            await waiting
        await until(lambda: not wire.certificate)

"""The asyncio driver of one pair: a transport of the event loop joined to a `handshakes.Connection`.

Bytes are received straight into the connection's buffer, and only while somebody waits for an event: else reading
pauses, so that a gateway whose caller is slow is held by flow control, as with the blocking driver. What still arrives
of an operation that was left is read at once, and dropped, so that the gateway gets to its end. Dead peers are noticed
as `pynetwork.transport` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar, cast

from handshakes.connection import Connection, Phase
from handshakes.errors import Closed, ConnectionLost, DeadlineExceeded, OperationAborted, PynetworkError
from handshakes.messages import Bytes, Event
from pynetwork.link import STALL_TIMEOUT
from pynetwork.transport import DEAD_AFTER, KEEPALIVE_INTERVAL, Deadline, peer_is_silent, tune

__all__ = ["AsyncLink", "reason_of", "run_on", "to_the_end"]

Answer = TypeVar("Answer")

_JOIN_BELOW = 64 * 1024
_WRITE_AHEAD = 1 << 20
"""Bytes that may wait in this process for the system to take them."""
_TLS_RECORD = 16 * 1024
"""Bytes that TLS may hold besides those that it announces."""


def run_on(loop: asyncio.AbstractEventLoop, action: Callable[[], object]) -> None:
    """Do it on the loop's thread: now, if this is it, else soon. Of a loop that is closed nothing is left to be done.

    For finalizers: objects may be collected on any thread.
    """
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        action()
    else:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(action)


async def to_the_end(running: asyncio.Future[Answer]) -> Answer:
    """What comes of it, waited for even when this is cancelled, however often; that is raised then."""
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return running.result()
    if not running.cancelled():
        # Asked for, so that the loop does not complain.
        running.exception()
    raise cancelled


class AsyncLink(asyncio.BufferedProtocol):
    """Moves bytes between a transport and the state machine, all on the thread of one event loop.

    One task at a time waits for events, and one sends. ``attach`` gives it its connection, before which nothing is
    received. ``received`` counts bytes.
    """

    connection: Connection

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.received = 0
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._aside: memoryview | None = None
        self._ahead: deque[memoryview] = deque()
        self._spill: memoryview | None = None
        self._reading = True
        self._full = False
        self._turn = 0
        self._lost: PynetworkError | None = None
        self._arrival: asyncio.Future[bool] | None = None
        self._room: asyncio.Future[bool] | None = None
        self._gone: asyncio.Future[bool] = self.loop.create_future()
        self._life: AsyncGenerator[None, None] | None = None
        self._received_at = 0.0

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection stands; nothing is received before it has a state machine."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_WRITE_AHEAD)
        sock = self._socket()
        if sock is not None:
            tune(sock)
        self._pause()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: the connection's buffer, or memory aside if that might not hold all that is there.

        TLS (which gives a hint) drops what was not fetched when it sees the end of the connection, and before Python
        3.11 it goes on for a while after reading was paused.
        """
        if self._spill is not None:
            return self._spill
        if self._reading:
            buffer = self.connection.buffer()
            if sizehint < 0 or sizehint + _TLS_RECORD <= len(buffer):
                self._aside = None
                return buffer
        self._aside = memoryview(bytearray(max(sizehint, 0) + _TLS_RECORD))
        return self._aside

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived there."""
        self.received += nbytes
        self._received_at = self.loop.time()
        if self._spill is not None:
            return
        if self._aside is None:
            self.connection.received(nbytes)
        else:
            self._ahead.append(self._aside[:nbytes])
            self._aside = None
        # Nobody takes events out in the meantime: the buffer may be full.
        self._pause()
        if self._arrival is None:
            self._drop_late()
        else:
            _settle(self._arrival)

    def eof_received(self) -> None:
        """The peer has ended the connection."""
        self._lose(ConnectionLost(f"{self.peer} ended the connection"), ConnectionResetError("end of stream"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed."""
        cause = exc or ConnectionResetError("it was closed")
        self._lose(ConnectionLost(f"the connection to {self.peer} was lost: {reason_of(cause)}"), cause)
        if self._transport is not None:
            # Python 3.10 takes one over TLS for forgotten otherwise.
            self._transport.abort()
            self._transport = None
        _settle(self._gone)

    def pause_writing(self) -> None:
        """Much waits to be taken by the system."""
        self._full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._full = False
        _settle(self._room)

    def _lose(self, error: PynetworkError, cause: BaseException | None) -> None:
        if self._lost is None:
            error.__cause__ = cause
            self._lost = error
        _settle(self._arrival)
        _settle(self._room)

    # For clients

    def attach(self, connection: Connection) -> None:
        """The state machine of this pair."""
        self.connection = connection

    async def live(self) -> None:
        """Be closed when the loop comes to its end, as `asyncio.run` does with every asynchronous generator."""
        self._life = self._close_at_the_end()
        await anext(self._life)

    async def _close_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.close()
            await asyncio.shield(self._gone)

    @property
    def certificate(self) -> bytes:
        """The server's TLS certificate in DER, empty without TLS."""
        secured = cast("ssl.SSLObject | None", self._extra("ssl_object"))
        return (secured and secured.getpeercert(binary_form=True)) or b""

    @property
    def lost(self) -> PynetworkError | None:
        """Why the connection has ended, None while it hasn't, as far as is known."""
        return self._lost

    @property
    def waited_for(self) -> bool:
        """Whether a task waits for something to arrive."""
        return self._arrival is not None

    @property
    def pending(self) -> bool:
        """Whether bytes have arrived that are no event yet."""
        return self.connection.mid_frame or bool(self._ahead)

    async def next_event(self, timeout: float | None = None) -> Event:
        """The next event, waiting for it; raises as `pynetwork.link.Link.next_event`, and `OperationAborted` when
        another task calls ``interrupt``.
        """
        connection, turn = self.connection, self._turn
        event = connection.next_event()
        if event is not None:
            return event
        deadline = Deadline(timeout)
        while True:
            await self._wait_for_bytes(deadline)
            if self._turn != turn:
                raise OperationAborted("this operation was left by another task")
            event = connection.next_event()
            if event is not None:
                return event
            if words := connection.data_to_send():
                self.write(words)
            if deadline.passed:
                raise DeadlineExceeded(f"{self.peer} sent much, but not what was waited for, in time")

    def interrupt(self) -> None:
        """The operation was left: whoever waits for an event of it waits in vain, and what still arrives is dropped."""
        self._turn += 1
        _settle(self._arrival)
        self._arrival = None
        self._drop_late()

    def _drop_late(self) -> None:
        """Read on while no operation runs and there may be something of those that were left."""
        try:
            while self.connection.phase is Phase.IDLE and self.connection.leaving and self._lost is None:
                if self.connection.next_event() is not None:
                    raise ConnectionLost(f"{self.peer} ended the pair")
                if not self._ahead:
                    self._resume()
                    return
                self._take_ahead()
        except PynetworkError as error:
            self._lose(error, error.__cause__)
            self.close()

    async def settle(self, timeout: float | None) -> None:
        """Read until nothing more can arrive of operations that were left; raises as ``next_event``."""
        deadline = Deadline(timeout)
        while True:
            if self.connection.next_event() is not None:
                raise ConnectionLost(f"{self.peer} ended the pair")
            if not self.connection.leaving:
                return
            if deadline.passed:
                raise DeadlineExceeded(f"{self.peer} has not ended the operation that was left before")
            await self._wait_for_bytes(deadline)

    async def _wait_for_bytes(self, deadline: Deadline) -> None:
        """Until more has arrived. Raises `DeadlineExceeded` and `ConnectionLost`."""
        if self._ahead:
            self._take_ahead()
            return
        self._received_at = self.loop.time()
        while True:
            self._check()
            self._arrival = arrival = self.loop.create_future()
            self._resume()
            try:
                if await self._patiently(arrival, deadline):
                    return
            finally:
                # Whoever was interrupted may find that another waits already.
                if self._arrival is arrival:
                    self._arrival = None
            if self.connection.mid_frame and self.loop.time() - self._received_at >= STALL_TIMEOUT:
                raise ConnectionLost(f"{self.peer} stopped in the middle of a message for {STALL_TIMEOUT:g} s")

    def _take_ahead(self) -> None:
        """Move what was received aside to the connection, as far as it fits."""
        piece, space = self._ahead[0], self.connection.buffer()
        count = min(len(piece), len(space))
        space[:count] = piece[:count]
        self.connection.received(count)
        if count < len(piece):
            self._ahead[0] = piece[count:]
        else:
            self._ahead.popleft()

    async def _patiently(self, happened: asyncio.Future[bool], deadline: Deadline) -> bool:
        """Wait for it; False when it is time to look at the peer's health again. Raises `DeadlineExceeded`."""
        remaining = deadline.remaining()
        patience = min(KEEPALIVE_INTERVAL, STALL_TIMEOUT)
        timer = self.loop.call_later(patience if remaining is None else min(remaining, patience), _give_up, happened)
        try:
            if await happened:
                return True
        finally:
            timer.cancel()
        if deadline.passed:
            raise DeadlineExceeded(f"{self.peer} did not answer in time")
        sock = self._socket()
        if sock is not None and peer_is_silent(sock):
            raise ConnectionLost(f"{self.peer} has not acknowledged anything for {DEAD_AFTER} s") from TimeoutError(
                errno.ETIMEDOUT, "no acknowledgement"
            )
        return False

    def write(self, buffers: Sequence[Bytes]) -> None:
        """Hand these buffers to the event loop, without waiting; small ones may be used again at once."""
        self._check()
        assert self._transport is not None
        if len(buffers) > 1 and sum(map(len, buffers)) < _JOIN_BELOW:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            if self._transport.is_closing():
                # It was lost just now, as `connection_lost` will tell; asyncio warns of whoever writes on.
                return
            self._transport.write(buffer)

    async def drain(self, timeout: float | None = None) -> None:
        """Wait while too much is on its way. Raises `DeadlineExceeded` and `ConnectionLost`."""
        deadline = Deadline(timeout)
        while self._full:
            self._check()
            self._room = self.loop.create_future()
            try:
                await self._patiently(self._room, deadline)
            finally:
                self._room = None

    async def leave(self, timeout: float) -> None:
        """Say goodbye, and wait for the peer to end the connection: then its handler is free."""
        if self._lost is not None:
            return
        if self.connection.phase in (Phase.IDLE, Phase.RUNNING):
            self.write(self.connection.goodbye())
        self._spill = memoryview(bytearray(_JOIN_BELOW))
        self._ahead.clear()
        deadline = Deadline(timeout)
        try:
            while True:
                await self._wait_for_bytes(deadline)
        except PynetworkError:
            # It has ended, or takes too long: closing the socket is then all there is to do.
            return

    def close(self) -> None:
        """End the connection at once; whoever waits in it learns that."""
        self._lose(Closed(f"the connection to {self.peer} is closed"), None)
        if self._transport is not None:
            self._transport.abort()

    def hand_over(self) -> asyncio.Transport:
        """The transport, for another protocol, which is to call ``handed_back`` when it has closed. Until then
        ``close`` still ends it.
        """
        self._check()
        assert self._transport is not None
        return self._transport

    def handed_back(self) -> None:
        """The transport that was handed over is closed."""
        self._transport = None
        _settle(self._gone)

    async def wait_closed(self) -> None:
        """Until the socket is closed, after ``close``."""
        await asyncio.shield(self._gone)
        life, self._life = self._life, None
        if life is not None:
            await life.aclose()

    async def idle(self, wake: asyncio.Future[bool]) -> None:
        """Until ``wake`` is settled, bytes have arrived, or the connection has ended, whichever is first."""
        if self._ahead:
            return
        self._check()
        self._arrival = wake
        self._resume()
        try:
            await wake
        finally:
            self._arrival = None

    def _check(self) -> None:
        if self._lost is not None:
            raise type(self._lost)(str(self._lost)) from self._lost.__cause__

    def _pause(self) -> None:
        if self._reading and self._transport is not None:
            self._transport.pause_reading()
            self._reading = False

    def _resume(self) -> None:
        if not self._reading and self._transport is not None:
            self._transport.resume_reading()
            self._reading = True

    def _extra(self, name: str) -> Any:
        return None if self._transport is None else self._transport.get_extra_info(name)

    def _socket(self) -> socket.socket | None:
        return cast("socket.socket | None", self._extra("socket"))


def reason_of(error: BaseException) -> str:
    """What an error of the system says, for people."""
    return getattr(error, "strerror", None) or str(error) or "the connection was ended"


def _settle(future: asyncio.Future[bool] | None) -> None:
    if future is not None and not future.done():
        future.set_result(True)


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)

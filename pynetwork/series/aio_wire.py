"""Connecting to a store on an event loop, and carrying out the steps of requests there.

It notices dead peers as `pynetwork.transport` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from handshakes.errors import (
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    PynetworkError,
)
from pynetwork.endpoints import explained
from pynetwork.series.exchange import Receive, Send, Sink, Unsent, ended
from pynetwork.series.options import Options
from pynetwork.tls import TLS
from pynetwork.transport import DEAD_AFTER, KEEPALIVE_INTERVAL, Deadline, peer_is_silent, tune

__all__ = ["Wire", "connect"]

_WRITE_AHEAD = 1 << 20
"""Bytes that may wait in this process for the system to take them."""
_TLS_RECORD = 16 * 1024
"""Bytes that TLS may hold besides those that it announces."""


async def connect(options: Options[Any]) -> Wire:
    """Raises as `pynetwork.endpoints.connect`."""
    host, port = options.address
    tls = options.tls
    context = tls.client_context() if isinstance(tls, TLS) else tls
    place = f"{host}:{port}"
    opening = asyncio.ensure_future(_open(host, port, lambda: Wire(place, options.timeout), context))
    try:
        # Not asyncio.wait_for: before Python 3.12 that may forget that it was cancelled.
        await asyncio.wait([opening], timeout=options.timeout)
        wire = _result(opening, place, options.timeout)
        if isinstance(tls, TLS):
            tls.check_fingerprint(wire.certificate)
    except BaseException as error:
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            opening.result().close(Closed("it could not be used"))
            await opening.result().wait_closed()
        if isinstance(error, (OSError, UnicodeError)) and not isinstance(error, PynetworkError):
            raise explained(error, host, place, secured=tls is not None, peer="server") from error
        raise
    return wire


def _result(opening: asyncio.Task[Wire], place: str, timeout: float | None) -> Wire:
    if not opening.done():
        raise DeadlineExceeded(f"{place} did not answer within {timeout} s")
    return opening.result()


async def _open(host: str, port: int, make: Callable[[], Wire], context: ssl.SSLContext | None) -> Wire:
    """A wire to any of the host's addresses. Raises what the last one had against it."""
    loop = asyncio.get_running_loop()
    failure = OSError("it has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return await _wired(sock, make, context, host)
    raise failure


async def _wired(sock: socket.socket, make: Callable[[], Wire], context: ssl.SSLContext | None, host: str) -> Wire:
    making = asyncio.ensure_future(
        asyncio.get_running_loop().create_connection(
            make, sock=sock, ssl=context, server_hostname=host if context else None
        )
    )
    try:
        _, wire = await asyncio.shield(making)
    except asyncio.CancelledError:
        # Cancelled itself, it would in some versions of Python go on with a TLS handshake that has begun.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        await asyncio.wait([making])
        if making.exception() is None:
            making.result()[1].close(Closed("it was given up"))
            await making.result()[1].wait_closed()
        raise
    return wire


class Wire(asyncio.BufferedProtocol):
    """A transport, and how long to wait for it. One task at a time waits in it.

    Nothing is received but while somebody waits for it: a server whose answer is taken slowly is held by flow control.
    """

    def __init__(self, peer: str, timeout: float | None, on_close: Callable[[], object] | None = None) -> None:
        self._peer = peer
        self._timeout = timeout
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = 0
        self._sink: Sink | None = None
        self._aside: memoryview | None = None
        self._ahead: deque[memoryview] = deque()
        self._heard = False
        self._full = False
        self._wake: asyncio.Future[bool] | None = None
        self._lost: PynetworkError | None = None
        self._gone: asyncio.Future[bool] = self._loop.create_future()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_WRITE_AHEAD)
        sock = self._socket()
        if sock is not None:
            tune(sock)
        self._transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: to whom they are for, or aside if there might be more than that has room for.

        TLS (which gives a hint) drops what was not fetched when it sees the end of the connection, and before Python
        3.11 it goes on for a while after reading was paused.
        """
        self._aside = None
        if self._sink is not None:
            buffer = self._sink.buffer()
            if sizehint < 0 or sizehint + _TLS_RECORD <= len(buffer):
                return buffer
        self._aside = memoryview(bytearray(max(sizehint, 0) + _TLS_RECORD))
        return self._aside

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived there."""
        self._received += nbytes
        if self._aside is not None:
            self._ahead.append(self._aside[:nbytes])
            self._aside = None
        elif self._sink is not None:
            self._sink.received(nbytes)
            self._heard = True
        self._listen(None)
        self._settle()

    def eof_received(self) -> None:
        """The peer has ended the connection."""
        self._lose(ConnectionLost(ended(self._peer, self._received)), ConnectionResetError("end of stream"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed."""
        if exc is not None:
            self._hear_last_words()
        cause = exc or ConnectionResetError("it was closed")
        reason = getattr(cause, "strerror", None) or str(cause)
        self._lose(ConnectionLost(f"the connection to {self._peer} was lost: {reason}"), cause)
        if self._transport is not None:
            # Python 3.10 takes one over TLS for forgotten otherwise.
            self._transport.abort()
            self._transport = None
        if not self._gone.done():
            self._gone.set_result(True)
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _hear_last_words(self) -> None:
        """A server that has hung up may have said why before, and asyncio gives that up when sending fails."""
        sock = self._socket()
        if sock is None or self._transport is None or self._transport.get_extra_info("ssl_object") is not None:
            return
        words = bytearray(_TLS_RECORD)
        with contextlib.suppress(OSError), sock.dup() as copy:
            count = copy.recv_into(words)
            if count:
                self._ahead.append(memoryview(words)[:count])

    def pause_writing(self) -> None:
        """Much waits to be taken by the system."""
        self._full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._full = False
        self._settle()

    def _lose(self, error: PynetworkError, cause: BaseException | None = None) -> None:
        if self._lost is None:
            error.__cause__ = cause
            self._lost = error
        self._settle()

    def _settle(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(True)

    # For channels

    @property
    def certificate(self) -> bytes:
        """The server's TLS certificate in DER, empty without TLS."""
        secured = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        return (secured and secured.getpeercert(binary_form=True)) or b""

    async def carry_out(self, step: Send | Receive) -> Unsent:
        """Raises what a stream raises."""
        self._heard = False
        try:
            if isinstance(step, Receive):
                await self._receive(step.sink)
                return ()
            return await self._send(step.buffers, step.sink)
        finally:
            self._listen(None)

    async def _receive(self, sink: Sink) -> None:
        deadline = Deadline(self._timeout)
        while not self._heard:
            if self._ahead:
                self._take_ahead(sink)
                return
            self._check()
            self._listen(sink)
            await self._wait(deadline)

    async def _send(self, buffers: Unsent, sink: Sink | None) -> Unsent:
        """Send, hearing what arrives meanwhile if there is a ``sink``."""
        if sink is not None and self._ahead:
            self._take_ahead(sink)
            return buffers
        self._check()
        self._listen(sink)
        for buffer in buffers:
            transport = self._open_transport
            if transport is None:
                # It was lost just now, as `connection_lost` will tell; asyncio warns of whoever writes on.
                break
            transport.write(buffer)
        deadline, waiting = Deadline(self._timeout), self._waiting
        if sink is not None:
            await asyncio.sleep(0)
        while self._full and not self._heard and not self._ahead:
            self._check()
            try:
                await self._wait(deadline)
            except DeadlineExceeded:
                if self._waiting >= waiting:
                    raise
                deadline, waiting = Deadline(self._timeout), self._waiting
        if sink is not None and self._ahead:
            self._take_ahead(sink)
        return ()

    @property
    def _waiting(self) -> int:
        """Bytes that the system has not taken yet."""
        transport = self._open_transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def _take_ahead(self, sink: Sink) -> None:
        """Move what was received aside to whom it is for, as far as it fits."""
        piece, space = self._ahead[0], sink.buffer()
        count = min(len(piece), len(space))
        space[:count] = piece[:count]
        sink.received(count)
        if count < len(piece):
            self._ahead[0] = piece[count:]
        else:
            self._ahead.popleft()

    def _listen(self, sink: Sink | None) -> None:
        """Receive from now on for this one; for none: stop."""
        transport = self._open_transport
        if transport is not None and sink is not None and self._sink is None:
            transport.resume_reading()
        elif transport is not None and sink is None and self._sink is not None:
            transport.pause_reading()
        self._sink = sink

    @property
    def _open_transport(self) -> asyncio.Transport | None:
        """The transport, None once it can't be used any more."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return None
        try:
            transport.get_write_buffer_size()
        except AttributeError:
            # Python 3.10 has let go of a TLS connection a moment before it says so.
            return None
        return transport

    async def _wait(self, deadline: Deadline) -> None:
        """Until something has happened, or it was time to look at the peer's health. Raises `DeadlineExceeded`."""
        self._wake = wake = self._loop.create_future()
        remaining = deadline.remaining()
        patience = KEEPALIVE_INTERVAL if remaining is None else min(remaining, KEEPALIVE_INTERVAL)
        timer = self._loop.call_later(patience, self._give_up, wake)
        try:
            if await wake:
                return
        finally:
            timer.cancel()
            self._wake = None
        sock = self._socket()
        if sock is not None and peer_is_silent(sock):
            raise ConnectionLost(f"{self._peer} has not acknowledged anything for {DEAD_AFTER} s") from TimeoutError(
                errno.ETIMEDOUT, "no acknowledgement"
            )
        if deadline.passed:
            raise DeadlineExceeded(f"{self._peer} did not answer in time")

    @staticmethod
    def _give_up(wake: asyncio.Future[bool]) -> None:
        if not wake.done():
            wake.set_result(False)

    def _check(self) -> None:
        if self._lost is not None:
            raise type(self._lost)(str(self._lost)) from self._lost.__cause__

    def close(self, error: PynetworkError) -> None:
        """End the connection at once; whoever waits in it learns that by ``error``."""
        self._lose(error)
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Until the socket is closed, after ``close``."""
        await asyncio.shield(self._gone)

    def _socket(self) -> socket.socket | None:
        return None if self._transport is None else cast("socket.socket", self._transport.get_extra_info("socket"))

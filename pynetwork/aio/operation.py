"""An operation on one pair, for tasks of an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from handshakes.errors import Busy, OperationAborted, PynetworkError, RemoteProtocolError
from handshakes.messages import Bytes, Event, Message
from pynetwork.aio.link import AsyncLink
from pynetwork.operation import OperationState, Pair, message_of

__all__ = ["AsyncOperation"]


class AsyncOperation(OperationState):
    """A running operation. Leaving its ``async with`` block before its end aborts it, and so does cancelling."""

    def __init__(self, pair: Pair, link: AsyncLink) -> None:
        super().__init__(pair)
        self._link = link

    @property
    def send_limit(self) -> int:
        """The largest body that the gateway accepts, in bytes."""
        return self._link.connection.send_limit

    async def send(self, code: int, head: bytes = b"", *buffers: Bytes) -> None:
        """Send one message, as `pynetwork.link.Operation.send`; the buffers must not change before they have left."""
        await self.say(self._link.connection.message(code, head, buffers))

    @property
    def peer(self) -> str:
        """The gateway's address."""
        return self._link.peer

    @property
    def received(self) -> int:
        """The bytes that have come over the pair so far."""
        return self._link.received

    def ready(self) -> bool:
        """Whether ``receive`` would probably find something without waiting for the network."""
        return self._link.pending

    def recycle(self, body: Bytes) -> None:
        """The body of a message is done with: its memory may receive the next."""
        self._link.connection.recycle(body)

    async def say(self, buffers: list[Bytes]) -> None:
        """Send these buffers of the operation."""
        try:
            self._link.write(buffers)
            await self._link.drain()
        except PynetworkError as error:
            self._pair.lose(error)
            raise

    async def receive(self, timeout: float | None = None) -> Message | None:
        """The next message, or None when the operation has ended with its result; raises as the blocking one."""
        return None if self.ended else message_of(await self.next_event(timeout))

    async def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None when the operation has ended with its result."""
        if self._link.waited_for and not self._pair.closed:
            raise Busy("another task waits for what this operation brings next")
        try:
            event = await self._link.next_event(timeout)
        except asyncio.CancelledError:
            self.abort()
            raise
        except OperationAborted:
            raise
        except BaseException as error:
            self._fail(error)
            raise
        return self._take(event)

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and answer the result. Raises as ``receive``."""
        if not self.ended and await self.next_event(timeout) is not None:
            raise RemoteProtocolError("a message arrived in place of a result")
        return self._value

    def abort(self) -> None:
        """Tell the gateway to stop. The client may begin another operation at once.

        Another task that waits for a message of this one gets an `OperationAborted`.
        """
        if not self.ended:
            try:
                self._link.write(self._link.connection.abort())
            except PynetworkError as error:
                self._pair.lose(error)
            finally:
                self._end()
                self._link.interrupt()

    async def __aenter__(self) -> AsyncOperation:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.abort()

"""The caller's end of one pair, for tasks of an event loop."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from handshakes.connection import Connection, Phase
from handshakes.errors import (
    Busy,
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    NotFound,
    OperationAborted,
    PynetworkError,
    RemoteProtocolError,
)
from handshakes.messages import Bytes, Event, Items, Rights
from pynetwork.aio.dialling import Dialled
from pynetwork.aio.link import AsyncLink, run_on
from pynetwork.aio.operation import AsyncOperation
from pynetwork.client import CREDIT_ITEMS, CREDIT_SIZE, NO_SERIES, SURELY_TAKEN

if TYPE_CHECKING:
    from pynetwork.series.aio_channel import AsyncChannel
    from pynetwork.series.payloads import PayloadType

__all__ = ["AsyncClient", "AsyncStream"]

_DEFAULT: Any = object()

Payload = TypeVar("Payload")
_FAREWELL = 1.0


class AsyncClient:
    """The caller's end of one pair; made by `AsyncController.get_client`.

    What it does is what `pynetwork.Client` does, as coroutines. One operation runs at a time; a second one raises
    `Busy`. Cancelling a task that waits here aborts its operation on the gateway, and the client stays usable. It
    belongs to the event loop on which it was made.
    """

    def __init__(self, link: AsyncLink, timeout: float | None = 10.0) -> None:
        self.link = link
        self.timeout = timeout
        self._running: str | None = None
        self._closed = False
        self._lost: BaseException | None = None

    @property
    def peer(self) -> str:
        """The gateway's address."""
        return self.link.peer

    @property
    def connection(self) -> Connection:
        """The pair's state machine."""
        return self.link.connection

    @property
    def rights(self) -> Rights:
        """What this client's key grants."""
        return self.link.connection.rights

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""
        return self._closed

    @property
    def usable(self) -> bool:
        """Whether neither side has ended the pair, as far as is known."""
        return not self._closed and self._lost is None and self.link.lost is None

    # Operations

    async def open(self, verb: str, *parameters: Any) -> AsyncOperation:
        """Begin an operation of any service; see `pynetwork.service`."""
        return await self.begin(AsyncOperation(self, self.link), verb, parameters, self.timeout)

    async def begin(
        self,
        operation: AsyncOperation,
        verb: str,
        parameters: tuple[Any, ...],
        timeout: float | None,
        further: Callable[[], list[Bytes]] | None = None,
    ) -> AsyncOperation:
        """Take the turn and send the opening; ``further`` gives what is to leave with it."""
        if not self.usable:
            self._explain()
        if self._running is not None:
            raise Busy(f"this client still runs {self._running!r}; let it end, or take another client for {verb!r}")
        self._running = verb
        connection = self.link.connection
        try:
            buffers = connection.open(verb, parameters)
            if connection.leaving and sum(map(len, buffers)) > SURELY_TAKEN:
                await self._settle(timeout)
            await self.link.drain(timeout)
            if further is not None:
                buffers += further()
            self.link.write(buffers)
        except BaseException as error:
            self._take_back(error)
            raise
        # From here on the operation runs on the gateway, whatever happens here.
        try:
            await self.link.drain(timeout)
        except (asyncio.CancelledError, DeadlineExceeded):
            operation.abort()
            raise
        except PynetworkError as error:
            operation.ended = True
            self._running = None
            self.lose(error)
            raise
        return operation

    def _take_back(self, error: BaseException) -> None:
        """Nothing of the opening was written."""
        self._running = None
        connection = self.link.connection
        if connection.phase is Phase.RUNNING:
            connection.withdraw()
            # What was left before is read on.
            self.link.interrupt()
        if isinstance(error, ConnectionLost) or connection.phase is not Phase.IDLE:
            self.lose(error)

    async def _settle(self, timeout: float | None) -> None:
        try:
            await self.link.settle(timeout)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(f"{self.peer} has not ended the operation that was left before") from error

    def _explain(self) -> None:
        if self._closed:
            raise Closed("this client is closed")
        if isinstance(self._lost, Closed):
            raise Closed(str(self._lost)) from self._lost
        lost = self._lost or self.link.lost
        raise ConnectionLost(f"this client's connection was lost before: {lost}") from lost

    def release(self) -> None:
        """An operation has ended; the next may begin."""
        self._running = None

    def lose(self, error: BaseException) -> None:
        """The pair can't be used any more, because of ``error``."""
        if self._lost is None:
            self._lost = error
            self.link.close()

    async def request(self, verb: str, *parameters: Any, timeout: float | None = _DEFAULT) -> Any:
        """An operation without messages of its own: open it and wait for its result."""
        if timeout is _DEFAULT:
            timeout = self.timeout
        operation = await self.begin(AsyncOperation(self, self.link), verb, parameters, timeout)
        try:
            return await operation.result(timeout)
        except DeadlineExceeded as error:
            operation.abort()
            raise DeadlineExceeded(f"{verb!r} was not answered by {self.peer} in time") from error
        except BaseException:
            operation.abort()
            raise

    # What people use

    async def ping(self, message: Any = None) -> float:
        """The seconds that ``message`` takes to the gateway's handler and back."""
        began = time.perf_counter()
        await self.request("ping", message)
        return time.perf_counter() - began

    async def call(self, name: str, /, *arguments: Any, timeout: float | None = _DEFAULT, **keywords: Any) -> Any:
        """Run the function ``name`` on the gateway and answer what it returned; see `pynetwork.Client.call`."""
        return await self.request("call", name, arguments, keywords, timeout=timeout)

    async def send(
        self, name: str, buffer: Any, /, *arguments: Any, timeout: float | None = _DEFAULT, **keywords: Any
    ) -> int:
        """Run the function ``name`` with ``buffer`` among its keyword arguments; answers its int."""
        result: int = await self.request("send", name, buffer, arguments, keywords, timeout=timeout)
        return result

    def stream(
        self,
        name: str,
        /,
        *arguments: Any,
        timeout: float | None = None,
        callback: Callable[[int, Any], object] | None = None,
        eos_callback: Callable[[], object] | None = None,
        **keywords: Any,
    ) -> AsyncStream:
        """The items ``(ident, payload)`` of the generator ``name``, for ``async for``; see `pynetwork.Client.stream`.

        It begins when it is first iterated, entered with ``async with``, or awaited. Awaited, with ``callback`` it runs
        here and now: ``callback(ident, payload)``, a function or coroutine function, for every item until it answers
        False, then, when the stream ended by itself, ``eos_callback()``.
        """
        return self.start_stream(name, arguments, keywords, None, timeout, callback, eos_callback)

    def start_stream(
        self,
        name: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        share: list[int] | None,
        timeout: float | None = None,
        callback: Callable[[int, Any], object] | None = None,
        eos_callback: Callable[[], object] | None = None,
    ) -> AsyncStream:
        """As ``stream``; ``share`` is ``[lane, lanes]`` for generators that divide their work within a swarm."""
        return AsyncStream(self, (name, arguments, keywords, share), timeout, callback, eos_callback)

    async def subroutines(self) -> list[dict[str, str]]:
        """Name, kind, signature and documentation of everything the gateway offers."""
        answer: list[dict[str, str]] = await self.request("subroutines")
        return answer

    async def stats(self) -> dict[str, Any]:
        """The gateway's figures and its machine's; needs the right ``stats``."""
        answer: dict[str, Any] = await self.request("stats")
        return answer

    def series(
        self,
        payload_type: PayloadType[Payload] | None = None,
        *,
        timeout: float | None = None,
        memory_limit: int | None = 64 * 1024 * 1024,
    ) -> Dialled[AsyncChannel[Payload]]:
        """An `AsyncChannel` to the gateway's series store, for which this client is given up; see
        `pynetwork.Client.series`. Await it, or enter it with ``async with``.
        """
        return Dialled(lambda: self._series(payload_type, timeout, memory_limit))

    async def _series(
        self, payload_type: PayloadType[Payload] | None, timeout: float | None, memory_limit: int | None
    ) -> AsyncChannel[Payload]:
        # Only now, as it takes a while.
        from pynetwork.series.aio_channel import AsyncChannel  # noqa: PLC0415
        from pynetwork.series.payloads import BytesPayloadType  # noqa: PLC0415

        await self._give_up()
        kind: Any = BytesPayloadType() if payload_type is None else payload_type
        link = self.link
        return AsyncChannel.over(
            link.hand_over(),
            kind,
            peer=link.peer,
            on_close=link.handed_back,
            timeout=timeout,
            memory_limit=memory_limit,
        )

    async def _give_up(self) -> None:
        """Have the gateway speak the protocol of series from now on."""
        operation = await self.open("series")
        try:
            go = await operation.receive(self.timeout)
        except NotFound as error:
            raise NotFound(NO_SERIES.format(self.peer)) from error
        except BaseException as error:
            if not operation.ended or isinstance(error, asyncio.CancelledError):
                # Nobody could tell which protocol is spoken.
                self.lose(error)
                operation.abort()
            raise
        if go is None:
            raise RemoteProtocolError(f"{self.peer} does not give its pairs over to series")
        operation.ended = True
        self._running = None
        self._lost = Closed("this client was given up for a series channel; take another from its controller")

    async def close(self) -> None:
        """End the pair, whatever runs. When this returns the gateway's handler is free for somebody else."""
        if not self._closed:
            self._closed = True
            try:
                if self._lost is None and not self.link.waited_for:
                    await self.link.leave(_FAREWELL)
            finally:
                self.link.close()
        await self.link.wait_closed()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()


class AsyncStream:
    """The items of a remote generator, for ``async for``. Leaving the loop, or ``close()``, ends it on the gateway.

    ``ended`` tells whether the generator came to its own end.
    """

    def __init__(
        self,
        client: AsyncClient,
        parameters: tuple[Any, ...],
        timeout: float | None,
        callback: Callable[[int, Any], object] | None = None,
        eos_callback: Callable[[], object] | None = None,
    ) -> None:
        self._client = client
        self._parameters = parameters
        self._timeout = timeout
        self._callback, self._eos_callback = callback, eos_callback
        self._operation: AsyncOperation | None = None
        self._items: Iterator[tuple[int, Any]] = iter(())
        self._consumed_items = self._consumed_size = 0
        self._closed = False
        self.ended = False

    async def frame(self) -> Items | None:
        """The next items as they came, many together; None when the generator has come to its end."""
        await self._begin()
        if self._operation is None or self._operation.ended:
            return None
        try:
            await self._grant()
            event = _items_of(await self._operation.next_event(self._timeout))
        except Busy:
            # It goes on for the task that was first.
            raise
        except OperationAborted:
            if self._closed:
                # Another task has left the stream while this one was waiting.
                return None
            raise
        except BaseException:
            self.close()
            raise
        if event is None:
            self.ended = True
            return None
        self._consumed_items += len(event.idents)
        self._consumed_size += event.size
        return event

    async def _begin(self) -> None:
        if self._operation is None and not self._closed:
            client = self._client
            credit = client.link.connection.credit
            self._operation = await client.begin(
                AsyncOperation(client, client.link),
                "stream",
                self._parameters,
                client.timeout,
                lambda: credit(CREDIT_ITEMS, CREDIT_SIZE),
            )

    async def _grant(self) -> None:
        """What was consumed may come again, once it is much."""
        link = self._client.link
        much = self._consumed_items >= CREDIT_ITEMS // 2 or self._consumed_size >= CREDIT_SIZE // 2
        # When the connection has ended, what has arrived is still to be had.
        if much and link.lost is None:
            assert self._operation is not None
            credit = link.connection.credit(self._consumed_items, self._consumed_size)
            self._consumed_items = self._consumed_size = 0
            await self._operation.say(credit)

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> tuple[int, Any]:
        for item in self._items:
            return item
        frame = await self.frame()
        if frame is None:
            raise StopAsyncIteration
        self._items = zip(frame.idents, frame.payloads, strict=True)
        return next(self._items)

    def close(self) -> None:
        """Leave the stream: the generator on the gateway is closed."""
        self._closed = True
        self._items = iter(())
        if self._operation is not None:
            self._operation.abort()

    def __del__(self) -> None:
        # The end of a loop that was left lets go of the stream: the client may be used again at once.
        if self._operation is not None and not self._operation.ended:
            run_on(self._client.link.loop, self._operation.abort)

    def __await__(self) -> Generator[Any, None, AsyncStream]:
        return self._run().__await__()

    async def _run(self) -> AsyncStream:
        await self._begin()
        callback = self._callback
        if callback is None:
            return self
        async with self:
            async for ident, payload in self:
                if await _outcome(callback(ident, payload)) is False:
                    return self
            if self.ended and self._eos_callback is not None:
                await _outcome(self._eos_callback())
        return self

    async def __aenter__(self) -> AsyncStream:
        await self._begin()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.close()


def _items_of(event: Event | None) -> Items | None:
    if event is None or type(event) is Items:
        return event
    raise RemoteProtocolError("a stream brought something that is no item")


async def _outcome(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer

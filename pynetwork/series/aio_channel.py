"""The client of a time-series store for tasks of an event loop; see `pynetwork.series.channel` for the blocking one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from handshakes.errors import Busy, Closed, ConnectionLost, PynetworkError
from handshakes.records import Block, Key
from pynetwork.series.aio_wire import Wire, connect
from pynetwork.series.exchange import MAX_BATCH_SIZE, Deliver, Exchange, Steps, Unsent, join, status_of
from pynetwork.series.options import MEMORY_LIMIT, Options
from pynetwork.series.payloads import BytesPayloadType, PayloadType
from pynetwork.series.record import Record
from pynetwork.series.response import Response, ResponseAcq, ResponseGet, ResponsePut, ResponseStatus

if TYPE_CHECKING:
    import ssl

    from pynetwork.tls import TLS

__all__ = ["AsyncChannel", "AsyncRecordIterator"]

T = TypeVar("T")
Result = TypeVar("Result")


class AsyncChannel(Generic[T]):
    """A `Channel` for tasks of an event loop: the same options, requests, responses and statuses.

    ::

        async with AsyncChannel("127.0.0.1", 1858, TuplePayloadType("<if")) as channel:
            (await channel.put([Record(Key(1, 4, 7, now_ns()), (10, 24.0))])).raise_for_status()
            async for record in channel.get_iter(Key.min(), Key.max()).records():
                ...

    A request that is cancelled closes the channel. One request runs at a time: a second one, from this or another task,
    raises `Busy`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        payload_type: PayloadType[T] = BytesPayloadType(),  # type: ignore[assignment]  # noqa: B008 - it has no state
        *,
        timeout: float | None = None,
        memory_limit: int | None = MEMORY_LIMIT,
        ssl_context: ssl.SSLContext | None = None,
        key: str | bytes | None = None,
        tls: TLS | ssl.SSLContext | None = None,
    ) -> None:
        """Raises `ConfigurationError` for options that can't be honoured."""
        self._set_up(
            Options(payload_type, timeout, memory_limit, (host, port), key=key, tls=tls, ssl_context=ssl_context)
        )

    @classmethod
    def over(
        cls,
        transport: asyncio.Transport,
        payload_type: PayloadType[T],
        *,
        peer: str = "",
        on_close: Callable[[], object] | None = None,
        timeout: float | None = None,
        memory_limit: int | None = MEMORY_LIMIT,
    ) -> AsyncChannel[T]:
        """A channel over a transport of the running loop on which the other side speaks TStorage already; it can't be
        connected again.

        The transport's protocol is replaced. ``on_close`` is called once, when the transport has closed.
        """
        channel = cls.__new__(cls)
        channel._set_up(Options(payload_type, timeout, memory_limit))
        wire = Wire(peer or "the server", timeout, on_close)
        transport.set_protocol(wire)
        wire.connection_made(transport)
        channel._wire = wire
        return channel

    def _set_up(self, options: Options[T]) -> None:
        self._options = options
        self._exchange = Exchange(options)
        self._wire: Wire | None = None
        self._dropped: Wire | None = None
        self._busy = False

    @property
    def payload_type(self) -> PayloadType[T]:
        """What its payloads are."""
        return self._options.payload_type

    @property
    def connected(self) -> bool:
        """Whether it is open, as far as is known."""
        return self._wire is not None

    # Connecting

    async def connect(self) -> Response:
        """As `Channel.connect`."""
        self._take_turn()
        try:
            if self._wire is None:
                self._wire = await _dial(self._options)
        except PynetworkError as error:
            return Response(status_of(error), error=error)
        finally:
            self._busy = False
        return Response(ResponseStatus.OK)

    async def close(self) -> Response:
        """Close the channel, whatever runs; closing one that is closed does nothing."""
        self._drop(self._wire)
        if self._dropped is not None:
            await self._dropped.wait_closed()
        return Response(ResponseStatus.OK)

    def _drop(self, wire: Wire | None) -> None:
        if wire is not None and wire is self._wire:
            wire.close(Closed("this channel was closed in the middle of a request"))
            self._wire, self._dropped = None, wire
            self._exchange = Exchange(self._options)

    async def __aenter__(self) -> AsyncChannel[T]:
        (await self.connect()).raise_for_status()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    # Requests

    async def put(self, records: Any, max_batch_size: int = MAX_BATCH_SIZE, skip_invalid: bool = False) -> ResponsePut:
        """As `Channel.put`."""
        return await self._ask(lambda exchange: exchange.put(records, False, max_batch_size, skip_invalid))

    async def puta(self, records: Any, max_batch_size: int = MAX_BATCH_SIZE, skip_invalid: bool = False) -> ResponsePut:
        """As `Channel.puta`."""
        return await self._ask(lambda exchange: exchange.put(records, True, max_batch_size, skip_invalid))

    async def get_acq(self, key_min: Key, key_max: Key) -> ResponseAcq:
        """As `Channel.get_acq`."""
        return await self._ask(lambda exchange: exchange.get_acq(key_min, key_max))

    async def get(self, key_min: Key, key_max: Key) -> ResponseGet[T]:
        """As `Channel.get`."""
        return await self._ask(lambda exchange: exchange.get(key_min, key_max))

    async def get_stream(self, key_min: Key, key_max: Key, callback: Callable[[Any], object]) -> ResponseAcq:
        """As `Channel.get_stream`; what the callback answers is awaited if that is possible."""
        return await self._ask(lambda exchange: exchange.get_stream(key_min, key_max), callback)

    def get_iter(self, key_min: Key, key_max: Key) -> AsyncRecordIterator[T]:
        """As `Channel.get_iter`. See `AsyncRecordIterator`."""
        return AsyncRecordIterator(self._running(lambda exchange: exchange.get_iter(key_min, key_max)))

    async def blocks(self, key_min: Key, key_max: Key) -> AsyncGenerator[Block, None]:
        """As `Channel.blocks`."""
        running = self._running(lambda exchange: exchange.get_blocks(key_min, key_max))
        try:
            async for batch in running:
                for block in batch:
                    yield block
        finally:
            running.close()
        running.result.raise_for_status()

    async def _ask(
        self, request: Callable[[Exchange[T]], Steps[Result]], callback: Callable[[Any], object] | None = None
    ) -> Result:
        running = self._running(request)
        try:
            async for batch in running:
                assert callback is not None
                outcome = callback(batch)
                if inspect.isawaitable(outcome):
                    await outcome
                # Not kept while the next one comes.
                del batch, outcome
        finally:
            running.close()
        return running.result

    def _running(self, request: Callable[[Exchange[T]], Steps[Result]]) -> _Running[T, Result]:
        return _Running(self, request)

    def _take_turn(self) -> None:
        if self._busy:
            raise Busy("this channel still runs a request; let it end, or take another channel for this one")
        self._busy = True


class _Running(Generic[T, Result]):
    """A request as it runs: an asynchronous iterator of what it delivers, and then its ``result``.

    Closed before its end it closes the channel.
    """

    result: Result

    def __init__(self, channel: AsyncChannel[T], request: Callable[[Exchange[T]], Steps[Result]]) -> None:
        self._channel = channel
        self._request = request
        self._steps: Steps[Result] | None = None
        self._ended = False

    def _begin(self) -> Steps[Result]:
        self._channel._take_turn()
        self._loop = asyncio.get_running_loop()
        self._wire, self._exchange = self._channel._wire, self._channel._exchange
        self._steps = steps = self._request(self._exchange)
        return steps

    def __aiter__(self) -> _Running[T, Result]:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        begun = self._steps is not None
        steps = self._steps or self._begin()
        try:
            return await _next_batch(steps, self._wire, () if begun else None)
        except _Finished as end:
            self.result = end.result
            self.close()
            raise StopAsyncIteration from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the request, if it has begun and has not ended."""
        if self._ended or self._steps is None:
            self._ended = True
            return
        self._ended = True
        self._steps.close()
        if self._exchange.mid_request:
            self._channel._drop(self._wire)
        self._channel._busy = False

    def __del__(self) -> None:
        # The end of a loop that was left lets go of the request. It may be collected on any thread.
        if not self._ended and self._steps is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.close)


class _Finished(Exception):
    """A request has come to its result."""

    def __init__(self, result: Any) -> None:
        self.result = result


async def _next_batch(steps: Steps[Any], wire: Wire | None, unsent: Unsent | None) -> Any:
    """Carry steps out up to the next batch. Raises `_Finished` at the end."""
    failure: PynetworkError | None = None
    while True:
        try:
            step = steps.throw(failure) if failure is not None else steps.send(unsent)  # type: ignore[arg-type]
        except StopIteration as end:
            raise _Finished(end.value) from None
        unsent, failure = (), None
        if isinstance(step, Deliver):
            return step.batch
        try:
            if wire is None:
                raise ConnectionLost("this channel is not connected: call connect(), or enter it with async with")
            unsent = await wire.carry_out(step)
        except PynetworkError as error:
            failure = error


class AsyncRecordIterator(AsyncIterator[Record[T] | ResponseAcq]):
    """The records of an answer one by one, and last the `ResponseAcq` that tells how it ended.

    ``records()`` gives the records alone, and raises when the answer failed::

        async for record in channel.get_iter(key_min, key_max).records():
            ...

    ``response`` tells how the answer ended, None while it has not. Leaving it early, by ``close()`` or at the end of an
    ``async with`` block, closes the channel, as nothing else can be asked before the answer has ended.
    """

    def __init__(self, batches: _Running[T, ResponseAcq]) -> None:
        self.response: ResponseAcq | None = None
        self._batches = batches
        self._batch: Iterator[Record[T]] = iter(())

    def records(self) -> _RecordsAlone[T]:
        """The records alone. Raises why the request failed, after those that came."""
        return _RecordsAlone(self)

    def __aiter__(self) -> AsyncRecordIterator[T]:
        return self

    async def __anext__(self) -> Record[T] | ResponseAcq:
        while True:
            for record in self._batch:
                return record
            if self.response is not None:
                raise StopAsyncIteration
            # Not kept while the next one comes.
            self._batch = iter(())
            try:
                self._batch = iter(await anext(self._batches))
            except StopAsyncIteration:
                self.response = self._batches.result
                return self.response

    def close(self) -> None:
        """Leave the answer; unless it has ended, the channel is closed."""
        self._batch = iter(())
        self._batches.close()

    async def __aenter__(self) -> AsyncRecordIterator[T]:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.close()


class _RecordsAlone(AsyncIterator[Record[T]]):
    def __init__(self, items: AsyncRecordIterator[T]) -> None:
        self._items = items

    async def __anext__(self) -> Record[T]:
        item = await anext(self._items)
        if isinstance(item, ResponseAcq):
            item.raise_for_status()
            raise StopAsyncIteration
        return item


async def _dial(options: Options[Any]) -> Wire:
    wire = await connect(options)
    try:
        if options.keyed:
            certificate = wire.certificate
            connection = options.new_connection(hashlib.sha256(certificate).digest() if certificate else b"")
            with contextlib.suppress(_Finished):
                await _next_batch(join(connection), wire, None)
    except BaseException:
        wire.close(Closed("it could not be joined"))
        await wire.wait_closed()
        raise
    return wire

"""The blocking client of a time-series store: of a TStorage server, a `SeriesServer`, or a gateway that has one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from handshakes.errors import Busy, Closed, ConnectionLost, DeadlineExceeded, PynetworkError
from handshakes.records import Block, Key
from pynetwork.endpoints import connect
from pynetwork.series.exchange import (
    MAX_BATCH_SIZE,
    Deliver,
    Exchange,
    Receive,
    Send,
    Sink,
    Steps,
    Unsent,
    ended,
    join,
    status_of,
    without,
)
from pynetwork.series.options import MEMORY_LIMIT, Options
from pynetwork.series.payloads import BytesPayloadType, PayloadType
from pynetwork.series.record import Record
from pynetwork.series.response import Response, ResponseAcq, ResponseGet, ResponsePut, ResponseStatus
from pynetwork.transport import Deadline, Stream

if TYPE_CHECKING:
    import ssl

    from pynetwork.tls import TLS

__all__ = ["Channel", "RecordIterator"]

_LOOK_INTERVAL = 0.25
"""Seconds after which a sender that is held up looks whether the server has answered already."""

T = TypeVar("T")
Result = TypeVar("Result")


class Channel(Generic[T]):
    """A connection to the store at ``host``:``port``, whose payloads are values of ``payload_type``.

    ::

        with Channel("127.0.0.1", 1858, TuplePayloadType("<if")) as channel:
            channel.put([Record(Key(1, 4, 7, now_ns()), (10, 24.0))]).raise_for_status()
            for record in channel.get(Key.min(), Key.max()).data:
                ...

    - ``timeout``: seconds that connecting may take, and each wait for the server to take or to send something; None
      waits as long as the server's machine is alive.
    - ``memory_limit``: bytes of records (keys and payloads) that an answer may hold in memory; None sets ``get`` none.
    - ``tls``: a `TLS`, or as ``ssl_context`` an `ssl.SSLContext`.
    - ``key``: the key to prove to a `SeriesServer` or gateway that has one. Without it the bare TStorage protocol is
      spoken from the first byte.

    Requests and ``connect`` answer a `Response`, also when they fail; ``with`` raises what ``connect`` would answer.
    Statuses: DISCONNECTED where there is no connection, or it was lost or took too long; BAD_REQUEST for arguments that
    can't be sent, where nothing was; UNPARSEABLE_ENTITY for payloads of another type, and for a server that breaks the
    protocol; NO_MEMORY for an answer larger than the limit; ERROR for what the server refuses. After a request that
    failed with any of these but BAD_REQUEST the channel is closed; ``connect`` opens it again.

    One request runs at a time: a second one, from this or another thread, raises `Busy`.
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
        stream: Stream,
        payload_type: PayloadType[T],
        *,
        on_close: Callable[[], object] | None = None,
        timeout: float | None = None,
        memory_limit: int | None = MEMORY_LIMIT,
    ) -> Channel[T]:
        """A channel over a stream on which the other side speaks TStorage already; it can't be connected again.

        ``on_close`` is called once, when the channel has closed the stream.
        """
        channel = cls.__new__(cls)
        channel._set_up(Options(payload_type, timeout, memory_limit))
        channel._wire = _Wire(stream, timeout)
        channel._on_close = on_close
        return channel

    def _set_up(self, options: Options[T]) -> None:
        self._options = options
        self._exchange = Exchange(options)
        self._wire: _Wire | None = None
        self._on_close: Callable[[], object] | None = None
        self._turn = threading.Lock()
        self._owner = 0

    @property
    def payload_type(self) -> PayloadType[T]:
        """What its payloads are."""
        return self._options.payload_type

    @property
    def connected(self) -> bool:
        """Whether it is open, as far as is known."""
        return self._wire is not None

    # Connecting

    def connect(self) -> Response:
        """Connect, unless it is connected. The response is DISCONNECTED where there is nobody to be reached, or one who
        does not let this side in; ``error`` says why.
        """
        self._take_turn()
        try:
            if self._wire is None:
                self._wire = self._dial()
        except PynetworkError as error:
            return Response(status_of(error), error=error)
        finally:
            self._turn.release()
        return Response(ResponseStatus.OK)

    def _dial(self) -> _Wire:
        options = self._options
        host, port = options.address
        stream = connect(host, port, timeout=options.timeout, tls=options.tls, peer="server")
        try:
            wire = _Wire(stream, options.timeout)
            if options.keyed:
                with contextlib.suppress(_Finished):
                    _next_batch(join(options.new_connection(stream.certificate)), wire, None)
        except BaseException:
            stream.close()
            raise
        return wire

    def close(self) -> Response:
        """Close the channel, whatever runs; closing one that is closed does nothing."""
        wire = self._wire
        if wire is not None:
            wire.closing = True
            mine = self._turn.acquire(blocking=False)
            if not mine:
                # Another thread may be waiting in the stream, which TLS allows to one at a time only.
                wire.stream.shutdown()
                mine = self._owner != threading.get_ident() and self._turn.acquire(timeout=1.0)
            self._drop(wire)
            if mine:
                self._turn.release()
        return Response(ResponseStatus.OK)

    def _drop(self, wire: _Wire | None) -> None:
        if wire is None or self._wire is not wire:
            return
        self._wire = None
        self._exchange = Exchange(self._options)
        wire.stream.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def __enter__(self) -> Channel[T]:
        self.connect().raise_for_status()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # Requests

    def put(self, records: Any, max_batch_size: int = MAX_BATCH_SIZE, skip_invalid: bool = False) -> ResponsePut:
        """Put ``records``, to which the server gives their times of acquisition.

        They are `Record` in any iterable, columns (such as a structured array) as in `conversions.block_from`, or a
        `handshakes.records.Block`. ``max_batch_size``: bytes that are encoded at a time. A record whose key is not
        valid, or whose value is not of the payload type, makes this a BAD_REQUEST of which nothing is sent; with
        ``skip_invalid`` it is left out.
        """
        return self._ask(lambda exchange: exchange.put(records, False, max_batch_size, skip_invalid))

    def puta(self, records: Any, max_batch_size: int = MAX_BATCH_SIZE, skip_invalid: bool = False) -> ResponsePut:
        """As ``put``, with the times of acquisition that the keys have. A record whose full key exists is replaced."""
        return self._ask(lambda exchange: exchange.put(records, True, max_batch_size, skip_invalid))

    def get_acq(self, key_min: Key, key_max: Key) -> ResponseAcq:
        """The time of acquisition up to which an answer for this box would be complete."""
        return self._ask(lambda exchange: exchange.get_acq(key_min, key_max))

    def get(self, key_min: Key, key_max: Key) -> ResponseGet[T]:
        """All records with ``key_min.f <= key.f < key_max.f`` for each field f of the key, in ``data``: a set of
        `Record`, or one structured array with a `NumpyPayloadType`.

        NO_MEMORY when they are more than ``memory_limit``: then take ``get_stream`` or ``get_iter``.
        """
        return self._ask(lambda exchange: exchange.get(key_min, key_max))

    def get_stream(self, key_min: Key, key_max: Key, callback: Callable[[Any], object]) -> ResponseAcq:
        """The same records in batches of at most ``memory_limit`` bytes, for each of which ``callback`` is called: with
        a set of `Record`, or a list of structured arrays with a `NumpyPayloadType`.

        Nothing is received while the callback runs. What it raises is raised here, and the channel is closed.
        """
        return self._ask(lambda exchange: exchange.get_stream(key_min, key_max), callback)

    def get_iter(self, key_min: Key, key_max: Key) -> RecordIterator[T]:
        """The same records one by one, as they come; asked for when the first is. See `RecordIterator`."""
        return RecordIterator(self._running(lambda exchange: exchange.get_iter(key_min, key_max)))

    def blocks(self, key_min: Key, key_max: Key) -> Generator[Block, None, None]:
        """The same records in blocks, as they come, whatever the payload type.

        Raises why the request failed. Left before its end, it closes the channel.
        """
        with contextlib.closing(self._running(lambda exchange: exchange.get_blocks(key_min, key_max))) as running:
            response = yield from _flattened(running)
        response.raise_for_status()

    def _ask(
        self, request: Callable[[Exchange[T]], Steps[Result]], callback: Callable[[Any], object] | None = None
    ) -> Result:
        """What the request comes to, with its batches given to ``callback``."""
        self._take_turn()
        wire, exchange = self._wire, self._exchange
        steps = request(exchange)
        unsent: Unsent | None = None
        try:
            while True:
                batch = _next_batch(steps, wire, unsent)
                assert callback is not None
                callback(batch)
                # Not kept while the next one comes.
                del batch
                unsent = ()
        except _Finished as end:
            result: Result = end.result
            return result
        finally:
            self._end(wire, exchange)

    def _running(self, request: Callable[[Exchange[T]], Steps[Result]]) -> Generator[Any, None, Result]:
        """The request as it runs, giving its batches. Left before its end, it closes the channel."""
        self._take_turn()
        wire, exchange = self._wire, self._exchange
        steps = request(exchange)
        unsent: Unsent | None = None
        try:
            while True:
                yield _next_batch(steps, wire, unsent)
                unsent = ()
        except _Finished as end:
            result: Result = end.result
            return result
        finally:
            self._end(wire, exchange)

    def _end(self, wire: _Wire | None, exchange: Exchange[T]) -> None:
        """The request is over, or left."""
        if exchange.mid_request:
            self._drop(wire)
        self._turn.release()

    def _take_turn(self) -> None:
        if not self._turn.acquire(blocking=False):
            raise Busy("this channel still runs a request; let it end, or take another channel for this one")
        self._owner = threading.get_ident()


class RecordIterator(Iterator[Record[T] | ResponseAcq]):
    """The records of an answer one by one, and last the `ResponseAcq` that tells how it ended.

    ``records()`` gives the records alone, and raises when the answer failed::

        for record in channel.get_iter(key_min, key_max).records():
            ...

    Leaving it early, by ``close()`` or at the end of a ``with`` block, closes the channel, as nothing else can be asked
    before the answer has ended.
    """

    def __init__(self, batches: Generator[Any, None, ResponseAcq]) -> None:
        self._batches = batches
        self._responses: list[ResponseAcq] = []
        # It knows nothing of this object, so that the request is left when nobody holds this any more.
        self._items = _items(batches, self._responses)

    @property
    def response(self) -> ResponseAcq | None:
        """How the answer ended, None while it has not."""
        return self._responses[0] if self._responses else None

    def records(self) -> Iterator[Record[T]]:
        """The records alone. Raises why the request failed, after those that came."""
        for item in self._items:
            if isinstance(item, ResponseAcq):
                item.raise_for_status()
            else:
                yield item

    def __iter__(self) -> Iterator[Record[T] | ResponseAcq]:
        return self._items

    def __next__(self) -> Record[T] | ResponseAcq:
        return next(self._items)

    def close(self) -> None:
        """Leave the answer; unless it has ended, the channel is closed."""
        self._items.close()
        # Which does nothing to an iterator that has not begun.
        self._batches.close()

    def __enter__(self) -> RecordIterator[T]:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _items(
    batches: Generator[Any, None, ResponseAcq], responses: list[ResponseAcq]
) -> Generator[Record[Any] | ResponseAcq, None, None]:
    """What is in the batches, and last the response, which is added to ``responses``."""
    with contextlib.closing(batches):
        responses.append((yield from _flattened(batches)))
    yield responses[0]


def _flattened(batches: Generator[Any, None, Result]) -> Generator[Any, None, Result]:
    """What is in the batches, one by one."""
    while True:
        try:
            batch = next(batches)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield from batch
        # Not kept while the next one comes.
        del batch


class _Finished(Exception):
    """A request has come to its result."""

    def __init__(self, result: Any) -> None:
        self.result = result


def _next_batch(steps: Steps[Any], wire: _Wire | None, unsent: Unsent | None) -> Any:
    """Carry steps out up to the next batch that is to be delivered. ``unsent`` is None before the first step. Raises
    `_Finished` with the result.
    """
    failure: PynetworkError | None = None
    while True:
        try:
            step = steps.throw(failure) if failure is not None else steps.send(unsent)  # type: ignore[arg-type]
        except StopIteration as end:
            raise _Finished(end.value) from None
        if isinstance(step, Deliver):
            return step.batch
        unsent, failure = (), None
        try:
            if wire is None:
                raise ConnectionLost("this channel is not connected: call connect(), or enter it with a with block")
            unsent = wire.carry_out(step)
        except PynetworkError as error:
            failure = error


class _Wire:
    """A stream, and how long to wait for it."""

    def __init__(self, stream: Stream, timeout: float | None) -> None:
        self.stream = stream
        self.closing = False
        self._timeout = timeout

    def carry_out(self, step: Send | Receive) -> Unsent:
        """Raises what a stream raises."""
        try:
            if isinstance(step, Receive):
                self._receive(step.sink, self._timeout)
                return ()
            if step.sink is not None:
                return self._send_and_hear(step.buffers, step.sink)
            self.stream.send(step.buffers, self._timeout)
            return ()
        except PynetworkError as error:
            if self.closing:
                raise Closed("this channel was closed in the middle of a request") from error
            raise

    def _receive(self, sink: Sink, timeout: float | None) -> None:
        count = self.stream.receive_into(sink.buffer(), timeout)
        if not count:
            raise ConnectionLost(ended(self.stream.peer, self.stream.received)) from ConnectionResetError(
                "end of stream"
            )
        sink.received(count)

    def _send_and_hear(self, buffers: Unsent, sink: Sink) -> Unsent:
        """Send, until everything is sent or something has arrived."""
        stream, deadline = self.stream, Deadline(self._timeout)
        interval = _LOOK_INTERVAL if self._timeout is None else min(_LOOK_INTERVAL, self._timeout)
        while True:
            before = stream.sent
            try:
                stream.send(buffers, interval)
                self._hear(sink)
                return ()
            except DeadlineExceeded:
                sent = stream.sent - before
                buffers = without(buffers, sent)
                if self._hear(sink):
                    return buffers
                if sent:
                    deadline = Deadline(self._timeout)
                elif deadline.passed:
                    raise DeadlineExceeded(f"{stream.peer} did not take what was sent in time") from None
            except ConnectionLost:
                # A server that has hung up may have said why before.
                with contextlib.suppress(PynetworkError):
                    if self._hear(sink):
                        return buffers
                raise

    def _hear(self, sink: Sink) -> bool:
        """Receive what has arrived; False when nothing has."""
        if not self.stream.ready():
            return False
        try:
            self._receive(sink, 0.0)
        except DeadlineExceeded:
            # Part of a TLS record makes a socket readable, and yet there is nothing to read.
            return False
        return True

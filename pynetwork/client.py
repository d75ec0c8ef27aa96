"""The caller's end of one pair."""

from __future__ import annotations

import threading
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
    PynetworkError,
    RemoteProtocolError,
)
from handshakes.messages import Bytes, Event, Items, Message, Rights
from pynetwork.link import Link, Operation
from pynetwork.operation import OperationState, message_of
from pynetwork.transport import Deadline

if TYPE_CHECKING:
    from pynetwork.series.channel import Channel
    from pynetwork.series.payloads import PayloadType

__all__ = ["CREDIT_ITEMS", "CREDIT_SIZE", "NO_SERIES", "SURELY_TAKEN", "CallerOperation", "Client", "RemoteStream"]

CREDIT_ITEMS = 65536
"""Items of a stream that may be on their way to a caller."""
CREDIT_SIZE = 2 * 1024 * 1024
"""Bytes of them (one item may exceed it)."""

SURELY_TAKEN = 64 * 1024
"""Bytes that the system takes over even from a peer that does not read."""

NO_SERIES = '{} has no series service; gateway.add_service("series", SeriesService(SeriesStore(PATH))) gives it one'

_DEFAULT: Any = object()

Payload = TypeVar("Payload")


class CallerOperation(OperationState, Operation):
    """A running operation, on the caller's side. Leaving its ``with`` block before its end aborts it."""

    def __init__(self, client: Client, verb: str, parameters: tuple[Any, ...], timeout: float | None = None) -> None:
        # Not by way of both constructors: this is done for every call.
        self._pair = client
        self._link = client.link
        self._value: Any = None
        self.ended = False
        client.begin(verb, parameters, timeout)

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message, or None when the operation has ended with its result.

        Raises the `RemoteFault` or `Refused` that ended it, `ConnectionLost`, or `DeadlineExceeded` (it still runs
        then).
        """
        return None if self.ended else message_of(self.next_event(timeout))

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None when the operation has ended with its result."""
        try:
            event = self._link.next_event(timeout)
        except BaseException as error:
            # After a Ctrl-C that did no harm it is as after a deadline: who leaves the operation aborts it.
            if not self._link.stream.spared_by(error):
                self._fail(error)
            raise
        return event if type(event) is Items else self._take(event)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and answer the result. Raises as ``receive``."""
        if not self.ended and self.next_event(timeout) is not None:
            raise RemoteProtocolError("a message arrived in place of a result")
        return self._value

    def abort(self) -> None:
        """Tell the gateway to stop. The client may begin another operation at once."""
        if not self.ended:
            try:
                self._link.send(self._link.connection.abort())
            except PynetworkError as error:
                self._pair.lose(error)
            finally:
                # Not before: whoever waits for the turn would speak in between.
                self._end()

    def __enter__(self) -> CallerOperation:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.abort()


class Client:
    """The caller's end of one pair; made by `Controller.get_client`.

    One operation runs at a time: a second one, from this or another thread, raises `Busy`. ``timeout`` is how many
    seconds a call may take unless it says otherwise; None waits as long as the gateway is alive. After a
    `DeadlineExceeded` the client is as usable as before: the gateway is told to stop, and what it still sends for
    that is dropped. After a `ConnectionLost` the client is done for: get another.
    """

    def __init__(self, link: Link, timeout: float | None = 10.0) -> None:
        self.link = link
        self.timeout = timeout
        self._turn = threading.Lock()
        self._running = ""
        self._owner = 0
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
        return not self._closed and self._lost is None

    # Operations

    def open(self, verb: str, *parameters: Any) -> CallerOperation:
        """Begin an operation of any service; see `pynetwork.service`."""
        return CallerOperation(self, verb, parameters, self.timeout)

    def begin(
        self,
        verb: str,
        parameters: tuple[Any, ...],
        timeout: float | None,
        further: Callable[[], list[Bytes]] | None = None,
    ) -> None:
        """Take the turn and send the opening; ``further`` gives what is to leave with it."""
        if self._closed:
            self._explain()
        if not self._turn.acquire(blocking=False):
            raise Busy(f"this client still runs {self._running!r}; let it end, or take another client for {verb!r}")
        try:
            if self._closed or self._lost is not None:
                self._explain()
            self._running = verb
            self._owner = threading.get_ident()
            link = self.link
            buffers = link.connection.open(verb, parameters)
            if link.connection.leaving and sum(map(len, buffers)) > SURELY_TAKEN:
                self._settle(timeout)
            if further is not None:
                buffers += further()
            link.stream.send(buffers, timeout)
        except BaseException as error:
            if self.link.connection.phase is not Phase.IDLE:
                self.lose(error)
            self._turn.release()
            raise

    def _settle(self, timeout: float | None) -> None:
        try:
            self.link.settle(timeout)
        except DeadlineExceeded as error:
            self.link.connection.withdraw()
            raise DeadlineExceeded(f"{self.peer} has not ended the operation that was left before") from error

    def say(self, buffers: list[Bytes], timeout: float | None = None) -> None:
        """Send these buffers of the running operation."""
        try:
            self.link.send(buffers, timeout)
        except BaseException as error:
            # Some of the bytes may have left: nobody could tell where the next message begins.
            self.lose(error)
            raise

    def _explain(self) -> None:
        if self._closed:
            raise Closed("this client is closed")
        if isinstance(self._lost, Closed):
            raise Closed(str(self._lost)) from self._lost
        # An interrupt says nothing more than its name.
        reason = str(self._lost) or type(self._lost).__name__
        raise ConnectionLost(f"this client's connection was lost before: {reason}") from self._lost

    def release(self) -> None:
        """An operation has ended; the next may begin."""
        self._turn.release()

    def lose(self, error: BaseException) -> None:
        """The pair can't be used any more, because of ``error``."""
        if self._lost is None:
            self._lost = error
            self.link.stream.close()

    def request(self, verb: str, *parameters: Any, timeout: float | None = _DEFAULT) -> Any:
        """An operation without messages of its own: open it and wait for its result."""
        if timeout is _DEFAULT:
            timeout = self.timeout
        operation = CallerOperation(self, verb, parameters, timeout)
        try:
            return operation.result(timeout)
        except DeadlineExceeded as error:
            operation.abort()
            raise DeadlineExceeded(f"{verb!r} was not answered by {self.peer} in time") from error
        except BaseException:
            operation.abort()
            raise

    # What people use

    def ping(self, message: Any = None) -> float:
        """The seconds that ``message`` takes to the gateway's handler and back."""
        began = time.perf_counter()
        self.request("ping", message)
        return time.perf_counter() - began

    def call(self, name: str, /, *arguments: Any, timeout: float | None = _DEFAULT, **keywords: Any) -> Any:
        """Run the function ``name`` on the gateway and answer what it returned.

        Raises `NotFound`, `BadRequest` (arguments that do not fit), `RemoteFault` (the function raised),
        `DeadlineExceeded` after ``timeout`` seconds (the function itself can't be interrupted), `ConnectionLost`.
        """
        return self.request("call", name, arguments, keywords, timeout=timeout)

    def send(
        self, name: str, buffer: Any, /, *arguments: Any, timeout: float | None = _DEFAULT, **keywords: Any
    ) -> int:
        """Run the function ``name`` with ``buffer`` among its keyword arguments; answers its int. Raises as
        ``call``.
        """
        result: int = self.request("send", name, buffer, arguments, keywords, timeout=timeout)
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
    ) -> RemoteStream:
        """The items ``(ident, payload)`` of the generator ``name``, as an iterator.

        ``timeout`` bounds the wait for each next item in seconds (default: as long as the gateway is alive). Leaving
        the loop early, or closing the iterator, ends the generator on the gateway. With ``callback`` the stream is
        run here and now: ``callback(ident, payload)`` for every item until it answers False, then, when the stream
        ended by itself, ``eos_callback()``. Raises as ``call``; an exception of the generator arrives after the items
        before it.
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
    ) -> RemoteStream:
        """As ``stream``; ``share`` is ``[lane, lanes]`` for generators that divide their work within a swarm."""
        stream = RemoteStream(self, (name, arguments, keywords, share), timeout)
        if callback is not None:
            with stream:
                for ident, payload in stream:
                    if callback(ident, payload) is False:
                        return stream
                if eos_callback is not None:
                    eos_callback()
        return stream

    def subroutines(self) -> list[dict[str, str]]:
        """Name, kind, signature and documentation of everything the gateway offers."""
        answer: list[dict[str, str]] = self.request("subroutines")
        return answer

    def stats(self) -> dict[str, Any]:
        """The gateway's figures and its machine's; needs the right ``stats``."""
        answer: dict[str, Any] = self.request("stats")
        return answer

    def series(
        self,
        payload_type: PayloadType[Payload] | None = None,
        *,
        timeout: float | None = None,
        memory_limit: int | None = 64 * 1024 * 1024,
    ) -> Channel[Payload]:
        """A `Channel` to the gateway's series store, over this very pair: through the same port, key and TLS.

        ``payload_type`` is by default `BytesPayloadType`; the other options are those of a channel. The client is given
        up for it: everything else that is asked of it raises `Closed`, and closing it closes the channel. For both,
        take two clients.

        Raises `NotFound` when the gateway has no series store, `Forbidden` without the right to read or to write.
        """
        # Only now, as it takes a while.
        from pynetwork.series.channel import Channel  # noqa: PLC0415
        from pynetwork.series.payloads import BytesPayloadType  # noqa: PLC0415

        self._give_up()
        kind: Any = BytesPayloadType() if payload_type is None else payload_type
        return Channel.over(self.link.stream, kind, timeout=timeout, memory_limit=memory_limit)

    def _give_up(self) -> None:
        """Have the gateway speak the protocol of series from now on."""
        operation = self.open("series")
        try:
            go = operation.receive(self.timeout)
        except NotFound as error:
            raise NotFound(NO_SERIES.format(self.peer)) from error
        except BaseException as error:
            if not operation.ended:
                # Nobody could tell which protocol is spoken.
                self.lose(error)
                operation.abort()
            raise
        if go is None:
            raise RemoteProtocolError(f"{self.peer} does not give its pairs over to series")
        operation.ended = True
        self._lost = Closed("this client was given up for a series channel; take another from its controller")
        self._turn.release()

    def close(self) -> None:
        """End the pair, whatever runs. When this returns the gateway's handler is free for somebody else."""
        if self._closed:
            return
        self._closed = True
        if self._lost is None:
            # Another thread may be waiting in the stream, which TLS allows to one at a time only.
            mine = self._turn.acquire(blocking=False)
            if mine or self._owner == threading.get_ident():
                self._leave()
            self.link.stream.shutdown()
            if not mine and self._owner != threading.get_ident():
                mine = self._turn.acquire(timeout=1.0)
            if mine:
                self._turn.release()
        self.link.stream.close()

    def _leave(self) -> None:
        """Say goodbye, and wait a moment for the gateway to end the connection: then its handler is free."""
        try:
            self.link.stream.send(self.link.connection.goodbye(), 0.5)
            patience = Deadline(1.0)
            spill = memoryview(bytearray(65536))
            while not patience.passed and self.link.stream.receive_into(spill, patience.remaining()):
                pass
        except PynetworkError:
            # It is gone or busy; closing the socket is then all there is to do.
            pass

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class RemoteStream:
    """The items of a remote generator. An iterator; ``close()`` or the end of a ``with`` block leaves it early.

    Iterating with ``for`` is the fastest way. ``ended`` tells whether the generator came to its own end.
    """

    def __init__(self, client: Client, parameters: tuple[Any, ...], timeout: float | None) -> None:
        self._operation = _StreamOperation(client, parameters)
        self._frames = _frames(self._operation, timeout)
        # Started now, so that its ``finally`` runs even if nobody ever iterates.
        next(self._frames)
        self._items = _items(self._frames)

    @property
    def ended(self) -> bool:
        """Whether the generator on the gateway has come to its own end."""
        return self._operation.completed

    def frames(self) -> Iterator[Items]:
        """The same items as they came, many together."""
        return self._frames

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self._items

    def __next__(self) -> tuple[int, Any]:
        return next(self._items)

    def close(self) -> None:
        """Leave the stream: the generator on the gateway is closed."""
        self._items.close()
        self._frames.close()

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _StreamOperation(CallerOperation):
    """A stream's operation: its opening carries the first credit."""

    completed = False

    def __init__(self, client: Client, parameters: tuple[Any, ...]) -> None:
        OperationState.__init__(self, client)
        Operation.__init__(self, client.link)
        self._client = client
        client.begin("stream", parameters, client.timeout, lambda: client.connection.credit(CREDIT_ITEMS, CREDIT_SIZE))

    def grant(self, items: int, size: int) -> None:
        """Allow the gateway so much more."""
        self._client.say(self._link.connection.credit(items, size))


def _frames(operation: _StreamOperation, timeout: float | None) -> Generator[Any, None, None]:
    """Frames of items; what was consumed is granted again when the consumer asks for more."""
    consumed_items = consumed_size = 0
    try:
        yield None
        while True:
            event = operation.next_event(timeout)
            if event is None:
                operation.completed = True
                return
            if type(event) is not Items:
                raise RemoteProtocolError("a stream brought something that is no item")
            yield event
            consumed_items += len(event.idents)
            consumed_size += event.size
            if consumed_items >= CREDIT_ITEMS // 2 or consumed_size >= CREDIT_SIZE // 2:
                operation.grant(consumed_items, consumed_size)
                consumed_items = consumed_size = 0
    finally:
        operation.abort()


def _items(frames: Generator[Items, None, None]) -> Generator[tuple[int, Any], None, None]:
    try:
        for frame in frames:
            yield from zip(frame.idents, frame.payloads, strict=True)
    finally:
        frames.close()

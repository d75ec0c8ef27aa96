"""Requests and answers as both channels exchange them: in bounded pieces, and under a limit of memory.

A request is a generator of steps, and what it returns is the `Response`. A channel carries each step out and goes on
with what came of it, or throws in the `PynetworkError` that came instead. So nothing here waits or touches a socket,
and both channels do the same.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy

from handshakes.connection import Connection
from handshakes.errors import (
    BadRequest,
    LocalProtocolError,
    PynetworkError,
    Refused,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
)
from handshakes.messages import Bytes, Event, Fault, Message, Welcome
from handshakes.records import KEY, Block, Key, KeyRange, Rows, joined
from handshakes.tstorage import (
    LARGEST_PAYLOAD,
    PUT_END,
    AcqAnswer,
    Command,
    GetEnd,
    GetRecords,
    PutAnswer,
    ResponseReader,
    Status,
    batches,
    get_acq_request,
    get_request,
    put_request,
    small_put,
)
from handshakes.tstorage import Response as Answer
from pynetwork.operation import raise_fault
from pynetwork.series.conversions import array_from, array_type, block_from, records_from
from pynetwork.series.options import Options
from pynetwork.series.payloads import NumpyPayloadType
from pynetwork.series.record import RecordsSet
from pynetwork.series.response import ResponseAcq, ResponseGet, ResponsePut

__all__ = [
    "MAX_BATCH_SIZE",
    "Deliver",
    "Exchange",
    "Receive",
    "Send",
    "Sink",
    "Steps",
    "Unsent",
    "ended",
    "join",
    "status_of",
    "without",
]

MAX_BATCH_SIZE = 1024 * 1024
"""Bytes that are encoded at a time, unless told otherwise."""

_RECEIVED_AT_ONCE = 1024 * 1024
_SENT_AT_ONCE = 256 * 1024
_MOST_BUFFERS = 512
"""Batches that are sent at once."""
_SMALL = 32 * 1024
"""Bytes of records below which a block is joined with others."""
_FEW = 32
"""So many records go without NumPy, which takes longer to begin than they take."""
_MANY = 256
"""So many of them."""

T = TypeVar("T")
Result = TypeVar("Result")


class Sink(Protocol):
    """What takes bytes that were received."""

    def buffer(self) -> memoryview:
        """Memory for them."""

    def received(self, count: int, /) -> object:
        """So many have been received into it."""


class Send(NamedTuple):
    """Send ``buffers``. When something arrives meanwhile it goes into ``sink``, and the step comes to the buffers that
    are still to be sent.
    """

    buffers: Sequence[Bytes]
    sink: Sink | None = None


class Receive(NamedTuple):
    """Receive at least one byte into ``sink``."""

    sink: Sink


class Deliver(NamedTuple):
    """Hand ``batch`` to the user, and let go of it."""

    batch: Any


Unsent: TypeAlias = "Sequence[Bytes]"
Steps: TypeAlias = Generator["Send | Receive | Deliver", Unsent, Result]


def status_of(error: PynetworkError) -> Status:
    """The status of the response to a request that ``error`` has ended."""
    if isinstance(error, (RemoteProtocolError, ValueNotSupported)):
        return Status.UNPARSEABLE_ENTITY
    if isinstance(error, ValueTooLarge):
        return Status.NO_MEMORY
    return Status.ERROR if type(error) is Refused else Status.DISCONNECTED


def join(connection: Connection) -> Steps[None]:
    """The handshake with a server that has a key; after it, the connection speaks TStorage.

    Raises `AuthenticationFailed` and whatever else the server refuses with, and `RemoteProtocolError`.
    """
    yield Send(connection.start())
    try:
        event = yield from _next_event(connection)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"{error}; a server without key= needs none here, either") from error
    if type(event) is not Welcome:
        raise RemoteProtocolError(f"{type(event).__name__} arrived in the handshake")
    yield Send(connection.open("series", ()))
    event = yield from _next_event(connection)
    if type(event) is Fault:
        raise_fault(event)
    if type(event) is not Message or connection.mid_frame:
        raise RemoteProtocolError(f"{type(event).__name__} arrived where the server agrees to speak TStorage")


def _next_event(connection: Connection) -> Steps[Event]:
    while True:
        event = connection.next_event()
        if words := connection.data_to_send():
            yield Send(words)
        if event is not None:
            return event
        yield Receive(connection)


class Exchange(Generic[T]):
    """The requests of one connection, one after another.

    ``mid_request`` tells whether a request has begun that has not succeeded: once nobody goes on with it, the
    connection is of no more use.
    """

    def __init__(self, options: Options[T]) -> None:
        self.mid_request = False
        self._payload_type = options.payload_type
        self._answer_limit = options.answer_limit
        self._batch_limit = options.batch_limit
        self._reader = ResponseReader(_RECEIVED_AT_ONCE)

    def put(self, records: Any, with_acq: bool, max_batch_size: int, skip_invalid: bool) -> Steps[ResponsePut]:
        """Put ``records``; see `pynetwork.series.Channel.put`."""
        try:
            largest = _positive(max_batch_size)
            few = self._few(records, with_acq, largest)
            block = self._encoded(records, with_acq, skip_invalid) if few is None else None
        except BadRequest as error:
            return ResponsePut(Status.BAD_REQUEST, error=error)
        try:
            self._begin(Command.PUTA if with_acq else Command.PUT)
            if block is not None:
                answer = yield from self._put(_pieces(block, with_acq, largest))
            else:
                # The system takes so little over at once, so nothing need be heard meanwhile.
                yield Send([few or b""])
                answer = yield from self._answer()
            assert type(answer) is PutAnswer
            _check(answer.status)
        except PynetworkError as error:
            return ResponsePut(status_of(error), error=error)
        self.mid_request = False
        return ResponsePut(Status.OK, answer.acq_min, answer.acq_max)

    def get_acq(self, key_min: Key, key_max: Key) -> Steps[ResponseAcq]:
        """Ask for the time up to which an answer for a box would be complete."""
        try:
            box = _box(key_min, key_max)
        except BadRequest as error:
            return ResponseAcq(Status.BAD_REQUEST, error=error)
        try:
            self._begin(Command.GETACQ)
            yield Send([get_acq_request(box)])
            answer = yield from self._answer()
            assert type(answer) is AcqAnswer
            _check(answer.status)
        except PynetworkError as error:
            return ResponseAcq(status_of(error), error=error)
        self.mid_request = False
        return ResponseAcq(Status.OK, answer.acq)

    def get(self, key_min: Key, key_max: Key) -> Steps[ResponseGet[T]]:
        """Get the records of a box together. NO_MEMORY when they are more than the limit."""
        gathering = _Gathering(self._answer_limit)
        try:
            box = _box(key_min, key_max)
        except BadRequest as error:
            return ResponseGet(Status.BAD_REQUEST, error=error)
        try:
            acq = yield from self._get(box, gathering, None)
            data = self._data(gathering.rest())
        except PynetworkError as error:
            return ResponseGet(status_of(error), error=error)
        self.mid_request = False
        return ResponseGet(Status.OK, acq, data)

    def get_stream(self, key_min: Key, key_max: Key) -> Steps[ResponseAcq]:
        """Get the records of a box, delivered as values in batches that fill the limit."""
        return self._get_batches(key_min, key_max, self._values, at_once=False)

    def get_iter(self, key_min: Key, key_max: Key) -> Steps[ResponseAcq]:
        """Get the records of a box, delivered as sets of `Record` as they come."""
        return self._get_batches(key_min, key_max, self._records, at_once=True)

    def get_blocks(self, key_min: Key, key_max: Key) -> Steps[ResponseAcq]:
        """Get the records of a box, delivered as lists of blocks as they come."""
        return self._get_batches(key_min, key_max, list, at_once=True)

    def _get_batches(
        self, key_min: Key, key_max: Key, batch_of: Callable[[list[Block]], Any], *, at_once: bool
    ) -> Steps[ResponseAcq]:
        gathering = _Gathering(self._batch_limit)
        try:
            box = _box(key_min, key_max)
        except BadRequest as error:
            return ResponseAcq(Status.BAD_REQUEST, error=error)
        try:
            acq = yield from self._get(box, gathering, batch_of, at_once)
            if gathering:
                yield Deliver(batch_of(gathering.rest()))
        except PynetworkError as error:
            return ResponseAcq(status_of(error), error=error)
        self.mid_request = False
        return ResponseAcq(Status.OK, acq)

    # The parts of requests

    def _begin(self, command: Command) -> None:
        if self._reader.mid_answer:
            raise RemoteProtocolError("the server sent more than it was asked for")
        self._reader.expect(command)
        self.mid_request = True

    def _answer(self) -> Steps[Answer]:
        """The next part of the answer."""
        while True:
            event = self._reader.next_event()
            if event is not None:
                return event
            yield Receive(self._reader)

    def _put(self, pieces: Iterator[Sequence[Bytes]]) -> Steps[Answer]:
        """Send a put piece by piece, and wait for its answer."""
        unsent: Unsent = ()
        answer: Answer | None = None
        # A server that can't go on says so at once, and may read no further.
        while answer is None and (unsent := unsent or next(pieces, ())):
            unsent = yield Send(unsent, self._reader)
            answer = self._reader.next_event()
        if answer is None:
            return (yield from self._answer())
        assert type(answer) is PutAnswer
        if answer.status == Status.OK and (unsent or next(pieces, ())):
            raise RemoteProtocolError("the server confirmed a put before it was complete")
        return answer

    def _get(
        self,
        box: KeyRange,
        gathering: _Gathering,
        batch_of: Callable[[list[Block]], Any] | None,
        at_once: bool = False,
    ) -> Steps[int]:
        """Gather an answer; what there is no room for is too much, or with ``batch_of`` delivered before."""
        self._begin(Command.GET)
        yield Send([get_request(box)])
        while type(event := (yield from self._answer())) is not GetEnd:
            assert type(event) is GetRecords
            rest: Block | None = event.block
            del event
            while rest is not None and (rest := gathering.add(rest)) is not None:
                if batch_of is None:
                    raise ValueTooLarge(
                        f"the answer is larger than memory_limit={self._answer_limit}; use get_stream() or get_iter(), "
                        "or raise it"
                    )
                if not gathering:
                    raise ValueTooLarge(
                        f"one record of the answer is larger than memory_limit={self._batch_limit}; raise it"
                    )
                yield Deliver(batch_of(gathering.rest()))
            if at_once and batch_of is not None:
                yield Deliver(batch_of(gathering.rest()))
        _check(event.status, box)
        return event.acq

    # Values and bytes

    def _few(self, records: Any, with_acq: bool, largest: int) -> bytes | None:
        """The put of a few records; None for more of them, for other kinds, and for what does not fit, since that is
        told by the other way.
        """
        if type(records) is not list or not 0 < len(records) <= _FEW:
            return None
        try:
            keys = [record.key for record in records]
            payloads = [self._payload_type.to_bytes(record.value) for record in records]
        except Exception:
            return None
        if any(type(payload) is not bytes for payload in payloads) or sum(map(len, payloads)) > _SMALL:
            return None
        try:
            put = small_put(keys, payloads, with_acq)
        except (LocalProtocolError, TypeError):
            return None
        return put if len(put) <= largest else None

    def _encoded(self, records: Any, with_acq: bool, skip_invalid: bool) -> Block:
        """Raises `BadRequest` for records that are not as they should be, unless those are to be left out."""
        try:
            block = block_from(records, self._payload_type, with_acq=with_acq, skip_invalid=skip_invalid)
        except (PynetworkError, TypeError, ValueError) as error:
            raise BadRequest(str(error)) from error
        invalid = (block.column("cid") < 0) | (block.sizes() > LARGEST_PAYLOAD)
        if not invalid.any():
            return block
        if skip_invalid:
            return block.take(~invalid)
        index = int(invalid.argmax())
        raise BadRequest(
            f"record {index} can't be put: {block.key(index)} with {block.sizes()[index]} bytes as payload; "
            f"a cid is at least 0, and a payload has at most {LARGEST_PAYLOAD} bytes"
        )

    def _records(self, blocks: list[Block]) -> RecordsSet[T]:
        """Raises `ValueNotSupported` for payloads of another type."""
        return records_from(blocks, self._payload_type)

    def _values(self, blocks: list[Block]) -> Any:
        """A batch in the form that goes with the payload type. Raises as ``_records``."""
        if isinstance(self._payload_type, NumpyPayloadType):
            return [array_from(block, self._payload_type) for block in blocks]
        return self._records(blocks)

    def _data(self, blocks: list[Block]) -> Any:
        """The same for a whole answer."""
        if not isinstance(self._payload_type, NumpyPayloadType):
            return self._records(blocks)
        if len(blocks) == 1:
            return array_from(blocks[0], self._payload_type)
        whole = numpy.empty(sum(map(len, blocks)), array_type(self._payload_type))
        rest = whole
        # Each block is let go of when it is copied, so that the records are not held twice.
        blocks.reverse()
        while blocks:
            rest = rest[len(array_from(blocks.pop(), self._payload_type, rest)) :]
        return whole


def _check(status: int, box: KeyRange | None = None) -> None:
    """Raises `Refused` for the status of a failure."""
    if status != Status.OK:
        reason = "its box is empty: some field of key_min is not below that of key_max" if box and box.empty else ""
        reason = reason or "its log says why"
        raise Refused(f"the server could not carry out the request (status {status}): {reason}")


def _box(key_min: Key, key_max: Key) -> KeyRange:
    """Raises `BadRequest` unless both are valid keys."""
    return KeyRange(_corner("key_min", key_min), _corner("key_max", key_max))


def _corner(name: str, key: Key) -> Key:
    try:
        # Numbers of NumPy, as the fields of a key in an array are, will do.
        corner = Key(*map(operator.index, key))
    except TypeError:
        corner = None
    if corner is None or not isinstance(key, Key) or not corner.valid():
        raise BadRequest(f"{name}={key!r} is no valid key: cid is at least 0, and every field an integer of its type")
    return corner


def _positive(max_batch_size: int) -> int:
    if not isinstance(max_batch_size, int) or max_batch_size < 1:
        raise BadRequest(f"max_batch_size={max_batch_size!r} must be a number of bytes")
    return max_batch_size


def _pieces(block: Block, with_acq: bool, max_batch_size: int) -> Iterator[Sequence[Bytes]]:
    """A put as buffers to be sent together."""
    piece: list[Bytes] = [put_request(with_acq)]
    size = 0
    for batch in batches(block, with_acq, max_batch_size):
        # In parts, so that a server that takes them slowly is seen to take them.
        for at in range(0, len(batch), _SENT_AT_ONCE):
            part = memoryview(batch)[at : at + _SENT_AT_ONCE]
            piece.append(part)
            size += len(part)
            if size >= _SENT_AT_ONCE or len(piece) >= _MOST_BUFFERS:
                yield piece
                piece, size = [], 0
    yield [*piece, PUT_END]


class _Gathering:
    """Blocks of an answer with at most ``limit`` bytes of records. True when there are any."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._room = limit
        self._blocks: list[Block] = []
        self._small: list[Block] = []

    def __bool__(self) -> bool:
        return bool(self._blocks or self._small)

    def add(self, block: Block) -> Block | None:
        """Take as many records as there is room for, and answer the rest, if there is one."""
        if block.nbytes <= self._room:
            self._keep(block)
            return None
        if isinstance(block, Rows):
            count = self._room // block.rows.itemsize
        else:
            ends = numpy.cumsum(block.sizes() + KEY.itemsize)
            count = int(numpy.searchsorted(ends, self._room, "right"))
        if count:
            self._keep(block.take(slice(0, count)))
        self._room = 0
        return block.take(slice(count, len(block)))

    def _keep(self, block: Block) -> None:
        self._room -= block.nbytes
        if block.nbytes >= _SMALL:
            self._flush()
            self._blocks.append(block)
            return
        # An answer that comes in dribbles is many blocks of few records, of which each takes memory of its own.
        self._small.append(block)
        if len(self._small) >= _MANY:
            self._flush()

    def _flush(self) -> None:
        if self._small:
            self._blocks.append(joined(self._small))
            self._small = []

    def rest(self) -> list[Block]:
        """Take everything out."""
        self._flush()
        blocks, self._blocks, self._room = self._blocks, [], self._limit
        return blocks


def ended(peer: str, received: int) -> str:
    """How to tell that ``peer`` has ended the connection, on which so many bytes came from it."""
    if received:
        return f"{peer} ended the connection"
    return f"{peer} ended the connection without a word; if that server has key= or tls=, that is needed here too"


def without(buffers: Sequence[Bytes], count: int) -> Sequence[Bytes]:
    """The buffers without their first ``count`` bytes."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return ()

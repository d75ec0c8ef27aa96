"""The words of the TStorage protocol: its codes, the requests and answers as a reader gives them, and their bytes.

See `handshakes.tstorage` for the protocol and its readers.
"""

from __future__ import annotations

import enum
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy
import numpy.typing

from handshakes.errors import LocalProtocolError, ValueTooLarge
from handshakes.messages import Bytes
from handshakes.records import KEY, Block, Key, KeyRange, Rows

__all__ = [
    "ACQ",
    "ACQS",
    "BATCH",
    "BOX",
    "HEADER",
    "INT",
    "KEY_SIZE",
    "LARGEST_PAYLOAD",
    "PUTA_FIELDS",
    "PUT_END",
    "PUT_FIELDS",
    "AcqAnswer",
    "Array",
    "Command",
    "Get",
    "GetAcq",
    "GetEnd",
    "GetRecords",
    "PutAnswer",
    "PutBegin",
    "PutEnd",
    "PutRecords",
    "Request",
    "Response",
    "Status",
    "acq_answer",
    "batches",
    "check_sizes",
    "failure",
    "get_acq_request",
    "get_answer_begin",
    "get_answer_end",
    "get_request",
    "put_answer",
    "put_request",
    "record_head",
    "records",
    "small_put",
]

Array: TypeAlias = "numpy.typing.NDArray[Any]"

LARGEST_PAYLOAD: Final = 32 << 20
"""Bytes that a payload may have."""


class Command(enum.IntEnum):
    """What a request asks for."""

    GET = 1
    PUT = 5
    PUTA = 6
    GETACQ = 7


class Status(enum.IntEnum):
    """How a request ended; true when it succeeded. Only OK and ERROR travel, a client finds out the others itself."""

    OK = 0
    ERROR = -1
    DISCONNECTED = 128
    BAD_REQUEST = 129
    UNPARSEABLE_ENTITY = 130
    NO_MEMORY = 131

    def __bool__(self) -> bool:
        return self is Status.OK


HEADER: Final = struct.Struct("<iQ")
BOX: Final = struct.Struct("<iqiqqiqiqq")
BATCH: Final = struct.Struct("<ii")
_FULL_KEY = struct.Struct("<iqiqq")
INT: Final = struct.Struct("<i")
ACQ: Final = struct.Struct("<q")
ACQS: Final = struct.Struct("<qq")
PUT_END: Final = INT.pack(-1)
"""What ends the batches of a put."""

KEY_SIZE: Final = KEY.itemsize
RECORDS_END: Final = INT.pack(0)
PUT_FIELDS: Final = 20
"""Bytes of mid, moid and cap."""
PUTA_FIELDS: Final = 28
"""Bytes of mid, moid, cap and acq."""


def get_request(box: KeyRange) -> bytes:
    """Ask for the records in ``box``. Raises `LocalProtocolError` for a field beyond its type."""
    return _about(Command.GET, box)


def get_acq_request(box: KeyRange) -> bytes:
    """Ask for the time up to which an answer for ``box`` would be complete. Raises as `get_request`."""
    return _about(Command.GETACQ, box)


def _about(command: Command, box: KeyRange) -> bytes:
    try:
        return HEADER.pack(command, BOX.size) + BOX.pack(*box.min, *box.max)
    except struct.error as error:
        raise LocalProtocolError(f"{box} can't be asked for: a field is no integer of its type") from error


def put_request(with_acq: bool) -> bytes:
    """Begin a put, in which the client gives the times of acquisition or not; batches and `PUT_END` follow."""
    return HEADER.pack(Command.PUTA if with_acq else Command.PUT, 0)


def small_put(keys: Sequence[Key], payloads: Sequence[bytes], with_acq: bool) -> bytes:
    """A whole put of a few records, as `put_request`, `batches` and `PUT_END` together, without blocks on the way: for
    one record in a third of their time.

    Raises `LocalProtocolError` for a key that is not valid, `ValueTooLarge` for a payload of more than
    `LARGEST_PAYLOAD` bytes.
    """
    by_cid: dict[int, list[bytes]] = {}
    fields = PUTA_FIELDS if with_acq else PUT_FIELDS
    for key, payload in zip(keys, payloads, strict=True):
        size = len(payload)
        if size > LARGEST_PAYLOAD:
            raise ValueTooLarge(f"the payload of {key} has {size} bytes; at most {LARGEST_PAYLOAD} can be stored")
        try:
            packed = _FULL_KEY.pack(*key)
        except struct.error as error:
            raise LocalProtocolError(f"{key} is no valid key: {error}") from error
        head = INT.pack(fields + size) + packed[INT.size : INT.size + fields]
        by_cid.setdefault(key[0], []).extend((head, payload))
    if min(by_cid, default=0) < 0:
        raise LocalProtocolError(f"the cid {min(by_cid)} is negative")
    pieces = [put_request(with_acq)]
    for cid, batch in by_cid.items():
        pieces += (BATCH.pack(cid, sum(map(len, batch))), *batch)
    pieces.append(PUT_END)
    return b"".join(pieces)


def batches(block: Block, with_acq: bool, largest: int) -> Iterator[Bytes]:
    """The records of ``block`` as batches of at most ``largest`` bytes, or of one record where that is larger.

    Records of one cid keep their order. Raises `LocalProtocolError` for a negative cid, `ValueTooLarge` for a payload
    of more than `LARGEST_PAYLOAD` bytes, both before the first batch.
    """
    if not len(block):
        return
    cids = block.column("cid")
    if int(cids.min()) < 0:
        raise LocalProtocolError(f"the cid of {block.key(int(cids.argmin()))} is negative")
    check_sizes(block)
    for cid, run in _by_cid(block, cids):
        yield from _batches_of(cid, run, with_acq, min(largest, 2**31 - 1))


def check_sizes(block: Block) -> None:
    """Raises `ValueTooLarge` for a payload that TStorage does not take."""
    if block.width > LARGEST_PAYLOAD or (block.width < 0 and int(block.sizes().max()) > LARGEST_PAYLOAD):
        index = int(block.sizes().argmax())
        raise ValueTooLarge(
            f"the payload of {block.key(index)} has {int(block.sizes()[index])} bytes; at most {LARGEST_PAYLOAD} "
            "(32 MiB) can be stored"
        )


def _by_cid(block: Block, cids: Array) -> Iterator[tuple[int, Block]]:
    """The records of each cid in turn; where cids alternate often they are brought together first."""
    changes = numpy.flatnonzero(cids[1:] != cids[:-1]) + 1
    if len(changes) > 16 and len(changes) > len(block) >> 6:
        block = block.take(numpy.argsort(cids, kind="stable"))
        cids = block.column("cid")
        changes = numpy.flatnonzero(cids[1:] != cids[:-1]) + 1
    edges = [0, *changes.tolist(), len(block)]
    for begin, end in itertools.pairwise(edges):
        yield int(cids[begin]), block if end - begin == len(block) else block.take(slice(begin, end))


def _batches_of(cid: int, block: Block, with_acq: bool, largest: int) -> Iterator[Bytes]:
    fields = PUTA_FIELDS if with_acq else PUT_FIELDS
    if isinstance(block, Rows):
        count = max(1, (largest - BATCH.size) // (INT.size + fields + block.width))
        edges = [*range(0, len(block), count), len(block)]
    else:
        edges = _edges(block.sizes() + (INT.size + fields), largest - BATCH.size)
    for begin, end in itertools.pairwise(edges):
        part = block.take(slice(begin, end))
        yield _rows_batch(cid, part, with_acq) if isinstance(part, Rows) else _ragged_batch(cid, part, fields)


def _edges(sizes: Array, largest: int) -> list[int]:
    """Where to cut records of these sizes into pieces of at most ``largest`` bytes, or of one record."""
    ends, edges = numpy.cumsum(sizes), [0]
    while edges[-1] < len(ends):
        before = int(ends[edges[-1] - 1]) if edges[-1] else 0
        edges.append(max(edges[-1] + 1, int(numpy.searchsorted(ends, before + largest, "right"))))
    return edges


def _rows_batch(cid: int, block: Rows, with_acq: bool) -> Bytes:
    """A batch of records of one size. In it, as in the rows, mid, moid and cap (and acq) lie side by side."""
    width, count = block.width, len(block)
    fields = PUTA_FIELDS if with_acq else PUT_FIELDS
    size = fields + width
    batch = bytearray(BATCH.size + count * (INT.size + size))
    BATCH.pack_into(batch, 0, cid, count * (INT.size + size))
    head, stride, row = f"V{INT.size + fields}", INT.size + size, KEY_SIZE + width
    wire = numpy.ndarray(count, head, batch, BATCH.size, (stride,))
    wire[:] = numpy.ndarray(count, head, block.rows, 0, (row,))
    if width:
        payloads = numpy.ndarray(count, f"V{width}", batch, BATCH.size + INT.size + fields, (stride,))
        payloads[:] = block.rows["payload"]
    sizes = numpy.ndarray(count, "<i4", batch, BATCH.size, (stride,))
    sizes[:] = size
    return batch


def _ragged_batch(cid: int, block: Block, fields: int) -> Bytes:
    sizes = block.sizes() + fields
    heads = block.keys().view(numpy.uint8).reshape(len(block), KEY_SIZE)[:, : INT.size + fields].copy()
    heads[:, : INT.size] = sizes.astype("<i4").view(numpy.uint8).reshape(len(block), INT.size)
    body = _interleaved(heads, block)
    return BATCH.pack(cid, len(body)) + body


def _interleaved(heads: Array, block: Block) -> bytes:
    """Each record's head, then its payload."""
    length, plain = heads.shape[1], heads.reshape(-1).data
    pieces: list[Bytes] = [b""] * (2 * len(block))
    pieces[0::2] = [plain[at : at + length] for at in range(0, len(plain), length)]
    pieces[1::2] = block.payloads()
    return b"".join(pieces)


def put_answer(status: int, acq_min: int, acq_max: int) -> bytes:
    """Answer a put: the span of the times that were given, both -1 where the client gave them."""
    return HEADER.pack(status, ACQS.size) + ACQS.pack(acq_min, acq_max)


def acq_answer(status: int, acq: int) -> bytes:
    """Answer a question for the time of acquisition."""
    return HEADER.pack(status, ACQ.size) + ACQ.pack(acq)


def get_answer_begin() -> bytes:
    """Begin to answer a get; records and `get_answer_end` follow."""
    return HEADER.pack(Status.OK, 0)


def records(block: Block) -> Bytes:
    """Records within the answer of a get. Raises `ValueTooLarge` for a payload of more than `LARGEST_PAYLOAD` bytes."""
    if not len(block):
        return b""
    check_sizes(block)
    if isinstance(block, Rows):
        row = KEY_SIZE + block.width
        wire = numpy.empty(len(block), [("size", "<i4"), ("row", f"V{row}")])
        wire["size"] = row
        wire["row"] = block.rows.view(f"V{row}")
        return wire.view(numpy.uint8).data
    heads = numpy.empty((len(block), INT.size + KEY_SIZE), numpy.uint8)
    sizes = (block.sizes() + KEY_SIZE).astype("<i4")
    heads[:, : INT.size] = sizes.view(numpy.uint8).reshape(len(block), INT.size)
    heads[:, INT.size :] = block.keys().view(numpy.uint8).reshape(len(block), KEY_SIZE)
    return _interleaved(heads, block)


def record_head(block: Block) -> bytes:
    """What comes before the payload of the only record of ``block`` within the answer of a get: for a large payload,
    which then can be sent from where it lies.
    """
    check_sizes(block)
    return INT.pack(block.nbytes) + block.keys().tobytes()


def get_answer_end(status: int, acq: int) -> bytes:
    """End the answer of a get. ``acq``: the time up to which it is complete."""
    return RECORDS_END + HEADER.pack(status, ACQ.size) + ACQ.pack(acq)


def failure() -> bytes:
    """Answer a request that failed; the connection ends then."""
    return HEADER.pack(Status.ERROR, 0)


@dataclass(slots=True)
class Get:
    """A request for the records in a box, which may be empty or invalid."""

    box: KeyRange


@dataclass(slots=True)
class GetAcq:
    """A request for the time up to which an answer for this box would be complete."""

    box: KeyRange


@dataclass(slots=True)
class PutBegin:
    """A put begins; ``with_acq``: the client gives the times of acquisition."""

    with_acq: bool


@dataclass(slots=True)
class PutRecords:
    """Records of the put that has begun; their ``acq`` is 0 where the client does not give it."""

    block: Block


@dataclass(slots=True)
class PutEnd:
    """The put is complete."""


@dataclass(slots=True)
class PutAnswer:
    """A put was answered; both times are -1 after a failure, and where the client had given them."""

    status: int
    acq_min: int
    acq_max: int


@dataclass(slots=True)
class AcqAnswer:
    """A time of acquisition, -1 after a failure."""

    status: int
    acq: int


@dataclass(slots=True)
class GetRecords:
    """Records within the answer of a get."""

    block: Block


@dataclass(slots=True)
class GetEnd:
    """The answer of a get has ended; ``acq``: the time up to which it is complete, -1 after a failure."""

    status: int
    acq: int


Request: TypeAlias = "Get | GetAcq | PutBegin | PutRecords | PutEnd"
Response: TypeAlias = "PutAnswer | AcqAnswer | GetRecords | GetEnd"

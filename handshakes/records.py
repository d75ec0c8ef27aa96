"""Records of a time series: their keys, boxes of keys, and blocks of records side by side.

A record is a full key of five integers and a payload, which is opaque bytes. Programs that handle millions of them a
second hold them in blocks: `Rows`, where every payload has the same size, is one NumPy structured array that lies in
memory as it lies on disk; `Ragged` holds payloads of any sizes. Blocks are not changed once they are made.

Times are nanoseconds since 2001-01-01T00:00:00Z. Keys, their types and the meaning of a box are those of the TStorage
database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy
import numpy.typing

from handshakes.messages import Bytes

__all__ = [
    "FIELDS",
    "GREATEST",
    "KEY",
    "LEAST",
    "Block",
    "Key",
    "KeyRange",
    "Ragged",
    "Rows",
    "block_of",
    "joined",
    "row_type",
    "rows_of",
]

Array: TypeAlias = "numpy.typing.NDArray[Any]"

FIELDS: Final = ("cid", "mid", "moid", "cap", "acq")
"""The fields of a full key, in the order in which they are compared."""

KEY: Final = numpy.dtype([("cid", "<i4"), ("mid", "<i8"), ("moid", "<i4"), ("cap", "<i8"), ("acq", "<i8")])
"""A full key in memory, on disk and on the wire: 32 bytes, little-endian, unpadded."""

_INT32 = 2**31
_INT64 = 2**63


class Key(NamedTuple):
    """The full key of a record.

    - ``cid``: client, 0 to 2**31 - 1; a negative one is invalid.
    - ``mid``: meter, any 64-bit integer; ``moid``: meter object, any 32-bit integer.
    - ``cap``, ``acq``: times of capture and of acquisition, in nanoseconds since 2001-01-01T00:00:00Z.

    Keys are ordered by their fields from left to right.
    """

    cid: int
    mid: int
    moid: int
    cap: int = 0
    acq: int = 0

    @classmethod
    def min(cls) -> Key:
        """The least valid key."""
        return LEAST

    @classmethod
    def max(cls) -> Key:
        """The greatest key. As a box is half-open, nothing with any of these fields can be addressed."""
        return GREATEST

    def valid(self) -> bool:
        """Whether every field is in its type's range and ``cid`` is not negative."""
        return all(
            isinstance(value, int) and least <= value <= most
            for value, least, most in zip(self, LEAST, GREATEST, strict=True)
        )


LEAST: Final = Key(0, -_INT64, -_INT32, -_INT64, -_INT64)
GREATEST: Final = Key(_INT32 - 1, _INT64 - 1, _INT32 - 1, _INT64 - 1, _INT64 - 1)


class KeyRange(NamedTuple):
    """A box of keys: a key is in it when ``min.f <= key.f < max.f`` for each of the five fields."""

    min: Key
    max: Key

    @classmethod
    def everything(cls) -> KeyRange:
        """Every key that can be addressed."""
        return cls(LEAST, GREATEST)

    @property
    def empty(self) -> bool:
        """Whether no key can be in it."""
        return any(least >= most for least, most in zip(self.min, self.max, strict=True))

    @property
    def valid(self) -> bool:
        """Whether both corners are valid keys."""
        return self.min.valid() and self.max.valid()

    def holds(self, key: Key) -> bool:
        """Whether ``key`` is in the box."""
        return all(least <= value < most for least, value, most in zip(self.min, key, self.max, strict=True))

    def mask(self, block: Block, fields: Sequence[str] = FIELDS) -> Array:
        """Which records of ``block`` are in the box, as booleans; only ``fields`` are looked at."""
        found = numpy.ones(len(block), numpy.bool_)
        for name in fields:
            column, least, most = block.column(name), getattr(self.min, name), getattr(self.max, name)
            if least > numpy.iinfo(column.dtype).min:
                found &= column >= least
            found &= column < most
        return found


@lru_cache(maxsize=256)
def row_type(width: int) -> numpy.dtype[Any]:
    """The type of a record whose payload has ``width`` bytes: the key's fields and, unless 0, ``payload``."""
    if not width:
        return KEY
    description: list[Any] = list(KEY.descr)
    return numpy.dtype([*description, ("payload", f"V{width}")])


class Block(ABC):
    """Records side by side. ``width``: the bytes of every payload, -1 where they differ."""

    __slots__ = ()

    width: int

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of all keys and payloads."""

    @abstractmethod
    def column(self, name: str) -> Array:
        """One field of every key, as a view."""

    @abstractmethod
    def keys(self) -> Array:
        """The full keys, as a contiguous array of type `KEY`; a copy where they do not lie so."""

    @abstractmethod
    def payload(self, index: int) -> memoryview:
        """The payload of one record, as a view."""

    @abstractmethod
    def sizes(self) -> Array:
        """The bytes of each payload, as 64-bit integers."""

    @abstractmethod
    def take(self, which: Array | slice) -> Block:
        """The records that a mask, an array of indices or a slice names. A slice without a step copies no record."""

    @abstractmethod
    def with_acq(self, acq: Array | int) -> Block:
        """A copy with these times of acquisition."""

    def key(self, index: int) -> Key:
        """The key of one record."""
        return Key(*(int(self.column(name)[index]) for name in FIELDS))

    @abstractmethod
    def payloads(self) -> Iterator[memoryview]:
        """The payloads in order, as views."""


class Rows(Block):
    """Records whose payloads all have the same size: ``rows`` is a contiguous array of a `row_type`."""

    __slots__ = ("rows", "width")

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.width = rows.dtype.itemsize - KEY.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes)

    def column(self, name: str) -> Array:
        return self.rows[name]

    def keys(self) -> Array:
        if not self.width:
            return self.rows
        return numpy.ascontiguousarray(self.matrix()[:, : KEY.itemsize]).view(KEY)[:, 0]

    def matrix(self) -> Array:
        """The rows as bytes: shape (records, bytes of a row)."""
        return self.rows.view(numpy.uint8).reshape(len(self.rows), self.rows.dtype.itemsize)

    def payload(self, index: int) -> memoryview:
        return self.matrix()[index, KEY.itemsize :].data

    def payloads(self) -> Iterator[memoryview]:
        data, size = self.rows.view(numpy.uint8).data, self.rows.dtype.itemsize
        return (data[at - self.width : at] for at in range(size, len(data) + 1, size))

    def sizes(self) -> Array:
        return numpy.full(len(self.rows), self.width, numpy.int64)

    def take(self, which: Array | slice) -> Rows:
        if isinstance(which, slice) and which.step in (None, 1):
            return Rows(self.rows[which])
        return Rows(_picked(self.rows, which))

    def with_acq(self, acq: Array | int) -> Rows:
        rows = _copied(self.rows)
        rows["acq"] = acq
        return Rows(rows)


class Ragged(Block):
    """Records whose payloads may differ in size.

    ``head`` holds the keys as an array of type `KEY`, ``data`` all payloads one after another as bytes, ``ends`` where
    each ends in there, as 64-bit integers.
    """

    __slots__ = ("data", "ends", "head", "width")

    def __init__(self, head: Array, data: Array, ends: Array) -> None:
        self.head = head
        self.data = data
        self.ends = ends
        self.width = -1

    def __len__(self) -> int:
        return len(self.head)

    @property
    def nbytes(self) -> int:
        return int(self.head.nbytes + self.data.nbytes)

    def column(self, name: str) -> Array:
        return self.head[name]

    def keys(self) -> Array:
        return self.head

    def payload(self, index: int) -> memoryview:
        index = range(len(self))[index]
        return self.data.data[int(self.ends[index - 1]) if index else 0 : int(self.ends[index])]

    def payloads(self) -> Iterator[memoryview]:
        ends, data = self.ends.tolist(), self.data.data
        return (data[begin:end] for begin, end in zip([0, *ends], ends, strict=False))

    def sizes(self) -> Array:
        return numpy.diff(self.ends, prepend=0)

    def take(self, which: Array | slice) -> Ragged:
        if isinstance(which, slice) and which.step in (None, 1):
            ends, first = self.ends[which], which.indices(len(self))[0]
            begin = int(self.ends[first - 1]) if first else 0
            return Ragged(self.head[which], self.data[begin : int(ends[-1]) if len(ends) else begin], ends - begin)
        sizes = self.sizes()[which]
        ends = numpy.cumsum(sizes)
        begins = (self.ends[which] - sizes).tolist()
        data = self.data.data
        parts = [data[begin : begin + size] for begin, size in zip(begins, sizes.tolist(), strict=True)]
        return Ragged(_picked(self.head, which), numpy.frombuffer(b"".join(parts), numpy.uint8), ends)

    def with_acq(self, acq: Array | int) -> Ragged:
        head = _copied(self.head)
        head["acq"] = acq
        return Ragged(head, self.data, self.ends)


def block_of(keys: Array, payloads: Sequence[Bytes]) -> Block:
    """A block of these records: `Rows` where all payloads have one size. Raises `ValueError` unless as many payloads
    as keys are given.
    """
    if len(keys) != len(payloads):
        raise ValueError(f"{len(keys)} keys came with {len(payloads)} payloads")
    keys = numpy.ascontiguousarray(keys)
    sizes = numpy.fromiter(map(len, payloads), numpy.int64, len(payloads))
    data = numpy.frombuffer(b"".join(payloads), numpy.uint8)
    if len(sizes) and (sizes == sizes[0]).all():
        return rows_of(keys, data, int(sizes[0]))
    return Ragged(keys, data, numpy.cumsum(sizes))


def rows_of(keys: Array, data: Bytes | Array, width: int) -> Rows:
    """Records with these keys and payloads of ``width`` bytes, which lie one after another in ``data``."""
    block = Rows(numpy.empty(len(keys), row_type(width)))
    matrix = block.matrix()
    matrix[:, : KEY.itemsize] = numpy.ascontiguousarray(keys).view(numpy.uint8).reshape(len(keys), KEY.itemsize)
    matrix[:, KEY.itemsize :] = numpy.frombuffer(data, numpy.uint8).reshape(len(keys), width)
    return block


def joined(blocks: Sequence[Block]) -> Block:
    """All records of ``blocks``, in order, as one block: `Rows` where all are `Rows` of one width."""
    if len(blocks) == 1:
        return blocks[0]
    filled = [block for block in blocks if len(block)]
    if not filled:
        return blocks[0] if blocks else Rows(numpy.empty(0, KEY))
    plain = [block.rows for block in filled if isinstance(block, Rows)]
    if len(plain) == len(filled) and len({rows.dtype.itemsize for rows in plain}) == 1:
        return Rows(_concatenated(plain))
    head = _concatenated([block.keys() for block in filled])
    data = numpy.concatenate([_payload_bytes(block) for block in filled])
    return Ragged(head, data, numpy.cumsum(numpy.concatenate([block.sizes() for block in filled])))


def _plain(rows: Array) -> Array:
    """The same as plain bytes, for copying: of a structured type the fields are copied one by one."""
    return rows.view(f"V{rows.dtype.itemsize}")


def _copied(rows: Array) -> Array:
    return _plain(rows).copy().view(rows.dtype)


def _picked(rows: Array, which: Array | slice) -> Array:
    return numpy.ascontiguousarray(_plain(rows)[which]).view(rows.dtype)


def _concatenated(parts: Sequence[Array]) -> Array:
    return numpy.concatenate(list(map(_plain, parts))).view(parts[0].dtype)


def _payload_bytes(block: Block) -> Array:
    if isinstance(block, Ragged):
        return block.data
    assert isinstance(block, Rows)
    return block.matrix()[:, KEY.itemsize :].reshape(-1)

"""Records as Python values: a key with a value, sets of them, and the name of a series.

`Key` and `KeyRange` are those of `handshakes.records`.
"""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
import operator
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, overload, runtime_checkable

import numpy

from handshakes.errors import ValueNotSupported
from handshakes.records import FIELDS, GREATEST, LEAST, Block, Key, KeyRange
from pynetwork.series.timestamps import Tstoragedatetime, from_datetime64

__all__ = [
    "DecodedRecords",
    "GetCallback",
    "Key",
    "KeyRange",
    "Moment",
    "Record",
    "RecordsSet",
    "SeriesKey",
    "nanoseconds",
]

T = TypeVar("T")

Moment: TypeAlias = "int | numpy.integer[Any] | Tstoragedatetime | dt.datetime | numpy.datetime64"
"""A time: TStorage nanoseconds, or a datetime (UTC when it has no time zone)."""


def nanoseconds(moment: Moment) -> int:
    """TStorage nanoseconds of ``moment``. Raises `ValueError` for a time that no key can have, `ValueNotSupported` for
    what is no time.
    """
    if isinstance(moment, dt.datetime):
        moment = Tstoragedatetime(moment)
    if isinstance(moment, Tstoragedatetime):
        return moment.to_tstorage_ns()
    if isinstance(moment, numpy.datetime64):
        return int(from_datetime64(numpy.asarray(moment)))
    try:
        return operator.index(moment)
    except TypeError:
        raise ValueNotSupported(
            f"{moment!r} is no time: give an integer of nanoseconds since 2001, a datetime, a Tstoragedatetime or a "
            "numpy.datetime64"
        ) from None


class Record(tuple[Key, T], Generic[T]):
    """A key and a value. Records are compared by their keys first, and can't be changed.

    They are tuples, which are made in less than half the time of a frozen dataclass.
    """

    __slots__ = ()
    __match_args__ = ("key", "value")

    def __new__(cls, key: Key, value: T) -> Record[T]:
        """A record of ``value`` under ``key``."""
        return tuple.__new__(cls, (key, value))

    key: Key = property(itemgetter(0), doc="The full key.")  # type: ignore[assignment]
    value: T = property(itemgetter(1), doc="The value that the payload stands for.")  # type: ignore[assignment]

    def __getnewargs__(self) -> tuple[Key, T]:
        return self.key, self.value

    def __repr__(self) -> str:
        return f"Record(key={self.key!r}, value={self.value!r})"


@runtime_checkable
class RecordsSet(Protocol[T]):
    """What holds records in an order: a list of them, or `DecodedRecords`, which looks like one."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Record[T]]: ...

    @overload
    def __getitem__(self, index: int, /) -> Record[T]: ...
    @overload
    def __getitem__(self, index: slice, /) -> RecordsSet[T]: ...

    def append(self, value: Record[T], /) -> None:
        """Add a record to the end."""

    def extend(self, values: Iterable[Record[T]], /) -> None:
        """Add records to the end."""


Decode: TypeAlias = "Callable[[Block], Sequence[T]]"

# So many records are decoded at a time: enough to be fast, and little memory however many there are.
_PIECE = 4096
_KEY = struct.Struct("<iqiqq")


def _raw(block: Block) -> list[Any]:
    return list(map(bytes, block.payloads()))


class _Coded(Sequence[Record[T]]):
    """The records of a block, decoded when they are asked for."""

    __slots__ = ("_block", "_decode")

    def __init__(self, block: Block, decode: Decode[T]) -> None:
        self._block = block
        self._decode = decode

    def __len__(self) -> int:
        return len(self._block)

    def __iter__(self) -> Iterator[Record[T]]:
        new = tuple.__new__
        for begin in range(0, len(self._block), _PIECE):
            piece = self._block.take(slice(begin, begin + _PIECE))
            for fields, value in zip(_KEY.iter_unpack(piece.keys().data), self._decode(piece), strict=True):
                yield new(Record, (new(Key, fields), value))

    @overload
    def __getitem__(self, index: int) -> Record[T]: ...
    @overload
    def __getitem__(self, index: slice) -> _Coded[T]: ...
    def __getitem__(self, index: int | slice) -> Record[T] | _Coded[T]:
        if isinstance(index, slice):
            return _Coded(self._block.take(index), self._decode)
        (value,) = self._decode(self._block.take(slice(index, index + 1)))
        return Record(self._block.key(index), value)


GetCallback: TypeAlias = "Callable[[RecordsSet[T]], object]"
"""What ``get_stream`` calls for each batch."""


class DecodedRecords(RecordsSet[T]):
    """The records of blocks as a list of `Record`: with an order and indices, to be sliced and added to.

    ``decode`` makes the values of a block; without it they are the payloads. It is called when records are asked for,
    each time anew, so that what was received takes little more memory than its bytes. ``skipped``: how many records
    were left out because their payloads were of another type.
    """

    def __init__(self, blocks: Iterable[Block] = (), decode: Decode[T] = _raw, skipped: int = 0) -> None:
        self.skipped = skipped
        self._parts: list[Sequence[Record[T]]] = []
        self._ends: list[int] = []
        for block in blocks:
            self._add(_Coded(block, decode))

    def _add(self, part: Sequence[Record[T]]) -> None:
        if len(part):
            self._parts.append(part)
            self._ends.append(len(self) + len(part))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Record[T]]:
        return itertools.chain.from_iterable(self._parts)

    @overload
    def __getitem__(self, index: int, /) -> Record[T]: ...
    @overload
    def __getitem__(self, index: slice, /) -> DecodedRecords[T]: ...
    def __getitem__(self, index: int | slice, /) -> Record[T] | DecodedRecords[T]:
        if isinstance(index, slice):
            return self._slice(range(len(self))[index])
        # Of a range, as it says what an index means.
        at = range(len(self))[index]
        which = bisect.bisect_right(self._ends, at)
        return self._parts[which][at - self._begin(which)]

    def _begin(self, which: int) -> int:
        return self._ends[which - 1] if which else 0

    def _slice(self, wanted: range) -> DecodedRecords[T]:
        found: DecodedRecords[T] = DecodedRecords()
        if wanted.step != 1:
            found.extend([self[at] for at in wanted])
            return found
        for which, part in enumerate(self._parts):
            begin = self._begin(which)
            found._add(part[max(wanted.start - begin, 0) : max(wanted.stop - begin, 0)])
        return found

    def append(self, value: Record[T], /) -> None:
        """Add a record to the end."""
        self.extend([value])

    def extend(self, values: Iterable[Record[T]], /) -> None:
        """Add records to the end; those of another such set stay undecoded."""
        if isinstance(values, DecodedRecords):
            for part in list(values._parts):
                self._add(part[:])
            return
        last = self._parts[-1] if self._parts else None
        if isinstance(last, list):
            last.extend(values)
            self._ends[-1] = self._begin(len(self._ends) - 1) + len(last)
        else:
            self._add(list(values))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (DecodedRecords, list)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} records: {shown}{', ...' if len(self) > 3 else ''}>"


class SeriesKey(NamedTuple):
    """The name of one series: everything that one object of one meter of one client measures."""

    cid: int
    mid: int
    moid: int

    def key(self, cap: Moment, acq: int = 0) -> Key:
        """The key of this series' record of the time ``cap``."""
        return Key(*self, nanoseconds(cap), acq)

    def range(self, start: Moment | None = None, end: Moment | None = None) -> KeyRange:
        """The box of this series' records from ``start`` to before ``end``; without them, from the first to the last.

        Raises `ValueNotSupported` for a series that no box holds: a field is at its type's maximum, or beyond.
        """
        for name, value, least, most in zip(FIELDS, self, LEAST, GREATEST, strict=False):
            if not (hasattr(value, "__index__") and least <= value < most):
                raise ValueNotSupported(f"{self} has no range: {name} must be an integer from {least} to {most - 1}")
        start = LEAST.cap if start is None else nanoseconds(start)
        end = GREATEST.cap if end is None else nanoseconds(end)
        return KeyRange(Key(*self, start, LEAST.acq), Key(self.cid + 1, self.mid + 1, self.moid + 1, end, GREATEST.acq))

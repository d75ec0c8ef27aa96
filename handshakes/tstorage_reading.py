"""What has been received of TStorage's wire and is not read yet, and the records in it as blocks.

See `handshakes.tstorage` for the protocol and for those who read it.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod

import numpy

from handshakes.errors import RemoteProtocolError
from handshakes.messages import Bytes
from handshakes.records import Block, Rows, block_of
from handshakes.tstorage_words import INT, LARGEST_PAYLOAD, Array

__all__ = ["RecordReader"]

_LEAST_CAPACITY = 64
_ALIKE = 64  # so many records of one size in a row are worth a block of their own
_MOST_RECORDS = 16384  # of differing sizes in one block


class RecordReader(ABC):
    """Holds what was received and is not read yet: at most ``capacity`` bytes, or one record where that is larger.

    ``capacity`` may be set anew.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._data = bytearray(self.capacity)
        self._view = memoryview(self._data)
        self._start = 0
        self._end = 0
        self._skip = 0
        self._needed = 0  # bytes of the record that is not complete
        self._fields = 0  # bytes of a record that are no payload, its size left out

    @property
    def capacity(self) -> int:
        """The bytes that are held while no record is larger; a few at least."""
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        self._capacity = max(capacity, _LEAST_CAPACITY)

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty after ``next_event()`` answered None."""
        held = self._end - self._start
        if not held:
            self._start = self._end = 0
        size = len(self._data)
        if size < self.capacity or (size > self.capacity and held <= self.capacity // 2):
            self._resize(self.capacity)
        elif self._start and len(self._data) - self._end < self.capacity // 4:
            self._view[:held] = self._view[self._start : self._end]
            self._start, self._end = 0, held
        if self._end == len(self._data):
            # One record is larger: room is made as its bytes come, whatever size it claims.
            self._resize(self._needed if size < self._needed <= 4 * size else 2 * size)
        return self._view[self._end :]

    def _resize(self, capacity: int) -> None:
        held = self._view[self._start : self._end]
        data = bytearray(capacity)
        data[: len(held)] = held
        self._start, self._end = 0, len(held)
        self._data, self._view = data, memoryview(data)

    def received(self, count: int) -> None:
        """``count`` bytes were received into ``buffer()``."""
        self._end += count

    def feed(self, data: Bytes) -> None:
        """Take bytes over by copying; however many, once ``next_event()`` answered None."""
        rest = memoryview(data)
        while rest:
            room = self.buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            self._end += count
            rest = rest[count:]

    @property
    def held(self) -> int:
        """Bytes of memory in use."""
        return len(self._data)

    def _take(self, form: struct.Struct) -> tuple[int, ...] | None:
        """The next fields, or None when they have not all come."""
        start = self._start
        if self._end - start < form.size:
            return None
        self._start = start + form.size
        return form.unpack_from(self._data, start)

    def _skipped(self) -> bool:
        """Whether everything is passed over that is to be."""
        count = min(self._skip, self._end - self._start)
        self._skip -= count
        self._start += count
        return not self._skip

    def _records(self, end: int) -> Block | None:
        """As many whole records as there are before position ``end``; None when not even one is complete.

        Raises `RemoteProtocolError` for a record of an impossible size.
        """
        start = self._start
        if end - start < INT.size:
            return None
        (size,) = INT.unpack_from(self._data, start)
        self._check_size(size)
        stride = INT.size + size
        count = (end - start) // stride
        if not count:
            self._needed = stride
            return None
        if count > 1:
            sizes = numpy.ndarray(count, "<i4", self._data, start, (stride,))
            alike = sizes == size
            if not alike.all():
                count = int(alike.argmin())
                if count < _ALIKE:
                    return self._ragged(end)
        self._start = start + count * stride
        return Rows(self._rows(start, count, size - self._fields))

    def _ragged(self, end: int) -> Block:
        """Records of differing sizes, as many as there are before position ``end``; one at least is there.

        They end before a size that can't be one: that is for the call that finds it first. And they end where many are
        of one size: those that follow may come as rows.
        """
        position, data, view, unpack = self._start, self._data, self._view, INT.unpack_from
        begins: list[int] = []
        payloads: list[memoryview] = []
        head, least, most = INT.size + self._fields, self._fields, self._fields + LARGEST_PAYLOAD
        before = alike = 0
        while end - position >= INT.size and len(begins) < _MOST_RECORDS and alike < _ALIKE:
            (size,) = unpack(data, position)
            before, alike = size, alike + 1 if size == before else 0
            after = position + INT.size + size
            if after > end or not least <= size <= most:
                break
            begins.append(position)
            payloads.append(view[position + head : after])
            position = after
        heads = b"".join([view[begin : begin + head] for begin in begins])
        self._start = position
        return block_of(self._keys(heads, len(begins)), payloads)

    def _check_size(self, size: int) -> None:
        payload = size - self._fields
        if payload < 0:
            raise RemoteProtocolError(f"a record of {size} bytes came; it has at least {self._fields}")
        if payload > LARGEST_PAYLOAD:
            raise RemoteProtocolError(f"a payload of {payload} bytes came; at most {LARGEST_PAYLOAD} are taken")

    @abstractmethod
    def _rows(self, start: int, count: int, width: int) -> Array:
        """A copy of the records of one size that begin at ``start``, as rows."""

    @abstractmethod
    def _keys(self, heads: bytes, count: int) -> Array:
        """The keys of records, from what comes before each one's payload."""

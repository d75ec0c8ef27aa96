"""The records of a snapshot in the order of their times of capture, in bounded memory.

Blocks overlap in time, all of them where series were recorded side by side. So time is cut into slices that are
expected to hold some MiB, going by what is known of the blocks, and each slice is gathered and sorted by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy

from handshakes.records import Array, Block, KeyRange, joined
from pynetwork.series.engine.contents import cuts
from pynetwork.series.engine.ordering import order_of
from pynetwork.series.engine.snapshots import Snapshot
from pynetwork.series.engine.zones import extents

__all__ = ["by_time"]

_ORDER: Final = ("cap", "cid", "mid", "moid", "acq")
_FIRST_SLICE: Final = 256 << 10
_SLICE: Final = 16 << 20
_GROWTH: Final = 4
_TOO_MUCH: Final = 2


def by_time(snapshot: Snapshot, *, newest: bool) -> Iterator[Block]:
    """All records, the oldest first, or the ``newest``, as blocks of at most a MiB or one record. Those with one cap
    are in the order of their keys, unless they alone are many MiB.
    """
    times = _Times(snapshot)
    wanted = _FIRST_SLICE
    begin, end = times.begin, times.end
    while begin < end:
        edge = times.edge(begin, end, wanted, newest=newest)
        found = None
        while found is None:
            low, high = (edge, end) if newest else (begin, edge)
            found = times.gather(low, high) if high - low > 1 else []
            if found is None:
                # It was estimated too low: there is less time in it that holds as much.
                less = max((high - low) // _GROWTH, 1)
                edge = high - less if newest else low + less
                wanted = _FIRST_SLICE
        if high - low == 1:
            yield from times.moment(low, newest=newest)
        elif found:
            yield from _in_order(found, newest=newest)
        begin, end = (begin, low) if newest else (high, end)
        wanted = min(wanted * _GROWTH, _SLICE)


class _Times:
    """When the records of a snapshot were captured: from ``begin`` until before ``end``."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        parts = list(snapshot.recent())
        recent = [extents(part, ("cap",)) for part in parts]
        # Said to be integers even if there are none: as floats the others would not be exact.
        self._lows, self._highs = (
            numpy.append(snapshot.column(name), numpy.array([each[name] for each in recent], numpy.int64))
            for name in ("cap_min", "cap_max")
        )
        self._sizes = numpy.append(snapshot.column("bytes"), [part.nbytes for part in parts]).astype(float)
        self._spans = _span(self._lows, self._highs)
        box = snapshot.box
        some = len(self._lows) > 0
        self.begin = max(box.min.cap, int(self._lows.min())) if some else 0
        self.end = min(box.max.cap, int(self._highs.max()) + 1) if some else 0

    def edge(self, begin: int, end: int, wanted: int, *, newest: bool) -> int:
        """Where to cut that time so that its first part, the last if ``newest``, holds about ``wanted`` bytes."""
        low, high = begin, end
        while low + 1 < high:
            middle = (low + high) // 2
            fits = self._estimate(middle, end) <= wanted if newest else self._estimate(begin, middle) <= wanted
            if fits == newest:
                high = middle
            else:
                low = middle
        if newest:
            return begin if self._estimate(begin, end) <= wanted else min(high, end - 1)
        return end if self._estimate(begin, end) <= wanted else max(low, begin + 1)

    def _estimate(self, begin: int, end: int) -> float:
        """The bytes of the records of that time, if they are spread evenly in each block."""
        part = _span(numpy.maximum(self._lows, begin), numpy.minimum(self._highs, end - 1))
        return float((self._sizes * (part / self._spans)).sum())

    def gather(self, begin: int, end: int) -> list[Block] | None:
        """The records of that time; None if they are too many."""
        found, size = [], 0
        for block in self._between(begin, end):
            found.append(block)
            size += block.nbytes
            if size > _TOO_MUCH * _SLICE and end - begin > 1:
                return None
        return found

    def moment(self, cap: int, *, newest: bool) -> Iterator[Block]:
        """The records with that one ``cap``, however many; in order if they fit into memory."""
        found: list[Block] = []
        size = 0
        for block in self._between(cap, cap + 1):
            found.append(block)
            size += block.nbytes
            if size > _TOO_MUCH * _SLICE:
                yield from _in_order(found, newest=newest)
                found, size = [], 0
        if found:
            yield from _in_order(found, newest=newest)

    def _between(self, begin: int, end: int) -> Iterator[Block]:
        snapshot = self._snapshot
        lows, highs = snapshot.column("cap_min"), snapshot.column("cap_max")
        box = snapshot.box
        slot = KeyRange(box.min._replace(cap=max(begin, box.min.cap)), box.max._replace(cap=min(end, box.max.cap)))
        for index in numpy.flatnonzero((highs >= begin) & (lows < end)).tolist():
            block = snapshot.read(index, slot)
            if len(block):
                yield block
        yield from snapshot.recent(slot)


def _span(lows: Array, highs: Array) -> Array:
    """How many times there are from ``lows`` to ``highs``, both included; 0 where these are less."""
    # The difference of two 64-bit integers may be no such, but modulo 2**64 it is right.
    return numpy.where(highs < lows, 0.0, (highs - lows).view(numpy.uint64) + 1.0)


def _in_order(found: list[Block], *, newest: bool) -> Iterator[Block]:
    block = joined(found)
    order: Array = order_of(block, _ORDER)
    block = block.take(order[::-1] if newest else order)
    for begin, end in cuts(block):
        yield block.take(slice(begin, end))

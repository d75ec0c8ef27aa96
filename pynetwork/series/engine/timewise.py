"""The records of a snapshot in the order of their times of capture, in bounded memory.

Blocks overlap in time, all of them where series were recorded side by side. So the blocks are gone through from the end
that comes first, and of what they hold only the first some MiB are kept. When the blocks that are left begin later,
these are complete, and the next ones are gathered in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy

from handshakes.records import KEY, Array, Block, KeyRange, joined
from pynetwork.series.engine.contents import cuts
from pynetwork.series.engine.ordering import order_of
from pynetwork.series.engine.snapshots import Snapshot

__all__ = ["by_time"]

_ORDER: Final = ("cap", "cid", "mid", "moid", "acq")
_FIRST_SLICE: Final = 256 << 10
_SLICE: Final = 16 << 20
_GROWTH: Final = 4
_BEGINNING: Final = -(1 << 63)
_END: Final = (1 << 63) - 1


def by_time(snapshot: Snapshot, *, newest: bool) -> Iterator[Block]:
    """All records, the oldest first, or the ``newest``, as blocks of at most a MiB or one record. Those with one cap
    are in the order of their keys, unless they alone are many MiB.
    """
    gathering = _Gathering(snapshot, newest=newest)
    size = _FIRST_SLICE
    while not gathering.over:
        yield from _in_order(gathering.next(size), newest=newest)
        if gathering.crowded:
            yield from gathering.moment()
        size = min(size * _GROWTH, _SLICE)


class _Gathering:
    """Gathers records, the newest first. To have the oldest first, times are turned round: ``~cap`` falls as cap rises.

    ``over``: all were gathered. ``crowded``: those of the one moment that comes next are too many, see `moment`.
    """

    def __init__(self, snapshot: Snapshot, *, newest: bool) -> None:
        self._snapshot = snapshot
        self._newest = newest
        lows, highs = snapshot.column("cap_min"), snapshot.column("cap_max")
        self._lows, self._highs = (lows, highs) if newest else (~highs, ~lows)
        self._order = numpy.argsort(self._highs, kind="stable")[::-1].tolist()
        # What is later than the edge was gathered; what is not later than the floor is left for the next time.
        self._edge = _END
        self._floor: int | None = None
        self.over = self.crowded = False

    def _times(self, block: Block) -> Array:
        caps = block.column("cap")
        return caps if self._newest else ~caps

    def next(self, size: int) -> list[Block]:
        """What comes next: about ``size`` bytes, or up to twice as many where that is all."""
        self._floor = None
        held: list[Block] = []
        held_bytes = 0
        for block in self._blocks():
            held.append(block)
            held_bytes += block.nbytes
            if held_bytes > 2 * size:
                held = self._first(joined(held), size)
                held_bytes = sum(part.nbytes for part in held)
        self.over = self._floor is None
        self.crowded = self._floor == self._edge
        self._edge = self._edge if self._floor is None else self._floor
        return held

    def _blocks(self) -> Iterator[Block]:
        """What lies between the floor, which may rise meanwhile, and the edge; block by block, the newest first."""
        for part in self._snapshot.recent():
            yield from self._between(part)
        for index in self._order:
            if self._floor is not None and self._highs[index] <= self._floor:
                return
            if self._lows[index] <= self._edge:
                yield from self._between(self._snapshot.read(index))

    def _between(self, block: Block) -> Iterator[Block]:
        times = self._times(block)
        wanted = times <= self._edge
        if self._floor is not None:
            wanted &= times > self._floor
        if wanted.any():
            yield block if wanted.all() else block.take(wanted)

    def _first(self, block: Block, size: int) -> list[Block]:
        """What comes first of ``block``, ``size`` bytes or less; what does not is not above the floor from now on."""
        times = self._times(block)
        order = numpy.argsort(times, kind="stable")[::-1]
        held = int(numpy.searchsorted(numpy.cumsum(block.sizes()[order] + KEY.itemsize), size))
        # Those of one moment stay together.
        self._floor = int(times[order[held]])
        kept = times > self._floor
        return [block.take(kept)] if kept.any() else []

    def moment(self) -> Iterator[Block]:
        """All records of the moment that comes next, however many; in order as far as they fit into memory."""
        time, self._edge = self._edge, self._edge - 1
        # Below it is no 64-bit integer, and older NumPy compare those that are not as floats.
        self.over = time == _BEGINNING
        cap = time if self._newest else ~time
        box = self._snapshot.box
        slot = KeyRange(box.min._replace(cap=cap), box.max._replace(cap=cap + 1))
        held: list[Block] = []
        held_bytes = 0
        touched = numpy.flatnonzero((self._highs >= time) & (self._lows <= time)).tolist()
        for block in itertools.chain(
            self._snapshot.recent(slot), (self._snapshot.read(index, slot) for index in touched)
        ):
            held.append(block)
            held_bytes += block.nbytes
            if held_bytes > _SLICE:
                yield from _in_order(held, newest=self._newest)
                held, held_bytes = [], 0
        yield from _in_order(held, newest=self._newest)


def _in_order(found: list[Block], *, newest: bool) -> Iterator[Block]:
    block = joined(found)
    if not len(block):
        return
    order = order_of(block, _ORDER)
    block = block.take(order[::-1] if newest else order)
    for begin, end in cuts(block):
        yield block.take(slice(begin, end))

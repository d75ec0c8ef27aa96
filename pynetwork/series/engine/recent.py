"""The small puts that are not yet folded into blocks: on disk in the journal, here in memory."""

from __future__ import annotations

import numpy

from handshakes.records import Array, Block, joined
from pynetwork.series.engine.ordering import where_equal

__all__ = ["Recent"]

_SETTLE = 256


class Recent:
    """Records in the order in which they came. ``count`` and ``bytes`` are those of all; the caller guards it."""

    def __init__(self) -> None:
        self._parts: list[Block] = []
        self.count = 0
        self.bytes = 0

    def add(self, block: Block) -> None:
        """``block`` came. None of its keys is here."""
        self._parts.append(block)
        self.count += len(block)
        self.bytes += block.nbytes
        if len(self._parts) > _SETTLE:
            self.parts()

    def parts(self) -> tuple[Block, ...]:
        """All records, in few blocks: each is more than twice as large as all behind it."""
        parts = self._parts
        at, behind = len(parts), 0
        for index in range(len(parts) - 1, -1, -1):
            if len(parts[index]) <= 2 * behind:
                at = index
            behind += len(parts[index])
        if at < len(parts) - 1:
            parts[at:] = [joined(parts[at:])]
        return tuple(parts)

    def whole(self) -> Block:
        """All records as one block."""
        return joined(self.parts())

    def repeated(self, keys: Array) -> bool:
        """Whether any of ``keys`` is here."""
        return any(len(_places(part, keys)) for part in self.parts())

    def remove(self, keys: Array) -> None:
        """Forget the records that have these keys."""
        parts = self.parts()
        self.clear()
        for part in parts:
            places = _places(part, keys)
            if len(places):
                kept = numpy.ones(len(part), numpy.bool_)
                kept[places] = False
                part = part.take(kept)
            if len(part):
                self.add(part)

    def clear(self) -> None:
        """Forget all."""
        self._parts = []
        self.count = self.bytes = 0


def _places(part: Block, keys: Array) -> Array:
    """Where in ``part`` the ``keys`` are."""
    if not len(part) or not len(keys):
        return numpy.empty(0, numpy.int64)
    acq = part.column("acq")
    likely = numpy.flatnonzero((acq >= keys["acq"].min()) & (acq <= keys["acq"].max()))
    if not len(likely):
        return likely
    return likely[where_equal(part.take(likely).keys(), keys)]

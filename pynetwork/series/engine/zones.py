"""What is known of each block, in memory as columns: a box finds the blocks it touches without reading one.

The figures of a block:

- ``id``: its number; contents are stored under it, and blocks are listed in the order of their numbers.
- ``run``: blocks of one run were written together: they follow one another in the order of full keys.
- ``count``, ``width``, ``bytes``: records, bytes of each payload (-1: they differ), bytes of keys and payloads.
- ``base``: what is to be added to each acq of its content. The acq of a put that was staged are known only when it is
  committed, and are written relative to its first.
- ``cid_min``, ``cid_max`` … ``acq_max``: the least and the greatest value of each field; both occur.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy

from handshakes.records import FIELDS, GREATEST, LEAST, Array, Block, KeyRange
from pynetwork.series.engine.schema import FIGURES

__all__ = ["Figures", "Zones", "extents", "figures_of", "greatest_acq"]

Figures = dict[str, int]

_COLUMN: Final = {name: number for number, name in enumerate(FIGURES)}
_SPARE: Final = 64
_PIECE: Final = 4096
_FREE: Final = -1


class Zones:
    """The figures of all blocks as they were at one moment. Never changed: `adding` and `removing` answer others."""

    __slots__ = ("_columns", "_count")

    def __init__(self, rows: Iterable[Sequence[int]] = ()) -> None:
        following = iter(rows)
        pieces = [numpy.empty((len(FIGURES), 0), numpy.int64)]
        # As Python's integers, all of them would take ten times the memory.
        while piece := list(itertools.islice(following, _PIECE)):
            pieces.append(numpy.array(piece, numpy.int64).T)
        self._columns = numpy.concatenate(pieces, axis=1)
        self._count = int(self._columns.shape[1])

    def __len__(self) -> int:
        return self._count

    def column(self, name: str) -> Array:
        """One figure of every block."""
        return self._columns[_COLUMN[name], : self._count]

    def figures(self, index: int) -> Figures:
        """All figures of one block."""
        return dict(zip(FIGURES, self._columns[:, index].tolist(), strict=True))

    def select(self, box: KeyRange) -> tuple[Array, Array]:
        """The blocks that ``box`` touches, as indices, and which of the five fields of each need be looked at:
        booleans of shape (blocks, 5). A block with none of them is wholly in the box.
        """
        found: Array | None = None
        for name in FIELDS:
            least, most = getattr(box.min, name), getattr(box.max, name)
            if least == getattr(LEAST, name) and most == getattr(GREATEST, name):
                continue
            lows, highs = self.column(f"{name}_min"), self.column(f"{name}_max")
            if found is None:
                found = numpy.flatnonzero((highs >= least) & (lows < most))
            else:
                found = found[(highs[found] >= least) & (lows[found] < most)]
        if found is None:
            found = numpy.arange(self._count)
        partly = numpy.empty((len(found), len(FIELDS)), numpy.bool_)
        for number, name in enumerate(FIELDS):
            lows, highs = self.column(f"{name}_min")[found], self.column(f"{name}_max")[found]
            partly[:, number] = (lows < getattr(box.min, name)) | (highs >= getattr(box.max, name))
        return found, partly

    def overlapping(self, extent: Figures) -> Array:
        """The blocks that may hold a key within ``extent``, the least and greatest of each field, as indices."""
        found = numpy.arange(self._count)
        # From the back: old times are rarer than old series.
        for name in reversed(FIELDS):
            lows, highs = self.column(f"{name}_min")[found], self.column(f"{name}_max")[found]
            found = found[(highs >= extent[f"{name}_min"]) & (lows <= extent[f"{name}_max"])]
        return found

    def adding(self, blocks: Sequence[Figures]) -> Zones:
        """These and ``blocks``."""
        if not blocks:
            return self
        more = Zones()
        more._count = self._count + len(blocks)
        more._columns = self._columns
        room = self._columns.shape[1]
        # The columns are shared with who has fewer blocks, and only the latest may write behind its own.
        if more._count > room or self._columns[_COLUMN["id"], self._count] != _FREE:
            more._columns = _roomy(more._count)
            more._columns[:, : self._count] = self._columns[:, : self._count]
        added = [[block[name] for name in FIGURES] for block in blocks]
        more._columns[:, self._count : more._count] = numpy.array(added, numpy.int64).T
        return more

    def removing(self, ids: Iterable[int]) -> Zones:
        """These without the blocks of those numbers."""
        kept = ~numpy.isin(self.column("id"), list(ids))
        fewer = Zones()
        fewer._count = int(numpy.count_nonzero(kept))
        fewer._columns = _roomy(fewer._count)
        for column, old in zip(fewer._columns, self._columns, strict=True):
            column[: fewer._count] = old[: self._count][kept]
        return fewer


def _roomy(count: int) -> Array:
    """Columns for so many blocks, and some more: who adds to them later need not copy them."""
    return numpy.full((len(FIGURES), count + count // 4 + _SPARE), _FREE, numpy.int64)


def extents(block: Block, fields: Sequence[str] = FIELDS) -> Figures:
    """The least and the greatest of ``fields`` in ``block``, which is not empty."""
    found: Figures = {}
    for name in fields:
        column: Any = block.column(name)
        if len(block) == 1:
            found[f"{name}_min"] = found[f"{name}_max"] = int(column[0])
            continue
        column = numpy.ascontiguousarray(column)
        found[f"{name}_min"], found[f"{name}_max"] = int(column.min()), int(column.max())
    return found


def figures_of(block: Block, number: int, run: int) -> Figures:
    """The figures of ``block``."""
    found = extents(block)
    found.update(id=number, run=run, count=len(block), width=block.width, bytes=block.nbytes, base=0)
    return found


def greatest_acq(block: Block) -> int:
    """The greatest time of acquisition in ``block``, which is not empty."""
    column = block.column("acq")
    return int(column[0] if len(column) == 1 else column.max())

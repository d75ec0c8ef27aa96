"""What is in a box at one moment, read block by block, whatever is put, merged or removed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

import numpy

from handshakes.errors import ValueNotSupported
from handshakes.records import FIELDS, Array, Block, KeyRange, Rows, joined, row_type
from pynetwork.series.engine.contents import decode_into
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.zones import Figures

__all__ = ["Snapshot"]


def _admit_all(_size: int) -> None:
    """Any block may be read."""


class Snapshot:
    """The records in ``box`` as they are now. A context manager; to be closed when it is read.

    ``horizon``: the time of acquisition up to which it is complete, never above that of the box. The blocks that it
    sees stay on the disk until it is closed. Raises `ValueNotSupported` for what is no box, and `Closed`.
    """

    def __init__(self, core: Core, box: KeyRange) -> None:
        if not isinstance(box, KeyRange):
            raise ValueNotSupported(f"{box!r} is no KeyRange; that of a SeriesKey is its range()")
        self.box = box
        self._core = core
        self._version = core.hold()
        self._open = True
        self.horizon = min(self._version.horizon, box.max.acq)
        self.chosen, self.partly = self._version.zones.select(box)
        if box.empty:
            self.chosen, self.partly = self.chosen[:0], self.partly[:0]

    def close(self) -> None:
        """Let the blocks go."""
        if self._open:
            self._open = False
            self._core.versions.release(self._version)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.close()

    def column(self, name: str) -> Array:
        """One figure of every block that the box touches."""
        return self._version.zones.column(name)[self.chosen]

    def figures(self, index: int) -> Figures:
        """The figures of one of the blocks that the box touches."""
        return self._version.zones.figures(int(self.chosen[index]))

    def is_whole(self, index: int) -> bool:
        """Whether all that was written with that block is in the box, and still there."""
        number = int(self._version.zones.column("id")[self.chosen[index]])
        return not self.partly[index].any() and number not in self._version.gone

    def _whole(self) -> Array:
        """`is_whole` of every block, as booleans."""
        whole: Array = numpy.logical_not(self.partly.any(axis=1))
        if self._version.gone:
            whole &= ~numpy.isin(self.column("id"), list(self._version.gone))
        return whole

    def read(self, index: int, box: KeyRange | None = None) -> Block:
        """What is in the box of one of those blocks, in the order of full keys; only what is in ``box``, if given."""
        figures = self.figures(index)
        block = self._core.read(figures, self._version.gone.get(figures["id"]))
        if box is not None:
            return block.take(box.mask(block))
        partly = self.partly[index]
        if not partly.any():
            return block
        return block.take(self.box.mask(block, [name for name, looked in zip(FIELDS, partly, strict=True) if looked]))

    def recent(self, box: KeyRange | None = None) -> Iterator[Block]:
        """What is in the box of the recent part, as blocks in the order in which they came."""
        box = self.box if box is None else box
        for part in self._version.recent:
            found = box.mask(part)
            if found.all():
                yield part
            elif found.any():
                yield part.take(found)

    def blocks(self, *, admit: Callable[[int], object] = _admit_all) -> Iterator[Block]:
        """All records, as blocks in the order in which they are stored; none is empty. ``admit`` is called with the
        bytes of each block before it is read.
        """
        sizes = self.column("bytes").tolist()
        for index, size in enumerate(sizes):
            admit(size)
            block = self.read(index)
            if len(block):
                yield block
        for part in self.recent():
            admit(part.nbytes)
            yield part

    def count(self) -> int:
        """How many records there are. Only blocks that are partly in the box are read."""
        whole = self._whole()
        total = int(self.column("count")[whole].sum())
        total += sum(len(self.read(index)) for index in numpy.flatnonzero(~whole).tolist())
        return total + sum(map(len, self.recent()))

    def together(self) -> Block:
        """All records as one block, in the order in which they are stored. What lies wholly in the box is moved once,
        from the file into its place.
        """
        widths = set(self.column("width").tolist())
        whole = self._whole()
        parts = {index: self.read(index) for index in numpy.flatnonzero(~whole).tolist()}
        recent = list(self.recent())
        widths |= {part.width for part in recent}
        if len(widths) != 1 or -1 in widths:
            return joined([parts[at] if at in parts else self.read(at) for at in range(len(whole))] + recent)
        counts = self.column("count").tolist()
        total = sum(len(parts[index]) if index in parts else counts[index] for index in range(len(whole)))
        rows = numpy.empty(total + sum(map(len, recent)), row_type(widths.pop()))
        self._fill(rows, parts, recent)
        return Rows(rows)

    def _fill(self, rows: Array, parts: dict[int, Block], recent: list[Block]) -> None:
        plain = rows.view(f"V{rows.dtype.itemsize}")
        at = 0
        numbers, counts, bases = (self.column(name).tolist() for name in ("id", "count", "base"))
        for index, (number, count, base) in enumerate(zip(numbers, counts, bases, strict=True)):
            part = parts.get(index)
            if part is None:
                decode_into(self._core.database.content(number), rows[at : at + count], base)
                at += count
            else:
                at = _copy(plain, at, part)
        for part in recent:
            at = _copy(plain, at, part)


def _copy(plain: Array, at: int, part: Block) -> int:
    assert isinstance(part, Rows)
    plain[at : at + len(part)] = part.rows.view(plain.dtype)
    return at + len(part)

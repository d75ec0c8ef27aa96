"""What many blocks come to: the last record of each series, what each series holds, the newest records of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import numpy.typing

from handshakes.records import Block, joined
from pynetwork.series.record import SeriesKey

__all__ = ["SeriesFigures", "by_series", "figures_of", "last_of", "newest_of"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"


@dataclass
class SeriesFigures:
    """How many records a series has, and the first and last time of capture."""

    series: SeriesKey
    records: int
    first: int
    last: int


def _ordered(block: Block) -> tuple[Array, Array, Array]:
    """The order of the records by series, then cap, then acq; and at which places of it each series begins and ends."""
    columns = [block.column(name) for name in ("cid", "mid", "moid", "cap", "acq")]
    order = numpy.lexsort(columns[::-1])
    changes = numpy.ones(len(order), numpy.bool_)
    if len(order):
        changes[1:] = False
        for column in columns[:3]:
            changes[1:] |= numpy.diff(column[order]) != 0
    begins = numpy.flatnonzero(changes)
    return order, begins, numpy.append(begins, len(order))[1:]


def by_series(block: Block) -> Iterator[tuple[SeriesKey, Block]]:
    """The records of each series of a block, by their time."""
    order, begins, ends = _ordered(block)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        part = block.take(order[begin:end])
        yield SeriesKey(*part.key(0)[:3]), part


def last_of(blocks: Iterable[Block]) -> Block | None:
    """The record with the greatest cap of each series, by series; None of no blocks. Holds one record a series."""
    kept: Block | None = None
    for block in blocks:
        found = _last_of(block)
        kept = found if kept is None else _last_of(joined([kept, found]))
    return kept


def _last_of(block: Block) -> Block:
    order, _, ends = _ordered(block)
    return block.take(order[ends - 1])


def newest_of(blocks: Iterable[Block], limit: int) -> Block | None:
    """The ``limit`` records with the greatest caps, the newest first; None of no blocks. Holds twice as many."""
    kept: Block | None = None
    for block in blocks:
        found = block if kept is None else joined([kept, block])
        order = numpy.lexsort((found.column("acq"), found.column("cap")))
        kept = found.take(order[::-1][:limit])
    return kept


def figures_of(blocks: Iterable[Block]) -> list[SeriesFigures]:
    """What each series holds, by series."""
    found: dict[SeriesKey, SeriesFigures] = {}
    for block in blocks:
        order, begins, ends = _ordered(block)
        caps = block.column("cap")[order]
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            name = SeriesKey(*block.key(int(order[begin]))[:3])
            figures = found.setdefault(name, SeriesFigures(name, 0, int(caps[begin]), int(caps[begin])))
            figures.records += end - begin
            figures.first = min(figures.first, int(caps[begin]))
            figures.last = max(figures.last, int(caps[end - 1]))
    return [found[name] for name in sorted(found)]

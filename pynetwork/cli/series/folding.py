"""What many blocks come to: the last record of each series, what each series holds, the newest records of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import numpy.typing

from handshakes.records import Block, joined
from pynetwork.series.engine.ordering import in_order, order_of, series_begins
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


def _ordered(block: Block) -> tuple[Block, Array, Array]:
    """The records in the order of their keys, and at which of them each series begins and ends; there are some."""
    if not in_order(block):
        block = block.take(order_of(block))
    begins = series_begins(block)
    return block, begins, numpy.append(begins[1:], len(block))


def by_series(block: Block) -> Iterator[tuple[SeriesKey, Block]]:
    """The records of each series of a block, by their time."""
    if len(block):
        ordered, begins, ends = _ordered(block)
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            part = ordered.take(slice(begin, end))
            yield SeriesKey(*part.key(0)[:3]), part


def last_of(blocks: Iterable[Block]) -> Block | None:
    """The record with the greatest cap of each series, by series; None of no blocks. Holds one record a series."""
    kept: Block | None = None
    for block in blocks:
        found = _last_of(block)
        kept = found if kept is None else _last_of(joined([kept, found]))
    return kept


def _last_of(block: Block) -> Block:
    if not len(block):
        return block
    ordered, _, ends = _ordered(block)
    return ordered.take(ends - 1)


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
        for name, part in by_series(block):
            caps = part.column("cap")
            first, last = int(caps[0]), int(caps[-1])
            figures = found.setdefault(name, SeriesFigures(name, 0, first, last))
            figures.records += len(part)
            figures.first = min(figures.first, first)
            figures.last = max(figures.last, last)
    return [found[name] for name in sorted(found)]

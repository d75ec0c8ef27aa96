"""Figures of series, gathered block by block: the last record of each, how many it has, and what its values were in
each span of time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy

from handshakes.records import FIELDS, Array, Block, joined
from pynetwork.series.engine.ordering import SERIES, in_order, order_of, series_begins
from pynetwork.series.engine.snapshots import Snapshot
from pynetwork.series.engine.zones import Figures

__all__ = ["BUCKET", "SPAN", "downsampled", "last_of_each", "spans"]

_AT_ONCE: Final = 64
_SERIES_TYPE: Final = [("cid", "<i4"), ("mid", "<i8"), ("moid", "<i4")]

SPAN: Final = numpy.dtype([*_SERIES_TYPE, ("count", "<i8"), ("oldest", "<i8"), ("newest", "<i8")])
"""A series, how many records it has, and the least and the greatest cap of them."""

BUCKET: Final = numpy.dtype(
    [*_SERIES_TYPE, ("begin", "<i8"), ("count", "<i8")]
    + [(name, "<f8") for name in ("minimum", "maximum", "mean", "last")]
)
"""A series, when a bucket begins, and what is known of the values in it; ``last`` is that with the greatest cap."""

_PARTIAL: Final = numpy.dtype(
    [*_SERIES_TYPE, ("begin", "<i8"), ("cap", "<i8"), ("acq", "<i8"), ("count", "<i8")]
    + [(name, "<f8") for name in ("minimum", "maximum", "total", "last")]
)


def last_of_each(snapshot: Snapshot) -> Block:
    """The record with the greatest cap, and then acq, of each series, in the order of the series."""
    found: list[Block] = [_last(_ordered(part)) for part in snapshot.recent()]
    known: dict[tuple[int, ...], int] = {}
    latest = numpy.argsort(-snapshot.column("cap_max").astype(float), kind="stable")
    for index in latest.tolist():
        figures = snapshot.figures(index)
        series = _only_series(figures)
        if series is not None and known.get(series, figures["cap_max"]) > figures["cap_max"]:
            continue
        block = snapshot.read(index)
        if not len(block):
            continue
        found.append(_last(block))
        if series is not None:
            cap = int(found[-1].column("cap")[0])
            known[series] = max(cap, known.get(series, cap))
        if len(found) > _AT_ONCE:
            found = [_last(_ordered(joined(found)))]
    return _last(_ordered(joined(found)))


def _ordered(block: Block) -> Block:
    return block if in_order(block) else block.take(order_of(block))


def _last(block: Block) -> Block:
    """The last of each series, in a block that is in order."""
    if not len(block):
        return block
    return block.take(numpy.append(series_begins(block)[1:], len(block)) - 1)


def _only_series(figures: Figures) -> tuple[int, ...] | None:
    """The series of all records of a block, if it is one."""
    if any(figures[f"{name}_min"] != figures[f"{name}_max"] for name in SERIES):
        return None
    return tuple(figures[f"{name}_min"] for name in SERIES)


def spans(snapshot: Snapshot) -> Array:
    """Each series with its `SPAN`, in order. Blocks of one series are not even read, if they are wholly in the box."""
    found: list[Array] = [_spans_of(_ordered(part)) for part in snapshot.recent()]
    for index in range(len(snapshot.chosen)):
        figures = snapshot.figures(index)
        series = _only_series(figures)
        if series is not None and snapshot.is_whole(index):
            row = (*series, figures["count"], figures["cap_min"], figures["cap_max"])
            found.append(numpy.array([row], SPAN))
        else:
            block = snapshot.read(index)
            if len(block):
                found.append(_spans_of(block))
        if len(found) > _AT_ONCE:
            found = [_merged_spans(numpy.concatenate(found))]
    return _merged_spans(numpy.concatenate(found)) if found else numpy.empty(0, SPAN)


def _spans_of(block: Block) -> Array:
    begins = series_begins(block)
    ends = numpy.append(begins[1:], len(block))
    rows = numpy.empty(len(begins), SPAN)
    for name in SERIES:
        rows[name] = block.column(name)[begins]
    rows["count"] = ends - begins
    rows["oldest"] = block.column("cap")[begins]
    rows["newest"] = block.column("cap")[ends - 1]
    return rows


def _merged_spans(rows: Array) -> Array:
    rows = rows[numpy.lexsort([rows[name] for name in reversed(SERIES)])]
    begins = _changes(rows, SERIES)
    merged: Array = rows[begins]
    merged["count"] = numpy.add.reduceat(rows["count"], begins)
    merged["oldest"] = numpy.minimum.reduceat(rows["oldest"], begins)
    merged["newest"] = numpy.maximum.reduceat(rows["newest"], begins)
    return merged


def _changes(rows: Array, names: tuple[str, ...]) -> Array:
    """Where rows begin that differ from those before in one of the fields ``names``."""
    differs = numpy.zeros(len(rows) - 1, numpy.bool_)
    for name in names:
        differs |= rows[name][1:] != rows[name][:-1]
    return numpy.append(0, numpy.flatnonzero(differs) + 1)


def downsampled(snapshot: Snapshot, bucket: int, start: int, values: Callable[[Block], Array]) -> Array:
    """Each series and each span of ``bucket`` nanoseconds that has records, counted from ``start``, with its `BUCKET`.

    ``values`` makes a block into one number for each record. Memory: that of the answer, and some blocks.
    """
    found: list[Array] = []
    rows = 0
    merged = 0
    for block in snapshot.blocks():
        found.append(_partials(_ordered(block), bucket, start, values))
        rows += len(found[-1])
        # As soon as it has doubled, so that all in all each row is moved a few times at most.
        if len(found) > _AT_ONCE and rows > 2 * merged:
            found = [_merged_partials(numpy.concatenate(found))]
            rows = merged = len(found[0])
    if not found:
        return numpy.empty(0, BUCKET)
    return _buckets(_merged_partials(numpy.concatenate(found)))


def _partials(block: Block, bucket: int, start: int, values: Callable[[Block], Array]) -> Array:
    rows = numpy.empty(len(block), _PARTIAL)
    for name in FIELDS:
        rows[name] = block.column(name)
    # Without leaving 64 bits on the way.
    rows["begin"] = rows["cap"] - (rows["cap"] % bucket - start % bucket) % bucket
    rows["count"] = 1
    numbers = values(block)
    for name in ("minimum", "maximum", "total", "last"):
        rows[name] = numbers
    return _grouped(rows)


def _merged_partials(rows: Array) -> Array:
    names = ("acq", "cap", "begin", *reversed(SERIES))
    return _grouped(rows[numpy.lexsort([rows[name] for name in names])])


def _grouped(rows: Array) -> Array:
    """One row for each series and bucket, of rows in the order of series, cap and acq."""
    begins = _changes(rows, (*SERIES, "begin"))
    ends = numpy.append(begins[1:], len(rows)) - 1
    # The last of each group has the latest time and value; the rest is gathered.
    merged: Array = rows[ends]
    merged["count"] = numpy.add.reduceat(rows["count"], begins)
    merged["total"] = numpy.add.reduceat(rows["total"], begins)
    merged["minimum"] = numpy.minimum.reduceat(rows["minimum"], begins)
    merged["maximum"] = numpy.maximum.reduceat(rows["maximum"], begins)
    return merged


def _buckets(rows: Array) -> Array:
    found = numpy.empty(len(rows), BUCKET)
    for name in (*SERIES, "begin", "count", "minimum", "maximum", "last"):
        found[name] = rows[name]
    found["mean"] = rows["total"] / rows["count"]
    return found

"""Putting records into the order of their keys, and finding equal keys, without a loop over records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy

from handshakes.records import FIELDS, KEY, Array, Block

__all__ = ["SERIES", "TILE", "distinct", "in_order", "latest", "order_of", "series_begins", "tiled", "where_equal"]

SERIES = FIELDS[:3]
"""The fields that tell one series from another."""

TILE: Final = 65536
"""Records that are put into order together: in memory for a moment, and one run of blocks on the disk."""

_LOOSE: Final = 1.5

_AS_TEXT = numpy.dtype(f"S{KEY.itemsize}")
_BITS = 63


def in_order(block: Block, fields: Sequence[str] = FIELDS) -> bool:
    """Whether the records of ``block`` are in the order of ``fields``."""
    undecided: Array | None = None
    for name in fields:
        column = numpy.ascontiguousarray(block.column(name))
        before, after = column[:-1], column[1:]
        falls = before > after
        if undecided is not None:
            falls &= undecided
        if falls.any():
            return False
        equal = before == after
        undecided = equal if undecided is None else undecided & equal
        if not undecided.any():
            return True
    return True


def order_of(block: Block, fields: Sequence[str] = FIELDS) -> Array:
    """The indices that put ``block`` into the order of ``fields``; what is equal stays in the order in which it is."""
    return _order_of([numpy.ascontiguousarray(block.column(name)) for name in fields])


def tiled(block: Block) -> Array | None:
    """The indices that put ``block`` into the order in which records are stored: tiles of `TILE` records one after
    another in time, each in the order of the keys. Equal keys stay as they are. None where it is so already.

    Sorted by series alone, a short time of all series would lie in as many blocks as there are series; sorted by time
    alone, one series would lie in all blocks.
    """
    begins = range(0, len(block), TILE)
    caps = numpy.ascontiguousarray(block.column("cap"))
    in_time = _tiles_follow(caps, begins)
    if in_time and all(in_order(block.take(slice(begin, begin + TILE)), FIELDS[:-1]) for begin in begins):
        return None
    order = numpy.arange(len(block)) if in_time else _order_of([caps])
    series = [numpy.ascontiguousarray(block.column(name)) for name in SERIES]
    for begin in begins:
        tile = order[begin : begin + TILE]
        sorted_tile = tile[_order_of([column[tile] for column in series])]
        if in_time and _falls(sorted_tile, series, caps):
            sorted_tile = tile[_order_of([column[tile] for column in (*series, caps)])]
        order[begin : begin + TILE] = sorted_tile
    return order


def _tiles_follow(caps: Array, begins: range) -> bool:
    """Whether tiles cut from records as they are follow one another in time, more or less."""
    if not len(caps):
        return True
    lows, highs = (numpy.asarray(each.reduceat(caps, begins), float) for each in (numpy.minimum, numpy.maximum))
    return float((highs - lows).sum()) <= _LOOSE * float(highs.max() - lows.min())


def _falls(order: Array, series: Sequence[Array], caps: Array) -> bool:
    """Whether ``caps`` fall within a series, when what is sorted by series is put into ``order``."""
    times = caps[order]
    places = numpy.flatnonzero(times[1:] < times[:-1])
    before, after = order[places], order[places + 1]
    same = numpy.ones(len(places), numpy.bool_)
    for column in series:
        same &= column[before] == column[after]
    return bool(same.any())


def _order_of(columns: Sequence[Array]) -> Array:
    number = _as_one_number(columns)
    if number is None:
        return numpy.lexsort(columns[::-1])
    values, bits = number
    room = (len(values) - 1).bit_length()
    if bits + room > _BITS:
        return numpy.argsort(values, kind="stable")
    # With its index in the lowest bits, any sort is a stable one, and sorting numbers is faster than ordering them.
    values <<= room
    values |= numpy.arange(len(values))
    values.sort()
    values &= (1 << room) - 1
    return values


def _as_one_number(columns: Sequence[Array]) -> tuple[Array, int] | None:
    """One integer for each record that is ordered as its columns are, and its bits; None if it takes more than 63."""
    least = [int(column.min()) for column in columns]
    bits = [(int(column.max()) - low).bit_length() for column, low in zip(columns, least, strict=True)]
    if sum(bits) > _BITS:
        return None
    values = numpy.zeros(len(columns[0]), numpy.int64)
    for column, low, size in zip(columns, least, bits, strict=True):
        if size:
            values <<= size
            values += column.astype(numpy.int64) - low
    return values, sum(bits)


def distinct(block: Block) -> Block:
    """``block`` in the order of its full keys; of those that are equal, only the last."""
    if len(block) < 2:
        return block
    if not in_order(block):
        block = block.take(order_of(block))
    repeated = numpy.flatnonzero(_same_as_next(block, FIELDS))
    return block.take(numpy.delete(numpy.arange(len(block)), repeated)) if len(repeated) else block


def latest(block: Block) -> Block:
    """``block`` as it is ordered; of those of its records whose keys are equal, only the last."""
    if len(block) < 2:
        return block
    order = order_of(block)
    repeated = order[numpy.flatnonzero(_same_as_next(block.take(order), FIELDS))]
    return block.take(numpy.delete(numpy.arange(len(block)), repeated)) if len(repeated) else block


def series_begins(block: Block) -> Array:
    """The indices at which another series begins, in a ``block`` that is in order and not empty."""
    return numpy.append(0, numpy.flatnonzero(~_same_as_next(block, SERIES)) + 1)


def _same_as_next(block: Block, fields: Sequence[str]) -> Array:
    same = numpy.ones(len(block) - 1, numpy.bool_)
    for name in fields:
        column = block.column(name)
        same &= column[:-1] == column[1:]
    return same


def where_equal(keys: Array, others: Array) -> Array:
    """The indices of those of ``keys`` that are among ``others``; both are arrays of full keys."""
    if not len(keys) or not len(others):
        return numpy.empty(0, numpy.int64)
    # Both as texts of fixed length: NumPy orders those by their bytes, and any order will do.
    texts, sought = (numpy.ascontiguousarray(each).view(_AS_TEXT) for each in (keys, others))
    sought = numpy.sort(sought)
    places = numpy.minimum(numpy.searchsorted(sought, texts), len(sought) - 1)
    return numpy.flatnonzero(sought[places] == texts)

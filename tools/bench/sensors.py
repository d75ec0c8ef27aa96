"""Records as sensors give them: 64 series that come interleaved in time, each with two numbers to a reading.

Eight devices, known by serial numbers, have eight sensors each, and each sensor is read 100 times a second. Every
sensor has its place in the hundredth of a second, which it keeps to a tenth of a millisecond: records of one series are
in the order of their times, neighbours of different series may not be.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy
from numpy.typing import NDArray

from handshakes.records import GREATEST, KEY, LEAST, KeyRange, row_type

__all__ = ["CID", "SERIES", "TOGETHER", "WIDTH", "Array", "one_series", "readings", "slice_of_time", "span", "sum_of"]

Array: TypeAlias = "NDArray[Any]"

SERIES: Final = 64
CID: Final = 7
WIDTH: Final = 16
"""Bytes of a payload: two float64."""

TOGETHER: Final = 65_536
"""Readings are made by so many."""

_SEED = 20_010_101
_TICKS = TOGETHER // SERIES
_PERIOD = 10_000_000  # nanoseconds
_JITTER = 100_000
_BEGIN = 800_000_000_000_000_000
_DEVICES = numpy.random.default_rng(_SEED).integers(2**39, 2**40, 8)
_PHASES = numpy.arange(SERIES) * (_PERIOD // SERIES)
_WORDS = (0, 1, 2, 4, 5)  # those of a record that are not its time of acquisition
_FACTORS = numpy.random.default_rng(_SEED + 1).integers(2**62, 2**63, len(_WORDS), numpy.uint64) | numpy.uint64(1)


def readings(begin: int, count: int) -> Array:
    """The records from number ``begin`` of an endless sequence, the same ones each time; both are multiples of
    `TOGETHER`. Their times of acquisition are their numbers.
    """
    rows = numpy.empty(count, row_type(WIDTH))
    for start in range(0, count, TOGETHER):
        _fill(rows[start : start + TOGETHER], begin + start)
    return rows


def _fill(rows: Array, begin: int) -> None:
    chance = numpy.random.default_rng([_SEED, begin])
    series = numpy.tile(numpy.arange(SERIES), _TICKS)
    ticks = begin // SERIES + numpy.repeat(numpy.arange(_TICKS), SERIES)
    rows["cid"] = CID
    rows["mid"] = _DEVICES[series // 8]
    rows["moid"] = series % 8
    rows["cap"] = _BEGIN + ticks * _PERIOD + _PHASES[series] + chance.integers(0, 2 * _JITTER, TOGETHER)
    rows["acq"] = begin + numpy.arange(TOGETHER)
    values = numpy.empty((TOGETHER, 2))
    values[:, 0] = 20 + series + numpy.sin(ticks / 500) + 0.1 * chance.standard_normal(TOGETHER)
    values[:, 1] = 3.3 + 0.01 * chance.standard_normal(TOGETHER)
    rows["payload"] = values.view(f"V{WIDTH}")[:, 0]


def slice_of_time(rows: Array, at: int, count: int) -> KeyRange:
    """The box of ``count`` of these records, of all series, beginning with the one that is at place ``at`` in time.

    It may hold a few more where two have the same time.
    """
    times = numpy.sort(rows["cap"])
    return KeyRange(
        LEAST._replace(cap=int(times[at])),
        GREATEST._replace(cap=int(times[at + count]) if at + count < len(times) else int(times[-1]) + 1),
    )


def one_series(rows: Array, at: int, count: int) -> KeyRange:
    """The box of ``count`` of these records, beginning at place ``at`` among those of a series that depends on it."""
    mid, moid = int(_DEVICES[at % 8]), at // 8 % 8
    times = rows["cap"][(rows["mid"] == mid) & (rows["moid"] == moid)]
    return KeyRange(
        LEAST._replace(cid=CID, mid=mid, moid=moid, cap=int(times[at])),
        GREATEST._replace(cid=CID + 1, mid=mid + 1, moid=moid + 1, cap=int(times[at + count - 1]) + 1),
    )


def span(rows: Array) -> KeyRange:
    """The box of all series from the first of these records to the last."""
    times = rows["cap"]
    return KeyRange(LEAST._replace(cap=int(times.min())), GREATEST._replace(cap=int(times.max()) + 1))


def sum_of(rows: Array) -> tuple[int, int]:
    """How many records these are and a sum over them in which their order and their times of acquisition do not
    count: alike where the records are.
    """
    if rows.dtype.itemsize != KEY.itemsize + WIDTH:
        raise ValueError(f"records of {rows.dtype.itemsize} bytes came")
    words = numpy.ascontiguousarray(rows).view(numpy.uint64).reshape(len(rows), -1)
    mixed = numpy.zeros(len(rows), numpy.uint64)
    for place, factor in zip(_WORDS, _FACTORS, strict=True):
        mixed = (mixed ^ words[:, place]) * factor
        mixed ^= mixed >> numpy.uint64(29)
    return len(rows), int(mixed.sum(dtype=numpy.uint64))

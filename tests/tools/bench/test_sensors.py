"""Readings of sensors."""

from __future__ import annotations

import numpy
import pytest

from handshakes.records import Rows, row_type
from tools.bench.sensors import CID, SERIES, TOGETHER, one_series, readings, slice_of_time, span, sum_of


@pytest.fixture(scope="module")
def rows():
    return readings(0, 2 * TOGETHER)


def test_they_are_the_same_each_time_however_they_are_asked_for(rows):
    assert rows.dtype == row_type(16)
    assert (readings(TOGETHER, TOGETHER) == rows[TOGETHER:]).all()
    assert not (readings(2 * TOGETHER, TOGETHER)["payload"] == rows["payload"][:TOGETHER]).any()


def test_series_are_interleaved_and_each_is_in_the_order_of_its_times(rows):
    assert set(rows["cid"].tolist()) == {CID}
    assert rows["acq"].tolist() == list(range(len(rows)))
    assert len(set(rows[["mid", "moid"]][:SERIES].tolist())) == SERIES
    for first in rows[:SERIES]:
        series = rows["cap"][(rows["mid"] == first["mid"]) & (rows["moid"] == first["moid"])]
        assert len(series) == len(rows) // SERIES
        assert (numpy.diff(series) > 0).all()
    # They arrive almost in the order of their times, but not quite.
    assert 0 < (numpy.diff(rows["cap"]) < 0).sum() < len(rows) / 10


def test_boxes_hold_as_many_as_they_should(rows):
    block = Rows(rows)
    for at in (0, 1000, len(rows) - 500):
        box = slice_of_time(rows, at, 500)
        assert box.mask(block).sum() in (500, 501)
        assert len(set(rows[box.mask(block)][["mid", "moid"]].tolist())) == SERIES
    for at in (0, 77, len(rows) // SERIES - 500):
        box = one_series(rows, at, 500)
        assert box.mask(block).sum() == 500
        assert len(set(rows[box.mask(block)][["mid", "moid"]].tolist())) == 1
    assert span(rows).mask(block).all()


def test_a_sum_tells_records_but_neither_their_order_nor_when_they_came(rows):
    other = rows[::-1].copy()
    other["acq"] += 12345
    assert sum_of(other) == sum_of(rows)
    for name in ("cid", "mid", "moid", "cap"):
        other = rows.copy()
        other[name][7] += 1
        assert sum_of(other) != sum_of(rows)
    other = rows.copy()
    other["payload"][[3, 4]] = rows["payload"][[4, 3]]
    assert sum_of(other) != sum_of(rows)
    assert sum_of(rows[:-1]) != sum_of(rows)


def test_records_of_another_size_have_no_sum():
    with pytest.raises(ValueError, match="40 bytes"):
        sum_of(numpy.zeros(3, row_type(8)))

"""Conditions of SQL, and tuples as records."""

from __future__ import annotations

import pytest

from handshakes.records import GREATEST, LEAST, Key, KeyRange
from tools.bench.peers.rows import array_of, conditions
from tools.bench.sensors import TOGETHER, one_series, readings, slice_of_time


def test_everything_has_no_condition():
    assert conditions(KeyRange.everything()) == ("", [])


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        ({"cap": 5}, {}, (" WHERE cap >= ?", [5])),
        ({"cap": 5}, {"cap": 9}, (" WHERE cap >= ? AND cap < ?", [5, 9])),
        ({"cid": 7}, {"cid": 8}, (" WHERE cid = ?", [7])),
        ({"mid": -3}, {"mid": -2, "acq": 4}, (" WHERE mid = ? AND acq < ?", [-3, 4])),
    ],
)
def test_only_what_is_bounded_is_a_condition(least, most, expected):
    assert conditions(KeyRange(LEAST._replace(**least), GREATEST._replace(**most))) == expected


def test_boxes_of_the_sensors():
    rows = readings(0, TOGETHER)
    assert conditions(slice_of_time(rows, 10, 20))[0] == " WHERE cap >= ? AND cap < ?"
    assert conditions(one_series(rows, 10, 20))[0] == (
        " WHERE cid = ? AND mid = ? AND moid = ? AND cap >= ? AND cap < ?"
    )


def test_tuples_become_records():
    key = Key(1, -2, 3, -4, 5)
    (row,) = array_of([(*key, b"0123456789abcdef")]).tolist()
    assert row == (*key, b"0123456789abcdef")
    assert len(array_of([])) == 0

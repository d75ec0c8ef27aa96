from __future__ import annotations

from unittest import mock

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.records import FIELDS, KEY, Block, Rows
from pynetwork.series.engine import ordering
from pynetwork.series.engine.ordering import distinct, in_order, latest, order_of, series_begins, tiled, where_equal
from tests.pynetwork.series.engine.small import Full, block, records

near = st.tuples(*[st.integers(0, 2)] * 5)
far = st.tuples(
    st.integers(0, 2**31 - 2), st.integers(-(2**63), 2**63 - 2), st.integers(-(2**31), 2**31 - 2),
    st.integers(-(2**63), 2**63 - 2), st.integers(-(2**63), 2**63 - 2),
)  # fmt: skip
lists = st.one_of(st.lists(near, min_size=1, max_size=30), st.lists(far, min_size=1, max_size=30))


def of(keys: list[Full]) -> Block:
    return block(*((key, number.to_bytes(2, "big")) for number, key in enumerate(keys)))


@given(lists)
def test_order_is_that_of_tuples_and_stable(keys: list[Full]) -> None:
    found = of(keys)
    assert order_of(found).tolist() == sorted(range(len(keys)), key=keys.__getitem__)
    assert order_of(found, ("cap",)).tolist() == sorted(range(len(keys)), key=lambda number: keys[number][3])
    assert in_order(found) == (keys == sorted(keys))
    assert in_order(found.take(order_of(found)))


@given(lists)
def test_of_equal_keys_the_last_is_left(keys: list[Full]) -> None:
    last = {key: number.to_bytes(2, "big") for number, key in enumerate(keys)}
    assert records(distinct(of(keys))) == sorted(last.items())
    in_place = [(key, payload) for key, payload in records(of(keys)) if last[key] == payload]
    assert records(latest(of(keys))) == in_place


@given(lists, lists)
def test_equal_keys_are_found(keys: list[Full], others: list[Full]) -> None:
    others = others + keys[::2]
    found = where_equal(of(keys).keys(), of(others).keys())
    assert found.tolist() == [number for number, key in enumerate(keys) if key in others]
    assert where_equal(of(keys).keys(), numpy.empty(0, KEY)).tolist() == []


@given(st.lists(near, min_size=1, max_size=60))
def test_tiles_follow_in_time_and_are_in_order(keys: list[Full]) -> None:
    given_block = of(keys)
    with mock.patch.object(ordering, "TILE", 8):
        order = tiled(given_block)
    order = numpy.arange(len(keys)) if order is None else order
    assert sorted(order.tolist()) == list(range(len(keys)))
    for begin in range(0, len(keys), 8):
        tile = order[begin : begin + 8]
        assert in_order(given_block.take(tile), FIELDS[:-1])
        numbers = [(keys[number][:4], number) for number in tile.tolist()]
        assert numbers == sorted(numbers)


def test_what_comes_series_after_series_is_put_into_tiles_by_time() -> None:
    keys = [(0, mid, 0, cap, 0) for mid in range(4) for cap in range(16)]
    with mock.patch.object(ordering, "TILE", 16):
        order = tiled(of(keys))
    assert order is not None
    tiles = [[keys[number] for number in order[begin : begin + 16].tolist()] for begin in range(0, 64, 16)]
    assert [{key[3] for key in tile} for tile in tiles] == [set(range(low, low + 4)) for low in (0, 4, 8, 12)]


def test_what_lies_right_already_is_left_so() -> None:
    assert tiled(of([(0, 0, 0, cap, 0) for cap in range(100)])) is None
    assert tiled(Rows(numpy.empty(0, KEY))) is None


@pytest.mark.parametrize("field", range(3))
def test_series_begin_where_one_of_their_fields_changes(field: int) -> None:
    keys = [[0, 0, 0, cap, 0] for cap in range(6)]
    for key in keys[2:5]:
        key[field] += 1
    assert series_begins(of([tuple(key) for key in keys])).tolist() == [0, 2, 5]  # type: ignore[misc]

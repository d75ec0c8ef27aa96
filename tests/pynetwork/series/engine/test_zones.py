"""What is known of blocks, against a loop over them."""

from __future__ import annotations

import tracemalloc

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.records import FIELDS, GREATEST, LEAST, Key, KeyRange
from pynetwork.series.engine.schema import FIGURES
from pynetwork.series.engine.zones import Figures, Zones, extents, figures_of
from tests.pynetwork.series.engine.small import Full, block

BITS = {"cid": 31, "mid": 63, "moid": 31, "cap": 63, "acq": 63}


def values(name: str) -> st.SearchStrategy[int]:
    least = 0 if name == "cid" else -(2 ** BITS[name])
    return st.one_of(st.integers(0, 5), st.sampled_from([least, 2 ** BITS[name] - 2]))


keys = st.builds(Key, *(values(name) for name in FIELDS))
corners = st.builds(Key, *(st.one_of(values(name), st.just(getattr(GREATEST, name))) for name in FIELDS))
boxes = st.one_of(
    st.builds(KeyRange, corners, corners),
    st.builds(KeyRange, st.just(LEAST), corners),
    st.builds(KeyRange, corners, st.just(GREATEST)),
)


def spanning(one: Key, other: Key) -> Figures:
    found: Figures = {}
    for name, first, second in zip(FIELDS, one, other, strict=True):
        found[f"{name}_min"], found[f"{name}_max"] = min(first, second), max(first, second)
    return found


extent = st.builds(spanning, keys, keys)


def numbered(found: list[Figures], first: int = 1) -> list[Figures]:
    return [
        {**figures, "id": first + at, "run": at // 3, "count": 1, "width": 0, "bytes": 32, "base": 0}
        for at, figures in enumerate(found)
    ]


def listed(zones: Zones) -> list[Figures]:
    return [zones.figures(index) for index in range(len(zones))]


@given(st.lists(extent, max_size=8), boxes)
def test_a_box_finds_the_blocks_it_touches_and_what_to_look_at(found: list[Figures], box: KeyRange) -> None:
    zones = Zones().adding(numbered(found))
    chosen, partly = zones.select(box)
    sides = [(name, getattr(box.min, name), getattr(box.max, name)) for name in FIELDS]
    expected = [
        index
        for index, figures in enumerate(found)
        if all(figures[f"{name}_max"] >= least and figures[f"{name}_min"] < most for name, least, most in sides)
    ]
    assert chosen.tolist() == expected
    assert partly.shape == (len(expected), 5)
    assert partly.tolist() == [
        [found[index][f"{name}_min"] < least or found[index][f"{name}_max"] >= most for name, least, most in sides]
        for index in expected
    ]


@given(st.lists(extent, max_size=8), extent)
def test_blocks_that_may_hold_a_key_are_found(found: list[Figures], sought: Figures) -> None:
    zones = Zones().adding(numbered(found))
    assert zones.overlapping(sought).tolist() == [
        index
        for index, figures in enumerate(found)
        if all(
            figures[f"{name}_max"] >= sought[f"{name}_min"] and figures[f"{name}_min"] <= sought[f"{name}_max"]
            for name in FIELDS
        )
    ]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.lists(extent, max_size=3), st.sets(st.integers(1, 30)))),
)
def test_others_are_not_changed_by_who_adds_and_removes(
    steps: list[tuple[int, bool, list[Figures], set[int]]],
) -> None:
    known: list[tuple[Zones, list[Figures]]] = [(Zones(), [])]
    number = 1
    for parent, adds, found, ids in steps:
        zones, model = known[parent % len(known)]
        if adds:
            blocks = numbered(found, number)
            number += len(blocks)
            known.append((zones.adding(blocks), model + blocks))
        else:
            known.append((zones.removing(ids), [figures for figures in model if figures["id"] not in ids]))
    for zones, model in known:
        assert len(zones) == len(model)
        assert listed(zones) == model
        assert zones.column("id").tolist() == [figures["id"] for figures in model]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("other", FIELDS)
def test_a_box_ends_before_its_greatest_key_in_every_field(name: str, other: str) -> None:
    zones = Zones().adding(numbered([spanning(Key(3, 3, 3, 3, 3), Key(5, 5, 5, 5, 5))]))
    for least, most, touched, partly in (
        (0, 3, 0, 0),
        (0, 4, 1, 1),
        (3, 6, 1, 0),
        (4, 9, 1, 1),
        (5, 9, 1, 1),
        (6, 9, 0, 0),
    ):
        within = KeyRange(LEAST._replace(**{other: 1}), GREATEST._replace(**{other: 8}))
        limits = KeyRange(within.min._replace(**{name: least}), within.max._replace(**{name: most}))
        chosen, looked_at = zones.select(limits)
        assert len(chosen) == touched
        assert looked_at.sum() == partly


def test_two_that_come_from_one_do_not_write_over_each_other() -> None:
    parent = Zones().adding(numbered([spanning(LEAST, LEAST)]))
    children = [parent.adding(numbered([spanning(GREATEST, GREATEST)], number)) for number in (7, 8, 9)]
    assert [child.column("id").tolist() for child in children] == [[1, 7], [1, 8], [1, 9]]
    assert parent.column("id").tolist() == [1]


def test_rows_of_the_file_are_taken_in_their_order() -> None:
    blocks = numbered([spanning(LEAST, GREATEST), spanning(Key(1, 2, 3, 4, 5), Key(0, 3, 2, 5, 4))])
    zones = Zones(tuple(figures[name] for name in FIGURES) for figures in blocks)
    assert listed(zones) == blocks
    assert listed(zones.adding(numbered([spanning(LEAST, LEAST)], 9)))[2]["id"] == 9


def test_nothing_finds_nothing() -> None:
    zones = Zones()
    assert (len(zones), zones.column("acq_max").tolist()) == (0, [])
    chosen, partly = zones.select(KeyRange.everything())
    assert (chosen.tolist(), partly.shape) == ([], (0, 5))
    chosen, partly = zones.select(KeyRange(Key(1, 1, 1, 1, 1), Key(2, 2, 2, 2, 2)))
    assert (chosen.tolist(), partly.shape) == ([], (0, 5))
    assert zones.overlapping(spanning(LEAST, GREATEST)).tolist() == []
    assert len(zones.removing([1])) == 0
    assert zones.adding([]) is zones


def test_blocks_that_are_added_one_by_one_are_not_all_copied_each_time() -> None:
    zones, copies = Zones(), 0
    one = spanning(LEAST, GREATEST)
    for number in range(1, 2000):
        before = zones
        zones = zones.adding(numbered([one], number))
        copies += not numpy.shares_memory(before.column("id"), zones.column("id"))
    assert copies < 30
    assert zones.column("id").tolist() == list(range(1, 2000))


@pytest.mark.parametrize(
    "told",
    [
        [((3, -4, 5, -6, 7), b"x")],
        [(LEAST, b"ab"), (GREATEST, b"cd")],
        [((1, 5, -3, 8, 2), b""), ((0, 7, 4, -8, 3), b"longer"), ((1, 6, 0, 0, 9), b"x")],
    ],
)
def test_figures_are_those_of_the_records(told: list[tuple[Full, bytes]]) -> None:
    found = figures_of(block(*told), 11, 12)
    columns = dict(zip(FIELDS, zip(*(key for key, _ in told), strict=True), strict=True))
    sizes = {len(payload) for _, payload in told}
    assert found == {
        "id": 11,
        "run": 12,
        "count": len(told),
        "width": sizes.pop() if len(sizes) == 1 else -1,
        "bytes": sum(32 + len(payload) for _, payload in told),
        "base": 0,
        **{f"{name}_min": min(column) for name, column in columns.items()},
        **{f"{name}_max": max(column) for name, column in columns.items()},
    }
    assert set(found) == set(FIGURES)
    assert extents(block(*told), ("cap",)) == {name: found[name] for name in ("cap_min", "cap_max")}
    assert all(type(value) is int for value in found.values())


def test_many_are_read_in_little_more_memory_than_they_take() -> None:
    count = 20_000
    tracemalloc.start()
    try:
        zones = Zones((10**12 + number,) * len(FIGURES) for number in range(count))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(zones) == count
    assert zones.column("id")[[0, -1]].tolist() == [10**12, 10**12 + count - 1]
    assert peak < 4 * count * len(FIGURES) * 8


def test_there_is_room_behind_those_that_are_left() -> None:
    some = [figures_of(block(((0, 0, 0, 0, 0), b"")), number, 1) for number in range(1, 6)]
    fewer = Zones().adding(some).removing([2])
    more = fewer.adding([figures_of(block(((0, 0, 0, 0, 0), b"")), 9, 2)])
    assert more.column("id").tolist() == [1, 3, 4, 5, 9]
    assert numpy.shares_memory(more.column("id"), fewer.column("id"))

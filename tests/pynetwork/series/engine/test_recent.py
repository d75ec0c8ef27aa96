"""The recent part: records as they came, in few blocks, until they are folded."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.records import KEY, Array
from pynetwork.series.engine.recent import Recent
from tests.pynetwork.series.engine.small import Full, block, records

Told = list[tuple[Full, bytes]]

keys = st.tuples(st.integers(0, 1), st.just(0), st.just(0), st.integers(0, 3), st.integers(0, 4))
told = st.dictionaries(keys, st.sampled_from([b"", b"ab", b"cd"]), min_size=1, max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), told),
        st.tuples(st.just("remove"), told),
        st.tuples(st.just("clear"), st.just({})),
    ),
    max_size=20,
)


def key_array(*given: Full) -> Array:
    return numpy.array(list(given), KEY)


def check(recent: Recent, model: Told) -> None:
    parts = recent.parts()
    assert [record for part in parts for record in records(part)] == model
    assert recent.count == len(model)
    assert recent.bytes == sum(32 + len(payload) for _, payload in model)
    behind = 0
    for part in reversed(parts):
        assert len(part) > 2 * behind
        behind += len(part)


@given(steps)
def test_it_is_a_list_of_records(steps: list[tuple[str, dict[Full, bytes]]]) -> None:
    recent = Recent()
    model: Told = []
    with mock.patch("pynetwork.series.engine.recent._SETTLE", 3):
        for what, told in steps:
            if what == "add":
                there = {key for key, _ in model}
                new = [record for record in told.items() if record[0] not in there]
                if new:
                    recent.add(block(*new))
                    model += new
            elif what == "remove":
                assert recent.repeated(key_array(*told)) == any(key in told for key, _ in model)
                recent.remove(key_array(*told))
                model = [record for record in model if record[0] not in told]
            else:
                recent.clear()
                model = []
            assert (recent.count, len(records(recent.whole()))) == (len(model), len(model))
            check(recent, model)


@pytest.mark.parametrize("sizes", list(itertools.permutations((1, 2, 3, 7))))
def test_parts_are_joined_whatever_the_order_of_their_sizes(sizes: tuple[int, ...]) -> None:
    recent, looked_at = Recent(), Recent()
    model: Told = []
    for size in sizes:
        more: Told = [((0, 0, 0, at, len(model)), b"x") for at in range(size)]
        model += more
        recent.add(block(*more))
        looked_at.add(block(*more))
        check(looked_at, model)
    check(recent, model)
    assert records(recent.whole()) == records(looked_at.whole()) == model


def test_what_is_more_than_twice_as_large_as_all_behind_it_is_left_as_it_is() -> None:
    recent = Recent()
    seen: list[list[int]] = []
    for number, size in enumerate((7, 2, 1, 1)):
        recent.add(block(*(((0, 0, 0, at, number), b"x") for at in range(size))))
        seen.append([len(part) for part in recent.parts()])
    assert seen == [[7], [7, 2], [7, 3], [11]]


def test_nothing_is_there_at_first() -> None:
    recent = Recent()
    assert recent.parts() == ()
    assert len(recent.whole()) == recent.count == recent.bytes == 0
    assert not recent.repeated(key_array((0, 0, 0, 0, 0)))
    recent.remove(key_array((0, 0, 0, 0, 0)))
    assert recent.parts() == ()


def test_no_keys_are_not_there() -> None:
    recent = Recent()
    recent.add(block(((0, 0, 0, 0, 0), b"")))
    assert not recent.repeated(key_array())
    recent.remove(key_array())
    assert recent.count == 1


def test_keys_of_other_times_and_of_the_same_are_told_apart() -> None:
    recent = Recent()
    recent.add(block(((0, 1, 0, 5, 7), b"a"), ((0, 2, 0, 5, 9), b"b")))
    assert not recent.repeated(key_array((0, 1, 0, 5, 6)))
    assert not recent.repeated(key_array((0, 1, 0, 5, 10)))
    assert not recent.repeated(key_array((0, 1, 0, 5, 8)))
    assert not recent.repeated(key_array((0, 2, 0, 5, 7)))
    assert recent.repeated(key_array((0, 0, 0, 0, 0), (0, 1, 0, 5, 7)))
    assert recent.repeated(key_array((0, 2, 0, 5, 9)))


def test_what_a_reader_holds_stays_as_it_is() -> None:
    recent = Recent()
    for number in range(9):
        recent.add(block(((0, 0, 0, number, number), b"x")))
    held = recent.parts()
    before = [record for part in held for record in records(part)]
    recent.add(block(((0, 0, 0, 9, 9), b"longer")))
    recent.remove(key_array((0, 0, 0, 3, 3)))
    recent.parts()
    recent.clear()
    assert [record for part in held for record in records(part)] == before


def test_a_thousand_puts_are_few_blocks_also_if_nobody_looks() -> None:
    recent = Recent()
    for number in range(1000):
        recent.add(block(((0, 0, 0, 0, number), b"")))
        assert len(recent._parts) <= 257
    assert len(recent.parts()) <= 10
    assert [key[4] for key, _ in records(recent.whole())] == list(range(1000))

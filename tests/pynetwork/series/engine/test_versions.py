"""Versions: what is published is seen at once, and nothing goes from the disk that a reader may still see."""

from __future__ import annotations

from collections.abc import Callable

import numpy
from hypothesis import given
from hypothesis import strategies as st

from handshakes.records import KEY
from pynetwork.series.engine.horizon import Horizon
from pynetwork.series.engine.recent import Recent
from pynetwork.series.engine.versions import Change, Version, Versions
from pynetwork.series.engine.zones import Figures, Zones, figures_of
from tests.pynetwork.series.engine.small import Clock, block, records


def empty(clock: Clock | None = None, reserved: int = 10**9) -> Versions:
    return Versions(Zones(), {}, Recent(), Horizon(clock or Clock(), reserved))


def figures(number: int, acq: int = 0) -> Figures:
    return figures_of(block(((0, 0, 0, 0, acq), b"")), number, number)


def held(versions: Versions) -> Version:
    version = versions.hold()
    assert version is not None
    return version


def ids(version: Version) -> set[int]:
    return set(version.zones.column("id").tolist())


steps = st.lists(st.tuples(st.sampled_from(["add", "remove", "hold", "release", "look"]), st.integers(0, 99)))


@given(steps)
def test_a_content_is_unneeded_when_no_reader_sees_it_and_only_then(steps: list[tuple[str, int]]) -> None:
    versions = empty()
    readers: list[tuple[Version, set[int]]] = []
    there: set[int] = set()
    removed: set[int] = set()
    number = 0
    for what, chosen in steps:
        if what == "add":
            number += 1
            versions.publish(Change(added=[figures(number)]))
            there.add(number)
        elif what == "remove" and there:
            which = sorted(there)[chosen % len(there)]
            versions.publish(Change(removed={which}))
            there.discard(which)
            removed.add(which)
        elif what == "hold":
            readers.append((held(versions), set(there)))
        elif what == "release" and readers:
            versions.release(readers.pop(chosen % len(readers))[0])
        elif what == "look":
            assert versions.leaving == bool(removed)
            freed = versions.unneeded()
            assert len(set(freed)) == len(freed)
            assert set(freed) <= removed
            assert all(ids(reader).isdisjoint(freed) for reader, _ in readers)
            removed.difference_update(freed)
            if not readers:
                assert removed == set()
        assert all(ids(reader) == seen for reader, seen in readers)
        assert set(versions.zones.column("id").tolist()) == there
    for reader, _ in readers:
        versions.release(reader)
    assert set(versions.unneeded()) == removed
    assert not versions.leaving
    assert versions.unneeded() == []


def test_an_old_reader_keeps_what_it_sees_and_not_what_left_before() -> None:
    versions = empty()
    versions.publish(Change(added=[figures(1), figures(2)]))
    versions.publish(Change(removed={1}))
    first = held(versions)
    again = held(versions)
    versions.publish(Change(removed={2}, added=[figures(3)]))
    assert versions.unneeded() == [1]
    versions.release(first)
    assert versions.unneeded() == []
    versions.release(again)
    assert versions.unneeded() == [2]


def test_what_is_gone_is_forgotten_with_its_block() -> None:
    versions = empty()
    versions.publish(Change(added=[figures(1), figures(2)]))
    versions.publish(Change(gone={1: numpy.array([0]), 2: numpy.array([3])}))
    before = held(versions)
    versions.publish(Change(gone={1: numpy.array([0, 1])}))
    assert {number: places.tolist() for number, places in versions.gone.items()} == {1: [0, 1], 2: [3]}
    assert {number: places.tolist() for number, places in before.gone.items()} == {1: [0], 2: [3]}
    versions.publish(Change(removed={1}))
    assert set(versions.gone) == {2}
    assert set(before.gone) == {1, 2}
    versions.release(before)


def test_the_recent_part_is_replaced_before_it_grows_and_cleared_when_folded() -> None:
    versions = empty()
    old, other = ((0, 0, 0, 1, 5), b"old"), ((0, 0, 0, 2, 6), b"other")
    new = ((0, 0, 0, 1, 5), b"new")
    versions.publish(Change(journalled=[block(old, other)]))
    versions.publish(Change(journalled=[block(new)], replaced=numpy.array([new[0]], KEY)))
    before = held(versions)
    assert [record for part in before.recent for record in records(part)] == [other, new]
    versions.publish(Change(folded=True, added=[figures(1)], journalled=[block(old)]))
    after = held(versions)
    assert [record for part in after.recent for record in records(part)] == [old]
    assert [record for part in before.recent for record in records(part)] == [other, new]
    versions.release(before)
    versions.release(after)


def test_the_greatest_time_of_acquisition_is_known_wherever_it_stands() -> None:
    versions = empty()
    assert versions.greatest == -(2**63)
    versions.publish(Change(journalled=[block(((0, 0, 0, 0, -9), b""), ((0, 0, 0, 0, -10), b""))]))
    assert versions.greatest == -9
    versions.publish(Change(added=[figures(1, 7), figures(2, 5)]))
    assert versions.greatest == 7
    versions.publish(Change(removed={1}))
    assert versions.greatest >= 5
    recent = Recent()
    recent.add(block(((0, 0, 0, 0, 3), b"")))
    stored = Zones().adding([figures(1, 7), figures(2, 5)])
    assert Versions(stored, {}, recent, Horizon(Clock(), 0)).greatest == 7
    assert Versions(Zones(), {}, recent, Horizon(Clock(), 0)).greatest == 3


def test_a_horizon_is_answered_when_it_is_reserved() -> None:
    clock = Clock(100)
    versions = empty(clock, reserved=150)
    assert held(versions).horizon == 150
    clock.now = 151
    assert versions.hold() is None
    limited = versions.hold(150)
    assert limited is not None
    assert limited.horizon == 150
    versions.publish(Change(), 160)
    assert held(versions).horizon == 151
    # What was answered is not given any more, though the clock is set back.
    clock.now = 0
    assert versions.horizon.upcoming() == 151


def test_a_horizon_stays_below_what_is_being_committed_until_it_is_there_or_failed() -> None:
    clock = Clock(100)
    versions = empty(clock, reserved=100)
    versions.publish(Change(), 1000)
    ends: list[Callable[[], None]] = [lambda: versions.publish(Change()), versions.failed]
    for end in ends:
        first = versions.horizon.give(3)
        clock.now += 50
        assert held(versions).horizon == first
        end()
        assert held(versions).horizon == max(first + 3, clock.now)


def test_readers_that_may_not_be_answered_hold_nothing() -> None:
    clock = Clock(200)
    versions = empty(clock, reserved=100)
    assert versions.hold() is None
    versions.publish(Change(added=[figures(1)]))
    versions.publish(Change(removed={1}))
    assert versions.unneeded() == [1]


def test_a_change_says_whether_it_is_one() -> None:
    assert Change().empty
    assert Change(replaced=numpy.empty(0, KEY)).empty
    for change in (
        Change(added=[figures(1)]),
        Change(removed={1}),
        Change(gone={1: numpy.array([0])}),
        Change(journalled=[block(((0, 0, 0, 0, 0), b""))]),
        Change(folded=True),
    ):
        assert not change.empty


def test_a_reader_may_be_collected_in_a_thread_that_has_the_lock() -> None:
    versions = empty()
    version = held(versions)
    with versions.lock:
        versions.release(version)
    assert versions.unneeded() == []

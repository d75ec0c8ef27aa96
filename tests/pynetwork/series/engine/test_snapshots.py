"""Snapshots: what is in a box, as it was, while everything is replaced, merged and let go beside them."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handshakes.errors import Closed
from handshakes.records import Key, KeyRange, Rows, row_type
from pynetwork.series.engine.compaction import Compaction
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.retention import expire, shrink
from pynetwork.series.engine.snapshots import Snapshot
from tests.pynetwork.series.engine.bare import EVERYTHING, Bare
from tests.pynetwork.series.engine.small import Full, box, records, small_sizes

Told = tuple[Full, bytes]

GREAT = 2**63 - 2

keys = st.tuples(
    st.sampled_from([0, 1, 2**31 - 2]),
    st.sampled_from([-(2**63), 0, GREAT]),
    st.sampled_from([-(2**31), 0, 2**31 - 2]),
    st.sampled_from([-(2**63), -1, 0, 1, GREAT]),
    st.sampled_from([-(2**63), 0, 1, GREAT]),
)
even = st.lists(st.tuples(keys, st.sampled_from([b"ab", b"cd"])), min_size=1, max_size=14)
keyed = st.lists(st.tuples(keys, st.just(b"")), min_size=1, max_size=14)
mixed = st.lists(st.tuples(keys, st.sampled_from([b"", b"ab", b"much longer"])), min_size=1, max_size=14)
puts = st.one_of(st.lists(even, max_size=5), st.lists(keyed, max_size=3), st.lists(mixed, max_size=5))


def limits(*values: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.sampled_from(values), st.sampled_from(values))


boxes = st.builds(
    lambda cid, cap, acq: box(cid=cid, cap=cap, acq=acq),
    st.one_of(st.just((0, 2**31 - 1)), limits(0, 1, 2, 2**31 - 1)),
    st.one_of(st.just((-(2**63), GREAT + 1)), limits(-(2**63), 0, 1, GREAT, GREAT + 1)),
    st.one_of(st.just((-(2**63), GREAT + 1)), limits(-(2**63), 0, 1, GREAT + 1)),
)


def read(snapshot: Snapshot) -> list[Told]:
    return [record for part in snapshot.blocks() for record in records(part)]


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(puts, st.integers(0, 5), boxes)
def test_all_that_is_in_the_box_is_there_in_every_way(puts: list[list[Told]], fold: int, box: KeyRange) -> None:
    model: dict[Full, bytes] = {}
    with tempfile.TemporaryDirectory() as folder, small_sizes(), Bare(Path(folder)) as bare:
        for number, told in enumerate(puts):
            bare.puta(*told)
            model.update(told)
            if number == fold:
                bare.fold()
        expected = {key: payload for key, payload in model.items() if box.holds(Key(*key))}
        with bare.snapshot(box) as snapshot:
            found = read(snapshot)
            assert sorted(found) == sorted(expected.items())
            assert records(snapshot.together()) == found
            assert snapshot.count() == len(expected)
            assert all(len(part) for part in snapshot.blocks())
            assert snapshot.horizon == min(box.max.acq, max(bare.clock.now, bare.core.versions.horizon.upcoming()))


CHANGES: dict[str, Callable[[Bare], object]] = {
    "replaced": lambda bare: bare.puta(*(((0, mid, 0, cap, 0), b"new!") for mid in range(3) for cap in range(30))),
    "merged": lambda bare: Compaction(bare.core, lambda: False).all(),
    "expired": lambda bare: expire(bare.core, 17),
    "all let go": lambda bare: shrink(bare.core, 0),
    "folded": lambda bare: bare.fold(),
    "put": lambda bare: bare.put(*(((0, mid, 0, 5, 0), b"more") for mid in range(9))),
}


@pytest.mark.parametrize("names", [[name] for name in CHANGES] + [list(CHANGES), list(CHANGES)[::-1]], ids=str)
@pytest.mark.parametrize("limits", [EVERYTHING, box(mid=(1, 2), cap=(3, 25))], ids=["all", "part"])
def test_what_happens_beside_it_is_not_seen(tmp_path: Path, names: list[str], limits: KeyRange) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for begin in range(0, 30, 5):
            bare.puta(*(((0, mid, 0, begin + at, 0), b"old!") for mid in range(3) for at in range(5)))
        bare.puta(((0, 1, 0, 4, 0), b"late"), ((0, 1, 0, 4, 1), b"late"))
        before = bare.there(limits)
        snapshot = bare.snapshot(limits)
        reading = snapshot.blocks()
        found = records(next(reading))
        for name in names:
            CHANGES[name](bare)
            bare.core.remove_unneeded()
        found += [record for part in reading for record in records(part)]
        assert sorted(found) == sorted(before.items())
        assert dict(records(snapshot.together())) == before
        assert snapshot.count() == len(before)
        snapshot.close()
        snapshot.close()
        bare.core.remove_unneeded()
        assert bare.contents() == len(bare.core.versions.zones)
        assert not bare.core.versions.leaving


def test_nothing_is_in_an_empty_store_or_an_empty_box(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        for told in ([], [((0, 0, 0, 5, 5), b"x")]):
            if told:
                bare.puta(*told)
                bare.fold()
                bare.puta(((0, 0, 0, 6, 6), b"x"))
            for nothing in (box(cap=(9, 2)), box(cap=(5, 5)), box(cid=(3, 1)), box(acq=(7, 8))):
                with bare.snapshot(nothing) as snapshot:
                    assert (snapshot.count(), read(snapshot), len(snapshot.together())) == (0, [], 0)
        assert len(bare.there()) == 2


def test_blocks_around_a_box_are_looked_at_only_if_it_holds_anything(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        bare.puta(((0, 0, 0, 0, 0), b"x"), ((0, 0, 0, 20, 0), b"x"))
        bare.fold()
        for limits, touched in ((box(cap=(5, 9)), 1), (box(cap=(9, 2)), 0), (box(cap=(9, 9)), 0)):
            with bare.snapshot(limits) as snapshot:
                assert len(snapshot.chosen) == len(snapshot.partly) == touched
                assert list(snapshot.blocks()) == []


def test_a_box_within_the_box_is_looked_at_alone(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), b"x") for cap in range(7)))
        bare.puta(*(((0, 0, 0, cap, 0), b"x") for cap in range(7, 12)))
        with bare.snapshot(box(cap=(2, 11))) as snapshot:
            parts = [snapshot.read(index, box(cap=(3, 9))) for index in range(len(snapshot.chosen))]
            parts += snapshot.recent(box(cap=(3, 9)))
            assert sorted(key[3] for part in parts for key, _ in records(part)) == list(range(3, 9))


def test_only_blocks_that_are_partly_in_the_box_are_read_to_count(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), b"x") for cap in range(16)))
        bare.puta(*(((0, 0, 0, cap, 0), b"y") for cap in (9,)))
        for limits, most, count in ((EVERYTHING, 1, 16), (box(cap=(0, 8)), 0, 8), (box(cap=(1, 8)), 1, 7)):
            with bare.snapshot(limits) as snapshot:
                with mock.patch.object(Core, "read", autospec=True, side_effect=Core.read) as reads:
                    assert snapshot.count() == count
                assert reads.call_count == most


def test_a_block_is_whole_unless_it_lost_some_or_the_box_cuts_it(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), b"x") for cap in range(12)))
        bare.puta(((0, 0, 0, 5, 0), b"y"))
        with bare.snapshot(box(cap=(0, 10))) as snapshot:
            assert [snapshot.is_whole(index) for index in range(3)] == [True, False, False]
            assert [snapshot.figures(index)["count"] for index in range(3)] == snapshot.column("count").tolist()


def test_looking_at_a_block_takes_as_long_however_many_there_are(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), b"x") for cap in range(40)))
        with bare.snapshot() as snapshot, mock.patch.object(Snapshot, "column", autospec=True) as column:
            column.side_effect = lambda self, name: self._version.zones.column(name)[self.chosen]
            assert snapshot.count() == 40
            assert column.call_count <= 2


def test_each_block_is_admitted_before_it_is_read(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), b"four") for cap in range(8)))
        bare.puta(*(((0, 0, 0, cap, 0), b"seven..") for cap in range(8, 10)))
        admitted: list[int] = []
        with bare.snapshot() as snapshot:
            for number, part in enumerate(snapshot.blocks(admit=admitted.append), 1):
                assert len(admitted) == number
                assert admitted[-1] == part.nbytes
        assert admitted == [4 * 36, 4 * 36, 2 * 39]

        def refuse(size: int) -> None:
            raise MemoryError(size)

        with bare.snapshot() as snapshot, mock.patch.object(Core, "read") as reads, pytest.raises(MemoryError):
            next(snapshot.blocks(admit=refuse))
        assert reads.call_count == 0


@pytest.mark.parametrize("payload", [b"", b"sixteen bytes .."])
def test_one_size_is_one_array_with_times_as_they_were_given(tmp_path: Path, payload: bytes) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        with bare.stage(with_acq=False) as staging:
            for _ in range(4):
                staging.add(Rows(numpy.zeros(10, row_type(len(payload)))))
            got = staging.commit()
        # A part of the box, a block that lost one, and the recent part beside the whole ones.
        bare.puta(((0, 0, 0, 0, got.acq_min + 3), payload))
        with bare.snapshot(box(acq=(got.acq_min + 1, got.acq_max))) as snapshot:
            whole = snapshot.together()
        assert isinstance(whole, Rows)
        assert sorted(whole.column("acq").tolist()) == list(range(got.acq_min + 1, got.acq_max))


def test_a_snapshot_that_is_forgotten_lets_go(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), b"x") for cap in range(9)))
        snapshot = bare.snapshot()
        shrink(bare.core, 0)
        assert bare.core.remove_unneeded() == 0
        assert snapshot.count() == 9
        del snapshot
        gc.collect()
        assert bare.core.remove_unneeded() > 0
        assert bare.contents() == 0


def test_nothing_is_read_from_a_closed_store(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), b"x") for cap in range(5000)))
        snapshot = bare.snapshot()
    with pytest.raises(Closed):
        snapshot.together()
    snapshot.close()
    with pytest.raises(Closed):
        bare.snapshot()


def test_the_horizon_is_that_of_the_moment_and_within_the_box(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        got = bare.put(((0, 0, 0, 0, 0), b"x"))
        with bare.snapshot() as snapshot, bare.snapshot(box(acq=(0, got.acq_min))) as limited:
            assert snapshot.horizon > got.acq_max
            assert limited.horizon == got.acq_min
            later = bare.put(((0, 0, 0, 0, 0), b"x"))
            assert later.acq_min >= snapshot.horizon
            assert snapshot.count() == 1

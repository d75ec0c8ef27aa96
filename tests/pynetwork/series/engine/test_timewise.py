"""Records in the order of their times, against a sorted list: however they overlap, and at whatever times."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handshakes.records import Key, KeyRange, Rows, row_type
from pynetwork.series.engine.contents import LARGEST
from pynetwork.series.engine.timewise import by_time
from tests.pynetwork.series.engine.bare import EVERYTHING, Bare
from tests.pynetwork.series.engine.small import Full, box, records, small_sizes

NOW = 817_000_000_123_456_789
"""A time as times are: floats do not tell it from the next one."""

Told = tuple[Full, bytes]


def told_at(*offsets: int) -> st.SearchStrategy[Told]:
    keys = st.tuples(
        st.integers(0, 1), st.integers(-1, 1), st.just(0), st.sampled_from(offsets), st.sampled_from([0, 1, NOW])
    )
    return st.tuples(keys, st.sampled_from([b"", b"ab", b"cd", b"much longer than the others"]))


# Some beside one another, some far from all others, and those between which no 64-bit integer counts the time.
times = (-(2**63), -5, 0, 1, 2, 3, 10**9, NOW, NOW + 1, NOW + 2, NOW + 700, 2**63 - 2)
puts = st.lists(st.lists(told_at(*times), min_size=1, max_size=14), max_size=6)
limits = st.sampled_from([-(2**63), 1, 3, NOW + 1, NOW + 2, 2**63 - 2, 2**63 - 1])
boxes = st.one_of(
    st.just(EVERYTHING),
    st.builds(lambda low, high, mid: box(cap=(low, high), mid=(mid, 2)), limits, limits, st.sampled_from([-1, 0])),
)


def in_order(found: dict[Full, bytes], *, newest: bool) -> list[Told]:
    return sorted(found.items(), key=lambda record: (record[0][3], record[0]), reverse=newest)


def read(bare: Bare, box: KeyRange = EVERYTHING, *, newest: bool) -> list[Told]:
    with bare.snapshot(box) as snapshot:
        return [record for part in by_time(snapshot, newest=newest) for record in records(part)]


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(puts, st.booleans(), boxes)
def test_it_is_a_sorted_list(puts: list[list[Told]], folds: bool, box: KeyRange) -> None:
    with tempfile.TemporaryDirectory() as folder, small_sizes(), Bare(Path(folder)) as bare:
        model = bare.puta_all(puts, folds=folds)
        inside = {key: payload for key, payload in model.items() if box.holds(Key(*key))}
        for newest in (False, True):
            # As many bytes of one time as are too many to be put in order together: they are there all the same.
            found = read(bare, box, newest=newest)
            assert sorted(found) == sorted(inside.items())
            assert [key[3] for key, _ in found] == sorted((key[3] for key in inside), reverse=newest)
            with mock.patch("pynetwork.series.engine.timewise._SLICE", 1 << 20):
                assert read(bare, box, newest=newest) == in_order(inside, newest=newest)


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("base", [0, NOW, -(2**63), 2**63 - 42])
def test_neighbouring_times_are_told_apart_wherever_they_are(
    tmp_path: Path, base: int, folds: bool, newest: bool
) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, at % 3, 0, base + at, 0), b"x") for at in range(40)))
        if folds:
            bare.fold()
        caps = [key[3] - base for key, _ in read(bare, newest=newest)]
        assert caps == sorted(range(40), reverse=newest)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("base", [0, NOW, -(2**63), 2**63 - 1010])
def test_many_records_of_one_time_are_all_there_and_those_around_in_order(
    tmp_path: Path, base: int, newest: bool
) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for step in range(3):
            bare.puta(*(((0, mid, 0, base + step, 0), b"x") for mid in range(100)))
        bare.puta(((0, 0, 0, base + 1000, 0), b"x"))
        found = read(bare, newest=newest)
        assert len(found) == len(set(found)) == 301
        caps = [key[3] for key, _ in found]
        assert caps == sorted(caps, reverse=newest)


@pytest.mark.parametrize("newest", [False, True])
def test_nothing(tmp_path: Path, newest: bool) -> None:
    with Bare(tmp_path) as bare:
        assert read(bare, newest=newest) == []
        bare.puta(((0, 0, 0, 5, 0), b"x"))
        for nothing in (box(cap=(6, 9)), box(cap=(0, 5)), box(cap=(9, 2)), box(cid=(1, 2)), box(cap=(5, 5))):
            assert read(bare, nothing, newest=newest) == []
        assert len(read(bare, box(cap=(5, 6)), newest=newest)) == 1


def test_blocks_are_of_a_mib_or_one_record(tmp_path: Path) -> None:
    large = b"x" * (LARGEST + 1)
    with Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), large if cap == 3 else large[: LARGEST // 3]) for cap in range(7)))
        with bare.snapshot() as snapshot:
            found = list(by_time(snapshot, newest=False))
        assert [record[0][3] for part in found for record in records(part)] == list(range(7))
        assert all(len(part) == 1 or part.nbytes <= LARGEST for part in found)


@pytest.mark.parametrize("newest", [False, True])
def test_memory_is_bounded(tmp_path: Path, newest: bool) -> None:
    count = 400_000
    rows = numpy.zeros(count, row_type(32))
    rows["cap"] = NOW + 1000 * numpy.arange(count)
    rows["mid"] = numpy.arange(count) % 100
    with Bare(tmp_path) as bare, mock.patch("pynetwork.series.engine.timewise._SLICE", 1 << 20):
        for part in numpy.array_split(rows, 5):
            bare.put_block(Rows(part), with_acq=False)
        with bare.snapshot() as snapshot:
            assert len(snapshot.chosen) > 50
            tracemalloc.start()
            try:
                caps = [(int(part.column("cap")[0]), len(part)) for part in by_time(snapshot, newest=newest)]
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert sum(size for _, size in caps) == count
        assert [cap for cap, _ in caps] == sorted((cap for cap, _ in caps), reverse=newest)
        assert peak < rows.nbytes / 2

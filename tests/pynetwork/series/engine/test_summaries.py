"""Figures of series against loops over records: the last of each, how many, what the values were in spans of time."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handshakes.records import Array, Block, Key, KeyRange
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.summaries import BUCKET, SPAN, downsampled, last_of_each, spans
from tests.pynetwork.series.engine.bare import EVERYTHING, Bare
from tests.pynetwork.series.engine.small import Full, box, records, small_sizes

NOW = 817_000_000_123_456_789

Told = tuple[Full, bytes]

keys = st.tuples(
    st.integers(0, 1),
    st.sampled_from([-(2**63), 0, 2**63 - 2]),
    st.sampled_from([-(2**31), 2**31 - 2]),
    st.sampled_from([-(2**62), -7, -1, 0, 1, 2, 9, NOW, NOW + 1, NOW + 300, 2**63 - 2]),
    st.sampled_from([0, 1, NOW]),
)
numbers = st.integers(-1000, 1000).map(float)
puts = st.lists(st.lists(st.tuples(keys, numbers), min_size=1, max_size=14), max_size=6)
limits = st.sampled_from([-(2**63), -7, 0, 2, NOW + 1, 2**63 - 1])
boxes = st.one_of(
    st.just(EVERYTHING),
    st.builds(lambda low, high, cid: box(cap=(low, high), cid=(cid, 2)), limits, limits, st.just(1)),
)


def packed(number: float, *, ragged: bool) -> bytes:
    """A payload that begins with ``number``; ``ragged``: how long it is depends on it."""
    return struct.pack("<d", number) + (b"!" * (int(number) % 3) if ragged else b"")


def values(block: Block) -> Array:
    return numpy.array([struct.unpack_from("<d", payload)[0] for payload in block.payloads()])


def by_series(model: dict[Full, float], box: KeyRange) -> dict[tuple[int, ...], list[tuple[Full, float]]]:
    """The records in ``box`` by series, both in order."""
    found: dict[tuple[int, ...], list[tuple[Full, float]]] = {}
    for key in sorted(model):
        if box.holds(Key(*key)):
            found.setdefault(key[:3], []).append((key, model[key]))
    return found


def buckets(
    series: dict[tuple[int, ...], list[tuple[Full, float]]], size: int, start: int
) -> Iterator[tuple[float, ...]]:
    for name, told in series.items():
        found: dict[int, list[float]] = {}
        for key, number in told:
            found.setdefault((key[3] - start) // size * size + start, []).append(number)
        for begin, inside in found.items():
            mean = sum(inside) / len(inside)
            yield (*name, begin, len(inside), min(inside), max(inside), mean, inside[-1])


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    puts, st.booleans(), st.booleans(), boxes, st.sampled_from([1, 2, 7, 10**9, 2**62]), st.sampled_from([0, 3, -20])
)
def test_they_are_those_of_loops(
    puts: list[list[tuple[Full, float]]], folds: bool, ragged: bool, box: KeyRange, size: int, start: int
) -> None:
    model: dict[Full, float] = {}
    with tempfile.TemporaryDirectory() as folder, small_sizes(), Bare(Path(folder)) as bare:
        for told in puts:
            bare.puta(*((key, packed(number, ragged=ragged)) for key, number in told))
            model.update(told)
        if folds:
            bare.fold()
        series = by_series(model, box)
        with bare.snapshot(box) as snapshot:
            assert records(last_of_each(snapshot)) == [
                (told[-1][0], packed(told[-1][1], ragged=ragged)) for told in series.values()
            ]
            assert spans(snapshot).tolist() == [
                (*name, len(told), told[0][0][3], told[-1][0][3]) for name, told in series.items()
            ]
            found = downsampled(snapshot, size, start, values)
        assert found.dtype == BUCKET
        expected = list(buckets(series, size, start))
        assert [row[:7] + row[8:] for row in found.tolist()] == [row[:7] + row[8:] for row in expected]
        assert found["mean"].tolist() == pytest.approx([row[7] for row in expected])


def test_an_empty_store_has_no_series(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare, bare.snapshot() as snapshot:
        assert len(last_of_each(snapshot)) == 0
        assert (spans(snapshot).tolist(), spans(snapshot).dtype) == ([], SPAN)
        assert (downsampled(snapshot, 5, 0, values).tolist(), downsampled(snapshot, 5, 0, values).dtype) == ([], BUCKET)


def test_a_bucket_takes_in_its_begin_and_not_its_end(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), packed(cap, ragged=False)) for cap in (-11, -10, -1, 0, 6, 9, 10)))
        with bare.snapshot() as snapshot:
            for start in (0, 10, -50):
                found = downsampled(snapshot, 10, start, values)
                assert found[["begin", "count", "minimum", "maximum", "mean", "last"]].tolist() == [
                    (-20, 1, -11, -11, -11, -11),
                    (-10, 2, -10, -1, -5.5, -1),
                    (0, 3, 0, 9, 5, 9),
                    (10, 1, 10, 10, 10, 10),
                ]


@pytest.mark.parametrize("cap", [-(2**63) + 3, -(2**63) + 4, 2**63 - 2])
def test_buckets_of_the_first_and_the_last_times(tmp_path: Path, cap: int) -> None:
    with Bare(tmp_path) as bare:
        bare.puta(((0, 0, 0, cap, 0), packed(1, ragged=False)))
        with bare.snapshot() as snapshot:
            assert downsampled(snapshot, 10, 5, values)["begin"].tolist() == [(cap - 5) // 10 * 10 + 5]


def test_the_last_is_that_with_the_greatest_acq_of_those_with_the_greatest_cap(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for acq, number in ((7, 1), (9, 2), (8, 3)):
            bare.puta(((0, 0, 0, 5, acq), packed(number, ragged=False)))
            if acq == 9:
                bare.fold()
        bare.puta(((0, 0, 0, 4, 100), packed(4, ragged=False)))
        with bare.snapshot() as snapshot:
            assert downsampled(snapshot, 10, 0, values)["last"].tolist() == [2]
            assert [key for key, _ in records(last_of_each(snapshot))] == [(0, 0, 0, 5, 9)]


def test_small_puts_are_summarized_in_order_though_they_came_in_another(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        bare.put(*(((0, mid, 0, cap, 0), packed(cap, ragged=False)) for cap in (5, 9, 7, 3) for mid in (1, 0)))
        bare.put(*(((0, mid, 0, cap, 0), packed(cap, ragged=False)) for mid in (1, 0) for cap in (10, 2)))
        with bare.snapshot() as snapshot:
            assert [key[1:4] for key, _ in records(last_of_each(snapshot))] == [(0, 0, 10), (1, 0, 10)]
            assert spans(snapshot).tolist() == [(0, mid, 0, 6, 2, 10) for mid in (0, 1)]
            found = downsampled(snapshot, 4, 0, values)
            assert found[["mid", "begin", "count", "last"]].tolist() == [
                (mid, *each) for mid in (0, 1) for each in ((0, 2, 3), (4, 2, 7), (8, 2, 10))
            ]


def test_what_is_gone_is_not_counted(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, cap, 0), packed(cap, ragged=False)) for cap in range(8)))
        bare.puta(((0, 0, 0, 7, 0), packed(70, ragged=False)), ((0, 0, 0, 0, 0), packed(50, ragged=False)))
        with bare.snapshot() as snapshot:
            assert spans(snapshot).tolist() == [(0, 0, 0, 8, 0, 7)]
            assert records(last_of_each(snapshot)) == [((0, 0, 0, 7, 0), packed(70, ragged=False))]
            found = downsampled(snapshot, 100, 0, values)
            assert found[["count", "minimum", "maximum", "last"]].tolist() == [(8, 1, 70, 70)]


def test_blocks_that_can_not_hold_the_last_of_their_series_are_not_read(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for mid in range(3):
            for begin in range(0, 40, 8):
                bare.puta(*(((0, mid, 0, cap, 0), b"x") for cap in range(begin, begin + 8)))
        with bare.snapshot() as snapshot:
            assert len(snapshot.chosen) == 30
            with mock.patch.object(Core, "read", autospec=True, side_effect=Core.read) as read:
                assert [key[3] for key, _ in records(last_of_each(snapshot))] == [39, 39, 39]
                assert read.call_count <= 6
                read.reset_mock()
                assert spans(snapshot).tolist() == [(0, mid, 0, 40, 0, 39) for mid in range(3)]
                assert read.call_count == 0


def test_the_last_is_kept_though_more_of_its_series_are_gathered_after_it(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 1, 0, 90 + at, 0), b"x") for at in range(6)))
        for cap in (50, 10):
            bare.puta(*(((0, mid, 0, cap + at, 0), b"x") for mid in (1, 2) for at in range(3)))
        with bare.snapshot() as snapshot:
            assert [key[1:4] for key, _ in records(last_of_each(snapshot))] == [(1, 0, 95), (2, 0, 52)]


def test_many_series_and_buckets_are_gathered_bit_by_bit(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for cap in range(0, 60, 3):
            bare.puta(*(((0, mid, 0, cap, 0), packed(mid + cap, ragged=False)) for mid in range(20)))
        with bare.snapshot() as snapshot:
            found = downsampled(snapshot, 6, 0, values)
            assert found["mid"].tolist() == [mid for mid in range(20) for _ in range(10)]
            assert found["begin"].tolist() == list(range(0, 60, 6)) * 20
            assert set(found["count"].tolist()) == {2}
            assert (found["mean"] == found["mid"] + found["begin"] + 1.5).all()
            assert (found["last"] == found["mid"] + found["begin"] + 3).all()
            assert len(last_of_each(snapshot)) == 20

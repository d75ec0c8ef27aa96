"""Letting go: exactly what is older, or as many of the oldest blocks as it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pynetwork.series.engine.retention import expire, held, shrink
from tests.pynetwork.series.engine.bare import Bare
from tests.pynetwork.series.engine.small import Full, small_sizes

NOW = 817_000_000_123_456_789

Told = tuple[Full, bytes]

keys = st.tuples(
    st.integers(0, 1),
    st.integers(-1, 1),
    st.just(0),
    st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 4, NOW, NOW + 1, 2**63 - 2]),
    st.sampled_from([0, 1]),
)
even = st.lists(st.tuples(keys, st.sampled_from([b"ab", b"cd"])), min_size=1, max_size=20)
mixed = st.lists(st.tuples(keys, st.sampled_from([b"", b"ab", b"much longer"])), min_size=1, max_size=20)
puts = st.lists(st.one_of(even, mixed), max_size=6)


def size(model: dict[Full, bytes]) -> int:
    return sum(32 + len(payload) for payload in model.values())


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(puts, st.lists(st.sampled_from([-(2**63), 0, 2, 3, NOW + 1, 2**63 - 1]), min_size=1, max_size=2), st.booleans())
def test_all_that_is_older_goes_and_nothing_else(puts: list[list[Told]], times: list[int], folds: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, small_sizes():
        with Bare(Path(folder)) as bare:
            model = bare.puta_all(puts, folds=folds)
            for before in times:
                records, _ = held(bare.core)
                report = expire(bare.core, before)
                model = {key: payload for key, payload in model.items() if key[3] >= before}
                assert report.records == records - len(model)
                assert (report.records_left, report.bytes_left) == held(bare.core)
                assert report.records_left == len(model)
                assert bare.there() == model
            bare.core.remove_unneeded()
            assert bare.contents() == len(bare.core.versions.zones)
        with Bare(Path(folder)) as bare:
            assert bare.there() == model


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(puts, st.sampled_from([-1, 0, 33, 34, 100, 300, 700, 10**6]), st.booleans())
def test_so_many_of_the_oldest_go_that_the_rest_fits(puts: list[list[Told]], most: int, folds: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, small_sizes(), Bare(Path(folder)) as bare:
        model = bare.puta_all(puts, folds=folds)
        records, before = held(bare.core)
        report = shrink(bare.core, most)
        left = bare.there()
        assert left.items() <= model.items()
        assert report == (records - len(left), before - report.bytes_left, len(left), report.bytes_left)
        assert report.bytes_left <= max(most, 0)
        assert before > most or left == model
        assert (records, len(left)) == (len(model), held(bare.core)[0])


def test_the_oldest_go_first_and_no_more_than_it_takes(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        # Blocks of four records of 34 bytes, the newest of which came first.
        for begin in (36, 24, 12, 0):
            bare.puta(*(((0, 0, 0, NOW + begin + at, 0), b"ab") for at in range(12)))
        blocks = 4 * 34
        for most, left in ((12 * blocks, 48), (12 * blocks - 1, 44), (9 * blocks, 36), (5 * blocks + 1, 20), (0, 0)):
            report = shrink(bare.core, most)
            assert (report.records_left, report.bytes_left) == (left, left * 34)
            assert sorted(key[3] for key in bare.there()) == list(range(NOW + 48 - left, NOW + 48))


def test_a_time_is_the_first_that_stays(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*(((0, 0, 0, NOW + at, 0), b"x") for at in range(10)))
        assert expire(bare.core, NOW) == (0, 0, 10, 330)
        assert expire(bare.core, NOW + 1) == (1, 33, 9, 297)
        # Whole blocks, one that is cut, and one of which something is gone already.
        assert expire(bare.core, NOW + 6) == (5, 165, 4, 132)
        assert expire(bare.core, NOW + 6) == (0, 0, 4, 132)
        assert min(key[3] for key in bare.there()) == NOW + 6
        assert expire(bare.core, NOW + 10) == (4, 132, 0, 0)


def test_an_empty_store_has_nothing_to_let_go(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        assert held(bare.core) == (0, 0)
        assert expire(bare.core, 2**63 - 1) == shrink(bare.core, 0) == shrink(bare.core, -5) == (0, 0, 0, 0)


def test_what_was_replaced_or_has_expired_is_not_held(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        told = [((0, 0, 0, at, 0), b"ab") for at in range(12)]
        bare.puta(*told)
        assert held(bare.core) == (12, 12 * 34)
        bare.puta(*told[3:5])
        assert held(bare.core) == (12, 12 * 34)
        expire(bare.core, 4)
        assert held(bare.core) == (8, 8 * 34)
        bare.puta(*told[4:5])
        assert held(bare.core) == (8, 8 * 34)


@pytest.mark.parametrize("way", ["age", "size"])
def test_small_puts_go_too_and_stay_away(tmp_path: Path, way: str) -> None:
    with Bare(tmp_path) as bare:
        bare.puta(((0, 0, 0, 1, 0), b"old"))
        bare.puta(((0, 0, 0, 9, 0), b"new"))
        report = expire(bare.core, 9) if way == "age" else shrink(bare.core, 0)
        kept = {(0, 0, 0, 9, 0): b"new"} if way == "age" else {}
        assert report.records_left == len(kept)
        assert bare.there() == kept
    with Bare(tmp_path) as bare:
        assert bare.there() == kept


def test_what_is_let_go_may_be_put_again(tmp_path: Path) -> None:
    told = [((0, 0, 0, at, 0), b"ab") for at in range(12)]
    with small_sizes(), Bare(tmp_path) as bare:
        for _ in range(3):
            bare.puta(*told)
            expire(bare.core, 6)
            assert bare.there() == dict(told[6:])
        bare.puta(*told)
        assert bare.there() == dict(told)

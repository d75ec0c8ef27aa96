"""Puts block by block: all there at once, or nothing, however they end, and in little memory."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handshakes.errors import Closed, LocalProtocolError, ValueNotSupported
from handshakes.records import Block, Key, Rows, row_type
from pynetwork.series.engine.compaction import Compaction
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.ordering import TILE
from pynetwork.series.engine.retention import shrink
from tests.pynetwork.series.engine.bare import Bare
from tests.pynetwork.series.engine.small import Full, block, box, interrupted, records, small_sizes

Told = tuple[Full, bytes]

GREAT = 2**63 - 1

keys = st.tuples(
    st.sampled_from([0, 1]),
    st.sampled_from([-1, 0]),
    st.just(0),
    st.sampled_from([0, 1, 2, 3, GREAT - 1]),
    st.sampled_from([0, 1, 2, 10**6 + 1]),
)
even = st.lists(st.tuples(keys, st.sampled_from([b"ab", b"cd"])), max_size=24)
mixed = st.lists(st.tuples(keys, st.sampled_from([b"", b"ab", b"much longer"])), max_size=24)
blocks = st.lists(st.one_of(even, mixed), max_size=5)


def rows(count: int, mid: int = 0, width: int = 8, cap: int = 0) -> Block:
    """So many records of one series, at one time after another."""
    array = numpy.zeros(count, row_type(width))
    array["mid"] = mid
    array["cap"] = cap + numpy.arange(count)
    return Rows(array)


def told(count: int, payload: bytes = b"x", acq: int = 0, cap: int = 0) -> list[Told]:
    return [((0, 0, 0, cap + at, acq), payload) for at in range(count)]


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(blocks, st.booleans(), st.booleans()), max_size=4))
def test_it_is_a_put_of_all_of_it_or_of_nothing(puts: list[tuple[list[list[Told]], bool, bool]]) -> None:
    model: dict[Full, bytes] = {}
    with tempfile.TemporaryDirectory() as folder, small_sizes(), Bare(Path(folder)) as bare:
        for given_blocks, with_acq, keeps in puts:
            together = [record for each in given_blocks for record in each]
            with bare.stage(with_acq=with_acq) as staging:
                for each in given_blocks:
                    staging.add(block(*each))
                    assert bare.there() == model
                if keeps:
                    got = staging.commit()
                    assert (got.kept, got.dropped) == (len(together), 0)
                    if with_acq or not together:
                        assert (got.acq_min, got.acq_max) == (-1, -1)
                        model.update(together)
                    else:
                        assert got.acq_max - got.acq_min == len(together) - 1
                        for acq, (key, payload) in enumerate(together, got.acq_min):
                            model[(*key[:4], acq)] = payload
            assert bare.there() == model
            for limits in (box(acq=(1, 10**6 + 2)), box(cap=(1, 3)), box(acq=(10**6 + 1, GREAT))):
                inside = {key: payload for key, payload in model.items() if limits.holds(Key(*key))}
                assert bare.there(limits) == inside
        bare.core.remove_unneeded()
        assert bare.contents() == len(bare.core.versions.zones)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 15, 16, 17, 33])
@pytest.mark.parametrize("with_acq", [False, True])
def test_all_of_it_outlives_the_store_at_every_size(tmp_path: Path, count: int, with_acq: bool) -> None:
    with small_sizes():
        with Bare(tmp_path) as bare:
            with bare.stage(with_acq=with_acq) as staging:
                for begin in range(count):
                    staging.add(block(((0, 0, 0, begin, 5), b"x" * (begin % 2))))
                first = staging.commit().acq_min
            before = bare.there()
        assert [key[4] for key in sorted(before)] == [5 if with_acq else first + at for at in range(count)]
        with Bare(tmp_path) as bare:
            assert bare.there() == before


def test_exactly_a_tile_is_one_run(tmp_path: Path) -> None:
    for number, count in enumerate((TILE - 1, TILE, TILE + 1)):
        with Bare(tmp_path / str(number)) as bare:
            with bare.stage(with_acq=False) as staging:
                staging.add(rows(count))
                got = staging.commit()
            assert got.kept == count
            zones = bare.core.versions.zones
            assert len(set(zones.column("run").tolist())) == (2 if count > TILE else 1)
            assert int(zones.column("count").sum()) == count


def test_later_blocks_replace_earlier_ones_and_what_was_there(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*told(20, b"stored"))
        bare.puta(*told(3, b"recent", cap=20))
        with bare.stage(with_acq=True) as staging:
            staging.add(block(*told(23, b"first")))
            staging.add(block(*told(9, b"second", cap=5), *told(1, b"third", cap=5)))
            staging.add(block(*told(8, b"fourth", cap=14)))
            staging.commit()
        expected = dict(told(23, b"first")) | dict(told(9, b"second", cap=5)) | dict(told(8, b"fourth", cap=14))
        expected |= dict(told(1, b"third", cap=5))
        assert bare.there() == expected
    with small_sizes(), Bare(tmp_path) as bare:
        assert bare.there() == expected


def test_nothing_is_left_of_what_was_aborted(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*told(5))
        before, contents = bare.there(), bare.contents()
        staging = bare.stage(with_acq=True)
        with contextlib.suppress(ZeroDivisionError), staging:
            staging.add(block(*told(30, b"new")))
            assert bare.contents() > contents
            raise ZeroDivisionError
        assert (bare.there(), bare.contents()) == (before, contents)
        staging.abort()
        for late in (lambda: staging.add(block(*told(1))), staging.commit):
            with pytest.raises(LocalProtocolError, match="stage another"):
                late()


def test_what_was_committed_stays_when_it_is_left_and_is_over(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for number, count in enumerate((3, 30)):
            with bare.stage(with_acq=True) as staging:
                staging.add(block(*told(count, cap=number * 100)))
                staging.commit()
                for late in (lambda staging=staging: staging.add(block(*told(1))), staging.commit):
                    with pytest.raises(LocalProtocolError, match="committed or aborted"):
                        late()
            staging.abort()
        assert len(bare.there()) == 33


@pytest.mark.parametrize("commits", [False, True])
def test_a_process_that_is_killed_leaves_all_or_nothing(tmp_path: Path, commits: bool) -> None:
    program = f"""
import os
from pathlib import Path
from tests.pynetwork.series.engine.bare import Bare
from tests.pynetwork.series.engine.small import block
from tests.pynetwork.series.engine.test_staging import rows

bare = Bare(Path({str(tmp_path)!r}))
bare.put_block(rows(10), with_acq=False)
staging = bare.stage(with_acq=False)
for mid in range(1, 4):
    staging.add(rows(40_000, mid))
if {commits}:
    staging.commit()
print(bare.contents(), flush=True)
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 9
    assert int(done.stdout) > 10
    with Bare(tmp_path) as bare, bare.snapshot() as snapshot:
        assert snapshot.count() == (120_010 if commits else 10)
        bare.core.remove_unneeded()
        assert bare.contents() == len(bare.core.versions.zones)


@pytest.mark.parametrize("with_acq", [False, True])
def test_memory_is_bounded(tmp_path: Path, with_acq: bool) -> None:
    width, count, times = 480, 2048, 40
    with Bare(tmp_path) as bare, bare.stage(with_acq=with_acq) as staging:
        tracemalloc.start()
        try:
            for number in range(times):
                staging.add(rows(count, number % 3, width, cap=number * count))
            staging.commit()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        with bare.snapshot() as snapshot:
            assert snapshot.count() == times * count
    assert peak < times * count * (width + 32) / 2


def test_a_full_disk_fails_it_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        bare.put_block(rows(10), with_acq=False)
        writer = bare.core.database._writer
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count={pages + 200}").fetchall()
        with bare.stage(with_acq=False) as staging:
            for number in range(3):
                staging.add(rows(TILE // 2, number))
            assert bare.contents() > 0
            with pytest.raises(OSError, match="make room") as caught:
                staging.add(rows(10 * TILE, 3))
        assert caught.value.errno == errno.ENOSPC
        assert bare.contents() == 0
        assert len(bare.there()) == 10


@pytest.mark.parametrize("with_acq", [False, True])
def test_a_commit_that_failed_may_be_tried_again(tmp_path: Path, with_acq: bool) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*told(5, b"old", acq=7))
        with bare.stage(with_acq=with_acq) as staging:
            staging.add(block(*told(30, b"new", acq=7)))
            with mock.patch.object(Core, "name", side_effect=OSError("full")), pytest.raises(OSError, match="full"):
                staging.commit()
            assert bare.there() == dict(told(5, b"old", acq=7))
            bare.clock.now += 100
            got = staging.commit()
        found = bare.there()
        if with_acq:
            assert found == dict(told(30, b"new", acq=7))
            return
        assert len(found) == 35
        assert len(bare.there(box(acq=(got.acq_min, got.acq_max + 1)))) == 30
        assert bare.core.versions.greatest == got.acq_max
        zones = bare.core.versions.zones
        assert (int(zones.column("acq_min").min()), int(zones.column("acq_max").max())) == (7, got.acq_max)


def test_what_no_box_can_hold_is_dropped_and_counted(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for with_acq, dropped in ((False, 2), (True, 3)):
            for many in (1, 20):
                with bare.stage(with_acq=with_acq) as staging:
                    staging.add(block(((2**31 - 1, 0, 0, 0, 0), b""), ((0, 0, 0, GREAT, 0), b"")))
                    staging.add(block(((0, 0, 0, 0, GREAT), b""), *told(many, b"")))
                    got = staging.commit()
                assert (got.kept, got.dropped) == (many + 3 - dropped, dropped)
        with bare.stage(with_acq=True) as staging:
            staging.add(block(((0, GREAT, 0, 0, 0), b"")))
            assert staging.commit() == (-1, -1, 0, 1)


def test_a_negative_cid_is_refused(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        for many in (1, 20):
            with bare.stage(with_acq=True) as staging, pytest.raises(ValueNotSupported, match="cid -1"):
                staging.add(block(*told(many), ((-1, 0, 0, 0, 0), b"")))
        assert bare.there() == {}


def test_a_put_that_lacks_a_part_can_not_be_committed(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        staging = bare.stage(with_acq=True)
        staging.add(block(*told(20)))
        with pytest.raises(ValueNotSupported):
            staging.add(block(((-1, 0, 0, 0, 0), b"")))
        with pytest.raises(LocalProtocolError, match="could not be added; abort it"):
            staging.commit()
        staging.abort()
        assert bare.there() == {}


def test_others_put_merge_and_let_go_while_it_is_staged(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        bare.puta(*told(40, b"old"))
        with bare.stage(with_acq=True) as staging:
            staging.add(block(*told(20, b"new", cap=10)))
            bare.puta(*told(5, b"other", cap=12), *told(30, b"other", cap=100))
            Compaction(bare.core, lambda: False).all()
            staging.add(block(*told(20, b"new", cap=30)))
            shrink(bare.core, 0)
            bare.puta(*told(10, b"late", cap=45))
            bare.core.remove_unneeded()
            staging.commit()
        assert bare.there() == dict(told(10, b"late", cap=45)) | dict(told(40, b"new", cap=10))


def test_records_that_are_put_meanwhile_have_earlier_times(tmp_path: Path) -> None:
    with small_sizes(), Bare(tmp_path) as bare:
        with bare.stage(with_acq=False) as staging:
            staging.add(block(*told(30)))
            other = bare.put(*told(3))
            got = staging.commit()
        assert other.acq_max < got.acq_min
        assert bare.put(*told(1)).acq_min > got.acq_max


def test_nothing_is_staged_in_a_closed_store(tmp_path: Path) -> None:
    with small_sizes():
        with Bare(tmp_path) as bare:
            staging = bare.stage(with_acq=False)
            staging.add(block(*told(30)))
        with pytest.raises(Closed):
            staging.commit()
        with pytest.raises(Closed):
            staging.add(block(*told(30)))
        staging.abort()
        with Bare(tmp_path) as bare:
            bare.core.remove_unneeded()
            assert (bare.there(), bare.contents()) == ({}, 0)


def test_payloads_of_many_sizes_larger_than_what_is_held_are_as_they_were(tmp_path: Path) -> None:
    payloads = [bytes([at % 251]) * (at * 37 % 3000 if at % 100 else 3 << 20) for at in range(300)]
    given_records = [((0, at % 7, 0, at, 0), payload) for at, payload in enumerate(payloads)]
    with Bare(tmp_path) as bare:
        with bare.stage(with_acq=True) as staging:
            for begin in range(0, 300, 30):
                staging.add(block(*given_records[begin : begin + 30]))
            staging.commit()
        with bare.snapshot() as snapshot:
            assert sorted(records(snapshot.together())) == sorted(given_records)


def test_an_interrupt_when_it_is_committed_takes_nothing_away(tmp_path: Path) -> None:
    with Bare(tmp_path) as bare:
        bare.put_block(rows(10), with_acq=False)
        bare.fold()
        with bare.stage(with_acq=False) as staging:
            staging.add(rows(TILE, 1))
            assert bare.contents() > 1
            with interrupted(bare.core.database, "COMMIT", times=2), pytest.raises(KeyboardInterrupt):
                staging.commit()
        assert len(bare.there()) == TILE + 10
    with Bare(tmp_path) as bare:
        assert len(bare.there()) == TILE + 10

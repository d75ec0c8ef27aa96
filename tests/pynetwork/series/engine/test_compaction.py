from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.records import KeyRange
from pynetwork.series.engine.compaction import Compaction
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.putting import Put, Putter
from pynetwork.series.engine.snapshots import Snapshot
from tests.pynetwork.series.engine.small import Clock, Full, block, records, small_sizes


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with small_sizes():
        core = Core(tmp_path, Clock())
        yield core
        core.close()


def never() -> bool:
    return False


def key(cap: int) -> Full:
    return (0, cap % 2, 0, cap, 0)


def put(core: Core, caps: range, payload: bytes = b"ab") -> None:
    Putter(core).put([Put(block(*((key(cap), payload) for cap in caps)), with_acq=True)])


def all_of(core: Core) -> dict[Full, bytes]:
    with Snapshot(core, KeyRange.everything()) as snapshot:
        return dict(records(snapshot.together()))


def test_short_runs_are_merged_when_there_are_many(core: Core) -> None:
    compaction = Compaction(core, never)
    for begin in range(0, 14, 7):
        put(core, range(begin, begin + 7))
    assert not compaction.due()
    assert compaction.step() == 0
    put(core, range(14, 21))
    expected = all_of(core)
    assert compaction.due()
    compaction.step()
    assert not compaction.due()
    assert all_of(core) == expected
    assert len(set(core.versions.zones.column("run").tolist())) == 2


def test_payloads_of_different_sizes_are_not_merged_together(core: Core) -> None:
    for number, payload in enumerate((b"ab", b"abc", b"", b"ab", b"abc", b"")):
        put(core, range(number * 7, number * 7 + 7), payload)
    compaction = Compaction(core, never)
    assert not compaction.due()
    expected = all_of(core)
    assert compaction.all() == 0
    assert all_of(core) == expected
    assert sorted(set(core.versions.zones.column("width").tolist())) == [0, 2, 3]
    assert len(set(core.versions.zones.column("run").tolist())) == 3


def test_the_room_of_what_was_replaced_is_taken(core: Core) -> None:
    put(core, range(16))
    put(core, range(3, 6), b"cd")
    assert core.versions.gone
    expected = all_of(core)
    Compaction(core, never).all()
    assert not core.versions.gone
    assert all_of(core) == expected
    assert int(core.versions.zones.column("count").sum()) == 13


def test_what_is_merged_is_in_order_within_each_run(core: Core) -> None:
    for begin in (24, 0, 8, 16):
        put(core, range(begin, begin + 7))
    Compaction(core, never).all()
    zones = core.versions.zones
    runs: dict[int, list[Full]] = {}
    for index in range(len(zones)):
        figures = zones.figures(index)
        runs.setdefault(figures["run"], []).extend(found for found, _ in records(core.database.read(figures)))
    assert all(keys == sorted(keys) for keys in runs.values())
    assert sum(map(len, runs.values())) == 28


def test_it_leaves_off_when_it_is_told_to(core: Core) -> None:
    for begin in range(0, 28, 7):
        put(core, range(begin, begin + 7))
    before = core.versions.zones
    assert Compaction(core, lambda: True).all() == 0
    assert core.versions.zones is before


@pytest.mark.parametrize("all_gone", [False, True])
def test_what_is_replaced_meanwhile_is_not_there_twice(core: Core, all_gone: bool) -> None:
    compaction = Compaction(core, never)
    put(core, range(7))
    put(core, range(7, 14))
    replace = compaction._replace

    def meanwhile(*arguments: object) -> None:
        put(core, range(7) if all_gone else range(2, 4), b"new")
        core.remove_unneeded()
        replace(*arguments)  # type: ignore[arg-type]

    compaction._replace = meanwhile  # type: ignore[method-assign]
    compaction.all()
    changed = set(range(7) if all_gone else range(2, 4))
    assert all_of(core) == {key(cap): b"new" if cap in changed else b"ab" for cap in range(14)}
    with Snapshot(core, KeyRange.everything()) as snapshot:
        assert snapshot.count() == 14


def test_what_was_staged_is_removed_when_it_fails(core: Core) -> None:
    put(core, range(7))
    put(core, range(7, 14))
    expected = all_of(core)
    compaction = Compaction(core, never)

    def fail(*_arguments: object) -> None:
        raise OSError("full")

    compaction._replace = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="full"):
        compaction.all()
    assert all_of(core) == expected
    with core.database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM unseen").fetchall() == [(0,)]

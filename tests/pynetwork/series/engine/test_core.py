from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from handshakes.records import KEY, Block, Rows, joined
from pynetwork.series.engine.core import Core, without
from pynetwork.series.engine.database import Database
from pynetwork.series.engine.ordering import TILE, order_of, tiled
from tests.pynetwork.series.engine.small import Clock, Full, block, interrupted, records


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    core = Core(tmp_path, Clock())
    yield core
    core.close()


def key(cap: int, acq: int = 0) -> Full:
    return (0, 0, 0, cap, acq)


def journal(core: Core, *blocks: Block) -> None:
    for each in blocks:
        with core.changing() as (_, change):
            change.journalled.append(each)


def all_of(core: Core) -> list[tuple[Full, bytes]]:
    version = core.hold()
    try:
        parts = [
            core.read(figures, version.gone.get(figures["id"]))
            for figures in map(version.zones.figures, range(len(version.zones)))
        ]
        return records(joined([*parts, *version.recent]))
    finally:
        core.versions.release(version)


def test_what_is_put_again_is_found_with_few_reads(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 4 * TILE
    array = numpy.zeros(count, KEY)
    array["mid"], array["cap"] = numpy.arange(count) % 64, numpy.arange(count) // 64
    again = Rows(array).take(order_of(Rows(array)))
    with core.changing() as (connection, change):
        change.added += core.write(connection, again, tiled(again))
    reads: list[int] = []
    read = Database.read
    monkeypatch.setattr(Database, "read", lambda self, figures: reads.append(figures["id"]) or read(self, figures))
    with core.changing() as (_, change):
        core.repeats(again, core.versions.zones, change, tiled(again))
        assert len(change.removed) == len(core.versions.zones)
    assert len(reads) < 2 * len(set(reads))


def test_what_is_written_is_named_cut_and_read_again(core: Core) -> None:
    caps = list(range(TILE + 10))
    given = block(*((key(cap), b"ab") for cap in caps))
    with core.changing() as (connection, change):
        change.added += core.write(connection, given, None, 1000)
    runs = core.versions.zones.column("run").tolist()
    assert len(set(runs)) == 2
    assert [acq for (_, _, _, _, acq), _ in all_of(core)] == list(range(1000, 1000 + TILE + 10))


def test_a_change_that_fails_changes_nothing(core: Core) -> None:
    journal(core, block((key(1), b"a")))
    with pytest.raises(RuntimeError), core.changing() as (connection, change):  # noqa: PT012
        change.added += core.write(connection, block((key(2), b"b")), None)
        change.journalled.append(block((key(3), b"c")))
        raise RuntimeError
    assert all_of(core) == [(key(1), b"a")]
    with core.database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM content").fetchall() == [(0,)]


def test_folding_keeps_all_and_leaves_the_journal_empty(core: Core) -> None:
    journal(core, block((key(2), b"ab"), (key(1), b"cd")), block((key(3), b"longer"), (key(0), b"")))
    with core.changing() as (connection, change):
        core.fold(connection, change)
    assert sorted(core.versions.zones.column("width").tolist()) == [0, 2, 6]
    assert sorted(all_of(core)) == [(key(0), b""), (key(1), b"cd"), (key(2), b"ab"), (key(3), b"longer")]
    with core.database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM journal").fetchall() == [(0,)]


def test_payloads_of_many_sizes_stay_together(core: Core) -> None:
    given = [(key(cap), bytes(cap)) for cap in range(20)]
    journal(core, block(*given))
    with core.changing() as (connection, change):
        core.fold(connection, change)
    assert core.versions.zones.column("width").tolist() == [-1]
    assert all_of(core) == given


def test_the_journal_is_read_again_and_the_last_of_equal_keys_is_there(tmp_path: Path) -> None:
    core = Core(tmp_path, Clock())
    journal(core, block((key(1), b"old"), (key(2), b"two")))
    with core.changing() as (_, change):
        again = block((key(1), b"new"))
        change.replaced = again.keys()
        change.journalled.append(again)
    expected = [(key(2), b"two"), (key(1), b"new")]
    assert all_of(core) == expected
    core.close()
    core = Core(tmp_path, Clock())
    assert all_of(core) == expected
    core.close()


def test_repeated_keys_are_taken_out_of_blocks(core: Core) -> None:
    given = [(key(cap, cap), b"ab") for cap in range(10)]
    with core.changing() as (connection, change):
        change.added += core.write(connection, block(*given), None)
    number = int(core.versions.zones.column("id")[0])
    for gone in ([3, 5], [5, 7]):
        with core.changing() as (_, change):
            core.repeats(block(*((key(cap, cap), b"") for cap in gone), (key(1, 2), b"")), core.versions.zones, change)
    assert core.versions.gone[number].tolist() == [3, 5, 7]
    assert [cap for (_, _, _, cap, _), _ in all_of(core)] == [0, 1, 2, 4, 6, 8, 9]
    with core.changing() as (_, change):
        core.repeats(block(*given), core.versions.zones, change)
    assert (len(core.versions.zones), dict(core.versions.gone)) == (0, {})


def test_what_nobody_sees_is_removed_from_the_disk(core: Core) -> None:
    with core.changing() as (connection, change):
        change.added += core.write(connection, block((key(1), b"a")), None)
    version = core.hold()
    with core.changing() as (_, change):
        change.removed.add(version.zones.figures(0)["id"])
    assert core.remove_unneeded() == 0
    assert records(core.database.read(version.zones.figures(0))) == [(key(1), b"a")]
    core.versions.release(version)
    assert core.remove_unneeded() == 1
    with core.database.reading() as connection:
        assert connection.execute("SELECT (SELECT COUNT(*) FROM content), COUNT(*) FROM unseen").fetchall() == [(0, 0)]


def test_records_are_left_out_by_their_places() -> None:
    given = block((key(1), b"a"), (key(2), b"b"), (key(3), b"c"))
    assert without(given, None) is given
    assert records(without(given, numpy.array([0, 2]))) == [(key(2), b"b")]


def fold(core: Core) -> None:
    with core.changing() as (connection, change):
        core.fold(connection, change)


def test_an_interrupt_when_a_change_is_on_the_disk_leaves_memory_as_the_disk(tmp_path: Path, core: Core) -> None:
    journal(core, block((key(1), b"a"), (key(2), b"b")))
    version = core.hold()
    with interrupted(core.database, "COMMIT"), pytest.raises(KeyboardInterrupt):
        fold(core)
    assert len(core.versions.zones) == 1
    with interrupted(core.database, "COMMIT"), pytest.raises(KeyboardInterrupt):
        journal(core, block((key(3), b"c")))
    with interrupted(core.database, "COMMIT"), pytest.raises(KeyboardInterrupt), core.changing() as (_, change):
        change.removed.add(1)
    fold(core)
    assert all_of(core) == [(key(3), b"c")]
    # Its reader still has what left.
    assert core.remove_unneeded() == 0
    core.versions.release(version)
    assert core.remove_unneeded() == 1
    core.close()
    core = Core(tmp_path, Clock())
    assert all_of(core) == [(key(3), b"c")]
    core.close()


def test_memory_is_read_anew_at_the_next_change_where_that_was_interrupted_too(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(core, block((key(1), b"a")))
    with monkeypatch.context() as patch:
        patch.setattr(Core, "_load_again", lambda _: None)
        with interrupted(core.database, "COMMIT"), pytest.raises(KeyboardInterrupt):
            fold(core)
    assert len(core.versions.zones) == 0
    fold(core)
    assert len(core.versions.zones) == 1
    assert all_of(core) == [(key(1), b"a")]


def test_an_interrupt_when_a_transaction_has_begun_does_not_stop_the_next(core: Core) -> None:
    with interrupted(core.database, "BEGIN IMMEDIATE"), pytest.raises(KeyboardInterrupt):
        journal(core, block((key(1), b"a")))
    journal(core, block((key(2), b"b")))
    assert all_of(core) == [(key(2), b"b")]


def test_who_still_comes_while_it_is_closed_gets_nothing_beyond_the_reservation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    core = Core(tmp_path, clock)
    core.versions.release(core.hold())
    answered: list[int] = []

    def meanwhile(core: Core) -> int:
        clock.now += 1000
        version = core.hold()
        core.versions.release(version)
        answered.append(version.horizon)
        return 0

    monkeypatch.setattr(Core, "remove_unneeded", meanwhile)
    core.close()
    core = Core(tmp_path, Clock(0))
    assert core.versions.horizon.upcoming() >= answered[0] == clock.now
    core.close()


def test_opening_writes_nothing_and_what_was_left_behind_is_removed_later(tmp_path: Path) -> None:
    core = Core(tmp_path, Clock())
    core.stage(block((key(1), b"a")), None)
    core.close()
    core = Core(tmp_path, Clock())
    assert core.database._writer.total_changes == 0
    assert core.versions.leaving
    assert core.remove_unneeded() == 1
    assert core.remove_unneeded() == 0
    core.close()


def test_what_could_not_be_removed_is_by_and_by_and_what_is_named_never(core: Core) -> None:
    written = core.stage(block((key(1), b"a")), None)
    named = core.stage(block((key(2), b"b")), None)
    with core.changing() as (connection, change):
        core.name(connection, change, named)
    core.database._writer.execute("PRAGMA query_only=1")
    with pytest.raises(OSError, match="readonly"):
        core.discard([figures["id"] for figures in (*written, *named)])
    core.database._writer.execute("PRAGMA query_only=0")
    assert core.remove_unneeded() == 2
    with core.database.reading() as connection:
        assert connection.execute("SELECT id FROM content").fetchall() == [(named[0]["id"],)]
    assert all_of(core) == [(key(2), b"b")]

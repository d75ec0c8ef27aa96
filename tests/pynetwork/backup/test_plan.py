"""The plan of a backup: what is wanted becomes work of bounded size, and what was brought is accounted for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.chunks import Compare, LargeFile, Pack, Run
from handshakes.errors import UnsafePath
from handshakes.manifest import CHUNK_SIZE, PACK_FILES, PACK_SIZE, Entry, Skipped, decode_page, digest
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.finding import Wanted
from pynetwork.backup.mirror import Base, Mirror
from pynetwork.backup.plan import BackupPlan, Options, Pace, local_reason
from pynetwork.backup.records import PRUNED, State
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.mirroring import LARGE, SECOND, STAMP, facts, record, write
from tests.pynetwork.backup.test_catalogue import folder_row
from tests.serving import Background


class Ground:
    """A plan, and what it stands on."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.mirror = Mirror(root)
        self.catalogue = Catalogue(self.mirror.catalogue_path)
        self.catalogue.begin_run("", "")
        self.number, _ = self.catalogue.see_folder(folder_row(b""))
        self.plan = BackupPlan("s", self.mirror, self.catalogue, Options(**options), lanes=2, progress=False)
        self.folder: Folder = self.mirror.open()

    def wanted(self, name: str, size: int, **changes: Any) -> Wanted:
        of = facts(size)
        made = Wanted(
            Entry(name, size, of.mtime_ns, of.mode, 1), name, self.number, os.fsencode(name), None, of, 1, True
        )
        for key, value in changes.items():
            setattr(made, key, value)
        return made

    def want(self, *wanted: Wanted) -> None:
        for each in wanted:
            self.plan.want(each)
        self.plan._flush_small()

    def take(self, budget: int = 1 << 30) -> Any:
        return self.plan.take_now(budget)

    def work(self) -> list[Any]:
        found = []
        while (work := self.take()) is not None:
            found.append(work)
        return found

    def close(self) -> None:
        self.folder.close()
        self.catalogue.close()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


# What becomes work


def test_small_files_are_packed(ground: Ground) -> None:
    ground.want(*(ground.wanted(f"{number}", 100) for number in range(300)))
    work = ground.work()
    assert all(isinstance(pack, Pack) and pack.origin is None for pack in work)
    assert [pack.count for pack in work] == [128, 128, 44]
    paths = [entry.path for pack in work for entry in decode_page(pack.table).files]
    assert sorted(paths) == sorted(map(str, range(300)))
    assert ground.plan.plan.files_total == 300


def test_packs_of_what_is_partly_here_are_bounded(ground: Ground) -> None:
    bases = [Base(f"{number}", 10, b"d" * 16) for number in range(8)]
    ground.want(*(ground.wanted("n" * 100 + f"{number}", CHUNK_SIZE // 3, bases=bases) for number in range(10)))
    ground.want(*(ground.wanted("p" * 4000 + f"{number}", 10, bases=bases) for number in range(20)))
    ground.want(*(ground.wanted(f"{number}", 10, bases=bases[:1]) for number in range(300)))
    for pack in ground.work():
        assert isinstance(pack.origin, list)
        assert pack.count == len(pack.origin) <= PACK_FILES
        assert pack.size == sum(wanted.facts.size for wanted in pack.origin) <= PACK_SIZE
        assert sum(3 * len(wanted.path) for wanted in pack.origin) <= 32 << 10


def test_large_files_are_compared_first(ground: Ground) -> None:
    ground.want(ground.wanted("fresh", LARGE), ground.wanted("known", LARGE, known=2 * CHUNK_SIZE + 5))
    first, *rest = ground.work()
    assert isinstance(first, Run)
    assert first.file.entry.path == "fresh"
    (compare,) = [work for work in rest if isinstance(work, Compare)]
    assert (compare.file.entry.path, compare.first, compare.count) == ("known", 0, 3)


def test_what_is_wanted_twice_waits_for_the_first(ground: Ground) -> None:
    one, two = ground.wanted("a", 5), ground.wanted("a", 6)
    ground.want(one, two)
    assert ground.plan.wanted == {"a": one}
    assert ground.plan._later == {"a": two}
    assert len(ground.work()) == 1


def test_what_is_too_large_is_skipped(ground: Ground) -> None:
    ground.want(ground.wanted("a", 1 << 62))
    assert ground.plan.refused == {"a": "it is too large to be moved"}
    assert ground.work() == []


def test_the_survey_waits_while_much_is_wanted(ground: Ground) -> None:
    ground.want(*(ground.wanted(f"{number}", CHUNK_SIZE) for number in range(70)))
    waiting = Background(ground.plan.wait_for_room)
    assert not waiting.done
    work = ground.work()
    assert not waiting.done
    with ground.plan.changed:
        for pack in work[:10]:
            ground.plan.settle_pack(pack, pack.count, pack.size, [], [])
    waiting.result()


def test_nobody_waits_who_is_stopped(ground: Ground) -> None:
    ground.want(*(ground.wanted(f"{number}", CHUNK_SIZE) for number in range(70)))
    ground.plan._stopping.set()
    ground.plan.wait_for_room()
    assert not ground.plan.wait_until_settled()


# A limit


def test_a_limit_is_paid_for() -> None:
    now = [100.0]
    pace = Pace(1000.0, clock=lambda: now[0])
    assert pace.piece == 250
    assert pace.open
    pace.spend(500)
    assert not pace.open
    now[0] += 0.49
    assert not pace.open
    now[0] += 0.02
    assert pace.open
    # What was not used is not saved.
    now[0] += 100
    pace.spend(1000)
    now[0] += 0.99
    assert not pace.open
    pace.spend(1000)
    now[0] += 1.02
    assert pace.open
    assert Pace(1.0).piece == 1


def test_with_a_limit_pieces_are_small_and_come_one_by_one(tmp_path: Path) -> None:
    ground = Ground(tmp_path, limit=8.0 * CHUNK_SIZE)
    ground.want(ground.wanted("a", 10 * CHUNK_SIZE), ground.wanted("b", LARGE, known=LARGE))
    run = ground.take()
    assert isinstance(run, Run)
    assert run.count == 2
    assert ground.take() is None
    assert ground.take() is None
    ground.close()


# What was brought


def test_what_is_done_is_recorded(ground: Ground) -> None:
    for change, before in [("", None), ("", record(b"a", facts(4))), ("grown", record(b"a", facts(4))), ("same", None)]:
        wanted = ground.wanted("a", 5, before=before)
        ground.want(wanted)
        ground.plan.touched.clear()
        ground.plan.done(wanted, wanted.entry, wanted.entry, b"w" * 16, change)
        assert ground.plan.wanted == {}
        assert ground.plan.touched == (set() if change == "same" else {ground.number})
    assert ground.plan.counts == {"new": 1, "changed": 1, "grown": 1, "moved": 0, "same": 1}
    ground.catalogue.commit()
    (kept,) = ground.catalogue.files(ground.number)
    assert kept == record(b"a", facts(5), b"w" * 16, run=1)
    changes = [change for _, change, *_ in ground.catalogue.changes(ground.catalogue.run)]
    assert sorted(changes) == ["changed", "grown", "new"]


@pytest.mark.parametrize(
    ("asked", "arrived", "steady", "settled"),
    [
        ({}, {}, True, True),
        ({}, {}, False, False),
        ({"identity": 2}, {}, True, False),
        ({}, {"size": 6}, True, False),
        ({}, {"size": 4}, True, False),
        ({}, {"mtime_ns": STAMP + 1}, True, False),
        ({}, {"mode": 0o600}, True, False),
    ],
)
def test_only_what_is_as_it_was_surveyed_is_settled(
    ground: Ground, asked: dict[str, int], arrived: dict[str, int], steady: bool, settled: bool
) -> None:
    wanted = ground.wanted("a", 5)
    entry = wanted.entry
    ground.plan.done(wanted, entry._replace(**asked), entry._replace(**arrived), b"w" * 16, "", steady=steady)
    ground.catalogue.commit()
    (kept,) = ground.catalogue.files(ground.number)
    assert kept.state == (State.SETTLED if settled else State.UNSETTLED)
    assert (kept.size, kept.mtime_ns) == (arrived.get("size", 5), arrived.get("mtime_ns", STAMP))


def test_what_changed_just_before_the_survey_is_not_settled(ground: Ground) -> None:
    wanted = ground.wanted("a", 5, settled=False)
    ground.plan.done(wanted, wanted.entry, wanted.entry, b"w" * 16, "")
    ground.catalogue.commit()
    assert [kept.state for kept in ground.catalogue.files(ground.number)] == [State.UNSETTLED]


def test_skipped_files_are_named_unless_they_only_went_away(ground: Ground) -> None:
    ground.want(ground.wanted("a", 5, place="%61"), ground.wanted("b", 5), ground.wanted("c", 5))
    (pack,) = ground.work()
    with ground.plan.changed:
        ground.plan.settle_pack(pack, 1, 5, [], [Skipped("a", "permission denied"), Skipped("b", "it is not there")])
    assert ground.plan.refused == {"a": "permission denied"}
    assert ground.plan.refused_places == {"%61"}
    assert list(ground.plan.wanted) == ["c"]
    assert ground.plan.plan.files_done == 1


def test_a_pack_that_arrives_damaged_again_and_again(ground: Ground) -> None:
    wanted = ground.wanted("a", 5)
    ground.want(wanted)
    for tries in range(3):
        (pack,) = ground.work()
        assert pack.tries == tries
        with ground.plan.changed:
            ground.plan.settle_pack(pack, 0, 0, [wanted.entry], [])
    assert ground.work() == []
    assert ground.plan.refused == {"a": "it arrived damaged several times"}
    assert ground.plan.wanted == {}


def test_reasons_that_end_everything() -> None:
    assert local_reason(PermissionError(errno.EACCES, "x")) == "it can't be written here: permission denied"
    assert local_reason(UnsafePath("no")) == "it can't be written here: no"
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        with pytest.raises(OSError, match="x"):
            local_reason(OSError(number, "x"))


# What is replaced


def test_what_is_replaced_is_held(ground: Ground) -> None:
    write(ground.mirror.root / "a", b"content")
    kept = record(b"a", facts(7), digest(b"content"))
    ground.plan.hold(ground.folder, ground.wanted("a", 5, before=kept))
    assert digest(b"content") in ground.plan.holdings
    assert (ground.mirror.root / "a").exists()


def test_what_was_pruned_makes_room_by_itself(ground: Ground) -> None:
    write(ground.mirror.root / "a", b"content")
    kept = record(b"a", facts(7), digest(b"content"), gone=PRUNED)
    ground.catalogue.record(ground.number, kept)
    ground.catalogue.commit()
    for _ in range(2):
        ground.plan.hold(ground.folder, ground.wanted("a", 5, before=kept))
    (aside,) = ground.mirror.root.glob("a.pruned-*")
    assert aside.read_bytes() == b"content"
    assert not (ground.mirror.root / "a").exists()


def test_metadata(ground: Ground) -> None:
    path = write(ground.mirror.root / "a", b"content", mode=0o600)
    ground.plan.set_metadata(ground.folder, "a", Entry("x", 7, STAMP + SECOND, 0o4755))
    assert (path.stat().st_mode & 0o7777, path.stat().st_mtime_ns) == (0o755, STAMP + SECOND)
    assert ground.plan.is_in_place(ground.folder, Base("a", 7, None))
    assert not ground.plan.is_in_place(ground.folder, Base("a", 6, None))


def test_a_file_that_begins_again_is_compared_as_a_whole(ground: Ground) -> None:
    ground.want(ground.wanted("a", LARGE))
    run = ground.take()
    file = run.file
    assert isinstance(file, LargeFile)
    with ground.plan.changed:
        ground.plan.begin_again(run, file.entry._replace(size=LARGE + 5))
    work = ground.take()
    assert isinstance(work, Compare)
    assert work.file.entry.size == LARGE + 5


def test_a_file_that_is_another_is_put_off(ground: Ground) -> None:
    ground.want(ground.wanted("a", LARGE), ground.wanted("b", LARGE))
    first = ground.take()
    with ground.plan.changed:
        assert not ground.plan.begin_again(first, first.file.entry._replace(identity=77))
    assert list(ground.plan.wanted) == ["b"]
    # The last survey has to do with what there is.
    ground.plan.last_survey = True
    second = ground.take()
    while second.file is first.file or second.void:
        second = ground.take()
    with ground.plan.changed:
        assert ground.plan.begin_again(second, second.file.entry._replace(identity=77))
        ground.plan.fail_file(second.file, "enough")
    assert ground.plan.wait_until_settled()
    assert not ground.plan.wait_until_settled()

"""The catalogue: what it keeps, from many threads, over crashes, and until when it is believed."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handshakes.survey import FolderRow
from pynetwork.backup import catalogue as module
from pynetwork.backup.catalogue import Catalogue, boot_identity
from pynetwork.backup.records import PRUNED, FileRecord, HeldRecord, State, UnfinishedRecord
from pynetwork.backup.schema import CatalogueDamaged
from tests.pynetwork.backup.mirroring import facts, record

Open = Callable[..., Catalogue]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the catalogue; all are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Catalogue(tmp_path / "catalogue.sqlite", **options))


def folder_row(path: bytes, **changes: object) -> FolderRow:
    return FolderRow(path, facts(4096, inode=9), 1, 10**18, complete=True)._replace(**changes)


def plant(catalogue: Catalogue) -> dict[bytes, int]:
    """Folders by path, each with the files a and b."""
    numbers = {}
    for path in (b"", b"sub", b"sub/deep", b"sub2", b"other"):
        numbers[path], _ = catalogue.see_folder(folder_row(path))
        for inode, name in enumerate((b"a", b"b"), 10 * len(numbers)):
            catalogue.record(numbers[path], record(name, facts(100, inode=inode)))
    catalogue.commit()
    return numbers


def test_runs_are_numbered_and_kept(opened: Open) -> None:
    clock = iter(range(100, 200))
    catalogue = opened(clock=lambda: float(next(clock)))
    assert catalogue.begin_run("pi:1857", "logs") == catalogue.run == 1
    (running,) = catalogue.runs()
    assert (running.outcome, running.began, running.ended, running.figures) == ("running", 100.0, None, {})
    catalogue.end_run("complete", {"files": 3})
    assert catalogue.runs()[0]._replace(began=0) == (1, 0, 101.0, "pi:1857", "logs", "complete", {"files": 3})
    catalogue.begin_run("pi:1857", "logs")
    catalogue.commit()
    again = opened()
    assert again.begin_run("pi:1857", "logs") == 3
    assert [run.outcome for run in again.runs()] == ["complete", "interrupted", "running"]


def test_what_is_recorded_is_read_back(opened: Open) -> None:
    catalogue = opened()
    catalogue.begin_run("", "")
    number, known = catalogue.see_folder(folder_row(b"sub"))
    assert known is None
    kept = [record(b"\xff\n", facts(5, mode=0o600), place=b"%FF"), record(b"b", facts(), None, target=b"a")]
    for each in reversed(kept):
        catalogue.record(number, each)
    assert catalogue.file(number, b"b") is None  # not committed yet
    catalogue.commit()
    assert list(catalogue.files(number)) == sorted(kept, key=lambda each: each.name)
    assert catalogue.file(number, b"b") == kept[1]
    assert catalogue.folder_path(number) == b"sub"
    assert list(catalogue.all_files()) == [(b"sub", number, each) for each in sorted(kept, key=lambda each: each.name)]
    assert catalogue.count_files() == (2, 5)
    assert not catalogue.is_empty()
    catalogue.forget_file(number, b"b")
    catalogue.commit()
    assert catalogue.count_files() == (1, 5)
    assert [each.name for each in catalogue.files(number)] == [b"\xff\n"]


def test_folders_are_seen_again(opened: Open) -> None:
    catalogue = opened()
    catalogue.begin_run("", "")
    row = folder_row(b"sub")
    number, _ = catalogue.see_folder(row)
    again, known = catalogue.see_folder(row)
    assert (again, known is not None and known.facts) == (number, row.facts.encode())
    changed = row._replace(facts=facts(1), device=2)
    catalogue.see_folder(changed)
    catalogue.commit()
    found = catalogue.folder(b"sub")
    assert found is not None
    assert (found.facts, found.device) == (facts(1).encode(), 2)
    # One that could not be looked at is not as nothing is.
    catalogue.see_folder(row._replace(facts=facts(0, 0, mode=0, inode=0), complete=False))
    catalogue.commit()
    assert catalogue.folder(b"sub").facts == facts(1).encode()  # type: ignore[union-attr]
    assert catalogue.folder(b"none") is None


def test_what_is_below_a_folder_that_is_gone(opened: Open) -> None:
    catalogue = opened()
    catalogue.begin_run("", "")
    numbers = plant(catalogue)
    assert catalogue.mark_folder_gone(b"sub") == 4
    assert catalogue.mark_folder_gone(b"sub") == 0
    catalogue.mark_gone(numbers[b""], [b"b", b"none"])
    catalogue.commit()
    assert sorted((path, kept.name) for path, _, kept in catalogue.gone_files()) == [
        (b"", b"b"), (b"sub", b"a"), (b"sub", b"b"), (b"sub/deep", b"a"), (b"sub/deep", b"b"),
    ]  # fmt: skip
    assert [path for path, *_ in catalogue.gone_files(b"sub/deep")] == [b"sub/deep"] * 2
    assert [each.path for each in catalogue.gone_folders()] == [b"sub/deep", b"sub"]
    assert catalogue.folders_but({numbers[b""]}) == [b"other", b"sub2"]
    # It comes back.
    catalogue.see_folder(folder_row(b"sub"))
    catalogue.commit()
    assert catalogue.folder(b"sub").gone is None  # type: ignore[union-attr]
    assert [each.path for each in catalogue.gone_folders()] == [b"sub/deep"]


def test_of_what_is_gone_only_what_is_chosen(opened: Open) -> None:
    catalogue = opened()
    catalogue.begin_run("", "")
    plant(catalogue)
    assert catalogue.mark_folder_gone(b"sub", lambda path, _: path != "sub/deep/b") == 3
    catalogue.commit()
    assert [each.path for each in catalogue.gone_folders()] == [b"sub"]
    assert catalogue.mark_folder_gone(b"sub/deep") == 1
    catalogue.commit()
    assert [each.path for each in catalogue.gone_folders()] == [b"sub/deep", b"sub"]


def test_pruned_files_are_gone_and_not_to_be_deleted(opened: Open) -> None:
    catalogue = opened()
    catalogue.begin_run("", "")
    number = plant(catalogue)[b"sub"]
    catalogue.set_pruned([(number, b"a"), (number, b"b")])
    catalogue.set_pruned([(number, b"b")], pruned=False)
    assert [kept.gone for kept in catalogue.files(number)] == [PRUNED, None]
    assert catalogue.mark_folder_gone(b"sub") == 3
    catalogue.commit()
    path, _, kept = catalogue.gone_files(b"sub")[0]
    assert (path, kept.name) == (b"sub", b"b")
    catalogue.rename_file(number, b"a", b"a.pruned")
    assert [(kept.name, kept.place, kept.gone) for kept in catalogue.files(number)] == [
        (b"a.pruned", b"a.pruned", PRUNED), (b"b", None, catalogue.run),
    ]  # fmt: skip


def test_what_may_be_the_same_file(opened: Open) -> None:
    catalogue = opened()
    catalogue.begin_run("", "")
    number, _ = catalogue.see_folder(folder_row(b""))
    for name in (b"app.log", b"app.log.1", b"app.log\xff", b"apple", b"app"):
        catalogue.record(number, record(name, facts(10, inode=7)))
    catalogue.record(number, record(b"app.log.2", facts(10, inode=7), None, target=b"x"))
    catalogue.commit()
    found = {each.name for each in catalogue.in_family(number, b"app.log")}
    assert found == {b"app.log", b"app.log.1", b"app.log\xff"}
    assert {each.name for _, each in catalogue.by_identity(1, 7)} >= {b"app", b"apple"}
    assert catalogue.by_identity(2, 7) == catalogue.by_identity(1, 8) == []
    for inode in range(100):
        catalogue.record(number, record(b"many.%03d" % inode, facts(10, inode=50)))
    catalogue.commit()
    assert len(catalogue.in_family(number, b"many")) == 64
    assert len(catalogue.by_identity(1, 50)) == 8


def test_what_is_held(opened: Open) -> None:
    catalogue = opened()
    held = [HeldRecord(bytes([number]) * 16, 5, 1, number, 1, b"a") for number in range(3)]
    for each in held:
        catalogue.hold(each)
    again = opened()
    assert sorted(again.held()) == held
    catalogue.forget_held([held[0].digest, held[2].digest])
    assert again.held() == [held[1]]
    catalogue.forget_held([], keep=True)
    assert again.held() == [held[1]._replace(kept=True)]
    catalogue.forget_held([held[1].digest])
    assert again.held() == []


def test_the_journal_of_partial_files(opened: Open) -> None:
    catalogue = opened()
    run = catalogue.begin_run("", "")
    files = [
        UnfinishedRecord("sub/a", run, 1, b"a", 2, 3),
        UnfinishedRecord("sub/\udcff", run, 1, b"\xff", 2, 4),
    ]
    for each in files:
        catalogue.begin_file(each.place, *each[2:])
    assert opened().unfinished() == files
    catalogue.end_file("sub/a")
    catalogue.end_file("none")
    catalogue.commit()
    assert catalogue.unfinished() == files[1:]


def test_changes_are_listed(opened: Open) -> None:
    catalogue = opened()
    run = catalogue.begin_run("", "")
    catalogue.record(1, record(b"a", facts(5)), "new", b"sub/a")
    catalogue.record(1, record(b"b", facts(5)))
    catalogue.commit()
    assert list(catalogue.changes(run)) == [(b"sub/a", "new", 5, b"d" * 16)]
    assert list(catalogue.changes(run + 1)) == []


def test_words(opened: Open) -> None:
    catalogue = opened()
    assert catalogue.noted("shown") is None
    catalogue.note("shown", "yes")
    assert opened().noted("shown") == "yes"


def test_places_of_folders(opened: Open) -> None:
    catalogue = opened()
    catalogue.begin_run("", "")
    numbers = plant(catalogue)
    catalogue.set_folder_place(numbers[b"sub"], "%73ub")
    catalogue.commit()
    assert catalogue.folder_places() == {b"sub": "%73ub"}
    assert catalogue.folders_in(b"") == [b"other", b"sub", b"sub2"]
    assert catalogue.folders_in(b"sub") == [b"sub/deep"]
    assert catalogue.folders_in(b"other") == []
    assert [each.path for each in catalogue.folders()] == [b"", b"other", b"sub", b"sub/deep", b"sub2"]


# What is believed


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("boot", ["same", "other"])
def test_what_was_not_flushed_before_the_machine_stopped(opened: Open, flushed: bool, boot: str) -> None:
    first = opened(boot="same")
    first.begin_run("", "")
    first.record(1, record(b"a", facts(), run=first.run))
    if flushed:
        first.flushed()
    first.end_run("complete", {})
    first.commit()
    second = opened(boot=boot)
    second.begin_run("", "")
    kept = second.file(1, b"a")
    assert kept is not None
    assert kept.state == (State.UNFLUSHED if boot == "other" and not flushed else State.SETTLED)


def test_only_what_came_since_the_last_flush_is_doubted(opened: Open) -> None:
    catalogue = opened(boot="one")
    for name in (b"a", b"b", b"c"):
        catalogue.begin_run("", "")
        catalogue.record(1, record(name, facts(), run=catalogue.run))
        if name == b"a":
            catalogue.flushed()
        catalogue.commit()
    catalogue.commit()
    later = opened(boot="two")
    later.begin_run("", "")
    assert [kept.state for kept in later.files(1)] == [State.SETTLED, State.UNFLUSHED, State.UNFLUSHED]
    # What is brought from now on is doubted after the next stop, and what was doubted stays so until it was compared.
    later.record(1, record(b"b", facts(), run=later.run))
    later.commit()
    last = opened(boot="three")
    last.begin_run("", "")
    assert [kept.state for kept in last.files(1)] == [State.SETTLED, State.UNFLUSHED, State.UNFLUSHED]


def test_distrust(opened: Open) -> None:
    catalogue = opened()
    numbers = plant(catalogue)
    catalogue.distrust([(numbers[b"sub"], b"a")])
    assert [kept.state for kept in catalogue.files(numbers[b"sub"])] == [State.UNFLUSHED, State.SETTLED]


def test_this_machine_says_when_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_identity() == boot_identity()
    monkeypatch.setattr(module.Path, "read_text", lambda *_: (_ for _ in ()).throw(FileNotFoundError))
    assert boot_identity() == ""


# Threads


def test_many_threads_record_while_one_reads(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 50)
    catalogue = opened()
    catalogue.begin_run("", "")

    def work(lane: int) -> None:
        for number in range(200):
            catalogue.record(lane, record(b"%04d" % number, facts(number)))
            if number % 40 == 0:
                catalogue.begin_file(f"{lane}/{number}", 1, b"name", 2, number)
                catalogue.hold(HeldRecord(bytes([lane, number]) * 8, 1, 1, 1, 1, b"x"))

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert sum(1 for _ in catalogue.files(1)) <= 200
    for thread in threads:
        thread.join()
    catalogue.commit()
    assert catalogue.count_files()[0] == 800
    assert len(catalogue.unfinished()) == len(catalogue.held()) == 20


def test_what_is_recorded_comes_to_the_disk_by_and_by(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue, reader = opened(), opened()
    monkeypatch.setattr(module, "_BATCH", 3)
    for number in range(3):
        assert reader.count_files()[0] == 0
        catalogue.record(1, record(b"%d" % number, facts()))
    assert reader.count_files()[0] == 3
    monkeypatch.setattr(module, "_UNTIL_COMMIT", 0.0)
    catalogue.record(1, record(b"last", facts()))
    assert reader.count_files()[0] == 4


# Damage; what else there is of it is tried with whole backups


def test_one_that_is_damaged_is_set_aside_or_refused(tmp_path: Path) -> None:
    where = tmp_path / "catalogue.sqlite"
    where.write_bytes(b"no catalogue at all")
    with pytest.raises(CatalogueDamaged, match="the next backup begins a new one"):
        Catalogue(where, mend=False)
    assert where.read_bytes() == b"no catalogue at all"
    with Catalogue(where) as mended:
        assert mended.is_empty()
        assert mended.aside is not None
        assert mended.aside.read_bytes() == b"no catalogue at all"
    with Catalogue(where) as again:
        assert again.aside is None


def test_one_that_can_not_be_made(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        Catalogue(tmp_path / "no/such/folder/catalogue.sqlite")


def test_records_replace_each_other(opened: Open) -> None:
    catalogue = opened()
    kept: FileRecord = record(b"a", facts(5))
    for size in (5, 6):
        catalogue.record(1, kept._replace(size=size))
    catalogue.commit()
    assert [each.size for each in catalogue.files(1)] == [6]

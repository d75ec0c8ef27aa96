from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.survey import End, FileRow, FolderRow, GoneRow, SkippedRow
from pynetwork.files import surveying
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder
from pynetwork.files.surveying import Surveyor
from tests.pynetwork.files.surveys import (
    OLD,
    SECOND,
    Clock,
    breaking_off,
    facts,
    failing_at,
    following,
    names,
    rows_of,
    settle,
    told,
    write,
)


@pytest.fixture(params=["handles", "plain"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """An empty folder, reached by handles or, as on Windows, by paths."""
    with Folder(tmp_path, handles=request.param == "handles", portable=False) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


# What has changed


def test_where_nothing_happens_nothing_is_told(folder: Folder, clock: Clock) -> None:
    write(folder.path / "sub" / "file")
    settle(folder.path)
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    for _ in range(3):
        assert rows_of(surveyor.changes()) == [End(0, 0)]
        clock.seconds += 100


def test_a_file_that_grows_is_seen(folder: Folder) -> None:
    log = write(folder.path / "logs" / "b.log", b"begin")
    os.utime(log)
    write(folder.path / "logs" / "a.log")
    settle(folder.path)
    surveyor = following(folder)
    list(surveyor.survey())
    list(surveyor.changes())
    for _ in range(3):
        with log.open("ab") as file:
            file.write(b"more")
        row, grown, end = rows_of(surveyor.changes())
        assert isinstance(row, FolderRow)
        assert (row.path, row.complete, row.facts) == (b"logs", False, facts(folder.path / "logs"))
        assert grown == FileRow(b"b.log", facts(log).encode())
        assert end == End(1, 1)


def test_new_and_removed_files_are_seen(folder: Folder) -> None:
    for name in "abc":
        write(folder.path / "sub" / name)
    settle(folder.path)
    surveyor = following(folder)
    list(surveyor.survey())
    (folder.path / "sub" / "b").unlink()
    write(folder.path / "sub" / "d")
    rows = rows_of(surveyor.changes())
    assert names(rows) == [b"sub", b"a", b"c", b"d"]
    assert isinstance(rows[0], FolderRow)
    assert rows[0].complete
    assert rows[-1] == End(3, 1)
    assert rows_of(surveyor.changes()) == [End(0, 0)]


def test_new_and_removed_folders_are_seen(folder: Folder) -> None:
    write(folder.path / "old" / "deep" / "file")
    settle(folder.path)
    surveyor = following(folder)
    list(surveyor.survey())
    write(folder.path / "new" / "deep" / "file")
    assert names(rows_of(surveyor.changes())) == [b"", b"new", b"new/deep", b"file"]
    shutil.rmtree(folder.path / "old")
    rows = rows_of(surveyor.changes())
    assert names(rows) == [b"", b"old"]
    assert rows[1:] == [GoneRow(b"old"), End(0, 1)]
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    shutil.rmtree(folder.path / "new" / "deep")
    assert rows_of(surveyor.changes())[1:] == [GoneRow(b"new/deep"), End(0, 1)]


def test_a_renamed_folder_is_another(folder: Folder) -> None:
    """Handles of folders are held under their names: a new one must not be taken for that which had its name."""
    write(folder.path / "a" / "in" / "of a")
    settle(folder.path)
    surveyor = following(folder)
    list(surveyor.survey())
    (folder.path / "a").rename(folder.path / "b")
    assert names(rows_of(surveyor.changes())) == [b"", b"a", b"b", b"b/in", b"of a"]
    write(folder.path / "a" / "in" / "of the new a")
    assert names(rows_of(surveyor.changes())) == [b"", b"a", b"a/in", b"of the new a"]


def test_folders_that_change_places_are_told_anew(folder: Folder) -> None:
    for name in ("x/one", "x/two"):
        write(folder.path / name / "in" / f"of {name[2:]}")
    settle(folder.path)
    surveyor = following(folder)
    heard = told(surveyor.survey())
    (folder.path / "x" / "one").rename(folder.path / "x" / "tmp")
    (folder.path / "x" / "two").rename(folder.path / "x" / "one")
    (folder.path / "x" / "tmp").rename(folder.path / "x" / "two")
    heard.hear(rows_of(surveyor.changes()))
    assert heard == told(Surveyor(folder).survey())
    assert list(heard.folders[b"x/one/in"]) == [b"of two"]


@pytest.mark.parametrize("same_inode", [False, True])
def test_a_folder_in_place_of_another_that_was_removed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, same_inode: bool
) -> None:
    """It may even have the inode of that one, whose handle is still held."""
    if same_inode:
        monkeypatch.setattr(surveying, "_identity_of", lambda _status: (1, 1))
    write(folder.path / "sub" / "of before")
    surveyor = following(folder)
    heard = told(surveyor.survey())
    shutil.rmtree(folder.path / "sub")
    write(folder.path / "sub" / "of now")
    heard.hear(rows_of(surveyor.changes()))
    assert list(heard.folders[b"sub"]) == [b"of now"]


def test_folders_that_come_and_go_leave_nothing_behind(folder: Folder, clock: Clock) -> None:
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    for number in range(50):
        write(folder.path / "new" / f"{number}")
        if number:
            shutil.rmtree(folder.path / "sub")
        (folder.path / "new").rename(folder.path / "sub")
        list(surveyor.changes())
    clock.seconds += 10
    list(surveyor.changes())
    assert len(surveyor._due) == len(surveyor._seen) == 2


def test_a_new_file_is_seen_though_the_time_of_its_folder_does_not_move(folder: Folder, clock: Clock) -> None:
    """It came within the tick of the clock in which the folder was read."""
    settle(folder.path)
    clock.now = OLD + 5_000_000
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    write(folder.path / "new")
    settle(folder.path)
    clock.now = OLD + 25_000_000
    assert names(rows_of(surveyor.changes())) == [b"", b"new"]
    clock.now += SECOND
    list(surveyor.changes())
    write(folder.path / "hidden")
    settle(folder.path)
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    clock.seconds += 10
    assert names(rows_of(surveyor.changes())) == [b"", b"hidden", b"new"]


def test_a_folder_becomes_a_file_and_a_folder_again(folder: Folder) -> None:
    write(folder.path / "thing" / "file")
    surveyor = following(folder)
    heard = told(surveyor.survey())
    shutil.rmtree(folder.path / "thing")
    write(folder.path / "thing")
    heard.hear(rows_of(surveyor.changes()))
    assert list(heard.folders) == [b""]
    assert list(heard.folders[b""]) == [b"thing"]
    (folder.path / "thing").unlink()
    (folder.path / "thing").mkdir()
    heard.hear(rows_of(surveyor.changes()))
    assert heard == told(Surveyor(folder).survey())


def test_a_folder_that_vanishes_when_the_one_it_is_in_has_been_looked_at(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder.path / "sub" / "deep" / "file")
    settle(folder.path)
    surveyor = following(folder)
    list(surveyor.survey())
    look = surveyor._changes_in

    def slow(components: tuple[str, ...], seen: Any) -> Iterator[bytes]:
        yield from look(components, seen)
        if not components:
            shutil.rmtree(folder.path / "sub", ignore_errors=True)

    monkeypatch.setattr(surveyor, "_changes_in", slow)
    assert rows_of(surveyor.changes()) == [GoneRow(b"sub"), End(0, 0)]
    assert names(rows_of(surveyor.changes())) == [b""]


def test_a_folder_that_vanishes_between_the_look_and_the_reading(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder.path / "sub" / "file")
    settle(folder.path)
    surveyor = following(folder)
    list(surveyor.survey())
    write(folder.path / "sub" / "new")
    folder.forget()
    end = failing_at(monkeypatch, folder, "enter", "sub", FileNotFoundError(errno.ENOENT, "gone"))
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    end()
    assert names(rows_of(surveyor.changes())) == [b"sub", b"file", b"new"]


def test_what_could_not_be_read_this_time_has_not_gone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder.path / "sub" / "deep" / "file")
    settle(folder.path)
    surveyor = following(folder)
    heard = told(surveyor.survey())
    before = dict(heard.folders)
    write(folder.path / "sub" / "new")
    folder.forget()
    end = failing_at(monkeypatch, folder, "enter", "sub", PermissionError(errno.EACCES, "no"))
    rows = rows_of(surveyor.changes())
    assert not any(isinstance(row, GoneRow) for row in rows)
    assert SkippedRow(b"", "permission denied") in rows
    assert heard.folders == before
    assert rows_of(surveyor.changes()) == [End(0, 0)], "it is told once"
    end()
    os.utime(folder.path / "sub")
    heard.hear(rows_of(surveyor.changes()))
    assert heard == told(Surveyor(folder).survey())


def test_what_was_not_read_to_its_end_has_not_gone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        write(folder.path / "sub" / name / "file")
    settle(folder.path)
    surveyor = following(folder)
    heard = told(surveyor.survey())
    end = breaking_off(monkeypatch, folder.path / "sub")
    write(folder.path / "sub" / "new" / "file")
    rows = rows_of(surveyor.changes())
    assert not any(isinstance(row, GoneRow) for row in rows)
    heard.hear(rows)
    end()
    shutil.rmtree(folder.path / "sub" / "b")
    heard.hear(rows_of(surveyor.changes()))
    whole = told(Surveyor(folder).survey())
    assert heard.folders.keys() == whole.folders.keys()


def test_a_folder_that_was_unreadable_from_the_beginning(
    folder: Folder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder.path / "sub" / "file")
    settle(folder.path)
    surveyor = clock.follow(folder)
    end = failing_at(monkeypatch, folder, "enter", "sub", PermissionError(errno.EACCES, "no"))
    list(surveyor.survey())
    for _ in range(3):
        assert rows_of(surveyor.changes()) == [End(0, 0)]
        clock.seconds += 20
    end()
    assert names(rows_of(surveyor.changes())) == [b"sub", b"file"]


def test_a_folder_of_which_nothing_is_known_for_a_while(
    folder: Folder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder.path / "sub" / "file")
    settle(folder.path)
    surveyor = clock.follow(folder)
    pages = surveyor.survey()
    assert names(rows_of([next(pages), next(pages)])) == [b""]
    ends = [failing_at(monkeypatch, folder, method, "sub", None) for method in ("enter", "status")]
    list(pages)
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    for end in ends:
        end()
    assert names(rows_of(surveyor.changes())) == [b"sub", b"file"]


def test_a_change_within_the_same_tick_is_told_all_the_same(folder: Folder, clock: Clock) -> None:
    """It does not show, so the file is told once more when a further change would show."""
    path = write(folder.path / "file", b"one")
    settle(folder.path)
    clock.now = OLD + 5_000_000
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    write(path, b"two")
    settle(folder.path)
    clock.now = OLD + 15_000_000
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    clock.now = OLD + 25_000_000
    rows = rows_of(surveyor.changes())
    assert rows[1:] == [FileRow(b"file", facts(path).encode()), End(1, 1)]
    for _ in range(3):
        clock.now += SECOND
        clock.seconds += 100
        assert rows_of(surveyor.changes()) == [End(0, 0)]


def test_a_new_file_is_told_again_when_its_folder_did_not_change_any_more(folder: Folder, clock: Clock) -> None:
    clock.now = OLD + SECOND
    settle(folder.path)
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    path = write(folder.path / "file", b"one", clock.now)
    os.utime(folder.path, ns=(clock.now, clock.now))
    clock.now += 1_000_000
    assert names(rows_of(surveyor.changes())) == [b"", b"file"]
    clock.now += 1_000_000
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    clock.now += SECOND
    assert rows_of(surveyor.changes())[1:] == [FileRow(b"file", facts(path).encode()), End(1, 1)]
    clock.now += SECOND
    assert rows_of(surveyor.changes()) == [End(0, 0)]


def test_whole_seconds_settle_later(folder: Folder, clock: Clock) -> None:
    whole = OLD // SECOND * SECOND
    write(folder.path / "file", b"", whole)
    settle(folder.path)
    clock.now = whole + SECOND
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    clock.now = whole + 2 * SECOND
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    clock.now = whole + 4 * SECOND
    assert names(rows_of(surveyor.changes())) == [b"", b"file"]


def test_a_file_of_long_ago_is_found_when_everything_is_looked_over(folder: Folder, clock: Clock) -> None:
    path = write(folder.path / "sub" / "cold", b"one")
    write(folder.path / "sub" / "other")
    settle(folder.path)
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    write(path, b"three", OLD + 5)
    clock.seconds += 9
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    clock.seconds += 1
    rows = rows_of(surveyor.changes())
    assert names(rows) == [b"sub", b"cold", b"other"]
    assert rows[1] == FileRow(b"cold", facts(path).encode())
    path.chmod(0o400)
    clock.seconds += 10
    assert names(rows_of(surveyor.changes())) == [b"sub", b"cold", b"other"]


def test_what_was_told_of_files_that_grow_is_not_told_again_when_all_is_looked_over(
    folder: Folder, clock: Clock
) -> None:
    write(folder.path / "log", b"1", clock.now - SECOND)
    write(folder.path / "cold")
    settle(folder.path)
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    for number in range(3):
        clock.now += SECOND
        write(folder.path / "log", b"1" * number, clock.now - SECOND // 2)
        assert names(rows_of(surveyor.changes())) == [b"", b"log"]
        clock.seconds += 20
        assert rows_of(surveyor.changes()) == [End(0, 0)]


def test_not_everything_is_looked_over_at_once(tmp_path: Path, clock: Clock) -> None:
    """Each folder takes a little time, and there is little for all of them in one round; none is forgotten."""
    for number in range(20):
        write(tmp_path / f"{number:02}" / "cold")
    settle(tmp_path)
    ticking = iter(range(10**9))
    with Folder(tmp_path) as folder:
        surveyor = Surveyor(
            folder, follow=True, clock=lambda: clock.now, monotonic=lambda: clock.seconds + next(ticking) / 1000
        )
        list(surveyor.survey())
        clock.seconds += 100
        for number in range(20):
            write(tmp_path / f"{number:02}" / "cold", b"now", OLD + 1)
        found = []
        for _ in range(20):
            rows = rows_of(surveyor.changes())
            found.append(sum(isinstance(row, FileRow) for row in rows))
            clock.seconds += 0.2
    assert sum(found) == 20
    assert max(found) <= 10
    assert found[0] > 0


def test_a_folder_that_takes_long_is_not_read_all_the_time(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.path / "sub").mkdir()
    seconds = [1000.0]
    entries = type(folder.directory(())).entries
    read: list[float] = []

    def slow(self: Directory) -> Iterator[os.DirEntry[str]]:
        if self.own_status().st_ino == (folder.path / "sub").stat().st_ino:
            read.append(seconds[0])
            seconds[0] += 0.5
        yield from entries(self)

    monkeypatch.setattr(type(folder.directory(())), "entries", slow)
    surveyor = Surveyor(folder, follow=True, monotonic=lambda: seconds[0])
    list(surveyor.survey())
    for number in range(70):
        seconds[0] += 0.1
        (folder.path / "sub" / str(number)).touch()
        list(surveyor.changes())
    assert [round(later - earlier, 1) for earlier, later in itertools.pairwise(read)] == [5.5]


def test_how_slowly_the_rows_are_taken_is_not_how_long_reading_takes(folder: Folder) -> None:
    write(folder.path / "sub" / "file")
    seconds = [1000.0]
    surveyor = Surveyor(folder, follow=True, monotonic=lambda: seconds[0])
    for _ in surveyor.survey():
        seconds[0] += 60
    write(folder.path / "sub" / "new")
    assert b"new" in names(rows_of(surveyor.changes()))


def test_more_files_change_than_can_be_looked_at_in_every_round(
    folder: Folder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveying, "_MOST_HOT", 2)
    for name in ("a/1", "a/2", "b/3"):
        write(folder.path / name, b"", clock.now - SECOND)
    write(folder.path / "c" / "4", b"", clock.now - 5)
    settle(folder.path)
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    clock.now += SECOND
    for name in ("a/1", "a/2", "b/3"):
        write(folder.path / name, b"more", clock.now - SECOND // 2)
    assert names(rows_of(surveyor.changes())) == [b"a", b"1", b"2"]
    # What is not looked at in every round is found like all else; what was told too soon is told again for that.
    clock.seconds += 10
    assert names(rows_of(surveyor.changes())) == [b"b", b"3", b"c", b"4"]
    clock.seconds += 10
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    shutil.rmtree(folder.path / "a")
    list(surveyor.changes())
    clock.seconds += 10
    list(surveyor.changes())
    clock.now += SECOND
    write(folder.path / "b" / "3", b"even more", clock.now - SECOND // 2)
    assert names(rows_of(surveyor.changes())) == [b"b", b"3"], "there is room for others now"


def test_a_hot_file_that_can_not_be_looked_at_or_is_none_any_more(
    folder: Folder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder.path / "sub" / "log", b"", clock.now - SECOND)
    settle(folder.path)
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    write(path, b"more", clock.now)
    end = failing_at(monkeypatch, folder, "status", "log", None)
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    end()
    folder.forget()
    end = failing_at(monkeypatch, folder, "enter", "sub", None)
    assert rows_of(surveyor.changes()) == [End(0, 0)]
    end()
    assert names(rows_of(surveyor.changes())) == [b"sub", b"log"]
    path.unlink()
    path.mkdir()
    settle(folder.path)
    assert rows_of(surveyor.changes()) == [End(0, 0)], "the folder's time has not moved"
    clock.seconds += 10
    assert names(rows_of(surveyor.changes())) == [b"sub", b"sub/log"]


def test_a_folder_that_can_not_be_looked_at_is_left_alone(
    folder: Folder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder.path / "sub" / "file")
    settle(folder.path)
    surveyor = clock.follow(folder)
    list(surveyor.survey())
    failing_at(monkeypatch, folder, "status", "sub", None)
    assert rows_of(surveyor.changes()) == [End(0, 0)]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_what_was_told_is_what_there_is(tmp_path: Path, clock: Clock, seed: int) -> None:
    """Random changes, many of them between two rounds; after each round what was told so far is like a new survey."""
    chance = random.Random(seed)
    root = tmp_path / "share"
    root.mkdir()
    with Folder(root, kept=3) as folder, Folder(root) as other:
        surveyor = Surveyor(folder, follow=True, monotonic=lambda: clock.seconds)
        heard = told(surveyor.survey())
        for _ in range(40):
            for _ in range(chance.randrange(6)):
                disturb(root, chance)
            clock.seconds += 100
            heard.hear(rows_of(surveyor.changes()))
            assert heard == told(Surveyor(other).survey())
            other.forget()
        assert len(surveyor._due) <= len(surveyor._seen) + 40
        clock.seconds += 100
        list(surveyor.changes())
        assert len(surveyor._due) == len(surveyor._seen) == len(heard.folders)


def disturb(root: Path, chance: random.Random) -> None:
    folders = [Path(path) for path, _, _ in os.walk(root)]
    where = chance.choice(folders)
    path = where / chance.choice("abcd")
    other = chance.choice(folders) / chance.choice("abcd")
    action = chance.randrange(7)
    if action == 0 and len(where.parts) - len(root.parts) < 4 and not path.exists():
        path.mkdir()
    elif action == 1 and path.exists():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif action == 2 and path.exists() and not other.exists() and not other.is_relative_to(path):
        path.rename(other)
    elif (
        action == 3
        and path.exists()
        and other.exists()
        and not (other.is_relative_to(path) or path.is_relative_to(other))
    ):
        path.rename(root.parent / "aside")
        other.rename(path)
        (root.parent / "aside").rename(other)
    elif not path.is_dir():
        with path.open("ab") as file:
            file.write(b"x" * chance.randrange(3))
        if action == 4:
            path.chmod(chance.choice([0o600, 0o640]))

from __future__ import annotations

import errno
import os
import shutil
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handshakes.errors import NotFound
from handshakes.paths import PATH_LIMIT, from_bytes, partial_name, to_bytes
from handshakes.survey import End, Facts, FileRow, FolderRow, LinkRow, SkippedRow
from pynetwork.files.folders import Folder
from pynetwork.files.surveying import Surveyor, facts_of
from tests.pynetwork.files.surveys import (
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


# Everything


def test_rows_come_in_order(folder: Folder) -> None:
    for name in ("b.log", "a.log", "sub/z", "sub/deep/x", "another/y"):
        write(folder.path / name, name.encode())
    rows = rows_of(Surveyor(folder).survey())
    assert names(rows) == [b"", b"a.log", b"b.log", b"another", b"y", b"sub", b"z", b"sub/deep", b"x"]
    assert rows[-1] == End(5, 4)
    assert rows[1] == FileRow(b"a.log", facts(folder.path / "a.log").encode())
    root = rows[0]
    assert isinstance(root, FolderRow)
    assert root.complete
    assert (root.facts, root.device) == (facts(folder.path), folder.path.stat().st_dev)


def test_a_survey_can_be_made_again(folder: Folder) -> None:
    write(folder.path / "sub" / "file")
    surveyor = Surveyor(folder)
    first = told(surveyor.survey())
    assert told(surveyor.survey()) == first


def test_the_clock_is_that_of_the_reading(folder: Folder, clock: Clock) -> None:
    (row, _) = rows_of(clock.follow(folder).survey())
    assert isinstance(row, FolderRow)
    assert row.clock_ns == clock.now


def test_an_empty_folder(folder: Folder) -> None:
    assert names(rows_of(Surveyor(folder).survey())) == [b""]


def test_names_are_ordered_by_their_bytes(folder: Folder) -> None:
    raw = [
        b"A",
        b"a",
        b"a-",
        b"a.b",
        b"ab",
        "é".encode(),
        "e\N{COMBINING ACUTE ACCENT}".encode(),
        b"\xff\xfe",
        b"\x80",
        b"\n",
    ]
    for name in raw:
        write(folder.path / from_bytes(name))
    raw += [b"folder\xff", b"folder"]
    for name in raw[-2:]:
        write(folder.path / from_bytes(name) / "in it")
    rows = rows_of(Surveyor(folder).survey())
    assert names(rows[:11]) == [b"", *sorted(raw[:-2])]
    assert names(rows[11:]) == [b"folder", b"in it", b"folder\xff", b"in it"]


def test_links_are_told_and_not_followed(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "secret")
    for name, target in (("to folder", str(outside)), ("to file", "file"), ("astray", "no\udcffwhere")):
        (folder.path / name).symlink_to(target)
    write(folder.path / "file")
    rows = rows_of(Surveyor(folder).survey())
    assert names(rows) == [b"", b"astray", b"file", b"to file", b"to folder"]
    assert rows[1] == LinkRow(b"astray", facts(folder.path / "astray"), b"no\xffwhere")
    assert rows[4] == LinkRow(b"to folder", facts(folder.path / "to folder"), to_bytes(str(outside)))
    assert rows[-1] == End(1, 1)


@pytest.mark.parametrize("target", ["", "x" * (PATH_LIMIT + 1), "\ud800"])
def test_a_link_to_no_path_is_skipped(folder: Folder, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    (folder.path / "link").symlink_to("somewhere")
    monkeypatch.setattr(type(folder.directory(())), "read_link", lambda self, name: target)
    assert rows_of(Surveyor(folder).survey())[1] == SkippedRow(b"link", "symbolic link that leads to no path")


def test_what_is_no_file_is_skipped_with_what_it_is(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder.path / "pipe")
    write(folder.path / "zero")
    monkeypatch.chdir(folder.path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    rows = rows_of(Surveyor(folder).survey())
    assert rows[1:3] == [SkippedRow(b"pipe", "named pipe"), SkippedRow(b"socket", "socket")]
    assert rows[-1] == End(1, 1)


def test_partial_files_are_told_of_when_asked(folder: Folder) -> None:
    partial = partial_name("file")
    write(folder.path / "sub" / partial, b"half")
    assert names(rows_of(Surveyor(folder).survey())) == [b"", b"sub"]
    assert names(rows_of(Surveyor(folder, partials=True).survey())) == [b"", b"sub", partial.encode()]


def test_a_survey_of_a_part(folder: Folder) -> None:
    write(folder.path / "a" / "b" / "c" / "file")
    write(folder.path / "a" / "beside")
    settle(folder.path)
    surveyor = following(folder, ("a", "b"))
    assert names(rows_of(surveyor.survey())) == [b"", b"c", b"file"]
    write(folder.path / "a" / "b" / "new")
    write(folder.path / "a" / "another")
    assert names(rows_of(surveyor.changes())) == [b"", b"new"]
    shutil.rmtree(folder.path / "a" / "b" / "c")
    assert names(rows_of(surveyor.changes())) == [b"", b"new", b"c"]
    assert rows_of(Surveyor(folder, start=("none",)).survey()) == [End(0, 0)]


def test_many_files_come_in_batches(folder: Folder) -> None:
    for number in range(1100):
        (folder.path / f"{number:04}").touch()
    pages = list(Surveyor(folder).survey())
    assert [len(rows_of([page])) for page in pages] == [1, 512, 512, 76, 1]


def test_a_deep_tree_is_surveyed_with_few_handles(tmp_path: Path) -> None:
    write(tmp_path.joinpath(*["down"] * 60, "bottom"))
    with Folder(tmp_path, kept=4) as folder:
        assert rows_of(Surveyor(folder).survey())[-1] == End(1, 61)


def test_many_files_in_one_folder_take_little_memory(tmp_path: Path) -> None:
    for number in range(20_000):
        os.close(os.open(tmp_path / f"sensor-{number:06}.log", os.O_CREAT | os.O_WRONLY))
    with Folder(tmp_path) as folder:
        tracemalloc.start()
        try:
            size = sum(map(len, Surveyor(folder).survey()))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size > 20_000 * 50
    assert peak < 6 << 20


def test_a_survey_that_is_left_leaves_nothing_open(folder: Folder) -> None:
    write(folder.path / "sub" / "file")
    pages = Surveyor(folder).survey()
    next(pages)
    pages.close()


# What can't be had


def test_a_folder_that_may_not_be_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder.path / "closed" / "file")
    write(folder.path / "open" / "file")
    failing_at(monkeypatch, folder, "enter", "closed", PermissionError(errno.EACCES, "no"))
    rows = rows_of(Surveyor(folder).survey())
    closed = rows[1]
    assert isinstance(closed, FolderRow)
    assert (closed.path, closed.complete, closed.facts) == (b"closed", False, facts(folder.path / "closed"))
    assert rows[2] == SkippedRow(b"", "permission denied")
    assert names(rows[3:]) == [b"open", b"file"]
    assert rows[-1] == End(1, 3)


def test_a_folder_of_which_nothing_can_be_known(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.path / "sub").mkdir()
    failing_at(monkeypatch, folder, "enter", "sub", None)
    pages = Surveyor(folder).survey()
    first = [next(pages), next(pages)]
    failing_at(monkeypatch, folder, "status", "sub", None)
    rows = rows_of([*first, *pages])
    row = rows[1]
    assert isinstance(row, FolderRow)
    assert (row.path, row.complete) == (b"sub", False)
    assert rows[2] == SkippedRow(b"", "broken disk")


def test_a_folder_that_can_not_be_read_to_its_end(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write(folder.path / "sub" / name)
    breaking_off(monkeypatch, folder.path / "sub", after=2)
    rows = rows_of(Surveyor(folder).survey())
    row = rows[1]
    assert isinstance(row, FolderRow)
    assert (row.path, row.complete) == (b"sub", False)
    assert rows[2] == SkippedRow(b"", "broken disk")
    assert rows[-1] == End(2, 2)


def test_a_file_that_can_not_be_looked_at(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad", "good", "gone"):
        write(folder.path / name)
    failing_at(monkeypatch, folder, "status", "bad", None)
    failing_at(monkeypatch, folder, "status", "gone", FileNotFoundError(errno.ENOENT, "gone"))
    rows = rows_of(Surveyor(folder).survey())
    assert rows[1:] == [
        SkippedRow(b"bad", "broken disk"),
        FileRow(b"good", facts(folder.path / "good").encode()),
        End(1, 1),
    ]


def test_a_folder_that_goes_away_before_it_is_read_is_not_told_of(folder: Folder) -> None:
    write(folder.path / "one" / "file")
    write(folder.path / "two" / "file")
    pages = Surveyor(folder).survey()
    rows = rows_of([next(pages), next(pages)])
    shutil.rmtree(folder.path / "one")
    rows += rows_of(pages)
    assert names(rows) == [b"", b"two", b"file"]
    assert rows[-1] == End(1, 2)


def test_paths_that_are_too_long_are_skipped_where_they_begin(tmp_path: Path) -> None:
    name = "d" * 250
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(17):
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("f" * 79, os.O_CREAT, dir_fd=handle))
    os.close(handle)
    with Folder(tmp_path) as folder:
        rows = rows_of(Surveyor(folder).survey())
    assert rows[-1] == End(0, 17)
    deepest, skipped = rows[-3:-1]
    assert isinstance(deepest, FolderRow)
    assert len(deepest.path) == 16 * 251 - 1
    assert skipped == SkippedRow(b"", f"{'d' * 60!r}... is refused: its path is too long")


def test_names_that_can_not_be_told_are_told_of(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems than this one have longer names, and names without bytes."""
    (folder.path / "z").touch()
    strange = ["x" * 300, "x" * 299, "lone \ud800", "lone \ud801", "a" * 256, "z"]
    entries = [SimpleNamespace(name=name) for name in strange]
    monkeypatch.setattr(type(folder.directory(())), "entries", lambda self: iter(entries))
    rows = rows_of(Surveyor(folder).survey())
    assert names(rows) == [b"", b"", b"", b"", b"", b"", b"z"]
    reasons = [row.reason for row in rows if isinstance(row, SkippedRow)]
    assert sum("too long" in reason for reason in reasons) == 3
    assert sum("lone surrogate" in reason for reason in reasons) == 2


def test_a_time_beyond_all_times(folder: Folder) -> None:
    path = write(folder.path / "file")
    os.utime(path, ns=(0, 14 * 10**18))
    if path.stat().st_mtime_ns < 1 << 63:
        pytest.skip("this file system has no such times")
    row = rows_of(Surveyor(folder).survey())[1]
    assert isinstance(row, FileRow)
    assert Facts.decode(row.facts).mtime_ns == (1 << 63) - 1


@pytest.mark.parametrize(
    ("inode", "expected"), [(1, 1), ((1 << 64) - 1, -1), (1 << 63, -(1 << 63)), ((1 << 100) + 5, 5)]
)
def test_large_inodes(inode: int, expected: int) -> None:
    status: Any = SimpleNamespace(st_mode=0o104755, st_uid=1, st_gid=2, st_size=3, st_mtime_ns=-(1 << 70), st_ino=inode)
    assert facts_of(status) == Facts(0o755, 1, 2, 3, -(1 << 63) + 1, expected)
    assert Facts.decode(facts_of(status).encode()) == facts_of(status)


def test_a_shared_folder_that_has_gone(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    with Folder(tmp_path / "share") as folder:
        surveyor = following(folder)
        assert rows_of(surveyor.survey())[-1] == End(0, 1)
        (tmp_path / "share").rmdir()
        with pytest.raises(NotFound, match="any more: it is not there"):
            list(surveyor.changes())
        (tmp_path / "share").mkdir()
        (tmp_path / "share" / "other").mkdir()
        with pytest.raises(NotFound, match="another one has its name"):
            list(surveyor.changes())

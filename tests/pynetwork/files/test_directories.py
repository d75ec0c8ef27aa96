from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.paths import partial_name
from pynetwork.files import directories
from pynetwork.files.directories import CREATE, HAS_HANDLES, READ, Directory, HandleDirectory, open_directory

STAMP = 1_500_000_000_000_000_001

with_handles = pytest.mark.skipif(not HAS_HANDLES, reason="this system has no handles of directories")


@pytest.fixture(params=["handles", "plain"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Directory]:
    """A directory with a file and a directory, reached by its handle or, as on Windows, by its path."""
    (tmp_path / "below").mkdir()
    (tmp_path / "file").write_bytes(b"contents")
    opened = open_directory(str(tmp_path), handles=request.param == "handles")
    yield opened
    opened.close()


def names(directory: Directory) -> list[str]:
    return sorted(entry.name for entry in directory.entries())


def test_directories_do_what_their_names_say(directory: Directory) -> None:
    os.close(directory.open("new", CREATE, 0o600))
    directory.set_times("new", (1, STAMP))
    assert directory.status("new").st_mtime_ns == STAMP
    directory.replace("new", "renamed")
    assert names(directory) == ["below", "file", "renamed"]
    directory.flush()
    again = directory.again()
    directory.remove("renamed")
    with pytest.raises(FileNotFoundError):
        again.status("renamed")
    again.close()
    directory.make("made", 0o700)
    assert stat.S_ISDIR(directory.status("made").st_mode)
    assert names(directory) == ["below", "file", "made"]


def test_only_an_empty_directory_is_removed(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "below/file").touch()
    with pytest.raises(OSError, match="not empty"):
        directory.remove_empty("below")
    with pytest.raises(NotADirectoryError):
        directory.remove_empty("file")
    (tmp_path / "below/file").unlink()
    directory.remove_empty("below")
    assert names(directory) == ["file"]


def test_owners_are_numbers_where_there_are_such(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "chown", lambda *arguments, **how: given.append((*arguments, how["follow_symlinks"])))
    if isinstance(directory, HandleDirectory):
        directory.set_owner("file", 5, 6)
        assert given == [("file", 5, 6, False)]
    else:
        with pytest.raises(PermissionError):
            directory.set_owner("file", 5, 6)
        assert given == []


def test_a_directory_within(directory: Directory, tmp_path: Path) -> None:
    below = directory.enter("below")
    os.close(below.open("deep", CREATE))
    assert (tmp_path / "below" / "deep").exists()
    assert below.own_status().st_ino == (tmp_path / "below").stat().st_ino
    below.close()
    for name, error in (("none", FileNotFoundError), ("file", NotADirectoryError)):
        with pytest.raises(error):
            directory.enter(name)


def test_a_file_can_have_a_second_name_elsewhere(directory: Directory, tmp_path: Path) -> None:
    below = directory.enter("below")
    directory.link("file", below, "second")
    with pytest.raises(FileExistsError):
        directory.link("file", below, "second")
    below.close()
    assert (tmp_path / "below" / "second").samefile(tmp_path / "file")


@with_handles
def test_the_second_name_of_a_link_is_not_that_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    directory = open_directory(str(tmp_path / "in"), handles=True)
    directory.link("link", directory, "second")
    directory.close()
    assert (tmp_path / "in" / "second").is_symlink()
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_links_are_made_and_read_and_not_followed(directory: Directory, tmp_path: Path) -> None:
    for name, target in (("to file", "file"), ("to directory", "below"), ("astray", "/no/such\udcff")):
        directory.make_link(name, target)
        assert directory.read_link(name) == target
        assert stat.S_ISLNK(directory.status(name).st_mode)
    for use in (lambda: directory.enter("to directory"), lambda: directory.open("to file", READ)):
        with pytest.raises(OSError, match="Errno") as caught:
            use()
        assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    with pytest.raises(OSError, match="Errno"):
        directory.read_link("file")


def test_a_directory_is_dressed(directory: Directory, tmp_path: Path) -> None:
    below = directory.enter("below")
    mode = below.own_status().st_mode & 0o777
    below.dress(None, (1, STAMP))
    assert (below.own_status().st_mode & 0o777, below.own_status().st_mtime_ns) == (mode, STAMP)
    below.dress(0o050, (1, STAMP + 5))
    below.close()
    assert (tmp_path / "below").stat().st_mtime_ns == STAMP + 5
    # What is written to must stay open to its owner.
    assert (tmp_path / "below").stat().st_mode & 0o700 == 0o700


@with_handles
def test_a_dressed_directory_has_the_mode(tmp_path: Path) -> None:
    directory = open_directory(str(tmp_path), handles=True)
    directory.dress(0o705, (1, STAMP))
    directory.close()
    assert tmp_path.stat().st_mode & 0o777 == 0o705


def test_a_plain_directory_that_may_not_be_dressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_keywords: Any) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "utime", refuse)
    before = tmp_path.stat().st_mtime_ns
    open_directory(str(tmp_path), handles=False).dress(None, (1, STAMP))
    assert tmp_path.stat().st_mtime_ns == before != STAMP


def test_what_is_no_directory_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for handles in (True, False):
        with pytest.raises(NotADirectoryError):
            open_directory(str(tmp_path / "file"), handles=handles)
        with pytest.raises(FileNotFoundError):
            open_directory(str(tmp_path / "none"), handles=handles)


def test_entries_that_are_left_begin_anew(directory: Directory) -> None:
    for _ in range(2):
        entries = directory.entries()
        assert next(entries).name in {"below", "file"}
        entries.close()  # type: ignore[attr-defined]
        assert names(directory) == ["below", "file"]


# Files without a name


@pytest.mark.skipif(not directories._UNNAMED, reason="every file has a name here")
def test_a_file_gets_its_name_when_it_is_ready(tmp_path: Path) -> None:
    directory = open_directory(str(tmp_path), handles=True)
    for name in ("first", "second"):
        handle = directory.open_unnamed(0o600)
        assert handle is not None
        os.write(handle, name.encode())
        assert not (tmp_path / name).exists()
        directory.give_name(handle, name)
        os.close(handle)
        assert (tmp_path / name).read_text() == name
    handle = directory.open_unnamed(0o600)
    assert handle is not None
    with pytest.raises(FileExistsError):
        directory.give_name(handle, "first")
    os.close(handle)
    assert directory.open_unnamed(0o600) is None
    directory.close()
    assert (tmp_path / "first").read_text() == "first"


def left_behind(path: Path) -> None:
    (path / partial_name("any")).touch()


def many(path: Path) -> None:
    for number in range(8):
        (path / str(number)).touch()


@with_handles
@pytest.mark.parametrize("fill", [left_behind, many])
def test_some_directories_have_only_files_with_names(
    tmp_path: Path, fill: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "_MOST_LOOKED_AT", 8)
    fill(tmp_path)
    directory = open_directory(str(tmp_path), handles=True)
    assert directory.open_unnamed(0o600) is None
    directory.close()


def test_a_plain_directory_has_only_files_with_names(tmp_path: Path) -> None:
    directory = open_directory(str(tmp_path), handles=False)
    assert directory.open_unnamed(0o600) is None
    with pytest.raises(NotImplementedError):
        directory.give_name(0, "name")


# Somebody in between


@with_handles
def test_a_handle_stays_with_its_directory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    directory = open_directory(str(tmp_path / "in"), handles=True)
    assert isinstance(directory, HandleDirectory)
    (tmp_path / "in").rename(tmp_path / "moved")
    (tmp_path / "in").symlink_to(tmp_path / "out")
    os.close(directory.open("file", CREATE))
    directory.make("sub")
    directory.close()
    assert sorted(os.listdir(tmp_path / "moved")) == ["file", "sub"]
    assert os.listdir(tmp_path / "out") == []


def test_a_plain_directory_notices_a_link_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "file").write_bytes(b"inside")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_bytes(b"outside")
    directory = open_directory(str(tmp_path / "in" / "sub"), handles=False)
    (tmp_path / "in" / "sub").rename(tmp_path / "in" / "old")
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "out")
    uses: list[Callable[[], Any]] = [
        lambda: directory.open("file", READ),
        lambda: directory.remove("file"),
        lambda: directory.replace("file", "other"),
        lambda: directory.make("new"),
        lambda: list(directory.entries()),
        lambda: directory.status("file"),
        lambda: directory.set_times("file", (1, 1)),
        lambda: directory.link("file", directory, "other"),
        lambda: directory.read_link("file"),
        lambda: directory.make_link("new", "file"),
        lambda: directory.dress(0o777, (1, 1)),
        directory.own_status,
        lambda: directory.enter("sub"),
    ]
    for use in uses:
        with pytest.raises(OSError, match="Errno") as caught:
            use()
        assert caught.value.errno == errno.ELOOP
    assert os.listdir(tmp_path / "out") == ["file"]
    assert (tmp_path / "out" / "file").read_bytes() == b"outside"
    assert (tmp_path / "out" / "file").stat().st_mtime_ns > 1

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import UnsafePath
from handshakes.manifest import Entry
from handshakes.paths import partial_name
from pynetwork.files import descriptors, directories, partials
from pynetwork.files.directories import REUSE, HandleDirectory
from pynetwork.files.folders import Folder
from pynetwork.files.partials import PartialFile, TargetBusy, TargetExists, write_file
from tests.serving import Background

STAMP = 1_600_000_000_123_456_789


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where every file needs a name."""
    monkeypatch.setattr(directories, "_UNNAMED", 0)


@pytest.fixture(params=["handles", "named", "plain", "windows"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A folder by handles, the same where every file needs a name, by paths, and as on Windows: without locks, files
    closed before they are renamed.
    """
    if request.param == "named":
        monkeypatch.setattr(directories, "_UNNAMED", 0)
    if request.param == "windows":
        monkeypatch.setattr(partials, "fcntl", None)
    with Folder(tmp_path, handles=request.param in ("handles", "named")) as opened:
        yield opened


def entry(path: str, size: int = 0, mode: int = 0o640) -> Entry:
    return Entry(path, size, STAMP, mode)


def names(folder: Folder) -> list[str]:
    return sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file())


# Whole files


@pytest.mark.skipif(not directories._UNNAMED, reason="every file has a name here")
def test_a_new_file_has_no_name_until_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def look(handle: int, data: bytes, offset: int) -> int:
        seen.append(os.listdir(tmp_path))
        return os.pwrite(handle, data, offset)

    monkeypatch.setattr(descriptors, "_pwrite", look)
    with Folder(tmp_path) as folder:
        write_file(folder, entry("file", 5, 0o604), b"hello", durable=True)
        assert seen == [[]]
        # The second finds the name taken, and all after it in this folder go the long way.
        write_file(folder, entry("file", 5), b"again")
        write_file(folder, entry("other", 5), b"other")
    assert list(map(sorted, seen)) == [[], ["file"], [".file.partial", "file"], [".other.partial", "file"]]
    assert (tmp_path / "file").read_bytes() == b"again"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


@pytest.mark.parametrize("call", ["open", "link"])
def test_where_files_without_a_name_can_not_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    original = getattr(os, call)

    def refuse(path: str, *arguments: Any, **keywords: Any) -> Any:
        if call == "link" or path == ".":
            raise OSError(errno.EOPNOTSUPP, "not here")
        return original(path, *arguments, **keywords)

    with Folder(tmp_path) as folder:
        monkeypatch.setattr(os, call, refuse)
        for name in ("sub/one", "sub/two"):
            write_file(folder, entry(name, 5, 0o640), b"hello")
    assert {path.name: path.read_bytes() for path in (tmp_path / "sub").iterdir()} == {"one": b"hello", "two": b"hello"}


def test_what_an_earlier_transfer_left_is_taken_over_and_gone(tmp_path: Path) -> None:
    (tmp_path / partial_name("file")).write_bytes(b"left behind")
    with Folder(tmp_path) as folder:
        write_file(folder, entry("file", 5), b"hello")
    assert os.listdir(tmp_path) == ["file"]


def test_a_mode_that_the_mask_would_cut_is_set_all_the_same(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        write_file(folder, entry("file", 5, 0o666), b"hello")
    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o666


# Whole files, in each kind of folder


def test_a_file_is_written_with_mode_and_time(folder: Folder) -> None:
    write_file(folder, entry("sub/dir/file", 5, 0o751), b"hello")
    path = folder.path / "sub/dir/file"
    status = path.stat()
    assert path.read_bytes() == b"hello"
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o751, STAMP)
    assert names(folder) == ["sub/dir/file"]


def test_an_empty_file_and_a_durable_one(folder: Folder) -> None:
    write_file(folder, entry("empty"), b"")
    write_file(folder, entry("durable", 1), memoryview(b"x"), durable=True)
    assert (folder.path / "empty").read_bytes() == b""
    assert (folder.path / "durable").read_bytes() == b"x"


def test_the_file_itself_is_replaced_not_its_contents(folder: Folder) -> None:
    target = folder.path / "file"
    target.write_bytes(b"old")
    other_name = folder.path / "other name"
    os.link(target, other_name)
    write_file(folder, entry("file", 3), b"new")
    assert target.read_bytes() == b"new"
    assert other_name.read_bytes() == b"old"


def test_no_set_user_id_travels(folder: Folder) -> None:
    write_file(folder, entry("file", 1, 0o6755), b"x")
    assert (folder.path / "file").stat().st_mode & 0o7777 == 0o755


def test_what_exists_is_kept_when_asked(folder: Folder) -> None:
    (folder.path / "file").write_bytes(b"old")
    with pytest.raises(TargetExists):
        write_file(folder, entry("file", 3), b"new", overwrite=False)
    write_file(folder, entry("other", 3), b"new", overwrite=False)
    assert (folder.path / "file").read_bytes() == b"old"
    assert names(folder) == ["file", "other"]


def test_names_of_partial_files_are_refused(folder: Folder) -> None:
    for path in (".x.partial", "sub/.x.partial"):
        with pytest.raises(UnsafePath, match="partial"):
            write_file(folder, entry(path, 1), b"x")
    assert names(folder) == []


def test_a_folder_under_the_final_name_is_left_alone(folder: Folder) -> None:
    (folder.path / "taken" / "sub").mkdir(parents=True)
    with pytest.raises(OSError, match="Errno"):
        write_file(folder, entry("taken", 1), b"x")
    assert (folder.path / "taken" / "sub").is_dir()
    assert names(folder) == []


def test_the_longest_name_can_be_written(folder: Folder) -> None:
    name = "n" * 255
    write_file(folder, entry(name, 1), b"x")
    assert names(folder) == [name]


def test_what_was_left_behind_is_taken_over(folder: Folder) -> None:
    (folder.path / partial_name("file")).write_bytes(b"left behind, and longer")
    write_file(folder, entry("file", 3), b"new")
    assert (folder.path / "file").read_bytes() == b"new"
    assert names(folder) == ["file"]


def test_a_link_in_place_of_the_partial_file_is_removed(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "victim"
    outside.write_bytes(b"precious")
    (folder.path / partial_name("soft")).symlink_to(outside)
    os.link(outside, folder.path / partial_name("hard"))
    write_file(folder, entry("soft", 3), b"new")
    write_file(folder, entry("hard", 3), b"new")
    assert outside.read_bytes() == b"precious"
    assert (folder.path / "soft").read_bytes() == (folder.path / "hard").read_bytes() == b"new"
    assert not (folder.path / "soft").is_symlink()


def test_a_link_under_the_final_name_is_replaced(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "victim"
    outside.write_bytes(b"precious")
    (folder.path / "file").symlink_to(outside)
    write_file(folder, entry("file", 3), b"new")
    assert outside.read_bytes() == b"precious"
    assert not (folder.path / "file").is_symlink()


def test_a_folder_that_was_removed_while_it_was_held_open_is_made_again(folder: Folder) -> None:
    write_file(folder, entry("sub/one", 1), b"1")
    (folder.path / "sub" / "one").unlink()
    (folder.path / "sub").rmdir()
    write_file(folder, entry("sub/two", 1), b"2")
    assert names(folder) == ["sub/two"]


def test_a_full_disk_leaves_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(descriptors, "_pwrite", full)
    with pytest.raises(OSError, match="full"):
        write_file(folder, entry("file", 1), b"x")
    assert names(folder) == []


def test_much_is_written_in_pieces(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def note(handle: int, data: Any, offset: int) -> int:
        sizes.append(len(data))
        return os.pwrite(handle, data, offset)

    monkeypatch.setattr(descriptors, "_pwrite", note)
    data = os.urandom(1_000_003)
    write_file(folder, Entry("much", len(data), STAMP, 0o644), data)
    assert (folder.path / "much").read_bytes() == data
    assert sum(sizes) == len(data)
    assert max(sizes) == descriptors._PIECE


def test_short_writes_are_continued(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_pwrite", lambda handle, data, offset: os.pwrite(handle, data[:3], offset))
    write_file(folder, entry("file", 10), b"0123456789")
    assert (folder.path / "file").read_bytes() == b"0123456789"


def test_systems_without_positional_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_pwrite", descriptors._seek_and_write)
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", 6))
        partial.write(b"def", 3)
        partial.write(b"abc", 0)
        partial.complete(entry("file", 6))
    assert (tmp_path / "file").read_bytes() == b"abcdef"


# Locks


def test_two_transfers_to_one_target_are_told_apart(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder, Folder(tmp_path) as other:
        partial = PartialFile(folder, entry("file", 3))
        with pytest.raises(TargetBusy, match="another transfer"):
            PartialFile(other, entry("file", 9))
        with pytest.raises(TargetBusy):
            write_file(other, entry("file", 1), b"x")
        partial.write(b"abc", 0)
        partial.complete(entry("file", 3))
        write_file(other, entry("file", 1), b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_on_windows_an_open_file_is_its_own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "fcntl", None)

    def refuse(self: directories.Directory, name: str) -> None:
        raise PermissionError(errno.EACCES, "in use")

    (tmp_path / partial_name("file")).touch()
    with Folder(tmp_path) as folder:
        monkeypatch.setattr(HandleDirectory, "remove", refuse)
        with pytest.raises(TargetBusy):
            write_file(folder, entry("file", 1), b"x")


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(("number", "works"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, works: bool) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(partials.fcntl, "flock", refuse)
    with Folder(tmp_path) as folder:
        if works:
            write_file(folder, entry("file", 1), b"x")
        else:
            with pytest.raises(OSError, match="no"):
                write_file(folder, entry("file", 1), b"x")
    assert (tmp_path / "file").exists() is works


def at_first_lock(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Let ``action`` happen once, between the opening of a partial file and its locking."""
    lock = partials._lock
    left = [action]

    def slow(handle: int) -> None:
        if left:
            left.pop()()
        lock(handle)

    monkeypatch.setattr(partials, "_lock", slow)


def test_a_partial_file_that_is_completed_before_it_is_locked_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody took the new file over, completed and renamed it: what is open now is theirs."""
    with Folder(tmp_path) as folder, Folder(tmp_path) as other:
        at_first_lock(monkeypatch, lambda: write_file(other, entry("file", 5), b"their"))
        partial = PartialFile(folder, entry("file", 3))
        assert (tmp_path / "file").read_bytes() == b"their"
        partial.write(b"our", 0)
        assert (tmp_path / "file").read_bytes() == b"their"
        partial.complete(entry("file", 3))
    assert (tmp_path / "file").read_bytes() == b"our"


def test_a_partial_file_that_vanishes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / partial_name("file")
    path.touch()
    with Folder(tmp_path) as folder:
        at_first_lock(monkeypatch, path.unlink)
        write_file(folder, entry("file", 1), b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.usefixtures("named")
def test_a_target_that_is_never_got_hold_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "_is_still", lambda *_: False)
    with Folder(tmp_path) as folder, pytest.raises(TargetBusy):
        write_file(folder, entry("file", 1), b"x")


def test_a_leftover_that_vanishes_meanwhile_or_may_not_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / partial_name("file")
    opening = HandleDirectory.open
    refusals: list[OSError] = [FileNotFoundError(errno.ENOENT, "gone"), PermissionError(errno.EACCES, "no")]

    def troubled(self: HandleDirectory, name: str, flags: int, mode: int = 0o600) -> int:
        if flags == REUSE:
            path.unlink(missing_ok=isinstance(refusals[0], FileNotFoundError))
            path.touch()
            raise refusals.pop(0)
        return opening(self, name, flags, mode)

    path.touch()
    monkeypatch.setattr(HandleDirectory, "open", troubled)
    with Folder(tmp_path) as folder:
        write_file(folder, entry("file", 1), b"x")
    assert refusals == []
    assert os.listdir(tmp_path) == ["file"]


# Files that are gathered


def test_chunks_arrive_in_any_order(folder: Folder) -> None:
    partial = PartialFile(folder, entry("sub/file", 9))
    for offset in (6, 0, 3):
        assert partial.write(b"012345678"[offset : offset + 3], offset)
        assert not (folder.path / "sub/file").exists()
    partial.complete(entry("sub/file", 9), durable=True)
    status = (folder.path / "sub/file").stat()
    assert (folder.path / "sub/file").read_bytes() == b"012345678"
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o640, STAMP)
    assert not partial.write(b"late", 0)
    assert not partial.write_hole(0, 4)
    partial.discard()
    assert names(folder) == ["sub/file"]


def test_what_is_given_up_is_removed(folder: Folder) -> None:
    partial = PartialFile(folder, entry("file", 9))
    partial.write(b"abc", 0)
    partial.discard()
    partial.discard()
    assert names(folder) == []
    with pytest.raises(OSError, match="given up"):
        partial.complete(entry("file", 9))


def test_a_completion_that_fails_leaves_nothing(folder: Folder) -> None:
    (folder.path / "file").write_bytes(b"old")
    partial = PartialFile(folder, entry("file", 1))
    with pytest.raises(TargetExists):
        partial.complete(entry("file", 1), overwrite=False)
    assert (folder.path / "file").read_bytes() == b"old"
    assert names(folder) == ["file"]


def test_a_file_that_can_not_be_so_large_leaves_nothing(folder: Folder) -> None:
    with pytest.raises(OSError, match="Errno"):
        PartialFile(folder, entry("file", (1 << 63) - 1))
    assert names(folder) == []


def test_holes_take_no_space(tmp_path: Path) -> None:
    size = 1 << 20
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", size))
        partial.write(b"end", size - 3)
        assert partial.write_hole(0, size - 4096)
        partial.complete(entry("file", size))
    path = tmp_path / "file"
    assert path.read_bytes() == bytes(size - 3) + b"end"
    assert path.stat().st_blocks * 512 < size // 2


@pytest.mark.parametrize("had", [10, 100_000, 200_000, 300_000])
def test_holes_are_zeros_in_what_was_left_behind(tmp_path: Path, had: int) -> None:
    size = 200_000
    (tmp_path / partial_name("file")).write_bytes(b"x" * had)
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", size))
        partial.write_hole(0, 150_000)
        partial.write_hole(150_000, size - 150_000)
        partial.complete(entry("file", size))
    assert (tmp_path / "file").read_bytes() == bytes(size)


def test_a_descriptor_is_not_closed_under_a_thread_that_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, goes_on = threading.Event(), threading.Event()
    written: list[int] = []

    def slow(handle: int, data: bytes, offset: int) -> int:
        writing.set()
        assert goes_on.wait(10)
        written.append(os.pwrite(handle, data, offset))
        return written[-1]

    monkeypatch.setattr(descriptors, "_pwrite", slow)
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", 9))
        writer = Background(partial.write, b"abc", 0)
        assert writing.wait(10)
        partial.discard()
        assert os.listdir(tmp_path) == []
        goes_on.set()
        assert writer.result() is True
        assert written == [3]


def test_a_file_is_completed_when_nobody_writes_to_it_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, goes_on = threading.Event(), threading.Event()

    def slow(handle: int, data: bytes, offset: int) -> int:
        writing.set()
        assert goes_on.wait(10)
        return os.pwrite(handle, data, offset)

    monkeypatch.setattr(descriptors, "_pwrite", slow)
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", 3))
        writer = Background(partial.write, b"abc", 0)
        assert writing.wait(10)
        completing = Background(partial.complete, entry("file", 3))
        with pytest.raises(AssertionError, match="still runs"):
            completing.result(0.05)
        assert not (tmp_path / "file").exists()
        goes_on.set()
        completing.result()
        assert writer.result() is True
        assert (tmp_path / "file").stat().st_mtime_ns == STAMP


def test_no_descriptor_is_kept_when_a_claim_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: HandleDirectory) -> HandleDirectory:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(HandleDirectory, "again", fail)
    with Folder(tmp_path) as folder, pytest.raises(OSError, match="too many"):
        PartialFile(folder, entry("file", 1))

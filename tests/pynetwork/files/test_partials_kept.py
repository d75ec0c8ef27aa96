from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.manifest import Entry
from handshakes.paths import partial_name
from pynetwork.files import directories, partials
from pynetwork.files.folders import Folder
from pynetwork.files.partials import PartialFile, TargetBusy
from tests.serving import Background

STAMP = 1_600_000_000_123_456_789


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


# What stays for a later try


def test_what_is_kept_is_there_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / partial_name("file")
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", 9), keep=True)
        assert partial.had == 0
        partial.write(b"abc", 0)
        partial.release()
        partial.release()
        assert not partial.write(b"late", 0)
        assert path.read_bytes() == b"abc" + bytes(6)
        again = PartialFile(folder, entry("file", 6), keep=True)
        assert again.had == 6
        view = memoryview(bytearray(10))
        assert again.read_into(view[:4], 1) == 4
        assert bytes(view[:4]) == b"bc\0\0"
        assert again.read_into(view, 3) == 3
        again.write(b"def", 3)
        again.complete(entry("file", 6))
        assert again.read_into(view, 0) == 0
        again.release()
    assert (tmp_path / "file").read_bytes() == b"abcdef"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("left", "size", "had"), [(0, 5, 0), (3, 5, 3), (5, 5, 5), (9, 5, 5), (9, 0, 0)])
def test_how_much_of_a_file_was_there(tmp_path: Path, left: int, size: int, had: int) -> None:
    path = tmp_path / partial_name("file")
    path.write_bytes(b"x" * left)
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", size), keep=True)
        assert partial.had == had
        assert path.stat().st_size == size
        partial.discard()
    assert os.listdir(tmp_path) == []


def test_what_is_released_is_gone_unless_it_is_kept(folder: Folder) -> None:
    for keep in (False, True):
        partial = PartialFile(folder, entry("file", 3), keep=keep)
        partial.write(b"abc", 0)
        partial.release()
        assert names(folder) == ([partial_name("file")] if keep else [])
        with pytest.raises(OSError, match="given up"):
            partial.complete(entry("file", 3))
        with pytest.raises(OSError, match="given up"):
            partial.complete_by_appending(entry("file", 3), 1)


def test_what_is_released_is_free_for_others(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder, Folder(tmp_path) as other:
        partial = PartialFile(folder, entry("file", 3), keep=True)
        with pytest.raises(TargetBusy):
            PartialFile(other, entry("file", 3), keep=True)
        partial.release()
        PartialFile(other, entry("file", 3), keep=True).discard()


def test_a_completion_that_fails_keeps_what_is_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", 3), keep=True)
        partial.write(b"abc", 0)
        with pytest.raises(OSError, match="Errno"):
            partial.complete(entry("file", 3))
    assert (tmp_path / partial_name("file")).read_bytes() == b"abc"


def test_a_kept_file_that_can_not_be_so_large_stays(tmp_path: Path) -> None:
    path = tmp_path / partial_name("file")
    path.write_bytes(b"abc")
    with Folder(tmp_path) as folder, pytest.raises(OSError, match="Errno"):
        PartialFile(folder, entry("file", (1 << 63) - 1), keep=True)
    assert path.read_bytes() == b"abc"


def test_a_descriptor_is_not_closed_under_a_thread_that_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, goes_on = threading.Event(), threading.Event()

    def slow(handle: int, view: memoryview, offset: int) -> int:
        reading.set()
        assert goes_on.wait(10)
        return os.preadv(handle, [view], offset)

    monkeypatch.setattr(partials, "read_into", slow)
    with Folder(tmp_path) as folder:
        partial = PartialFile(folder, entry("file", 9))
        partial.write(b"abc", 0)
        reader = Background(partial.read_into, memoryview(bytearray(3)), 0)
        assert reading.wait(10)
        partial.discard()
        goes_on.set()
        assert reader.result() == 3


# Files that have grown


def grown(folder: Folder, before: bytes, after: bytes, start: int) -> PartialFile:
    """A file with ``before``, and beside it what is from ``start`` on of ``after``."""
    (folder.path / "sub").mkdir(exist_ok=True)
    target = folder.path / "sub/log"
    target.write_bytes(before)
    os.utime(target, ns=(STAMP - 5, STAMP - 5))
    target.chmod(0o600)
    partial = PartialFile(folder, entry("sub/log", len(after)), keep=True)
    partial.write(after[start:], start)
    return partial


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_added_is_appended(folder: Folder, durable: bool) -> None:
    after = os.urandom(3_000_000)
    partial = grown(folder, after[:1000], after, 1000)
    inode = (folder.path / "sub/log").stat().st_ino
    assert partial.complete_by_appending(entry("sub/log", len(after), 0o640), 1000, durable=durable)
    status = (folder.path / "sub/log").stat()
    assert (folder.path / "sub/log").read_bytes() == after
    assert (status.st_ino, status.st_mode & 0o7777, status.st_mtime_ns) == (inode, 0o640, STAMP)
    assert names(folder) == ["sub/log"]
    assert not partial.write(b"late", 0)
    partial.release()
    partial.discard()


def unlink(path: Path) -> None:
    path.unlink()


def be_longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def be_shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def have_two_names(path: Path) -> None:
    os.link(path, path.with_name("second"))


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def be_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def be_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def looks(path: Path) -> Any:
    """All that is to stay as it was."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    contents = path.read_bytes() if path.is_file() else None
    return status.st_ino, status.st_mode, status.st_nlink, status.st_mtime_ns, contents


@pytest.mark.parametrize("change", [unlink, be_longer, be_shorter, have_two_names, be_a_folder, be_a_link, be_a_pipe])
def test_nothing_is_appended_to_what_is_not_the_beginning(folder: Folder, change: Callable[[Path], None]) -> None:
    partial = grown(folder, b"begin", b"begin and more", 5)
    path = folder.path / "sub/log"
    change(path)
    before = looks(path)
    assert partial.complete_by_appending(entry("sub/log", 14), 5) is False
    assert looks(path) == before
    # It can still be completed in the other way.
    if change is not be_a_folder:
        partial.write(b"begin", 0)
        partial.complete(entry("sub/log", 14))
        assert path.read_bytes() == b"begin and more"
        assert not path.is_symlink()
    partial.discard()


@pytest.mark.parametrize("call", ["write_all", "fsync", "fchmod", "read_into"])
def test_an_append_that_fails_leaves_the_file_as_it_was(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    after = os.urandom(2_500_000)
    partial = grown(folder, after[:1000], after, 1000)
    path = folder.path / "sub/log"
    before = path.stat()
    where: Any = os if call in {"fsync", "fchmod"} else partials
    original = getattr(where, call)
    calls = [0]

    def full(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] >= (1 if where is os else 2):
            raise OSError(errno.ENOSPC, "full")
        return original(*arguments)

    monkeypatch.setattr(where, call, full)
    with pytest.raises(OSError, match="full"):
        partial.complete_by_appending(entry("sub/log", len(after), 0o640), 1000, durable=True)
    monkeypatch.setattr(where, call, original)
    now = path.stat()
    assert path.read_bytes() == after[:1000]
    assert (now.st_ino, now.st_mode) == (before.st_ino, before.st_mode)
    if partials.fcntl is not None:
        assert now.st_mtime_ns == before.st_mtime_ns
    # Once there is room again it can be tried again.
    assert partial.complete_by_appending(entry("sub/log", len(after), 0o640), 1000)
    assert path.read_bytes() == after


def test_a_partial_file_that_is_shorter_than_it_was_is_not_appended(folder: Folder) -> None:
    partial = grown(folder, b"begin", b"begin and more", 5)
    os.truncate(folder.path / "sub" / partial_name("log"), 7)
    with pytest.raises(OSError, match="shorter than it was"):
        partial.complete_by_appending(entry("sub/log", 14), 5)
    assert (folder.path / "sub/log").read_bytes() == b"begin"
    partial.discard()


def test_nothing_is_appended_while_somebody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Folder(tmp_path) as folder:
        partial = grown(folder, b"begin", b"begin and more", 5)
        writing, goes_on = threading.Event(), threading.Event()
        write_all = partials.write_all

        def slow(handle: int, data: bytes, offset: int) -> None:
            writing.set()
            assert goes_on.wait(10)
            write_all(handle, data, offset)

        monkeypatch.setattr(partials, "write_all", slow)
        writer = Background(partial.write, b" AND", 5)
        assert writing.wait(10)
        completing = Background(partial.complete_by_appending, entry("sub/log", 14), 5)
        with pytest.raises(AssertionError, match="still runs"):
            completing.result(0.05)
        assert (tmp_path / "sub/log").read_bytes() == b"begin"
        goes_on.set()
        assert completing.result() is True
        assert writer.result() is True
        assert (tmp_path / "sub/log").read_bytes() == b"begin AND more"

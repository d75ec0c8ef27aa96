"""Files that change while they are backed up: never is a torn mix of two contents under a final name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.manifest import CHUNK_SIZE
from pynetwork.files import reading
from pynetwork.files.directories import HandleDirectory
from pynetwork.files.folders import Folder
from pynetwork.files.reading import Reader
from tests.pynetwork.backup.mirroring import LARGE, SECOND, STAMP, Scene, append, new, numbered, scene, seen, write
from tests.pynetwork.files.transferring import once

SMALL = 5000
SIZES = [SMALL, LARGE]


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def before(monkeypatch: pytest.MonkeyPatch, methods: str, trouble: Callable[[], object], call: int = 1) -> None:
    """Let ``trouble`` happen once, before the gateway's reader does one of these things for this many times."""
    over: list[object] = []

    def troubled(function: Callable[..., Any], *arguments: Any) -> Any:
        if not over:
            over.append(trouble())
        return function(*arguments)

    for method in methods.split():
        monkeypatch.setattr(Reader, method, once(troubled, getattr(Reader, method), call))


def vanish(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    append(path, new(3000))


def shrink(path: Path) -> None:
    os.truncate(path, 1000)


def be_replaced(path: Path) -> None:
    other = write(path.with_name("other"), new(path.stat().st_size + 100))
    other.replace(path)


def become_a_folder(path: Path) -> None:
    path.unlink()
    write(path / "in it", b"x")


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("beside")


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


TROUBLES = [vanish, grow, shrink, be_replaced, become_a_folder, become_a_link, become_a_pipe]


@pytest.mark.parametrize("how", ["new", "grown"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_happens_between_the_survey_and_the_reading(
    at: Scene, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Path], None], size: int, how: str
) -> None:
    at.put("beside", new(100))
    path = at.put("sub/app.log", new(size))
    if how == "grown":
        at.backup()
        append(path, new(2000))
    old = path.read_bytes()
    with monkeypatch.context() as patched:
        before(patched, "read_pack read_grown sums read_chunk", lambda: trouble(path))
        report = at.backup()
    new_content = path.read_bytes() if path.is_file() else b""
    mirrored = at.to / "sub/app.log"
    if mirrored.is_file():
        assert mirrored.read_bytes() in {old, new_content, new_content[: len(old)], old[:-2000]}
    assert report.complete or report.skipped[0].path == "sub/app.log"
    assert trouble is not vanish or report.complete
    again = at.backup(mirror_deletes=True)
    if trouble is become_a_pipe:
        assert again.skipped == [("sub/app.log", "named pipe")]
    else:
        assert again.complete
        assert not at.differences()
    assert not at.verify().bad or trouble is become_a_pipe
    assert not list(at.to.rglob("*.partial"))


@pytest.mark.parametrize("call", [2, 3, 4])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_happens_while_a_large_file_is_read(
    at: Scene, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Path], None], call: int
) -> None:
    at.put("beside", new(100))
    path = at.put("app.log", new(LARGE))
    old = path.read_bytes()
    with monkeypatch.context() as patched:
        before(patched, "_read_chunk", lambda: trouble(path), call)
        at.backup()
    new_content = path.read_bytes() if path.is_file() else b""
    if (at.to / "app.log").is_file():
        assert at.here("app.log") in {old, new_content, new_content[: len(old)]}
    again = at.backup(mirror_deletes=True)
    assert again.complete or trouble is become_a_pipe
    assert trouble is become_a_pipe or at.is_same()


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_changes_again_and_again_is_left_alone(
    at: Scene, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = at.put("app.log", b"\0" * size)
    at.put("other", new(100))
    at.backup()
    generation = iter(range(1, 250))
    read_into = reading.read_into

    def changing(handle: int, view: memoryview, offset: int) -> int:
        half = len(view) // 2
        got = read_into(handle, view[:half], offset)
        if len(view) > 200 and got == half:
            write(path, bytes([next(generation)]) * size, mtime_ns=STAMP + SECOND * next(generation))
        return got + read_into(handle, view[half:], offset + half) if got == half else got

    write(path, b"\xff" * size, mtime_ns=STAMP + SECOND)
    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_into", changing)
        report = at.backup()
    assert report.skipped == [("app.log", "it changed while it was read")] or report.complete
    assert len(set(at.here("app.log"))) == 1
    assert at.backup().complete
    assert not at.differences()


def test_a_file_that_can_not_be_read_is_skipped_and_what_is_here_of_it_stays(
    at: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("small", "large"):
        at.put(name, new(LARGE if name == "large" else 100))
    at.put("fine", b"1")
    at.backup()
    kept = {name: at.here(name) for name in ("small", "large")}
    for name in ("small", "large", "fine"):
        at.grow(name, b"more")
    open_file = Folder.open_file

    def refuse(folder: Folder, path: str) -> int:
        if folder.path == at.share and path != "fine":
            raise PermissionError(13, "Permission denied")
        return open_file(folder, path)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "open_file", refuse)
        report = at.backup(mirror_deletes=True)
    assert report.skipped == [("large", "permission denied"), ("small", "permission denied")]
    assert (report.grown, report.gone, report.deleted) == (1, 0, 0)
    assert {name: at.here(name) for name in kept} == kept
    assert not at.verify().bad
    assert numbered(at.backup()) == {"files": 3, "unchanged": 1, "grown": 2}


@pytest.mark.parametrize("when", ["at once", "in the middle"])
def test_what_is_below_a_folder_that_can_not_be_read_is_not_gone(
    at: Scene, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    at.put("locked/file", new(10))
    at.put("locked/sub/deep/file", new(10))
    at.put("open/file", new(10))
    (at.share / "locked").chmod(0o750)
    at.backup()
    mirrored = seen(at.to)
    entries = HandleDirectory.entries
    locked = (at.share / "locked").stat().st_ino

    def refuse(directory: HandleDirectory) -> Iterator[os.DirEntry[str]]:
        if directory.own_status().st_ino == locked:
            if when == "in the middle":
                yield next(entries(directory))
            raise OSError(5, "Input/output error")
        yield from entries(directory)

    with monkeypatch.context() as patched:
        patched.setattr(HandleDirectory, "entries", refuse)
        report = at.backup(mirror_deletes=True)
    assert [path for path, _ in report.skipped] == ["locked"]
    assert (report.gone, report.deleted) == (0, 0)
    assert seen(at.to) == mirrored
    assert at.backup(mirror_deletes=True).complete
    assert not at.differences()


def test_a_folder_that_can_not_be_opened_keeps_its_mode_and_time(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put("locked/file", new(10))
    (at.share / "locked").chmod(0o750)
    os.utime(at.share / "locked", ns=(STAMP, STAMP))
    at.backup()
    mirrored = seen(at.to)
    directory = Folder.directory

    def refuse(folder: Folder, components: tuple[str, ...], *, create: bool = False) -> Any:
        if folder.path == at.share and components == ("locked",):
            raise PermissionError(13, "Permission denied")
        return directory(folder, components, create=create)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "directory", refuse)
        report = at.backup(mirror_deletes=True)
    assert report.skipped == [("locked", "permission denied")]
    assert seen(at.to) == mirrored
    assert at.backup().complete
    assert not at.differences()


def test_what_a_rotation_in_the_middle_pushes_away_is_not_moved_again(
    at: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = at.put("app.log", new(LARGE))
    at.backup()
    at.grow("app.log", new(1000))

    def rotate() -> None:
        log.rename(at.share / "app.log.1")
        write(log, new(500), mtime_ns=STAMP + 5 * SECOND)

    with monkeypatch.context() as patched:
        before(patched, "sums", rotate)
        at.backup()
    report = at.backup()
    assert report.received <= CHUNK_SIZE + 3000
    assert not at.differences()
    assert not list((at.to / ".pynetwork/held").iterdir())

"""Destinations that are full or read-only, that were damaged, or whose machine stopped; metadata."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.manifest import CHUNK_SIZE
from pynetwork.backup import CatalogueDamaged, CatalogueTooNew, catalogue, runs
from pynetwork.backup.catalogue import Catalogue
from tests.pynetwork.backup.mirroring import (
    LARGE,
    SECOND,
    STAMP,
    Scene,
    new,
    numbered,
    overwrite,
    scene,
    seen,
    settle_folders,
    write,
)

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
root_only = pytest.mark.skipif(not IS_ROOT, reason="only root may do that")
ROOM = 2000


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def plant(at: Scene) -> None:
    """A few files, and a folder."""
    at.put("small", new(100))
    at.put("sub/large", new(LARGE))
    at.put("sub/grows", new(100))
    (at.share / "empty").mkdir()
    settle_folders(at.share)


@contextlib.contextmanager
def mounted(where: Path, options: str) -> Iterator[None]:
    """A small file system in memory at ``where``; the test is skipped where that can't be had."""
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted: {made.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


# Where nothing can be written


@root_only
def test_a_full_destination_says_so_and_goes_on_when_there_is_room(at: Scene) -> None:
    names = [f"{number}.bin" for number in range(12)]
    for name in names:
        at.put(name, new(2 * CHUNK_SIZE))
    # Several files arrive side by side: there is room for two thirds of their bytes, so that some are whole.
    with mounted(at.to, "size=16m"):
        with pytest.raises(OSError, match=r"full|No space left") as caught:
            at.backup()
        assert caught.value.errno == errno.ENOSPC
        arrived = sum((at.to / name).exists() for name in names)
        assert 2 <= arrived < len(names)
        # What is there is right, and what is half there goes on later.
        assert all(at.here(name) == (at.share / name).read_bytes() for name in names if (at.to / name).exists())
        with pytest.raises(OSError, match=r"full|No space left"):
            at.backup()
        subprocess.run(["mount", "-o", "remount,size=64m", at.to], check=True)
        report = at.backup()
        assert report.complete
        assert report.received <= (12 - arrived) * 2 * CHUNK_SIZE + ROOM
        assert seen(at.share, times=False) == seen(at.to, times=False)
        assert [run.outcome for run in runs(at.to)][-1] == "complete"
        assert not at.verify().bad


@root_only
def test_a_full_destination_for_small_files(at: Scene) -> None:
    for number in range(300):
        at.put(f"{number}.log", new(10_000))
    with mounted(at.to, "size=2m"):
        with pytest.raises(OSError, match=r"full|No space left"):
            at.backup()
        subprocess.run(["mount", "-o", "remount,size=64m", at.to], check=True)
        report = at.backup()
        assert report.complete
        assert seen(at.share, times=False) == seen(at.to, times=False)
        assert not at.verify().bad


@root_only
def test_a_read_only_destination(at: Scene) -> None:
    plant(at)
    with mounted(at.to, "size=32m"):
        at.backup()
        subprocess.run(["mount", "-o", "remount,ro", at.to], check=True)
        with pytest.raises(OSError, match="Read-only") as caught:
            at.backup()
        assert caught.value.errno == errno.EROFS
        assert not at.differences()


# Catalogues


def junk(path: Path) -> None:
    path.write_bytes(new(5000))


def text(path: Path) -> None:
    path.write_text("this was a catalogue")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def holed(path: Path) -> None:
    overwrite(path, b"\0" * (path.stat().st_size - 4096), 4096)


def foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE files (name TEXT)")
        other.execute("CREATE TABLE others (name TEXT)")


def without_a_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as ours:
        ours.execute("DROP TABLE files")
        ours.commit()


def folder(path: Path) -> None:
    path.unlink()
    (path / "in it").mkdir(parents=True)


def missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [junk, text, cut, empty, holed, foreign, without_a_table, folder, missing])
def test_a_damaged_catalogue_costs_reading_and_not_moving(at: Scene, damage: object) -> None:
    assert callable(damage)
    plant(at)
    at.backup()
    where = at.to / ".pynetwork/catalogue.sqlite"
    damage(where)
    if damage not in (missing, empty):
        with pytest.raises((CatalogueDamaged, OSError), match="catalogue"):
            at.verify()
    report = at.backup(mirror_deletes=True)
    assert numbered(report) == {"files": 3, "unchanged": 3}
    assert report.received <= ROOM
    assert not at.differences()
    assert at.verify().files == 3
    assert not at.verify().bad
    assert bool(report.catalogue_aside) is (damage not in (missing, empty))
    assert not report.catalogue_aside or Path(report.catalogue_aside).exists()
    again = at.backup()
    assert (numbered(again), again.received, again.catalogue_aside) == ({"files": 3, "unchanged": 3}, 0, "")


def test_the_catalogue_of_a_later_version(at: Scene) -> None:
    plant(at)
    at.backup()
    with contextlib.closing(sqlite3.connect(at.to / ".pynetwork/catalogue.sqlite")) as ours:
        ours.execute("PRAGMA user_version=1000")
    for use in (at.backup, at.verify):
        with pytest.raises(CatalogueTooNew, match="later version"):
            use()


def test_bits_that_flipped_in_the_catalogue(at: Scene) -> None:
    """Whatever they say: what is here is compared before it is believed, or looked for and found missing."""
    plant(at)
    at.backup()
    where = at.to / ".pynetwork/catalogue.sqlite"
    whole = where.read_bytes()
    for number in range(40):
        place = 100 + (len(whole) - 100) * number // 40
        where.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        for name in ("-wal", "-shm"):
            Path(f"{where}{name}").unlink(missing_ok=True)
        at.backup()
        assert contents_are_the_same(at), place


def contents_are_the_same(at: Scene) -> bool:
    files = [path.relative_to(at.share) for path in at.share.rglob("*") if path.is_file()]
    return all((at.to / path).read_bytes() == (at.share / path).read_bytes() for path in files)


def test_a_journal_that_speaks_of_what_is_not_there(at: Scene) -> None:
    plant(at)
    at.backup()
    with at.catalogue() as opened:
        opened.begin_run("gateway", "logs")
        for place in ("small", "sub/large", "no/such/place", "..", "a/../../b", "x" * 300, ""):
            opened.begin_file(place, 1, place.rpartition("/")[2].encode(), 1, 1)
    assert numbered(at.backup()) == {"files": 3, "unchanged": 3}
    with at.catalogue() as opened:
        assert opened.unfinished() == []
    assert not at.differences()


def test_what_a_killed_run_held_is_let_go(at: Scene) -> None:
    plant(at)
    at.backup()
    write(at.to / ".pynetwork/held" / ("ab" * 16), b"nobody knows this")
    at.grow("sub/grows", b"more")
    at.backup()
    at.backup()
    assert not list((at.to / ".pynetwork/held").iterdir())


# Machines that stop


def started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is another one, as it were, since it was started again."""
    monkeypatch.setattr(catalogue, "boot_identity", lambda: os.urandom(8).hex())


def test_what_was_not_surely_on_the_disk_is_read_before_it_is_believed(
    at: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(at)
    at.backup(durable=False)
    started_again(monkeypatch)
    # Its blocks had not been written, as it happens with some file systems, but its size and time had.
    overwrite(at.to / "small", b"\0" * 100, 0, mtime_ns=STAMP)
    overwrite(at.to / "sub/large", b"\0" * 1000, CHUNK_SIZE, mtime_ns=STAMP)
    report = at.backup(durable=True)
    assert numbered(report) == {"files": 3, "unchanged": 1, "changed": 2}
    assert report.received <= CHUNK_SIZE + 100 + ROOM
    assert not at.differences()
    started_again(monkeypatch)
    last = at.backup()
    assert (numbered(last), last.received) == ({"files": 3, "unchanged": 3}, 0)


def test_what_is_right_is_not_moved_again_after_that(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)
    at.backup(durable=False)
    started_again(monkeypatch)
    report = at.backup(durable=False)
    assert numbered(report) == {"files": 3, "unchanged": 3}
    assert 0 < report.received <= ROOM
    assert numbered(at.backup(durable=False)) == {"files": 3, "unchanged": 3}


def test_a_run_that_was_flushed_is_believed(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)
    at.backup(durable=True)
    at.grow("sub/grows", b"more")
    at.backup(durable=False)
    started_again(monkeypatch)
    overwrite(at.to / "sub/grows", b"\0" * 50, 0, mtime_ns=STAMP + SECOND)
    report = at.backup(durable=True)
    assert numbered(report) == {"files": 3, "unchanged": 2, "changed": 1}
    assert report.received <= 300
    assert not at.differences()


# Partial files


def test_of_a_partial_file_only_what_is_missing_or_wrong_comes(at: Scene) -> None:
    data = new(8 * CHUNK_SIZE + 5)
    at.put("large", data)
    at.to.mkdir()
    partial = write(at.to / ".large.partial", data[: 6 * CHUNK_SIZE])
    overwrite(partial, b"!", 2 * CHUNK_SIZE + 1)
    report = at.backup()
    assert numbered(report) == {"files": 1, "new": 1}
    assert report.received <= 3 * CHUNK_SIZE + 5 + ROOM
    assert not at.differences()
    assert not partial.exists()


def test_a_partial_file_for_something_else(at: Scene) -> None:
    for name in ("large", "small"):
        at.put(name, new(LARGE if name == "large" else 100))
        write(at.to / f".{name}.partial", new(2 * LARGE))
    at.backup()
    assert not at.differences()


# Metadata


@pytest.mark.parametrize("size", [10, LARGE])
def test_modes_and_times(at: Scene, size: int) -> None:
    modes = [0o400, 0o600, 0o644, 0o777, 0o4755, 0o2750, 0o1777, 0o000]
    for mode in modes:
        at.put(f"{mode:o}", new(size if mode != 0o1777 else 10), mode=mode)
    at.put("before 1970", b"x", mtime_ns=-12_345_678_901)
    at.put("far away", b"x", mtime_ns=4_102_444_800 * SECOND + 1)
    (at.share / "folder/below").mkdir(parents=True)
    (at.share / "folder").chmod(0o711)
    (at.share / "folder/below").chmod(0o3770)
    settle_folders(at.share)
    report = at.backup()
    assert report.complete
    for path in at.share.rglob("*"):
        mirrored = (at.to / path.relative_to(at.share)).stat()
        assert stat.S_IMODE(mirrored.st_mode) == path.stat().st_mode & 0o777, path
        assert mirrored.st_mtime_ns == path.stat().st_mtime_ns, path
    assert at.backup().received == 0
    # Of files that are there already, too.
    for mode in modes:
        (at.share / f"{mode:o}").chmod(0o640)
        os.utime(at.share / f"{mode:o}", ns=(STAMP, STAMP + SECOND))
    (at.share / "folder").chmod(0o755)
    (at.share / "folder/below").chmod(0o700)
    os.utime(at.share / "folder", ns=(STAMP, STAMP + SECOND))
    assert at.backup().received <= ROOM
    assert not at.differences()


def test_folders_that_were_left_undone_get_their_times(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)
    with monkeypatch.context() as patched:
        patched.setattr("pynetwork.backup.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            at.backup()
    assert not at.is_same()
    assert numbered(at.backup()) == {"files": 3, "unchanged": 3}
    assert not at.differences()


def owners(root: Path) -> dict[str, tuple[int, int]]:
    """Owner and group of all below ``root``."""
    return {
        str(path.relative_to(root)): (path.lstat().st_uid, path.lstat().st_gid)
        for path in root.rglob("*")
        if ".pynetwork" not in path.parts
    }


@root_only
def test_owners_are_kept_if_that_is_wished(at: Scene) -> None:
    plant(at)
    (at.share / "link").symlink_to("small")
    for number, path in enumerate(at.share.rglob("*")):
        os.chown(path, 1000 + number, 2000 + number, follow_symlinks=False)
    settle_folders(at.share)
    at.backup()
    assert set(owners(at.to).values()) == {(0, 0)}
    # What is here already is only given away.
    report = at.backup(owner=True)
    assert (report.complete, report.received) == (True, 0)
    assert owners(at.to) == owners(at.share)
    assert not at.differences()
    os.chown(at.share / "small", 5, 5)
    at.grow("sub/large", b"more")
    os.chown(at.share / "empty", 6, 6)
    at.put("new", b"x")
    os.chown(at.share / "new", 7, 7)
    os.chown(at.share / "link", 8, 8, follow_symlinks=False)
    at.backup(owner=True)
    assert owners(at.to) == owners(at.share)
    shutil.rmtree(at.to)
    at.backup(owner=True)
    assert owners(at.to) == owners(at.share)


def test_owners_that_can_not_be_kept_are_said_once(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)
    (at.share / "link").symlink_to("small")
    tried: list[object] = []

    def refuse(*arguments: object, **_keywords: object) -> None:
        tried.append(arguments)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    facts_of = "pynetwork.files.surveying.facts_of"
    original = __import__("pynetwork.files.surveying", fromlist=["facts_of"]).facts_of
    monkeypatch.setattr(facts_of, lambda status: original(status)._replace(owner=4321))
    report = at.backup(owner=True)
    assert [path for path, _ in report.skipped] == ["."]
    assert "owner and group can't be kept here" in report.skipped[0].reason
    assert len(tried) == 1
    assert not at.differences()


def test_a_catalogue_that_can_not_be_written(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(at)

    def fail(*_arguments: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Catalogue, "end_run", fail)
    with pytest.raises(OSError, match="the catalogue fails: disk I/O error"):
        at.backup()

"""Logs that are rotated: what is held under another name is not moved again."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handshakes.manifest import CHUNK_SIZE
from tests.pynetwork.backup.mirroring import LARGE, SECOND, STAMP, Scene, lines, new, numbered, scene

SIZES = [5000, LARGE]
ROOM = 2000
Rotation = Callable[[Path], None]


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def shift(log: Path, keep: int = 4) -> None:
    """Let app.log.1 be app.log.2, and so on."""
    for number in range(keep, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.rename(log.with_name(f"{log.name}.{number + 1}"))


def rename(log: Path) -> None:
    """As logrotate does, unless told otherwise."""
    shift(log)
    log.rename(log.with_name(log.name + ".1"))


def copy_and_truncate(log: Path) -> None:
    """As logrotate's copytruncate does: the writer keeps its open file."""
    shift(log)
    shutil.copy2(log, log.with_name(log.name + ".1"))
    os.truncate(log, 0)


def dated(log: Path) -> None:
    """As logrotate's dateext does."""
    count = len(list(log.parent.iterdir()))
    log.rename(log.with_name(f"{log.name}-202411{count:02}"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rotate", [rename, copy_and_truncate, dated])
def test_of_rotated_logs_only_new_lines_come(at: Scene, rotate: Rotation, size: int) -> None:
    log = at.put("app.log", new(size))
    at.backup()
    for number in range(1, 4):
        rotate(log)
        added = lines(40)
        at.put("app.log", new(size) + added, mtime_ns=STAMP + number * SECOND)
        report = at.backup(mirror_deletes=True)
        assert report.complete
        assert report.files == number + 1
        assert report.moved == (1 if rotate is dated else number)
        assert report.received <= size + len(added) + ROOM
        assert not at.differences()
    assert not at.verify().bad
    assert numbered(at.backup()) == {"files": 4, "unchanged": 4}


@pytest.mark.parametrize("size", SIZES)
def test_many_rotations_between_two_backups(at: Scene, size: int) -> None:
    log = at.put("app.log", new(size))
    at.backup()
    tail = lines(10)
    at.grow("app.log", tail)
    for _ in range(3):
        rename(log)
        at.put("app.log", lines(5))
    report = at.backup(mirror_deletes=True)
    assert report.moved == 1
    assert report.received <= len(tail) + 3 * 5 * 50 + ROOM
    assert not at.differences()


def test_the_lines_that_came_before_the_rotation(at: Scene) -> None:
    for rotate in (rename, copy_and_truncate):
        log = at.put(f"{rotate.__name__}/app.log", new(LARGE))
        at.backup()
        tail = lines(100)
        at.grow(f"{rotate.__name__}/app.log", tail)
        rotate(log)
        at.put(f"{rotate.__name__}/app.log", lines(2))
        report = at.backup()
        assert report.received <= len(tail) + ROOM
        assert not at.differences()


def test_what_was_compressed_is_new_content(at: Scene) -> None:
    log = at.put("app.log", lines(1000))
    at.backup()
    packed = gzip.compress(log.read_bytes(), mtime=0)
    at.put("app.log.1.gz", packed)
    log.unlink()
    at.put("app.log", b"")
    report = at.backup()
    assert (report.new, report.changed, report.moved) == (1, 1, 0)
    assert len(packed) <= report.received <= len(packed) + ROOM
    assert not at.differences()
    (at.share / "app.log.1.gz").rename(at.share / "app.log.2.gz")
    assert at.backup().received <= ROOM


def test_a_log_that_was_cut_and_filled_again(at: Scene) -> None:
    old = lines(100)
    at.put("app.log", old)
    at.backup()
    # Meanwhile somebody else took the old lines away.
    at.put("app.log", lines(200), mtime_ns=STAMP + SECOND)
    assert numbered(at.backup()) == {"files": 1, "changed": 1}
    assert not at.differences()


def test_two_files_change_places(at: Scene) -> None:
    one, two = at.put("one", new(LARGE)), at.put("two", new(LARGE))
    three, four = at.put("three", new(100)), at.put("four", new(100))
    at.backup()
    for first, second in [(one, two), (three, four)]:
        first.rename(at.share / "third")
        second.rename(first)
        (at.share / "third").rename(second)
    report = at.backup()
    assert numbered(report) == {"files": 4, "moved": 4}
    assert report.received <= ROOM
    assert not at.differences()
    held = at.to / ".pynetwork/held"
    assert not list(held.iterdir())


def test_a_ring_of_names(at: Scene) -> None:
    names = [f"log.{number}" for number in range(6)]
    for name in names:
        at.put(name, new(CHUNK_SIZE + 100))
    at.backup()
    (at.share / names[-1]).rename(at.share / "aside")
    for number in range(4, -1, -1):
        (at.share / names[number]).rename(at.share / names[number + 1])
    (at.share / "aside").rename(at.share / names[0])
    report = at.backup(lanes=3)
    assert numbered(report) == {"files": 6, "moved": 6}
    assert report.received <= 6 * ROOM
    assert not at.differences()


def test_more_old_logs_than_can_be_asked_about(at: Scene) -> None:
    log = at.put("app.log", new(LARGE))
    for number in range(2, 40):
        at.put(f"app.log.{number}", new(100))
    at.backup()
    shutil.copy2(log, at.share / "app.log.1")
    os.truncate(log, 0)
    report = at.backup()
    assert report.moved == 1
    assert report.received <= ROOM
    assert not at.differences()


def test_a_log_in_which_the_last_second_is_written(at: Scene) -> None:
    """What is live has never settled: each backup looks at it, and none moves what is here."""
    log = at.share / "live.log"
    log.write_bytes(lines(100))
    at.backup()
    received = []
    for _ in range(3):
        with log.open("ab") as file:
            file.write(lines(1))
        received.append(at.backup().received)
        assert at.here("live.log") == log.read_bytes()
    assert max(received) <= ROOM
    os.utime(log, ns=(time.time_ns(), STAMP))
    at.backup()
    assert at.backup().received == 0

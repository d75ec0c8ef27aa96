"""Following: what changes at the source is soon here, until somebody says stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import NotFound
from pynetwork.backup import BackupReport, runs
from pynetwork.controller import Controller
from pynetwork.files.surveying import Surveyor
from tests.pynetwork.backup.mirroring import LARGE, PATIENCE, Scene, contents, lines, new, numbered, scene, wait_for
from tests.serving import Background
from tests.waiting import wait_until
from tools.proxy import Proxy

ROOM = 4000


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


class Following:
    """A backup that goes on; ``stop`` ends it and gives its report."""

    def __init__(self, at: Scene, **options: Any) -> None:
        self._event = threading.Event()
        self._running = Background(lambda: at.backup(follow=True, stop=self._event, **options))

    def stop(self) -> BackupReport:
        self._event.set()
        report: BackupReport = self._running.result()
        return report


@contextlib.contextmanager
def following(at: Scene, **options: Any) -> Iterator[Following]:
    """Within this, what changes is followed; what it comes to is asked for by ``stop`` at the end at the latest."""
    running = Following(at, **options)
    try:
        yield running
    finally:
        running.stop()


def log(path: Path, text: bytes) -> None:
    """Write lines, as a program does that keeps its log open."""
    with path.open("ab") as file:
        file.write(text)


def until_same(at: Scene) -> None:
    """Wait until every file at the source is here as it is there."""

    def same() -> bool:
        try:
            return contents(at.to).items() >= contents(at.share).items()
        except FileNotFoundError:  # it went while it was looked at
            return False

    wait_until(same, PATIENCE, "the same contents")


def test_new_lines_are_soon_here(at: Scene) -> None:
    path = at.put("sub/app.log", lines(10), mtime_ns=time.time_ns())
    whole = path.read_bytes()
    with following(at) as running:
        wait_for(at.to / "sub/app.log", whole)
        for _ in range(5):
            more = lines(3)
            log(path, more)
            whole += more
            wait_for(at.to / "sub/app.log", whole)
        report = running.stop()
    assert report.complete
    assert report.received <= len(whole) + ROOM
    assert runs(at.to)[-1].outcome == "complete"
    assert numbered(at.backup())["files"] == 1
    assert not at.verify().bad


def test_large_logs_too(at: Scene) -> None:
    path = at.put("large.log", new(LARGE), mtime_ns=time.time_ns())
    with following(at) as running:
        wait_for(at.to / "large.log", path.read_bytes())
        for _ in range(3):
            log(path, new(1000))
            wait_for(at.to / "large.log", path.read_bytes())
        report = running.stop()
    assert report.received <= LARGE + 3000 + ROOM


def test_files_and_folders_come_and_go(at: Scene) -> None:
    at.put("first/one", b"1")
    with following(at, mirror_deletes=True) as running:
        wait_for(at.to / "first/one", b"1")
        at.put("first/two", b"2")
        at.put("second/deep/three", b"3")
        (at.share / "third").mkdir()
        wait_for(at.to / "second/deep/three", b"3")
        wait_for(at.to / "first/two", b"2")
        wait_until((at.to / "third").is_dir, PATIENCE)
        (at.share / "link").symlink_to("first/two")
        wait_until((at.to / "link").is_symlink, PATIENCE)
        (at.share / "second").rename(at.share / "fourth")
        wait_for(at.to / "fourth/deep/three", b"3")
        (at.share / "first/one").unlink()
        shutil.rmtree(at.share / "third")
        at.put("last", b"4")
        wait_for(at.to / "last", b"4")
        report = running.stop()
    assert report.complete
    at.backup(mirror_deletes=True)
    assert contents(at.to) == contents(at.share)
    assert not (at.to / "third").exists()
    assert not (at.to / "second").exists()


@pytest.mark.parametrize("size", [3000, LARGE])
@pytest.mark.parametrize("how", ["rename", "copy and truncate"])
def test_rotations(at: Scene, how: str, size: int) -> None:
    path = at.put("app.log", new(size))
    written = size
    with following(at) as running:
        wait_for(at.to / "app.log", path.read_bytes())
        for _ in range(3):
            for number in (2, 1):
                older = at.share / f"app.log.{number}"
                if older.exists():
                    older.rename(at.share / f"app.log.{number + 1}")
            if how == "rename":
                path.rename(at.share / "app.log.1")
            else:
                shutil.copy2(path, at.share / "app.log.1")
                os.truncate(path, 0)
            log(path, lines(30))
            written += 30 * 60
            until_same(at)
        report = running.stop()
    assert report.complete
    assert report.received <= written + ROOM
    assert contents(at.to) == contents(at.share)
    assert not list((at.to / ".pynetwork/held").iterdir())
    assert at.backup().received <= ROOM


def test_while_nothing_happens_next_to_nothing_is_done(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        at.put(f"{number % 10}/{number}.log", b"x")
    rounds: list[float] = []
    changes = Surveyor.changes

    def counted(surveyor: Surveyor) -> Iterator[bytes]:
        rounds.append(time.monotonic())
        return changes(surveyor)

    monkeypatch.setattr(Surveyor, "changes", counted)
    with following(at) as running:
        until_same(at)
        wait_until(lambda: len(rounds) >= 3, PATIENCE)
        before, began = time.process_time(), rounds[-1]
        count = len(rounds)
        wait_until(lambda: len(rounds) >= count + 5, PATIENCE)
        used, passed = time.process_time() - before, rounds[-1] - began
        report = running.stop()
    assert used < passed / 2
    assert report.complete
    assert numbered(report) == {"files": 200, "new": 200}


def test_the_link_breaks_and_comes_back(at: Scene) -> None:
    path = at.put("app.log", lines(10), mtime_ns=time.time_ns())
    with Proxy(at.gateway.port) as proxy:
        away = Scene(at.gateway, Controller("127.0.0.1", proxy.port), at.share, at.to)
        with following(away) as running:
            wait_for(at.to / "app.log", path.read_bytes())
            for _ in range(2):
                proxy.cut()
                log(path, lines(5))
                at.put(f"new {path.stat().st_size}", b"x")
                until_same(at)
            running.stop()
    assert at.backup().complete
    assert not at.differences()


def test_the_share_itself_goes_away(at: Scene) -> None:
    at.put("app.log", b"x")
    at.put("sub/file", b"y")
    running = Following(at, mirror_deletes=True)
    wait_for(at.to / "sub/file", b"y")
    at.share.rename(at.share.parent / "elsewhere")
    with pytest.raises(NotFound, match="any more"):
        running._running.result()
    assert contents(at.to) == {"app.log": b"x", "sub/file": b"y"}
    (at.share.parent / "elsewhere").rename(at.share)
    assert numbered(at.backup(mirror_deletes=True)) == {"files": 2, "unchanged": 2}


def test_ctrl_c_ends_it(at: Scene) -> None:
    path = at.put("app.log", lines(10))

    def press() -> None:
        wait_for(at.to / "app.log", path.read_bytes())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    pressing = Background(press)
    with pytest.raises(KeyboardInterrupt):
        at.backup(follow=True)
    pressing.result()
    assert runs(at.to)[-1].outcome == "interrupted"
    assert at.backup().received <= ROOM
    assert contents(at.to) == contents(at.share)


def test_only_what_is_chosen_is_followed(at: Scene) -> None:
    at.put("a.log", b"1")
    with following(at, glob="*.log", mirror_deletes=True) as running:
        wait_for(at.to / "a.log", b"1")
        at.put("b.txt", b"2")
        at.put("sub/c.log", b"3")
        at.put("sub/d.txt", b"4")
        wait_for(at.to / "sub/c.log", b"3")
        running.stop()
    assert contents(at.to) == {"a.log": b"1", "sub/c.log": b"3"}

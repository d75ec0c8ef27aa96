"""Backups as they are asked for: what is chosen, where it can't be, how it is paced, what is verified and mended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.errors import ConfigurationError, ConnectionLost, NotFound
from handshakes.manifest import CHUNK_SIZE
from pynetwork.backup import DestinationBusy, choose, repair, runs, verify_destination
from pynetwork.backup.lock import DestinationLock
from pynetwork.backup.plan import Options
from pynetwork.controller import Controller
from tests.pynetwork.backup.mirroring import (
    LARGE,
    SECOND,
    SHARE,
    Scene,
    facts,
    new,
    numbered,
    overwrite,
    plant,
    scene,
    seen,
    write,
)

ROOM = 1000


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


# Choosing


def test_choosing() -> None:
    assert choose() is None
    for options, yes, no in [
        ({"pattern": r".+\.log"}, "a/b.log", "a/b.log.1"),
        ({"glob": "a/*.log"}, "a/b/c.log", "b/c.log"),
        ({"glob": "*.lo[gG]"}, "x.loG", "x.lol"),
        ({"pattern": "a.*", "glob": "*b"}, "ab", "ac"),
    ]:
        chosen = choose(**options)
        assert chosen is not None
        assert (chosen(yes, facts()), chosen(no, facts())) == (True, False)
    sized = choose(min_size=10, max_size=20)
    assert sized is not None
    assert [size for size in range(5, 25) if sized("", facts(size))] == list(range(10, 21))
    now = 1_000_000
    aged = choose(changed_within=100, changed_before=10, clock=lambda: float(now))
    assert aged is not None
    assert [age for age in (5, 10, 50, 100, 105) if aged("", facts(0, (now - age) * SECOND))] == [10, 50, 100]
    with pytest.raises(ConfigurationError, match="no regular expression"):
        choose(pattern="(")


def test_what_is_not_chosen_is_neither_gone_nor_touched(at: Scene) -> None:
    for name in ("a.log", "b.txt", "sub/c.log", "sub/d.txt", "only text/e.txt"):
        at.put(name, new(10))
    at.backup()
    before = seen(at.to)
    assert numbered(at.backup(glob="*.log", mirror_deletes=True)) == {"files": 2, "unchanged": 2}
    assert seen(at.to) == before
    at.grow("b.txt", b"more")
    (at.share / "sub/d.txt").unlink()
    (at.share / "only text/e.txt").unlink()
    (at.share / "only text").rmdir()
    at.grow("a.log", b"more")
    report = at.backup(glob="*.log", mirror_deletes=True)
    assert numbered(report) == {"files": 2, "unchanged": 1, "grown": 1}
    assert (at.here("b.txt"), at.here("sub/d.txt")) == (before["b.txt"][0], before["sub/d.txt"][0])
    assert (at.to / "only text/e.txt").exists()
    assert numbered(at.backup(mirror_deletes=True)) == {"files": 3, "unchanged": 2, "grown": 1, "gone": 2, "deleted": 2}
    assert not at.differences()


def test_what_was_not_chosen_at_first(at: Scene) -> None:
    at.put("a.log", new(10))
    at.put("sub/b.txt", new(10))
    assert numbered(at.backup(max_size=5)) == {}
    assert numbered(at.backup(pattern=".*log")) == {"files": 1, "new": 1}
    assert numbered(at.backup()) == {"files": 2, "unchanged": 1, "new": 1}
    assert not at.differences()


# Where it can't be


def test_what_can_not_begin(at: Scene, tmp_path: Path) -> None:
    at.put("file", b"x")
    with pytest.raises(NotFound, match="shares no folder"):
        at.controller.backup("nope", at.to, progress=False)
    with pytest.raises(ConfigurationError, match="0 lanes"):
        at.backup(lanes=0)
    for limit in (0, -1):
        with pytest.raises(ConfigurationError, match="limit"):
            at.backup(limit=limit)
    (tmp_path / "a file").touch()
    with pytest.raises(OSError, match="a file"):
        at.controller.backup(SHARE, tmp_path / "a file", progress=False)
    with pytest.raises(ConnectionLost):
        Controller(port=1, timeout=1).backup(SHARE, at.to, progress=False)
    with DestinationLock(at.to, "prune"), pytest.raises(DestinationBusy, match="prune"):
        at.backup()
    assert numbered(at.backup()) == {"files": 1, "new": 1}


def test_the_runs_are_listed(at: Scene, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no destination of a backup"):
        runs(at.to)
    assert not at.to.exists()
    at.put("a", new(10))
    at.backup()
    at.put("in the way", b"x")
    write(at.to / "in the way/mine", b"x")
    at.backup()
    first, second = runs(at.to)
    assert (first.gateway, first.share, first.outcome) == (at.controller.address, SHARE, "complete")
    assert (first.figures["new"], first.figures["bytes"]) == (1, 10)
    assert first.ended is not None
    assert first.began <= first.ended <= second.began
    assert second.outcome == "1 skipped"
    # What another share has would all be gone.
    with pytest.raises(ConfigurationError, match="is a mirror of the shared folder 'logs'"):
        at.controller.backup("nope", at.to, progress=False)
    assert len(runs(at.to)) == 2


def test_many_lanes_and_a_bar(at: Scene) -> None:
    plant(at.share)
    shown: list[tuple[int, int, int, int]] = []
    report = at.backup(lanes=3, durable=True, progress=lambda *figures: shown.append(figures))
    assert numbered(report) == {"files": 8, "new": 8}
    # Of links nothing has to be brought.
    assert shown[-1] == (report.bytes, report.bytes, 6, 6)
    assert not at.differences()


def test_a_limit_is_kept(at: Scene) -> None:
    at.put("large", new(LARGE))
    report = at.backup(limit=10 * LARGE)
    # What is asked for first is had at once.
    assert report.seconds >= 0.05
    assert not at.differences()


def test_a_stop_that_comes_before_everything(at: Scene) -> None:
    at.put("file", b"x")
    at.backup()
    at.put("other", b"x")
    (at.share / "file").unlink()
    stop = threading.Event()
    stop.set()
    at.backup(stop=stop, follow=True, mirror_deletes=True)
    assert at.here("file") == b"x"
    assert numbered(at.backup(mirror_deletes=True)) == {"files": 1, "new": 1, "gone": 1, "deleted": 1}


# Verifying and mending


def test_a_destination_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no destination of a backup"):
        verify_destination(tmp_path)


def test_only_bad_chunks_are_brought_again(at: Scene) -> None:
    at.put("small", new(100))
    at.put("large", new(LARGE))
    at.put("fine", new(LARGE))
    (at.share / "link").symlink_to("fine")
    at.backup()
    for name in ("small", "large"):
        before = (at.to / name).stat().st_mtime_ns
        overwrite(at.to / name, b"!!!", 50, mtime_ns=before)
    (at.to / "link").unlink()
    (at.to / "link").symlink_to("small")
    bad = at.verify().bad
    assert sorted(each.path for each in bad) == ["large", "link", "small"]
    report = repair(
        at.controller.get_client, at.controller.address, SHARE, at.to, bad, Options(durable=False), progress=False
    )
    assert report.complete
    assert report.received <= CHUNK_SIZE + 100 + ROOM
    assert not at.verify().bad
    assert not at.differences()
    assert numbered(at.backup()) == {"files": 4, "unchanged": 4}

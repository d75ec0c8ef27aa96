"""Backups over links that break, and backups that are broken off: what has arrived is not moved again."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handshakes.errors import ConnectionLost, PynetworkError
from handshakes.manifest import CHUNK_SIZE
from pynetwork import lanes
from pynetwork.backup import job, runs
from pynetwork.controller import Controller
from tests.pynetwork.backup.mirroring import PATIENCE, Scene, new, numbered, overwrite, scene
from tests.serving import Background
from tests.waiting import wait_until
from tools.proxy import DOWN, UP, Direction, Fault, Kind, Proxy, Weather

SIZE = 12 * CHUNK_SIZE + 777
ROOM = 4000


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, max_poolsize=12) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tries for long to reach a gateway that is gone."""
    monkeypatch.setattr(lanes, "REDIALS", 1)
    monkeypatch.setattr(job, "_SURVEY_TRIES", 2)


def plant(at: Scene) -> None:
    at.put("large", new(SIZE))
    for number in range(200):
        at.put(f"sub/{number}.log", new(500))


def through(at: Scene, proxy: Proxy) -> Scene:
    """The same scene by way of a proxy."""
    return Scene(at.gateway, Controller("127.0.0.1", proxy.port), at.share, at.to)


@pytest.mark.parametrize("where", [2_000, 60_000, 1_500_000, 7_000_000])
@pytest.mark.parametrize("kind", [Kind.RESET, Kind.END])
def test_a_link_that_breaks_is_replaced(at: Scene, kind: Kind, where: int) -> None:
    plant(at)
    with Proxy(at.gateway.port) as proxy:
        proxy.inject(Fault(kind, DOWN, where))
        report = through(at, proxy).backup(lanes=2)
        assert proxy.happened
    assert report.complete
    assert report.received <= SIZE + 200 * 600 + 8 * CHUNK_SIZE
    assert not at.differences()
    assert not at.verify().bad
    assert numbered(at.backup()) == {"files": 201, "unchanged": 201}


@pytest.mark.parametrize("where", [600, 900, 3000])
def test_a_link_that_breaks_on_its_way_up(at: Scene, where: int) -> None:
    plant(at)
    at.backup()
    at.grow("large", new(CHUNK_SIZE))
    overwrite(at.share / "large", b"!", 5 * CHUNK_SIZE)
    with Proxy(at.gateway.port) as proxy:
        proxy.inject(Fault(Kind.RESET, UP, where))
        report = through(at, proxy).backup(lanes=2)
    assert report.complete
    assert report.received <= 4 * CHUNK_SIZE + ROOM
    assert not at.differences()


@pytest.mark.parametrize("where", [3 * CHUNK_SIZE, 6 * CHUNK_SIZE + 5])
def test_a_bit_that_flips_on_the_wire_costs_a_chunk(at: Scene, where: int) -> None:
    at.put("large", new(SIZE))
    with Proxy(at.gateway.port) as proxy:
        proxy.inject(Fault(Kind.FLIP, DOWN, where, bit=3))
        report = through(at, proxy).backup()
        assert proxy.happened
    assert report.complete
    assert report.chunks_again == 1
    assert report.received <= SIZE + CHUNK_SIZE + ROOM
    assert not at.differences()


@pytest.mark.parametrize("where", [30, 200, 800, 5_000, 40_000, 90_000])
def test_a_bit_that_flips_anywhere_makes_nothing_wrong(at: Scene, where: int, impatient: None) -> None:
    plant(at)
    with Proxy(at.gateway.port) as proxy:
        proxy.inject(Fault(Kind.FLIP, DOWN, where, bit=6))
        with contextlib.suppress(PynetworkError):
            through(at, proxy).backup()
    for path in at.to.rglob("*"):
        if path.is_file() and ".pynetwork" not in path.parts and not path.name.endswith(".partial"):
            assert path.read_bytes() == (at.share / path.relative_to(at.to)).read_bytes()
    assert at.backup().complete
    assert not at.differences()


@pytest.mark.parametrize("lanes_used", [1, 3])
def test_what_had_arrived_when_the_gateway_went_is_not_moved_again(at: Scene, impatient: None, lanes_used: int) -> None:
    plant(at)
    done: list[int] = []
    with Proxy(at.gateway.port, Weather(rate=40e6)) as proxy:
        running = Background(
            lambda: through(at, proxy).backup(lanes=lanes_used, progress=lambda *now: done.append(now[0]))
        )
        wait_until(lambda: done and done[-1] > SIZE // 2, PATIENCE, "half of it")
        proxy.close()
        with pytest.raises(ConnectionLost):
            running.result()
    assert runs(at.to)[-1].outcome
    report = at.backup()
    assert report.complete
    assert report.received <= SIZE + 200 * 600 - done[-1] + 2 * CHUNK_SIZE
    assert not at.differences()
    assert not list(at.to.rglob("*.partial"))


def press_ctrl_c(ready: Callable[[], object]) -> None:
    wait_until(ready, PATIENCE, "the time to press Ctrl-C")
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("part", [0.1, 0.7])
def test_ctrl_c_and_on_again(at: Scene, part: float) -> None:
    plant(at)
    done = [0]
    with Proxy(at.gateway.port, Weather(rate=40e6)) as proxy:
        pressing = Background(press_ctrl_c, lambda: done[-1] > SIZE * part)
        with pytest.raises(KeyboardInterrupt):
            through(at, proxy).backup(lanes=2, progress=lambda *now: done.append(now[0]))
        pressing.result()
    assert runs(at.to)[-1].outcome == "interrupted"
    report = at.backup()
    assert report.received <= SIZE + 200 * 600 - done[-1] + 2 * CHUNK_SIZE
    assert not at.differences()


def test_again_and_again(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run gets a little further, wherever its link breaks."""
    monkeypatch.setattr(lanes, "REDIALS", 0)
    monkeypatch.setattr(job, "_SURVEY_TRIES", 1)
    plant(at)
    passed = 0
    for number in range(1, 40):
        # At a rate that is kept up with: else what the system has not handed over yet is lost besides.
        with Proxy(at.gateway.port, Weather(rate=40e6)) as proxy:
            proxy.inject(Fault(Kind.RESET, DOWN, 400_000 * number))
            try:
                report = through(at, proxy).backup()
            except ConnectionLost:
                passed += proxy.count(DOWN)
            else:
                break
    assert number > 3
    assert report.complete
    # A chunk that was on its way is lost with its link.
    assert passed + report.received <= SIZE + 200 * 600 + number * 2 * CHUNK_SIZE
    assert not at.differences()


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_survey_that_is_cut_begins_anew(at: Scene, direction: Direction) -> None:
    for folder in range(40):
        for number in range(60):
            at.put(f"{folder:02}/{number} {'x' * 100}", b"")
    at.backup()
    for folder in range(20):
        os.unlink(at.share / f"{folder:02}/{folder} {'x' * 100}")
    at.put("00/new", new(100))
    with Proxy(at.gateway.port) as proxy:
        proxy.inject(Fault(Kind.RESET, direction, 100_000 if direction is DOWN else 600))
        report = through(at, proxy).backup(mirror_deletes=True)
    assert numbered(report) == {"files": 2381, "unchanged": 2380, "new": 1, "gone": 20, "deleted": 20}
    assert not at.differences()

"""More lanes while each makes it quicker."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pynetwork.backup import growth
from pynetwork.backup.growth import MOST_LANES, grow


class Lanes:
    """Two lanes that grow at will; ``room`` for so many."""

    def __init__(self, *, round_trip: float = 0.0, room: int = 99) -> None:
        stream = SimpleNamespace(round_trip=round_trip)
        self.clients: list[Any] = [SimpleNamespace(link=SimpleNamespace(stream=stream))]
        self.count = 2
        self.running = True
        self._room = room

    def grow(self) -> bool:
        if self.count >= self._room:
            return False
        self.count += 1
        return True


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_WINDOW", 0.0)
    monkeypatch.setattr(growth, "_LOOK", 0.0)


def grown(lanes: Lanes, totals: list[int | None], most: int = MOST_LANES) -> int:
    """How many lanes there are when so much was moved each time that was looked."""
    seen = iter(totals)
    stopping = threading.Event()

    def moved() -> int | None:
        try:
            return next(seen)
        except StopIteration:
            stopping.set()
            return None

    grow(lanes, lambda: most, moved, stopping)  # type: ignore[arg-type]
    return lanes.count


def test_lanes_are_added_while_that_helps() -> None:
    assert grown(Lanes(), [100, 300, 700]) == MOST_LANES
    assert grown(Lanes(), [100, 200, 300, 400]) == 3
    assert grown(Lanes(), [100, 300, 700], most=3) == 3
    assert grown(Lanes(room=2), [100, 300, 700]) == 2


def test_who_has_nothing_to_do_needs_no_lanes() -> None:
    assert grown(Lanes(), [None] * 10) == 2
    assert grown(Lanes(), [None, 100, None, 300]) == MOST_LANES


def test_a_long_way_takes_all_at_once() -> None:
    assert grown(Lanes(round_trip=0.05), []) == MOST_LANES
    assert grown(Lanes(round_trip=0.05, room=3), []) == 3


def test_a_survey_has_a_lane_as_long_as_it_goes_on() -> None:
    lanes = Lanes(round_trip=0.05)
    looks = iter([3, 3, 3])
    grow(lanes, lambda: next(looks, MOST_LANES), lambda: None, threading.Event())  # type: ignore[arg-type]
    assert lanes.count == MOST_LANES


def test_who_is_stopped_adds_nothing() -> None:
    stopping = threading.Event()
    stopping.set()
    for round_trip in (0.0, 1.0):
        lanes = Lanes(round_trip=round_trip)
        grow(lanes, lambda: MOST_LANES, lambda: 1 << 30, stopping)  # type: ignore[arg-type]
        assert lanes.count == 2

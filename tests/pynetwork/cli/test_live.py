from __future__ import annotations

import io
import os
from typing import Any

import pytest

from pynetwork.cli.live import LiveView, describe


def reading(sensor: str, unit: str, **values: float) -> dict[str, Any]:
    return {"sensor": sensor, "unit": unit, "time": 0.0, "values": values}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (reading("cpu", "%", a=10, b=30), "20 % of 2 cores, busiest 30 %"),
        (reading("cpu", "%", a=10), "10 % of 1 core, busiest 10 %"),
        (reading("disk", "B/s", read=0, written=1500), "read 0 B/s  written 1.5 kB/s"),
        (reading("load", "", a=0.5), "a 0.5"),
    ],
)
def test_readings_in_words(given: dict[str, Any], wanted: str) -> None:
    assert describe(given) == wanted


@pytest.mark.skipif(os.name == "nt", reason="no escape sequences there")
def test_a_terminal_gets_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    view = LiveView(1.0, stream=screen)
    view.show(reading("cpu", "%", a=50))
    view.show(reading("load", "", a=1))
    first = screen.getvalue()
    assert "[##########..........]" in first
    assert first.count("\n") == 2
    view.close()
    assert screen.getvalue() == first + "\x1b[2F\x1b[J"
    assert set(view.last) == {"cpu", "load"}


def test_elsewhere_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pynetwork.cli.live.time.monotonic", lambda: now[0])
    paper = io.StringIO()
    view = LiveView(3.0, stream=paper)
    for _ in range(20):
        view.show(reading("load", "", a=1))
        now[0] += 0.125
    view.close()
    assert paper.getvalue().splitlines() == ["   1.0 s  load: a 1", "   2.0 s  load: a 1"]


def test_quiet() -> None:
    screen = Terminal()
    view = LiveView(3.0, stream=screen, quiet=True)
    view.show(reading("load", "", a=1))
    view.close()
    assert screen.getvalue() == ""

"""A short soak from end to end."""

from __future__ import annotations

import psutil
import pytest

from tools.soak.operations import ALONE, TOGETHER
from tools.soak.runner import CONTROLLERS, Options, run
from tools.soak.troubles import Ill
from tools.soak.turns import CLOSING, DIALLING

pytestmark = pytest.mark.system


def test_all_is_well() -> None:
    found: list[str] = []
    report = run(Options(5, lanes=2, seed=11, find=found.append))
    assert report.all_findings == found == []
    assert report.verdict == "all is well"
    assert set(report.counts) == {DIALLING, CLOSING, *(each.name for each in (*ALONE, *TOGETHER))}
    assert all(count.right for count in report.counts.values())
    assert set(report.troubles) == set(Ill)
    assert sum(report.lost.values()) > 0
    assert {life.name for life in report.lives} == {"gateway", *CONTROLLERS}
    assert all(life.samples for life in report.lives if life.name == "asyncio 1")


def test_who_ends_by_itself_is_found_and_started_again() -> None:
    killed: list[int] = []
    seen: list[str] = []

    def strike(_text: str) -> None:
        victims = [
            child for child in psutil.Process().children() if '"name": "blocking 1"' in " ".join(child.cmdline())
        ]
        if victims and not killed:
            killed.append(victims[0].pid)
            victims[0].kill()

    report = run(Options(2, lanes=1, seed=2, say=strike, find=seen.append))
    assert report.findings == seen
    assert len(seen) == 1
    assert "blocking 1 has ended by itself, with exit code -9" in seen[0]
    lives = [life.pid for life in report.lives if life.name == "blocking 1"]
    assert len(lives) == 2
    assert lives[0] == killed[0]

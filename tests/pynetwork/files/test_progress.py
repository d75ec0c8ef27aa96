from __future__ import annotations

import pytest

from handshakes.chunks import ChunkPlan, Pack
from pynetwork.files import progress
from pynetwork.files.progress import Display


def plan_of(*sizes: int) -> ChunkPlan:
    plan = ChunkPlan(1)
    for size in sizes:
        plan.add_pack(Pack(b"", 1, size))
    return plan


def test_progress_is_shown_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, ...]] = []
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display = Display(lambda *figures: told.append(figures), "job", plan_of(5))
    display.show()
    display.show()
    assert told == [(0, 5, 0, 1)]
    now[0] += 0.06
    display.show()
    display.show(last=True)
    assert told == [(0, 5, 0, 1)] * 3
    display.close()


def test_a_bar_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(5, 7)
    display = Display(True, "job", plan)
    pack = plan.take(100)
    assert isinstance(pack, Pack)
    plan.settle_pack(pack, 1, 5)
    display.show(last=True)
    display.close()
    told = capsys.readouterr().err
    assert "job" in told
    assert "5.00/12.0" in told
    assert "1/2 files" in told


def test_no_bar_where_nobody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in (None, False):
        display = Display(wanted, "job", plan_of(5))
        display.show(last=True)
        display.close()
    assert capsys.readouterr() == ("", "")


def test_without_standard_error_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert Display(None, "job", plan_of())._bar is None

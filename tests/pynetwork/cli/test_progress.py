from __future__ import annotations

import argparse
import json

import pytest

from pynetwork.cli import progress as module
from pynetwork.cli.common import Output
from pynetwork.cli.progress import progress_for


def arguments(*, as_json: bool) -> argparse.Namespace:
    return argparse.Namespace(json=as_json, verbose=False)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_where_there_is_a_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr(module, "on_terminal", lambda: terminal)
    with progress_for(arguments(as_json=False), Output(arguments(as_json=False))) as progress:
        assert progress is terminal


def test_an_object_a_second_with_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress_for(arguments(as_json=True), Output(arguments(as_json=True))) as progress:
        assert callable(progress)
        for step in range(25):
            now[0] = 1000.0 + step / 10
            progress(step, 100, step // 10, 5)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["bytes_done"] for each in told] == [0, 10, 20]
    assert told[1] == {
        "message_type": "progress", "bytes_done": 10, "bytes_total": 100, "files_done": 1, "files_total": 5,
    }  # fmt: skip

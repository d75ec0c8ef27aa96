"""A contestant's process, and the programs that it starts."""

from __future__ import annotations

import psutil
import pytest

from tests.waiting import wait_until
from tools.bench import process
from tools.bench.process import Worker


@pytest.fixture
def stubborn(monkeypatch, tmp_path):
    """A worker that starts a program and then neither answers nor ends."""
    module = tmp_path / "tools" / "bench" / "worker.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import json, os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(json.dumps({'child': child.pid}), flush=True)\n"
        "time.sleep(600)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(process, "_ROOT", tmp_path)
    monkeypatch.setattr(process, "_END_SECONDS", 0.2)


def test_who_does_not_end_is_ended_with_all_that_it_started(stubborn):
    worker = Worker("call", "nobody", "serve", None)
    child = psutil.Process(worker.hear(30.0)["child"])
    worker.end()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)

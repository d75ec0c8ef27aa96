from __future__ import annotations

import json
import signal
import subprocess
import sys

import psutil
import pytest

from tests.serving import PATIENCE
from tests.system.processes import ROOT
from tests.waiting import wait_until
from tools.soak import cli
from tools.soak.report import Report
from tools.soak.runner import Options


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Report:
    """What every soak comes to."""
    report = Report(seed=9)

    def run(options: Options) -> Report:
        assert (options.seconds, options.lanes, options.seed) == (5, 2, 9)
        options.say("a line for terminals")
        for finding in report.findings:
            options.find(finding)
        return report

    monkeypatch.setattr(cli, "run", run)
    return report


CHOSEN = ["--seconds", "5", "--lanes", "2", "--seed", "9"]


def test_exit_codes(outcome: Report, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(CHOSEN) == 0
    outcome.interrupted = True
    assert cli.main(CHOSEN) == 130
    assert "a line" not in capsys.readouterr().err
    outcome.findings.append("something wrong")
    assert cli.main(CHOSEN) == 1
    said = capsys.readouterr()
    assert said.err == "something wrong\n"
    assert "- something wrong\n" in said.out


def test_as_json(outcome: Report, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*CHOSEN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == outcome.to_json()


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--seconds", "0"], ["--seconds", "nan"], ["--lanes", "0"], ["--lanes", "x"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(words)
    assert "not above 0" in capsys.readouterr().err


@pytest.mark.system
def test_ctrl_c_ends_it_with_what_is_known_so_far() -> None:
    command = [sys.executable, "-m", "tools.soak", "--seconds", "600", "--seed", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        soak = psutil.Process(process.pid)
        try:
            wait_until(lambda: len(soak.children()) == 5, PATIENCE)
            children = soak.children()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, err) == (130, "")
            assert out.endswith("all is well, as far as it went\n")
            wait_until(lambda: not any(child.is_running() for child in children), PATIENCE)
        finally:
            process.kill()

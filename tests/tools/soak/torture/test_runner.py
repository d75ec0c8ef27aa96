"""Torture runs from end to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.serving import PATIENCE
from tests.system.processes import ROOT
from tests.waiting import wait_until
from tools.soak.torture.options import Options
from tools.soak.torture.report import Report
from tools.soak.torture.runner import run
from tools.soak.torture.troubles import Ill

pytestmark = pytest.mark.system
STANDINS = "tests.tools.soak.torture.standins"
FINE = ("-c", "pass")
CHECKED = [
    "carried no data",
    "files are in the mirror",
    "whatever else is in the mirror in the end was right",
    "were carried again",
    "in the end the mirror is verified",
    "2 damaged files are found",
    "for 2 damaged chunks",
    "whatever else is in the mirror after the repair was right",
    "after the repair the mirror is verified",
]


def tortured(backup: str) -> Report:
    """What comes of three kills while this makes the backups."""
    found: list[str] = []
    options = Options(
        kills=3, seconds=2, rate=2e6, rotate=0.5, seed=5, backup=f"{STANDINS}:{backup}", verify=FINE, find=found.append
    )
    report = run(options)
    assert report.findings == found
    assert sum(report.troubles[ill] for ill in Ill) == 3
    return report


@pytest.mark.slow
@pytest.mark.parametrize("follow", [False, True], ids=["one after the other", "following"])
def test_twenty_kills(follow: bool) -> None:
    """The short form of the whole: everything of a backup under everything that can befall it."""
    found: list[str] = []
    # With a kill for every 3 MB in place of every 20, as in the long form.
    options = Options(kills=20, seconds=20, rate=3e6, seed=4, follow=follow, damage=2, again=0.04, find=found.append)
    report = run(options)
    assert report.findings == found == []
    assert report.verdict == "all is well"
    assert not [words for words in CHECKED if not any(words in check for check in report.checks)]
    assert sum(report.troubles[ill] for ill in Ill) == 20
    assert report.troubles[Ill.ABSENCE] == 1
    assert report.rotations.total() >= 30
    assert report.looks > 50
    assert report.backups > (0 if follow else 10)
    assert 0.9 * report.written < report.amounts.needed < report.amounts.carried + report.amounts.allowed


def test_a_backup_that_carries_everything_again() -> None:
    report = tortured("download")
    unchanged, again = report.findings
    assert "a backup of what has not changed carried" in unchanged
    assert "bytes of files' data were carried again" in again
    assert report.amounts.again > report.amounts.needed
    assert report.written * 0.9 < report.amounts.needed
    assert report.backups > 2
    assert report.looks > 10
    assert set(report.rotations) == {"renamed", "copied", "zipped", "mixed"}
    assert report.verdict == "2 findings"


@pytest.mark.parametrize(
    ("backup", "findings"),
    [
        (
            "torn",
            [
                "in the mirror carries a final name, but is wrong: renamed.log.1: at byte 896",
                "another SHA-256",
                "a partial file is left: .renamed.log.partial",
                "small/000001 is not in the mirror",
            ],
        ),
        ("confused", ["LookupError: I am confused", "the last backup ended with exit code 1", "is not in the mirror"]),
    ],
)
def test_a_backup_with_a_fault(backup: str, findings: list[str]) -> None:
    report = tortured(backup)
    for finding in findings:
        assert any(finding in found for found in report.findings), report.findings


def end_by_ctrl_c(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "")
    assert out.endswith("all is well, as far as it went\n")


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("end", [end_by_ctrl_c, kill])
def test_nobody_is_left_behind(tmp_path: Path, end: Callable[[subprocess.Popen[str]], None]) -> None:
    options = ["--kills", "2", "--seconds", "600", "--rotate", "0.5", "--seed", "1", "--folder", str(tmp_path / "all")]
    command = [sys.executable, "-m", "tools.soak.torture", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        torture = psutil.Process(process.pid)
        try:
            wait_until(lambda: len(torture.children(recursive=True)) == 3, PATIENCE, "all to be started")
            wait_until((tmp_path / "all/source/renamed.log.1").exists, PATIENCE)
            children = torture.children(recursive=True)
            end(process)
            wait_until(lambda: not any(child.is_running() for child in children), PATIENCE)
        finally:
            process.kill()

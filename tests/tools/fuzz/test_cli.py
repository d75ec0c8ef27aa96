from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.processes import ROOT
from tools.fuzz.cli import main
from tools.fuzz.targets import TARGETS


def broken(data: bytes) -> None:
    if data:
        raise KeyError(data)


def test_a_run_of_one_target(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.fuzz", "paths", "--runs", "301", "--workers", "2", "--plain"]
    done = subprocess.run(
        [*command, "--findings", tmp_path / "found"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "2 runs, by mutation, seed 1"
    assert lines[1].split()[:3] == ["paths", "302", "inputs"]
    assert lines[1].endswith("nothing found")
    assert lines[2] == "302 inputs in all"
    assert not (tmp_path / "found").exists()


def test_a_file_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "broken", broken)
    file = tmp_path / "input.bin"
    file.write_bytes(b"x")
    assert main(["broken", "--replay", str(file)]) == 1
    assert "KeyError: b'x'" in capsys.readouterr().out
    assert main(["paths", "--replay", str(file)]) == 0
    assert "all is well" in capsys.readouterr().out


def test_nonsense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["nothing"], ["--replay", str(tmp_path)]):
        with pytest.raises(SystemExit, match="2"):
            main(words)
    assert "--replay needs the TARGET" in capsys.readouterr().err

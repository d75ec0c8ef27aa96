"""Running the tutorials: as programs, as their pages say, and as modules of which a test needs one function."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from tests.serving import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "tutorials"
PAGES = ROOT / "docs" / "tutorials"


def load(tutorial: str, name: str) -> ModuleType:
    """The module ``name`` of a tutorial, with the modules beside it in reach as when it is run."""
    folder = TUTORIALS / tutorial
    spec = importlib.util.spec_from_file_location(f"tutorials_{tutorial}_{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


@contextlib.contextmanager
def started(tutorial: str, name: str, *arguments: object, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A program of a tutorial; killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, str(TUTORIALS / tutorial / name), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def gateway(tutorial: str, *arguments: object, cwd: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The gateway of a tutorial, and the port that it says it listens on."""
    with started(tutorial, "gateway.py", *arguments, "--port", port, cwd=cwd) as process:
        line = next_line(process)
        found = re.search(r"listening on port (\d+)", line)
        assert found, line + process.communicate()[1]
        yield process, int(found[1])


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints; empty when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline()


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Press Ctrl-C: the exit code, and what was still to be read of both outputs."""
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in errors
    return process.returncode, output, errors


def run(tutorial: str, name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of a tutorial to its end."""
    return subprocess.run(
        [sys.executable, str(TUTORIALS / tutorial / name), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def shape(line: str) -> str:
    """A line of output without its numbers."""
    return re.sub(r"[-+]?\d[\d.,]*", "0", line).strip()


def transcript(page: str) -> set[str]:
    """The shapes of all lines of output that a page shows."""
    text = (PAGES / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return {shape(line) for block in blocks for line in block.splitlines() if not line.startswith("$ ")}


def assert_shown(page: str, output: str) -> None:
    """What a program has printed is what its page says that it prints, but for the numbers."""
    unknown = [line for line in output.splitlines() if shape(line) not in transcript(page)]
    assert not unknown, f"docs/tutorials/{page} does not show: {unknown}"

"""Runs of one target in one process: by our own mutations, or guided by coverage where atheris is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.fuzz import corpus
from tools.fuzz.findings import Finding, keep, tried
from tools.fuzz.mutation import Mutator
from tools.fuzz.targets import TARGETS

__all__ = ["LARGEST", "Outcome", "Task", "guided_is_possible", "run", "run_mutated"]

LARGEST = 4096
"""Most bytes of an input."""

_ROOT = Path(__file__).resolve().parents[2]
_DONE = re.compile(rb"stat::number_of_executed_units: (\d+)")
_LOOK = 256


@dataclass(frozen=True)
class Task:
    """One run: so many inputs, or so many seconds, whichever ends first."""

    target: str
    runs: int
    seconds: float
    seed: int
    findings: Path
    guided: bool = False


@dataclass
class Outcome:
    """What came of a run."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    found: list[Path] = field(default_factory=list)


def guided_is_possible() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run(task: Task) -> Outcome:
    """Carry out a task."""
    began = time.perf_counter()
    outcome = _run_guided(task) if task.guided else _run_mutated(task)
    outcome.seconds = time.perf_counter() - began
    return outcome


def _run_mutated(task: Task) -> Outcome:
    outcome = Outcome(task.target)
    found = run_mutated(TARGETS[task.target], corpus.read(task.target), task.runs, task.seconds, task.seed)
    for outcome.inputs, finding in found:
        if finding is not None:
            outcome.found.append(keep(finding, task.target, task.findings))
    return outcome


def run_mutated(
    target: Callable[[bytes], None], seeds: Sequence[bytes], runs: int, seconds: float, seed: int
) -> Iterator[tuple[int, Finding | None]]:
    """First the ``seeds``, then what is made of them.

    Gives how many inputs were tried, with each new finding and at the end. Of findings at the same place only the
    first counts.
    """
    mutator = Mutator(seeds, seed, largest=LARGEST)
    places: set[str] = set()
    end = time.monotonic() + seconds
    count = 0
    while count < runs and (count % _LOOK or time.monotonic() < end):
        finding = tried(target, seeds[count] if count < len(seeds) else mutator.next())
        count += 1
        if finding is not None and finding.place not in places:
            places.add(finding.place)
            yield count, finding
    yield count, None


def _run_guided(task: Task) -> Outcome:
    """In a process of its own, as atheris ends the one that it runs in."""
    outcome = Outcome(task.target)
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        error = stack.enter_context(tempfile.TemporaryFile())
        artifacts, fresh = Path(work) / "artifacts", Path(work) / "corpus"
        for folder in (artifacts, fresh):
            folder.mkdir()
        command = [sys.executable, "-m", "tools.fuzz.guided", task.target]
        command += [str(fresh), str(corpus.FOLDER / task.target), f"-artifact_prefix={artifacts}/"]
        command += [f"-runs={task.runs}", f"-max_total_time={max(1, int(task.seconds))}", f"-seed={task.seed}"]
        command += [f"-max_len={LARGEST}", "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048"]
        subprocess.run(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=error, check=False)
        error.seek(0)
        said = error.read()
        done = _DONE.search(said)
        if done is None:
            raise RuntimeError(f"atheris did not run: {said[-2000:].decode(errors='replace')}")
        outcome.inputs = int(done[1])
        for path in sorted(artifacts.iterdir()):
            data = path.read_bytes()
            finding = tried(TARGETS[task.target], data) or Finding(data, path.name, "found by atheris only\n")
            outcome.found.append(keep(finding, task.target, task.findings))
    return outcome

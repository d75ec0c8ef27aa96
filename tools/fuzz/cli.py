"""The command line."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tools.fuzz.findings import tried
from tools.fuzz.runner import Outcome, Task, guided_is_possible, run
from tools.fuzz.targets import TARGETS

__all__ = ["main"]

_RUNS = 100_000
_ANY_TIME = 1e9
_NAME = max(map(len, TARGETS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print one line a target; 1 when something was found."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    names = [chosen.target] if chosen.target else list(TARGETS)
    if chosen.replay:
        if chosen.target is None:
            parser.error("--replay needs the TARGET that is to get the file")
        return _replay(chosen.target, chosen.replay)
    tasks = _tasks(names, chosen)
    print(f"{len(tasks)} runs, {'guided by coverage' if tasks[0].guided else 'by mutation'}, seed {chosen.seed}")
    # Fresh interpreters: what one run does to its own is of no matter to the next.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.workers, mp_context=context) as pool:
        outcomes = list(pool.map(run, tasks))
    for name in names:
        _report(name, [outcome for outcome in outcomes if outcome.target == name])
    print(f"{sum(outcome.inputs for outcome in outcomes):,} inputs in all")
    return 1 if any(outcome.found for outcome in outcomes) else 0


def _tasks(names: list[str], chosen: argparse.Namespace) -> list[Task]:
    seconds = chosen.seconds or _ANY_TIME
    runs = chosen.runs or (sys.maxsize if chosen.seconds else _RUNS)
    share = -(-runs // chosen.workers)
    guided = guided_is_possible() and not chosen.plain
    # libFuzzer counts with 32 bits.
    most = 2**31 - 1 if guided else sys.maxsize
    return [
        Task(name, min(share, most), min(seconds, 2**31 - 1), chosen.seed + worker, chosen.findings, guided)
        for name in names
        for worker in range(chosen.workers)
    ]


def _report(name: str, outcomes: list[Outcome]) -> None:
    inputs, seconds = sum(each.inputs for each in outcomes), sum(each.seconds for each in outcomes)
    found = sorted({path for each in outcomes for path in each.found})
    print(
        f"{name:{_NAME}} {inputs:>12,} inputs {inputs / max(seconds, 1e-9):>9,.0f}/s  {len(found) or 'nothing'} found"
    )
    for path in found:
        print(f"{'':{_NAME}} {path}; try it again: python -m tools.fuzz {name} --replay {path}")


def _replay(name: str, path: Path) -> int:
    finding = tried(TARGETS[name], path.read_bytes())
    print(f"{name}: {path}: {finding.trace if finding else 'all is well'}")
    return 1 if finding else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz",
        description="Give random bytes to everything that reads what a peer sent. Guided by coverage where atheris is "
        "installed (pip install atheris).",
    )
    parser.add_argument("target", nargs="?", choices=[*TARGETS], metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
    parser.add_argument(
        "--runs", type=int, help=f"inputs for each target (default {_RUNS:,}, or as many as there is time)"
    )
    parser.add_argument("--seconds", type=float, help="for each target")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="of chance (default 1)")
    parser.add_argument("--plain", action="store_true", help="by mutation, even where atheris is installed")
    parser.add_argument("--findings", type=Path, default=Path("findings"), help="folder for what is found")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="give this file to TARGET, and nothing else")
    return parser

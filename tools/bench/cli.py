"""The command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench import machine, report
from tools.bench.runner import Options, Outcome, run
from tools.bench.workloads import WORKLOADS

__all__ = ["main"]

_NOTES = (
    "Medians of {rounds} rounds of {seconds:g} s, every contestant once in each, in shuffled order; files "
    "are moved once a round. *ratio*: to the limit of the same run, of the medians; *by round*: the median "
    "of the ratios of each round, with their least and most. (!): the rounds spread by more than a factor of "
    "1.5.{quick}"
)
_COMPARED = (
    "Ours beside the peers of the same run. *times*: how many times as good as the peer, more items or less "
    "time, of the medians; below 1 the peer is better. *by round*: as above; even: the rounds do not agree on "
    "who is ahead. *target*: how many times as good we want to be."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables; 1 when a contestant failed, or with ``--check`` when a target was missed. A peer
    that is not installed is no failure.
    """
    chosen = _parser().parse_args(arguments)
    if chosen.list:
        print("\n".join(f"{name:24} {workload.title}" for name, workload in WORKLOADS.items()))
        return 0
    options = _options(chosen)
    workloads = [WORKLOADS[name] for name in chosen.only or WORKLOADS]
    if not chosen.links:
        workloads = [workload for workload in workloads if workload.link is None]
    found = machine.describe(need for each in workloads for one in each.asked(options.peers) for need in one.needs)
    outcomes: list[Outcome] = []
    try:
        for workload in workloads:
            outcomes.append(run(workload, options))
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured so far:", file=sys.stderr)
        _print(outcomes, found, options)
        return 130
    _print(outcomes, found, options)
    if chosen.json:
        shown = {name: getattr(options, name) for name in ("seconds", "rounds", "quick", "large", "peers")}
        text = json.dumps(report.to_json(outcomes, found, shown), indent=1)
        Path(chosen.json).write_text(text + "\n", encoding="utf-8")
    missed = report.missed(outcomes)
    return 1 if any(outcome.failures for outcome in outcomes) or (chosen.check and missed) else 0


def _print(outcomes: Sequence[Outcome], found: dict[str, str], options: Options) -> None:
    options.say("")
    print(report.table(outcomes))
    quick = " A quick run with small sizes: its ratios say little." if options.quick else ""
    print("\n" + _NOTES.format(rounds=options.rounds, seconds=options.seconds, quick=quick) + "\n")
    if compared := report.comparisons(outcomes):
        print(f"{compared}\n\n{_COMPARED}\n")
    if hints := report.hints(outcomes):
        print(f"Not measured:\n\n{hints}\n")
    print("\n".join(f"- {name}: {value}" for name, value in found.items()))
    for outcome in outcomes:
        for name, failure in outcome.failures.items():
            print(f"tools.bench: {outcome.workload.name}: {name} failed: {failure}", file=sys.stderr)


def _options(chosen: argparse.Namespace) -> Options:
    quick: dict[str, Any] = {"seconds": 0.2, "rounds": 2} if chosen.quick else {"seconds": 1.0, "rounds": 7}
    return Options(
        seconds=chosen.seconds or quick["seconds"],
        rounds=chosen.rounds or quick["rounds"],
        quick=chosen.quick,
        large=chosen.large,
        peers=chosen.peers,
        folder=chosen.folder,
        seed=chosen.seed,
        say=_say if sys.stderr.isatty() else lambda _text: None,
    )


def _say(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Every workload beside its raw limit and the peers that are installed, as tables in Markdown.",
    )
    parser.add_argument("--only", action="append", choices=[*WORKLOADS], metavar="WORKLOAD", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="name the workloads and end")
    parser.add_argument("--seconds", type=_positive(float), help="of each measurement (default 1)")
    parser.add_argument("--rounds", type=_positive(int), help="how often each is measured (default 7)")
    parser.add_argument("--quick", action="store_true", help="small sizes, 2 rounds of 0.2 s: shows that it works")
    parser.add_argument(
        "--large", action="store_true", help="larger sizes where a workload has them: minutes, and gigabytes of disk"
    )
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether the peers take part (they do, where they are installed)",
    )
    parser.add_argument(
        "--links",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether to measure on emulated links too (it does, where root asks)",
    )
    parser.add_argument(
        "--folder", type=Path, help="where files go (default: memory-backed where there is such a place)"
    )
    parser.add_argument("--seed", type=int, help="of the order of turns")
    parser.add_argument("--json", metavar="FILE", help="write everything, with each round, to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser


def _positive(kind: type[float]) -> Any:
    def convert(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return convert

"""The command line."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence

from tools.soak.report import Report
from tools.soak.runner import Options, run

__all__ = ["Line", "above_zero", "count", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print what came of it; 1 when something is not as it should be, 130 after Ctrl-C."""
    chosen = _parser().parse_args(arguments)
    seed = random.randrange(1 << 32) if chosen.seed is None else chosen.seed
    line = Line()
    report = run(Options(chosen.seconds, chosen.lanes, seed, say=line.show, find=line.tell))
    line.show("")
    _print(report, as_json=chosen.json)
    if report.all_findings:
        return 1
    return 130 if report.interrupted else 0


def _print(report: Report, *, as_json: bool) -> None:
    print(json.dumps(report.to_json()) if as_json else report.text())


class Line:
    """One line on a terminal that is written again and again, and nothing elsewhere; findings stay above it."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """This is what the line says now."""
        if self._terminal and text != self._shown:
            print(f"\r{text:<{len(self._shown)}}", end="" if text else "\r", file=sys.stderr, flush=True)
            self._shown = text

    def tell(self, finding: str) -> None:
        """Say this above the line, for good."""
        self.show("")
        print(finding, file=sys.stderr, flush=True)


def above_zero(text: str) -> float:
    """A number of seconds, or of other things."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def count(text: str) -> int:
    """How many; one at least."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak",
        description="A gateway, and controllers of both kinds that use everything in random order, while processes are "
        "killed and links broken. Every result is checked; the verdict counts what was wrong, what was not provoked, "
        "what hung and what grew.",
    )
    parser.add_argument("--seconds", type=above_zero, default=60.0, help="how long (default 60)")
    parser.add_argument("--lanes", type=count, default=3, help="of each swarm (default 3)")
    parser.add_argument("--seed", type=int, help="of chance; what is drawn is told at the end")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, with the figures over time")
    return parser

"""The command line."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from tools.soak.cli import Line, above_zero, count
from tools.soak.torture.options import SECONDS_A_KILL, Options
from tools.soak.torture.report import SHARE_AGAIN
from tools.soak.torture.runner import run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print what came of it; 1 when something is not as it should be, 130 after Ctrl-C."""
    chosen = _parser().parse_args(arguments)
    line = Line()
    report = run(
        Options(
            kills=chosen.kills,
            seconds=chosen.seconds or SECONDS_A_KILL * chosen.kills,
            rate=chosen.rate * 1e6,
            rotate=chosen.rotate,
            seed=random.randrange(1 << 32) if chosen.seed is None else chosen.seed,
            follow=chosen.follow,
            flips=chosen.flips,
            damage=chosen.damage,
            link=None if chosen.link is None else chosen.link * 1e6,
            compress=chosen.compress,
            mirror_deletes=chosen.mirror_deletes,
            again=chosen.again / 100,
            folder=chosen.folder,
            say=line.show,
            find=line.tell,
        )
    )
    line.show("")
    print(json.dumps(report.to_json()) if chosen.json else report.text())
    if report.findings:
        return 1
    return 130 if report.interrupted else 0


def _some(text: str) -> int:
    return int(text) if text == "0" else count(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak.torture",
        description="Logs are written, and rotated in all the usual ways, and backed up, while the gateway and the "
        "controller are killed and their links are cut. At no time may the mirror hold anything wrong under a final "
        "name; in the end it has to be equal to what was written, and hardly anything may have been carried twice.",
    )
    parser.add_argument("--kills", type=count, default=200, help="of gateway, controller and links (default 200)")
    parser.add_argument(
        "--seconds", type=above_zero, help=f"how long all of them take (default {SECONDS_A_KILL:g} for each kill)"
    )
    parser.add_argument(
        "--again",
        type=above_zero,
        default=100 * SHARE_AGAIN,
        help="per cent of the data that may be carried again; each kill costs what is on its way, so more often than "
        f"every {SECONDS_A_KILL:g} seconds they cost more (default %(default)g)",
    )
    parser.add_argument("--rate", type=above_zero, default=5.0, help="MB/s that are written (default 5)")
    parser.add_argument("--rotate", type=above_zero, default=2.0, help="seconds between rotations (default 2)")
    parser.add_argument("--seed", type=int, help="of chance; what is drawn is told at the end")
    parser.add_argument("--follow", action="store_true", help="backups that go on, in place of one after the other")
    parser.add_argument("--flips", type=_some, default=0, help="bits flipped on the wire (default 0)")
    parser.add_argument(
        "--damage",
        type=_some,
        default=0,
        help="bits flipped in partial files, and in the end in the mirror (default 0)",
    )
    parser.add_argument("--link", type=above_zero, help="MB/s between gateway and controller (default: no bound)")
    parser.add_argument(
        "--compress", action="store_true", help="let data be compressed; nobody sees what is sent again"
    )
    parser.add_argument("--mirror-deletes", action="store_true", help="remove from the mirror what the source has not")
    parser.add_argument("--folder", type=Path, help="a new folder for everything, which is left there")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser

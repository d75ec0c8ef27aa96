"""``pynetwork backups``: what was backed up into a folder, and when."""

from __future__ import annotations

import argparse
import time
from typing import Any

from pynetwork.backup import RunRecord, runs
from pynetwork.cli.common import Exit, Output, add_output_options
from pynetwork.cli.display import size, table

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "backups",
        help="list the backups that were made into a folder",
        description="List the backups that were made into a folder, the oldest first.",
    )
    parser.add_argument("destination", metavar="DEST", help="the folder that was backed up into")
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List them."""
    output = Output(arguments)
    found = runs(arguments.destination)
    if output.json:
        for each in found:
            values = each._asdict()
            figures = values.pop("figures")
            output.result("run", None, **values, **figures)
    elif found:
        output.result("runs", table([_HEAD, *map(_row, found)]))
    return Exit.OK if found else Exit.NOTHING


_HEAD = ("run", "began", "took", "from", "files", "came", "outcome")


def _row(run: RunRecord) -> tuple[str, ...]:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.began))
    took = "" if run.ended is None else f"{run.ended - run.began:.1f} s"
    came = size(run.figures["received"]) if "received" in run.figures else ""
    files = str(run.figures.get("files", ""))
    return str(run.id), began, took, f"{run.gateway}:{run.share}", files, came, run.outcome

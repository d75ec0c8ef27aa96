"""The command ``pynetwork``: sub-commands are modules with ``add_parser(subparsers)`` and ``run(arguments)``.

A new command is a new module in `COMMANDS`; what commands share is in `pynetwork.cli.common`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from pynetwork._version import __version__
from pynetwork.cli import backup, backups, call, demo, gateway, get, ls, put, restore, series, stream, verify
from pynetwork.cli.common import Exit, run_guarded

__all__ = ["COMMANDS", "main", "make_parser"]


class Command(Protocol):
    """What the module of a command holds."""

    def add_parser(self, subparsers: Any) -> None:
        """Add the command's own parser, with its ``run`` as the default of that name."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and answer the exit code; errors may be raised, `run_guarded` tells them."""


COMMANDS: tuple[Command, ...] = (demo, gateway, ls, stream, call, get, put, backup, restore, verify, backups, series)

_NUMBER = re.compile(r"-\d*\.?\d+([eE][-+]?\d+)?$")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="pynetwork",
        description="Sensor data, calls and files between small machines.",
        epilog="pynetwork COMMAND -h explains one command. Exit codes: 0 done, 1 error, 2 usage, "
        "3 no such name, 4 no such file, 5 try again later, 7 trying again is no use, "
        "9 nothing to transfer, 130 Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"pynetwork {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: that of this process) and answer its exit code."""
    parser = make_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        return Exit.USAGE
    try:
        arguments, rest = parser.parse_known_args(argv)
        _place(parser, arguments, rest)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else Exit.OK
    return run_guarded(arguments.run, arguments)


def _place(parser: argparse.ArgumentParser, arguments: argparse.Namespace, rest: list[str]) -> None:
    """Give the words that came after an option to the last positional, which argparse had ended before."""
    if not rest:
        return
    last = getattr(arguments, "last_positional", None)
    if last is not None and not any(word.startswith("-") and not _NUMBER.match(word) for word in rest):
        held = getattr(arguments, last)
        if isinstance(held, list):
            held.extend(rest)
            return
        if held is None and len(rest) == 1:
            setattr(arguments, last, rest[0])
            return
    parser.error(f"unrecognized arguments: {' '.join(rest)} (pynetwork {arguments.command} -h lists what there is)")

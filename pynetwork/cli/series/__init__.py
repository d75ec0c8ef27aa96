"""``pynetwork series``: time series in a store's folder or on a server, put, looked at and served."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from pynetwork.cli.series.options import add_actions

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser, with one for each action."""
    parser = subparsers.add_parser(
        "series",
        help="put, print, draw and serve time series",
        description="Time series in a store's folder (--store DIR), or on a server: one that 'series serve' runs, a "
        "gateway with a series service, or a TStorage.",
        epilog="pynetwork series ACTION -h explains one action.",
    )
    add_actions(parser.add_subparsers(metavar="ACTION", required=True, dest="action"))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the action."""
    module, function = arguments.act
    # Only now: what they need takes a while, and other commands need none of it.
    act = getattr(importlib.import_module(f"pynetwork.cli.series.{module}"), function)
    code: int = act(arguments)
    return code

"""``pynetwork put``: upload files and folders."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pynetwork.cli.common import CommandFailed, Exit, Output, add_connection_options, dialled_swarm
from pynetwork.cli.get import add_transfer_options, report_transfer, wants_progress

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "put",
        help="upload files and folders",
        description="Upload files and folders into the gateway's folder for uploads.",
        epilog="For example: pynetwork put pi camera.py models --into incoming",
    )
    add_connection_options(parser)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file or folder of this machine")
    parser.add_argument("--into", metavar="DIR", default="", help="folder below the gateway's folder for uploads")
    add_transfer_options(parser)
    parser.set_defaults(run=run, last_positional="paths")


def run(arguments: argparse.Namespace) -> int:
    """Upload; 0 when everything has arrived."""
    for path in arguments.paths:
        if not os.path.lexists(path):
            raise CommandFailed(f"there is no {path!r} to upload", Exit.FILE_NOT_FOUND)
    with dialled_swarm(arguments) as swarm:
        report = swarm.upload(
            arguments.paths,
            dirname=arguments.into,
            durable=arguments.durable,
            progress=wants_progress(arguments),
        )
    return report_transfer(Output(arguments, wanted=False), report, "uploaded")

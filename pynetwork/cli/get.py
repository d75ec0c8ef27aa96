"""``pynetwork get``: download files of a shared folder."""

from __future__ import annotations

import argparse
import errno
from typing import Any

from pynetwork.cli.common import (
    Exit,
    Output,
    add_connection_options,
    add_output_options,
    dialled_swarm,
    positive,
)
from pynetwork.cli.display import on_terminal, size, visible
from pynetwork.files import TransferReport
from pynetwork.files.folders import is_no_file, reason_for

__all__ = ["add_parser", "add_transfer_options", "report_transfer", "run"]


_NO_SUCH_FILE = reason_for(FileNotFoundError(errno.ENOENT, ""))


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "get",
        help="download files of a shared folder",
        description="Download a shared folder, or the files of it that --pattern or --file choose. "
        "What is there already under the same name is replaced once the new file is complete and verified.",
        epilog=r"For example: pynetwork get pi logs backup --pattern '.+\.log'",
    )
    add_connection_options(parser)
    parser.add_argument("share", metavar="SHARE", help="the shared folder's name; pynetwork ls lists them")
    parser.add_argument("destination", metavar="DEST", nargs="?", help="the folder to fill (default: Downloads)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--pattern", metavar="REGEX", help="files whose path within the share matches as a whole")
    chosen.add_argument("--file", metavar="PATH", action="append", help="this file of the share; may be repeated")
    add_transfer_options(parser)
    parser.set_defaults(run=run, last_positional="destination")


def add_transfer_options(parser: argparse.ArgumentParser) -> None:
    """Add what downloads and uploads have in common."""
    parser.add_argument("--lanes", type=positive, default=4, metavar="N", help="connections to use (default 4)")
    parser.add_argument("--durable", action="store_true", help="be sure that the files survive a power cut")
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Download; 0 when everything that was asked for has arrived."""
    with dialled_swarm(arguments) as swarm:
        report = swarm.download(
            arguments.share,
            pattern=arguments.pattern,
            files=arguments.file,
            to=arguments.destination or "Downloads",
            durable=arguments.durable,
            progress=wants_progress(arguments),
        )
    code = report_transfer(Output(arguments, wanted=False), report, "downloaded")
    if any(path in (arguments.file or ()) for path, reason in report.skipped if reason == _NO_SUCH_FILE):
        return Exit.FILE_NOT_FOUND
    return Exit.ERROR if arguments.file and report.skipped else code


def wants_progress(arguments: argparse.Namespace) -> bool:
    """Whether to draw a bar."""
    return on_terminal() and not arguments.json


def report_transfer(output: Output, report: TransferReport, done: str) -> int:
    """Print what a transfer came to, and answer its exit code."""
    for path, reason in report.skipped:
        if output.json:
            output.result("skipped", None, path=path, reason=reason)
        else:
            output.note(f"skipped {visible(path)}: {visible(reason)}")
    text = (
        f"{done} {report.files} {'file' if report.files == 1 else 'files'}, {size(report.bytes)} "
        f"in {report.seconds:.2f} s ({size(report.rate)}/s)"
    )
    if report.chunks_again:
        text += f"; {report.chunks_again} chunks fetched again"
    if report.lanes_lost or report.lanes_replaced:
        text += f"; {report.lanes_lost} lanes lost, {report.lanes_replaced} replaced"
    summary = {name: each for name, each in report.to_dict().items() if name != "skipped"}
    output.event("summary", text, **summary, skipped=len(report.skipped))
    if any(not is_no_file(reason) for _, reason in report.skipped):
        return Exit.ERROR
    return Exit.OK if report.files else Exit.NOTHING

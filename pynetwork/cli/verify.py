"""``pynetwork verify``: read a backup's destination again, and mend it."""

from __future__ import annotations

import argparse
from typing import Any

from pynetwork.backup import BackupReport, Options, VerifyReport, repair, runs, verify_destination
from pynetwork.cli.backup import add_pace_options, priority, report_backup
from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    FolderAddress,
    Output,
    add_credential_options,
    add_output_options,
    make_controller,
    parse_address,
    parse_folder_address,
)
from pynetwork.cli.display import on_terminal, size, visible
from pynetwork.cli.progress import progress_for

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "verify",
        help="read a backup again: is everything as it was backed up?",
        description="Read every file of a backup's destination and compare it with its digest; no gateway is needed. "
        "With --repair the bad ones are brought again, by chunk, as they are at the source now.",
        epilog="For example: pynetwork verify backup/pi --repair",
    )
    parser.add_argument("destination", metavar="DEST", help="the folder that was backed up into")
    parser.add_argument("--repair", action="store_true", help="bring again what is bad, from where it came")
    parser.add_argument(
        "--source",
        metavar="HOST[:PORT]:FOLDER",
        type=parse_folder_address,
        help="bring it from here (default: where the last backup came from)",
    )
    add_credential_options(parser)
    add_pace_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify; 0 when everything is right, or has been mended."""
    output = Output(arguments)
    report = _verify(arguments, output)
    code = _report_verify(output, report)
    if not report.bad or not arguments.repair:
        return code
    repaired = _repair(arguments, output, report)
    report_backup(output, repaired, "repaired")
    return _report_verify(output, _verify(arguments, output))


def _verify(arguments: argparse.Namespace, output: Output) -> VerifyReport:
    if not on_terminal() or arguments.json:
        with progress_for(arguments, output) as progress:
            return verify_destination(arguments.destination, progress=progress if callable(progress) else None)
    # Only now: importing it takes half as long as numpy.
    from tqdm import tqdm  # noqa: PLC0415

    with tqdm(desc="verify", unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def show(done: int, total: int, files: int, files_total: int) -> None:
            bar.total = total
            bar.set_postfix_str(f"{files}/{files_total} files", refresh=False)
            bar.update(done - bar.n)

        return verify_destination(arguments.destination, progress=show)


def _report_verify(output: Output, report: VerifyReport) -> int:
    for bad in report.bad:
        output.result("bad", f"bad {visible(bad.path)}: {visible(bad.reason)}", path=bad.path, reason=bad.reason)
    for path, _ in report.unfinished:
        output.result("unfinished", f"unfinished {visible(path)}: the next backup completes it", path=path)
    files = "file" if report.files == 1 else "files"
    verdict = f"{len(report.bad)} bad" if report.bad else "all as they were backed up"
    output.event(
        "verified",
        f"{report.files} {files} of {size(report.bytes)} read in {report.seconds:.2f} s: {verdict}",
        files=report.files,
        bytes=report.bytes,
        seconds=report.seconds,
        bad=len(report.bad),
    )
    return Exit.ERROR if report.bad else Exit.OK if report.files else Exit.NOTHING


def _repair(arguments: argparse.Namespace, output: Output, report: VerifyReport) -> BackupReport:
    source = arguments.source
    if source is None:
        past = runs(arguments.destination)
        if not past:
            raise CommandFailed(
                "it is not known where this backup came from", Exit.USAGE, "Say it: --source HOST:FOLDER."
            )
        source = FolderAddress(parse_address(past[-1].gateway), past[-1].share)
    arguments.address = source.address
    controller = make_controller(arguments)
    options = Options(
        compress=False if arguments.no_compress else None,
        low_priority=priority(arguments),
        limit=arguments.limit,
    )
    with progress_for(arguments, output) as progress:
        return repair(
            lambda: controller.get_client(arguments.wait or None),
            controller.address,
            source.folder,
            arguments.destination,
            report.bad,
            options,
            lanes=arguments.lanes,
            progress=progress,
        )

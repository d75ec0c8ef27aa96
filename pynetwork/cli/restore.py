"""``pynetwork restore``: bring a backup, or any folder, to a gateway."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pynetwork.backup import RestoreOptions, RestoreReport, choose, restore
from pynetwork.cli.backup import add_pace_options, priority
from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    Output,
    add_credential_options,
    add_output_options,
    make_controller,
    parse_folder_address,
)
from pynetwork.cli.display import size, visible
from pynetwork.cli.progress import progress_for
from pynetwork.files.folders import is_no_file

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "restore",
        help="bring a backup to a gateway: only what is not there yet is moved",
        description="Bring SRC, a folder that was backed up into or any other, into FOLDER below the gateway's folder "
        "for uploads. What is there already is not moved again, of large files only the chunks that differ; nothing is "
        "removed. After an interruption of any kind run it again.",
        epilog="For example: pynetwork restore backup/pi pi:logs --glob 'nginx/*' --dry-run",
    )
    parser.add_argument("source", metavar="SRC", help="a backup's destination, or any folder")
    parser.add_argument(
        "target",
        metavar="HOST[:PORT]:FOLDER",
        type=parse_folder_address,
        help="a gateway and a folder below its folder for uploads; . is that itself",
    )
    add_credential_options(parser)
    chosen = parser.add_argument_group("choosing files; all that are given must hold")
    chosen.add_argument("--pattern", metavar="REGEX", help="files whose path within the backup matches as a whole")
    chosen.add_argument("--glob", metavar="GLOB", help="the same as a shell pattern; * goes across folders")
    chosen.add_argument(
        "--include-gone", action="store_true", help="also what the source had no more when it was backed up last"
    )
    parser.add_argument("--checksum", action="store_true", help="compare the content of unchanged files, too")
    parser.add_argument("--not-durable", action="store_true", help="do not wait for the gateway's disk at the end")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be restored")
    add_pace_options(parser, compress=False)
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore; 0 when all that was chosen is there."""
    output = Output(arguments, wanted=False)
    if not os.path.isdir(arguments.source):
        raise CommandFailed(f"there is no folder {arguments.source!r} to restore", Exit.FILE_NOT_FOUND)
    if arguments.dry_run and arguments.checksum:
        raise CommandFailed("--dry-run compares no contents, so --checksum can't be had with it", Exit.USAGE)
    options = RestoreOptions(
        checksum=arguments.checksum,
        include_gone=arguments.include_gone,
        durable=not arguments.not_durable,
        dry_run=arguments.dry_run,
        low_priority=bool(priority(arguments)),
        limit=arguments.limit,
        chosen=choose(arguments.pattern, arguments.glob),
    )
    arguments.address = arguments.target.address
    controller = make_controller(arguments)
    wait = arguments.wait or None
    folder = "" if arguments.target.folder == "." else arguments.target.folder
    with progress_for(arguments, output) as progress:
        try:
            report = restore(
                lambda: controller.get_client(wait),
                arguments.source,
                folder,
                options,
                lanes=arguments.lanes,
                progress=progress,
            )
        except KeyboardInterrupt:
            output.note("stopped; what has arrived there is kept, and the next restore goes on from here")
            raise
    return _report_restore(output, report)


def _report_restore(output: Output, report: RestoreReport) -> int:
    for path in report.planned:
        output.result("would_restore", f"would restore {visible(path)}", path=path)
    for path, reason in report.skipped:
        if output.json:
            output.result("skipped", None, path=path, reason=reason)
        else:
            output.note(f"skipped {visible(path)}: {visible(reason)}")
    parts = [f"{getattr(report, kind)} {kind}" for kind in ("new", "changed") if getattr(report, kind)]
    parts.append(f"{report.unchanged} unchanged")
    files = "file" if report.files == 1 else "files"
    if report.dry_run:
        text = (
            f"would restore {len(report.planned)} of {report.files} {files} of {size(report.bytes)}: {', '.join(parts)}"
        )
    else:
        text = (
            f"restored {report.files} {files} of {size(report.bytes)}: {', '.join(parts)}; "
            f"{size(report.sent)} went in {report.seconds:.2f} s"
        )
    if report.chunks_again:
        text += f"; {report.chunks_again} chunks went again"
    if report.lanes_lost or report.lanes_replaced:
        text += f"; {report.lanes_lost} lanes lost, {report.lanes_replaced} replaced"
    summary = {name: each for name, each in report.to_dict().items() if name not in {"skipped", "planned"}}
    output.event("summary", text, **summary, skipped=len(report.skipped))
    if any(not is_no_file(reason) for _, reason in report.skipped):
        return Exit.ERROR
    return Exit.OK if report.files else Exit.NOTHING

"""``pynetwork backup``: mirror a shared folder."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from pynetwork.backup import BackupReport, Options, PruneReport, backup, choose, prune_share
from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    Output,
    add_credential_options,
    add_output_options,
    age,
    byte_count,
    make_controller,
    parse_folder_address,
    positive,
    time_span,
)
from pynetwork.cli.display import size, visible
from pynetwork.cli.progress import progress_for
from pynetwork.files.folders import is_no_file

__all__ = ["add_pace_options", "add_parser", "priority", "report_backup", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "backup",
        help="mirror a shared folder: only what is not here yet is moved",
        description="Mirror a shared folder into DEST. Unchanged files cost nothing, of grown ones only the tail is "
        "moved, of changed ones the chunks that differ, of renamed ones nothing. After an interruption of any kind run "
        "it again. What the source does not have any more stays here unless --mirror-deletes is given.",
        epilog="For example: pynetwork backup pi:logs backup/pi --glob '*.log*'",
    )
    parser.add_argument(
        "source", metavar="HOST[:PORT]:FOLDER", type=parse_folder_address, help="a gateway and its shared folder"
    )
    parser.add_argument("destination", metavar="DEST", help="the folder to mirror into; it is made if need be")
    add_credential_options(parser)
    _add_choice_options(parser)
    parser.add_argument("--checksum", action="store_true", help="compare the content of unchanged files, too")
    parser.add_argument("--mirror-deletes", action="store_true", help="remove here what the source has no more")
    parser.add_argument("--owner", action="store_true", help="keep owner and group, as numbers; needs root")
    parser.add_argument("--not-durable", action="store_true", help="do not wait for the disk at the end")
    parser.add_argument("--follow", action="store_true", help="go on mirroring what changes, until Ctrl-C")
    add_pace_options(parser)
    pruning = parser.add_argument_group("removing from the device what is backed up")
    pruning.add_argument(
        "--delete-after-verify",
        action="store_true",
        help="then remove files from the device, each proved by digest on both sides just before; the first time "
        "for a destination it is only shown. The gateway must grant the right remove",
    )
    pruning.add_argument("--older-than", metavar="AGE", type=age, help="only files not changed for so long: 7d")
    pruning.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    add_output_options(parser)
    parser.set_defaults(run=run)


def _add_choice_options(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_argument_group("choosing files; all that are given must hold")
    chosen.add_argument("--pattern", metavar="REGEX", help="files whose path within the share matches as a whole")
    chosen.add_argument("--glob", metavar="GLOB", help="the same as a shell pattern; * goes across folders")
    chosen.add_argument("--min-size", metavar="SIZE", type=byte_count, help="at least so large: 500, 64k, 2M")
    chosen.add_argument("--max-size", metavar="SIZE", type=byte_count, help="at most so large")
    chosen.add_argument("--changed-within", metavar="AGE", type=time_span, help="changed since: 90s, 12h, 7d")
    chosen.add_argument("--changed-before", metavar="AGE", type=time_span, help="not changed since")


def add_pace_options(parser: argparse.ArgumentParser, *, compress: bool = True) -> None:
    """Add how much of the link may be taken, and how."""
    parser.add_argument("--limit", metavar="RATE", type=byte_count, help="bytes a second at the most: 500k, 2M")
    parser.add_argument(
        "--lanes", type=positive, metavar="N", help="connections to use (default: two, and more while that helps)"
    )
    priorities = parser.add_mutually_exclusive_group()
    priorities.add_argument(
        "--low-priority",
        action="store_true",
        help="give way to whatever else is on the link (default: to what else the gateway serves)",
    )
    priorities.add_argument("--high-priority", action="store_true", help="give way to nobody")
    if compress:
        parser.add_argument("--no-compress", action="store_true", help="never compress")


def priority(arguments: argparse.Namespace) -> bool | None:
    """What was said of the priority; None when nothing was."""
    return True if arguments.low_priority else False if arguments.high_priority else None


def run(arguments: argparse.Namespace) -> int:
    """Back up; 0 when all that was chosen is here."""
    output = Output(arguments, wanted=False)
    _check_pruning(arguments)
    options = _options_of(arguments)
    arguments.address = arguments.source.address
    controller = make_controller(arguments)
    get_client = partial(controller.get_client, arguments.wait or None)
    share, destination = arguments.source.folder, arguments.destination
    stop = threading.Event() if arguments.follow else None
    with progress_for(arguments, output) as progress, _ended_by_signals(stop):
        try:
            report = backup(
                get_client,
                controller.address,
                share,
                destination,
                options,
                lanes=arguments.lanes,
                stop=stop,
                progress=progress,
            )
        except KeyboardInterrupt:
            output.note("stopped; what has arrived is kept, and the next backup goes on from here")
            raise
    code = report_backup(output, report, "backed up")
    if arguments.delete_after_verify and code in (Exit.OK, Exit.NOTHING):
        dry_run = True if arguments.dry_run else None
        pruned = prune_share(
            get_client, share, destination, older_than=arguments.older_than, dry_run=dry_run, chosen=options.chosen
        )
        return max(code, _report_pruning(output, pruned))
    return code


def _check_pruning(arguments: argparse.Namespace) -> None:
    """Refuse options about removing files that do not go together."""
    if arguments.delete_after_verify and arguments.older_than is None:
        raise CommandFailed("--delete-after-verify needs --older-than AGE, as in --older-than 7d", Exit.USAGE)
    if not arguments.delete_after_verify and (arguments.older_than is not None or arguments.dry_run):
        raise CommandFailed(
            "--older-than and --dry-run are about what --delete-after-verify removes",
            Exit.USAGE,
            "--changed-before AGE chooses what is backed up.",
        )


def _options_of(arguments: argparse.Namespace) -> Options:
    return Options(
        checksum=arguments.checksum,
        owner=arguments.owner,
        mirror_deletes=arguments.mirror_deletes,
        durable=not arguments.not_durable,
        compress=False if arguments.no_compress else None,
        low_priority=priority(arguments),
        limit=arguments.limit,
        follow=arguments.follow,
        chosen=choose(
            arguments.pattern,
            arguments.glob,
            arguments.min_size,
            arguments.max_size,
            arguments.changed_within,
            arguments.changed_before,
        ),
    )


@contextlib.contextmanager
def _ended_by_signals(stop: threading.Event | None) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set ``stop``, the first time: that is how following ends."""
    if stop is None:
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report_backup(output: Output, report: BackupReport, done: str) -> int:
    """Print what a backup came to, and answer its exit code."""
    if report.catalogue_aside:
        output.note(
            f"the catalogue was damaged: it is {visible(report.catalogue_aside)} now, and a new one was begun; what "
            "was here has been compared by content"
        )
    for path, place in report.escaped:
        if output.json:
            output.result("escaped", None, path=path, place=place)
        else:
            output.note(f"{visible(path)} is kept as {visible(place)}: that name can't be had here")
    for path, reason in report.skipped:
        if output.json:
            output.result("skipped", None, path=path, reason=reason)
        else:
            output.note(f"skipped {visible(path)}: {visible(reason)}")
    parts = [
        f"{getattr(report, kind)} {kind}" for kind in ("new", "grown", "changed", "moved") if getattr(report, kind)
    ]
    parts.append(f"{report.unchanged} unchanged")
    if report.gone:
        parts.append(f"{report.gone} gone at the source")
    if report.deleted:
        parts.append(f"{report.deleted} removed here")
    files = "file" if report.files == 1 else "files"
    text = (
        f"{done} {report.files} {files} of {size(report.bytes)}: {', '.join(parts)}; "
        f"{size(report.received)} came in {report.seconds:.2f} s"
    )
    if report.chunks_again:
        text += f"; {report.chunks_again} chunks came again"
    if report.lanes_lost or report.lanes_replaced:
        text += f"; {report.lanes_lost} lanes lost, {report.lanes_replaced} replaced"
    summary = {name: each for name, each in report.to_dict().items() if name not in {"skipped", "escaped"}}
    output.event("summary", text, **summary, skipped=len(report.skipped), escaped=len(report.escaped))
    if any(not is_no_file(reason) for _, reason in report.skipped):
        return Exit.ERROR
    return Exit.OK


def _report_pruning(output: Output, report: PruneReport) -> int:
    for path in report.removed:
        word = "would remove" if report.dry_run else "removed"
        output.result("would_remove" if report.dry_run else "removed", f"{word} {visible(path)}", path=path)
    for path, reason in report.kept:
        output.result("kept", f"kept {visible(path)}: {visible(reason)}", path=path, reason=reason)
    count = len(report.removed)
    files = "file" if count == 1 else "files"
    if report.dry_run:
        text = f"{count} {files} of {size(report.bytes)} would be removed; run it again to remove them"
    else:
        text = f"removed {count} {files} of {size(report.bytes)} from the device"
    output.event("pruned", text, dry_run=report.dry_run, files=count, bytes=report.bytes, kept=len(report.kept))
    return Exit.ERROR if report.kept else Exit.OK

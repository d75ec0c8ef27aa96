"""``pynetwork ls``: what a gateway offers, or the files of one of its shared folders."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from handshakes.errors import Forbidden, RemoteProtocolError
from handshakes.manifest import Entry, Page, decode_page
from handshakes.messages import Rights
from handshakes.transfer import Code
from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    Output,
    add_connection_options,
    add_output_options,
    dialled_client,
)
from pynetwork.cli.display import size, table, visible
from pynetwork.client import Client

__all__ = ["add_parser", "pages", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "ls",
        help="list what a gateway offers",
        description="List a gateway's functions, streams and shared folders; with SHARE, the files in it.",
        epilog="For example: pynetwork ls pi, then: pynetwork ls pi logs",
    )
    add_connection_options(parser)
    parser.add_argument("share", metavar="SHARE", nargs="?", help="list the files of this shared folder")
    parser.add_argument("--pattern", metavar="REGEX", help="only files whose path matches as a whole")
    add_output_options(parser)
    parser.set_defaults(run=run, last_positional="share")


def run(arguments: argparse.Namespace) -> int:
    """List; 0 also when there is nothing."""
    output = Output(arguments)
    if arguments.pattern is not None and arguments.share is None:
        raise CommandFailed("--pattern chooses files; say of which SHARE", Exit.USAGE)
    wanted = _compiled(arguments.pattern)
    with dialled_client(arguments) as client:
        if arguments.share is None:
            _list_offers(client, output)
        else:
            _list_files(client, arguments.share, wanted, output)
    return Exit.OK


def _compiled(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or ".*", 0 if pattern else re.DOTALL)
    except re.error as error:
        raise CommandFailed(f"--pattern {pattern!r} is no regular expression: {error}", Exit.USAGE) from error


# What the gateway offers


def _list_offers(client: Client, output: Output) -> None:
    words = [str(right.name).lower() for right in Rights if right.name in _WORDS and right & client.rights]
    agent = client.link.connection.peer_agent
    text = f"{visible(agent)} at {client.peer}; you may: {' '.join(words) or 'do nothing'}"
    output.result("gateway", text, agent=agent, peer=client.peer, rights=words)
    rows = []
    for each in client.subroutines():
        output.result("subroutine", None, **{name: str(each.get(name, "")) for name in _SUBROUTINE})
        doc = str(each["doc"]).strip().partition("\n")[0]
        rows.append(
            (
                f"{visible(each['name'])}{visible(each['signature'])}",
                _KINDS.get(each["kind"], "call"),
                visible(doc),
            )
        )
    _heading(output, "Subroutines", rows)
    shares = _shares(client)
    for share in shares:
        output.result("share", None, name=share)
    _heading(output, "Shared folders", [(visible(share),) for share in shares])


_WORDS = ("CALL", "STREAM", "READ", "WRITE", "STATS", "STOP")
_SUBROUTINE = ("name", "kind", "signature", "doc")
_KINDS = {"stream": "stream"}


def _heading(output: Output, title: str, rows: Sequence[tuple[str, ...]]) -> None:
    if not output.json:
        output.result("", f"\n{title}\n{table(rows) if rows else '  none'}")


def _shares(client: Client) -> list[str]:
    try:
        answer = client.request("files.shares")
    except Forbidden:
        # A key without the right to read sees no folders.
        return []
    return [str(share) for share in answer]


# The files of a share


def _list_files(client: Client, share: str, wanted: re.Pattern[str], output: Output) -> None:
    for page in pages(client, share):
        for entry in page.files:
            if wanted.fullmatch(entry.path):
                _tell_file(entry, output)
        for path, reason in page.skipped:
            if output.json:
                output.result("unreadable", None, path=path, reason=reason)
            else:
                output.note(f"{visible(path)} is not shared: {visible(reason)}")


def _tell_file(entry: Entry, output: Output) -> None:
    if output.json:
        output.result("file", None, path=entry.path, size=entry.size, mtime=entry.mtime_ns / 1e9, mode=entry.mode)
        return
    output.result("file", f"{size(entry.size):>8}  {_moment(entry.mtime_ns)}  {visible(entry.path)}")


def _moment(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "at no known time"


def pages(client: Client, share: str) -> Iterator[Page]:
    """The entries of a shared folder, page by page as they come. Raises `NotFound` for an unknown share."""
    with client.open("files.list", share, False) as operation:
        while (message := operation.receive(client.timeout)) is not None:
            if message.code != Code.PAGE:
                raise RemoteProtocolError(f"message {message.code} is no page of a list of files")
            yield decode_page(message.body)
            operation.send(Code.MORE)

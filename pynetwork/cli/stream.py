"""``pynetwork stream``: print the items of a gateway's generator as lines."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from handshakes.errors import BadRequest, DeadlineExceeded, RemoteProtocolError
from handshakes.messages import Items
from pynetwork.cli.call import add_argument_words, parse_words
from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    Output,
    add_connection_options,
    add_output_options,
    dialled_client,
    positive,
    seconds,
)
from pynetwork.cli.display import inline
from pynetwork.client import CREDIT_ITEMS, CREDIT_SIZE, Client
from pynetwork.transport import Deadline

__all__ = ["add_parser", "frames", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "stream",
        help="print the items of a generator",
        description="Print the items of a gateway's generator, one a line: ident, tab, value. "
        "Arrays are summarised; with --json they are whole.",
        epilog="For example: pynetwork stream pi imu 4 rate=100 --seconds 10",
    )
    add_connection_options(parser)
    parser.add_argument("name", metavar="NAME", help="the generator; pynetwork ls lists them")
    add_argument_words(parser)
    parser.add_argument("--count", type=positive, metavar="N", help="end after N items")
    parser.add_argument("--seconds", type=seconds, metavar="S", help="end after S seconds")
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print items until the stream ends, or as many or as long as was asked for."""
    output = Output(arguments)
    began = time.monotonic()
    printed = 0
    with dialled_client(arguments) as client:
        operands = (arguments.name, *parse_words(arguments.words))
        try:
            for frame in frames(client, operands, arguments.count, Deadline(arguments.seconds)):
                for ident, value in zip(frame.idents, frame.payloads, strict=True):
                    text = None if output.json else f"{ident}\t{inline(value)}"
                    output.result("item", text, ident=ident, value=value)
                printed += len(frame.idents)
                # Nothing waits in a buffer for the next item, however slowly that comes.
                sys.stdout.flush()
        except BadRequest:
            _explain_function(client, arguments)
            raise
    if output.json:
        output.event("summary", None, items=printed, seconds=round(time.monotonic() - began, 6))
    elif output.verbose:
        output.note(f"{printed} items")
    return Exit.OK


def frames(
    client: Client,
    operands: tuple[str, tuple[Any, ...], dict[str, Any]],
    count: int | None,
    deadline: Deadline,
) -> Iterator[Items]:
    """The items of a generator as they come, until its end, ``count`` or the deadline.

    The gateway is never granted more than ``count`` items: where each one costs, none is sent in vain.
    """
    left = sys.maxsize if count is None else count
    outstanding = 0
    owed = CREDIT_SIZE
    with client.open("stream", *operands, None) as operation:
        while left > 0:
            room = min(left, CREDIT_ITEMS) - outstanding
            if outstanding == 0 or room >= CREDIT_ITEMS // 2 or owed >= CREDIT_SIZE // 2:
                client.say(client.link.connection.credit(room, owed))
                outstanding += room
                owed = 0
            try:
                event = operation.next_event(deadline.remaining())
            except DeadlineExceeded:
                return
            if event is None:
                return
            if not isinstance(event, Items):
                raise RemoteProtocolError("a stream brought something that is no item")
            yield event
            outstanding -= len(event.idents)
            left -= len(event.idents)
            owed += event.size


def _explain_function(client: Client, arguments: argparse.Namespace) -> None:
    """Raises `CommandFailed` when what was to be streamed is a function."""
    if any(each["name"] == arguments.name and each["kind"] != "stream" for each in client.subroutines()):
        raise CommandFailed(
            f"{arguments.name!r} is a function, not a stream",
            Exit.USAGE,
            f"Use: pynetwork call {arguments.address} {arguments.name}",
        )

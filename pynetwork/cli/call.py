"""``pynetwork call``: run a function of a gateway and print what it returned."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handshakes.errors import BadRequest
from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    Output,
    add_connection_options,
    add_output_options,
    dialled_client,
)
from pynetwork.cli.display import long_form
from pynetwork.client import Client

__all__ = ["add_argument_words", "add_parser", "parse_words", "run"]

_KEYWORD = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "call",
        help="run a function of a gateway",
        description="Run a function of a gateway and print what it returned.",
        epilog="For example: pynetwork call pi set_led 4 on=true name=door. A text that "
        "looks like JSON: '\"4\"'. Bytes are printed as they are when they go into a file or pipe.",
    )
    add_connection_options(parser)
    parser.add_argument("name", metavar="NAME", help="the function; pynetwork ls lists them")
    add_argument_words(parser)
    parser.add_argument("--buffer", metavar="FILE", help="hand it this file's bytes as its keyword argument buffer")
    add_output_options(parser)
    parser.set_defaults(run=run)


def add_argument_words(parser: argparse.ArgumentParser) -> None:
    """Add ARG ..."""
    parser.add_argument(
        "words", metavar="ARG", nargs="*", default=[], help="JSON or text; KEY=VALUE is a keyword argument"
    )
    parser.set_defaults(last_positional="words")


def parse_words(words: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments from the words of a command line: JSON where they are, else text."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for word in words:
        found = _KEYWORD.fullmatch(word)
        if found is not None:
            keywords[found[1]] = _value(found[2])
        else:
            positional.append(_value(word))
    return tuple(positional), keywords


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def run(arguments: argparse.Namespace) -> int:
    """Call it; 0 when it returned."""
    output = Output(arguments)
    positional, keywords = parse_words(arguments.words)
    buffer = None if arguments.buffer is None else Path(arguments.buffer).read_bytes()
    with dialled_client(arguments) as client:
        try:
            if buffer is None:
                value = client.request("call", arguments.name, positional, keywords)
            else:
                value = client.request("send", arguments.name, buffer, positional, keywords)
        except BadRequest:
            _explain_stream(client, arguments)
            raise
    if isinstance(value, bytes) and not output.json and not sys.stdout.isatty():
        sys.stdout.buffer.write(value)
    else:
        output.event("result", None if value is None else long_form(value), value=value)
    return Exit.OK


def _explain_stream(client: Client, arguments: argparse.Namespace) -> None:
    """Raises `CommandFailed` when what was called is a stream."""
    if any(each["name"] == arguments.name and each["kind"] == "stream" for each in client.subroutines()):
        raise CommandFailed(
            f"{arguments.name!r} is a stream",
            Exit.USAGE,
            f"Use: pynetwork stream {arguments.address} {arguments.name}",
        )

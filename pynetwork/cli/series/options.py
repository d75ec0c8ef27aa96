"""The command line of each action. What takes a while to import is not imported before an action needs it."""

from __future__ import annotations

import argparse
from typing import Any, Final

from handshakes.records import GREATEST, LEAST
from pynetwork.cli.common import (
    DEFAULT_PORT,
    add_credential_options,
    add_output_options,
)
from pynetwork.cli.gateway import port_number
from pynetwork.cli.quantities import age, positive, room

__all__ = ["TIME_WORDS", "SeriesParts", "add_actions"]

TIME_WORDS: Final = ("any", "iso", "unix", "unix-ms", "unix-us", "unix-ns", "tstorage")

SeriesParts = tuple[int | None, int | None, int | None]

_PAYLOAD: Final = (
    "what payloads hold: a format of struct ('if?'), NumPy types ('f8,f8', or 'x:f8,y:f8' to name them), json or bytes"
)
_SERVER: Final = f"a server, a gateway with a series service, or a TStorage (port {DEFAULT_PORT} unless said)"


_WITH_FILE: Final = "%(prog)s [-h] [OPTION ...] (--store DIR | HOST[:PORT]) FILE"


def add_actions(actions: Any) -> None:
    """Add a parser for each action; ``act`` is the module and the function that carry it out."""
    _add_serve(actions)
    _add_put(actions)
    _add_get(actions)
    _add_last(actions)
    _add_stats(actions)
    _add_export(actions)


def _add_serve(actions: Any) -> None:
    parser = actions.add_parser(
        "serve",
        help="serve a store to others",
        description="Serve a store on a port of its own, until Ctrl-C or SIGTERM. Without a key it speaks TStorage's "
        "protocol from the first byte, so that its clients in any language can use it, and serves this machine only. "
        "What happens is logged on stderr.",
        epilog="For example: pynetwork series serve data --max-age 90d --max-size 20G",
    )
    parser.add_argument("store", metavar="DIR", help="the store's folder; it is made if need be")
    parser.add_argument(
        "--port",
        type=port_number,
        default=DEFAULT_PORT,
        help=f"listen on this port; 0 takes any that is free (default {DEFAULT_PORT})",
    )
    parser.add_argument("--host", help="listen on this address (default: all with a key or TLS, else this machine's)")
    parser.add_argument("--key-file", metavar="FILE", help="file that holds the key; else PYNETWORK_KEY is the key")
    parser.add_argument("--tls-certificate", metavar="FILE", help="TLS; the certificate of this server, in PEM")
    parser.add_argument("--tls-private-key", metavar="FILE", help="its private key")
    parser.add_argument("--tls-ca", metavar="FILE", help="clients must show a certificate that this authority signed")
    parser.add_argument("--max-connections", type=positive, default=256, metavar="N", help="at a time (default 256)")
    parser.add_argument("--max-age", type=age, metavar="AGE", help="remove what was captured before: 12h, 90d")
    parser.add_argument(
        "--max-size", type=room, metavar="SIZE", help="remove the oldest while the store is larger: 500M, 20G"
    )
    add_output_options(parser)
    parser.set_defaults(act=("serving", "serve"))


def _add_put(actions: Any) -> None:
    parser = actions.add_parser(
        "put",
        usage=_WITH_FILE,
        help="put the records of a file",
        description="Put the records of a CSV, Parquet or Arrow file. Its columns are cid, mid, moid, cap, perhaps "
        "acq, and the payload's. A line of CSV that does not fit is named and left out. With acq, records whose full "
        "key is there already replace that; without, the times of acquisition are given here, so that putting a file "
        "again puts its records once more.",
        epilog="For example: pynetwork series put --store data power.csv --payload watt:f8",
    )
    parser.add_argument(
        "words",
        metavar="FILE",
        nargs="+",
        help="the file, after a server as HOST[:PORT] unless --store is given; - is CSV from standard input",
    )
    _add_source_options(parser)
    parser.add_argument(
        "--payload", type=_payload, metavar="TYPE", help=f"{_PAYLOAD} (default for CSV: a double for each column)"
    )
    parser.add_argument(
        "--series", type=series_name, metavar="CID/MID/MOID", help="of CSV without the columns cid, mid, moid"
    )
    parser.add_argument(
        "--times",
        choices=TIME_WORDS,
        default="any",
        help="how CSV writes cap and acq. any: ISO 8601 (UTC without a zone), or numbers, which below 1e11 are seconds "
        "since 1970, and from 1e16 on TStorage's nanoseconds since 2001",
    )
    add_output_options(parser)
    parser.set_defaults(act=("putting", "put"), last_positional="words")


def _add_get(actions: Any) -> None:
    parser = actions.add_parser(
        "get",
        help="print records, or draw them",
        description="Print the records of a store or a server: a table, or with --json and --csv all of them for other "
        "programs, or with --plot a chart. They come series after series, unless --newest is given.",
        epilog="For example: pynetwork series get --store data --series 1/4/7 --since 24h --payload x:f8,y:f8 --plot x",
    )
    _add_reading_options(parser)
    _add_payload_option(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="no more than N records")
    parser.add_argument(
        "--newest", action="store_true", help="the newest first, whatever their series; from a server with --limit only"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--csv", action="store_true", help="comma-separated, as put reads it again")
    shown.add_argument(
        "--plot",
        nargs="?",
        const="",
        metavar="FIELD",
        help="a chart of this field (default: of the first that is a number), a line for each series",
    )
    add_output_options(parser)
    parser.set_defaults(act=("getting", "get"))


def _add_last(actions: Any) -> None:
    parser = actions.add_parser(
        "last",
        help="print the newest record of each series",
        description="Print the newest record of each series. A server has to send all records of the range for it: "
        "--since bounds that.",
        epilog="For example: pynetwork series last --store data --payload x:f8,y:f8",
    )
    _add_reading_options(parser)
    _add_payload_option(parser)
    parser.add_argument("--csv", action="store_true", help="comma-separated, as put reads it again")
    add_output_options(parser)
    parser.set_defaults(act=("getting", "last"))


def _add_stats(actions: Any) -> None:
    parser = actions.add_parser(
        "stats",
        help="list the series, and what they hold",
        description="List the series with their numbers of records and the times of capture of the first and the last "
        "one, and how much room a store takes. A server has to send all records of the range for it: --since bounds "
        "that.",
        epilog="For example: pynetwork series stats --store data",
    )
    _add_reading_options(parser)
    add_output_options(parser)
    parser.set_defaults(act=("summary", "stats"))


def _add_export(actions: Any) -> None:
    parser = actions.add_parser(
        "export",
        usage=_WITH_FILE,
        help="write records into a file",
        description="Write records into a file, whose suffix says in which format: .csv, .parquet or .arrow. It takes "
        "its name when it is complete; where there are no such records, what has that name stays.",
        epilog="For example: pynetwork series export --store data power.parquet --series 1/4/7 --payload watt:f8",
    )
    parser.add_argument(
        "words", metavar="FILE", nargs="+", help="the file, after a server as HOST[:PORT] unless --store is given"
    )
    _add_source_options(parser)
    _add_range_options(parser)
    _add_payload_option(parser)
    add_output_options(parser)
    parser.set_defaults(act=("exporting", "export"), last_positional="words")


# What several have


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="HOST[:PORT]", nargs="?", help=_SERVER)
    _add_source_options(parser)
    _add_range_options(parser)


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="DIR", help="a store's folder on this machine, in place of a server")
    parser.add_argument(
        "--gateway", action="store_true", help="the server is a gateway without a key; with a key this is found out"
    )
    add_credential_options(parser)


def _add_range_options(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_argument_group("choosing records; all that are given must hold")
    chosen.add_argument(
        "--series", type=series_name, metavar="CID/MID/MOID", help="only these; * or a part left out stands for all"
    )
    chosen.add_argument(
        "--since", type=_moment, metavar="TIME", help="captured at or after: 2026-11-21T08:30:00Z, or 24h, 7d ago"
    )
    chosen.add_argument("--until", type=_moment, metavar="TIME", help="captured before")


def _add_payload_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--payload", type=_payload, default="bytes", metavar="TYPE", help=f"{_PAYLOAD} (default bytes)")


# Their types


def _payload(text: str) -> Any:
    # Only now, as it takes a while.
    from pynetwork.cli.series.payloads import payload_of  # noqa: PLC0415

    return payload_of(text)


def _moment(text: str) -> int:
    # Only now, as it takes a while.
    from pynetwork.cli.series.moments import moment  # noqa: PLC0415

    return moment(text)


def series_name(text: str) -> SeriesParts:
    """``CID/MID/MOID``; None for a part that is ``*`` or left out at the end. Raises `argparse.ArgumentTypeError`."""
    words = text.split("/")
    if len(words) > 3:
        raise argparse.ArgumentTypeError(f"{text!r} has more than three parts; write CID/MID/MOID")
    parts: list[int | None] = []
    for name, word in zip(("cid", "mid", "moid"), [*words, "*", "*"], strict=False):
        try:
            value = None if word == "*" else int(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no series; write CID/MID/MOID: 1/4/7, 1/4, 1/*/7") from None
        least, most = getattr(LEAST, name), getattr(GREATEST, name)
        if value is not None and not least <= value < most:
            raise argparse.ArgumentTypeError(f"{name} {value} in {text!r} is not {least} to {most - 1}")
        parts.append(value)
    return parts[0], parts[1], parts[2]

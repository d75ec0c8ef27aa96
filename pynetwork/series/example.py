"""The example program: puts the records of a CSV file into a store, and walks them back.

``python -m pynetwork.series`` shows all of it on this machine: the store and its server are made in a folder that is
removed at the end, and so is the file. With ``--host`` it talks to a `SeriesServer` or a TStorage server.

Its exit codes are those of the command ``pynetwork``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from handshakes.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    PynetworkError,
    RemoteProtocolError,
    ValueNotSupported,
)
from handshakes.records import FIELDS, GREATEST, LEAST, Block, Key, KeyRange
from pynetwork.series.channel import Channel
from pynetwork.series.datafiles import read_blocks, read_names
from pynetwork.series.payloads import NumpyPayloadType
from pynetwork.series.timestamps import Tstoragedatetime, now_ns

__all__ = ["main"]

PORT = 1857
SECOND = 1_000_000_000
_LINE = "{:>6} {:>6} {:>6}  {:<36}"

_CODES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], int], ...] = (
    (FileNotFoundError, 4),
    ((ConfigurationError, ValueNotSupported), 2),
    ((ConnectionLost, DeadlineExceeded), 5),
    ((AuthenticationFailed, Forbidden, RemoteProtocolError), 7),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it with these arguments, or those of the command line; answers the exit code."""
    options = _parsed(arguments)
    try:
        _run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `| head`. The interpreter flushes again at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (PynetworkError, OSError) as error:
        # What the names of columns hold, a terminal would obey.
        reason = "".join(each if each.isprintable() else repr(each)[1:-1] for each in _reason(error))
        sys.stderr.write(f"pynetwork.series: {reason}\n")
        return next((code for kinds, code in _CODES if isinstance(error, kinds)), 1)
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename!r}"
    if isinstance(error, RemoteProtocolError):
        return f"{error}; a server that asks for a key needs PYNETWORK_KEY, and a gateway is none"
    return str(error)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in ("port", "tls_ca"):
        if getattr(options, name) is not None and not options.host:
            parser.error(f"--{name.replace('_', '-')} is of a server: give --host, too")
    return options


def _rows(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 to {10**9 - 1}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pynetwork.series",
        description="Put the records of a CSV file into a time-series store, and walk them back.",
        epilog="PYNETWORK_KEY is the key to prove, where the server asks for one.",
    )
    parser.add_argument("--host", help="the server (without it: one of its own, in a temporary folder)")
    parser.add_argument("--port", type=int, help=f"its port (default {PORT})")
    parser.add_argument("--tls-ca", metavar="FILE", help="TLS; the authority in this PEM file is trusted")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="for each wait (default 10)")
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="records: the columns cid, mid, moid, cap, and others, which hold numbers (without it: a few are made)",
    )
    parser.add_argument("--rows", type=_rows, default=20, metavar="N", help="how many records to show (default 20)")
    return parser


def _run(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pynetwork-series-")))
        path = Path(options.csv) if options.csv else _made(folder / "records.csv")
        payload_type = _payload_type(path)
        host, port = _server(options) if options.host else stack.enter_context(_served(folder))
        channel = stack.enter_context(_channel(host, port, payload_type, options))
        # Closed also when the channel fails, whose error would else keep the file open.
        blocks = cast("Generator[Block, None, None]", read_blocks(path, payload_type))
        with contextlib.closing(blocks):
            box, count = _put(channel, blocks)
        _say(f"{count} records of {options.csv or 'three sensors'} were put to {host}:{port}.")
        if box is not None:
            _say("Back from there:\n")
            _walk(channel, payload_type, box, options.rows)


def _made(path: Path) -> Path:
    """A small file: what three sensors have measured in the last minute."""
    begin = now_ns() - 60 * SECOND
    with open(path, "w", encoding="utf-8") as file:
        file.write("cid,mid,moid,cap,temperature,humidity\n")
        for number in range(12):
            for sensor in range(3):
                moment = Tstoragedatetime.from_tstorage_ns(begin + 5 * number * SECOND)
                file.write(f"1,4,{sensor},{moment},{20 + sensor + number / 8},{55 - 5 * sensor - number / 4}\n")
    return path


def _payload_type(path: Path) -> NumpyPayloadType:
    """A float for each column that is none of the key's. Raises `ConfigurationError` unless there are some."""
    values = [name for name in read_names(path) if name not in FIELDS]
    if not values:
        raise ConfigurationError(f"{str(path)!r} has no column but those of the key; its first line names the columns")
    return NumpyPayloadType([(name, "<f8") for name in values])


def _server(options: argparse.Namespace) -> tuple[str, int]:
    return options.host, PORT if options.port is None else options.port


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[str, int]]:
    """A store and a server in ``folder``, and where that listens."""
    # Only now: whoever has a server needs neither.
    from pynetwork.series.server import SeriesServer  # noqa: PLC0415
    from pynetwork.series.store import SeriesStore  # noqa: PLC0415

    with SeriesStore(folder / "store") as store, SeriesServer(store) as server:
        yield "127.0.0.1", server.port


def _channel(host: str, port: int, payload_type: NumpyPayloadType, options: argparse.Namespace) -> Channel[Any]:
    key = os.environ.get("PYNETWORK_KEY") if options.host else None
    tls = None
    if options.tls_ca:
        # Only now, as it takes a while.
        from pynetwork.tls import TLS  # noqa: PLC0415

        tls = TLS(ca=options.tls_ca)
    return Channel(host, port, payload_type, timeout=options.timeout, key=key or None, tls=tls)


def _put(channel: Channel[Any], blocks: Iterable[Block]) -> tuple[KeyRange | None, int]:
    """Put them; answers the box that they lie in, None when there are none, and how many there are."""
    least, most, count = GREATEST, LEAST, 0
    for block in blocks:
        response = channel.put(block)
        response.raise_for_status()
        columns = [block.column(name) for name in FIELDS[:4]]
        first = [int(column.min()) for column in columns]
        last = [int(column.max()) for column in columns]
        least = Key(*map(min, least, [*first, response.acq_min]))
        most = Key(*map(max, most, [*last, response.acq_max]))
        count += len(block)
    # A box does not hold its upper corner.
    upper = Key(*(min(value + 1, end) for value, end in zip(most, GREATEST, strict=True)))
    return (KeyRange(least, upper) if count else None), count


def _walk(channel: Channel[Any], payload_type: NumpyPayloadType, box: KeyRange, rows: int) -> None:
    """Print the first ``rows`` records of a box, one by one as they come, and how many more there are."""
    count = 0
    names = payload_type.dtype.names or ()
    _say(_LINE.format("cid", "mid", "moid", "cap") + "".join(f" {name:>12.12}" for name in names))
    for record in channel.get_iter(box.min, box.max).records():
        count += 1
        if count <= rows:
            cap = Tstoragedatetime.from_tstorage_ns(record.key.cap)
            _say(_LINE.format(*record.key[:3], str(cap)) + "".join(f" {value:12.6g}" for value in record.value.item()))
    if count > rows:
        _say(f"... and {count - rows} more")

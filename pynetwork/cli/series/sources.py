"""Where records are: in a store's folder on this machine, or on a server."""

from __future__ import annotations

import argparse
import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final

from handshakes.errors import DeadlineExceeded, RemoteProtocolError
from handshakes.records import GREATEST, LEAST, Block, Key, KeyRange
from pynetwork.cli.common import (
    CommandFailed,
    Exit,
    exit_code,
    make_controller,
    parse_address,
    tls_of,
)
from pynetwork.cli.series.folding import SeriesFigures, figures_of, last_of, newest_of
from pynetwork.cli.series.options import SeriesParts
from pynetwork.series.channel import Channel
from pynetwork.series.payloads import BytesPayloadType
from pynetwork.series.record import SeriesKey
from pynetwork.series.store import SeriesStore, StoreBusy

__all__ = [
    "Source",
    "opened",
    "range_of",
    "server_and_file",
    "whole_series",
]


_BYTES: Final = BytesPayloadType()


class Source(ABC):
    """Where records are put and got."""

    name: str

    @abstractmethod
    def put(self, block: Block, *, with_acq: bool) -> None:
        """Put all of them, durably; without ``with_acq`` the source gives them their times of acquisition."""

    @abstractmethod
    def blocks(self, box: KeyRange, *, newest: bool = False, limit: int | None = None) -> Iterator[Block]:
        """The records of a box, series after series, or the newest of all first."""

    @abstractmethod
    def last(self, box: KeyRange) -> Block | None:
        """The record with the greatest cap of each series."""

    @abstractmethod
    def series(self, box: KeyRange) -> list[SeriesFigures]:
        """What each series holds."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """What else is known of it."""


class StoreSource(Source):
    """A store's folder."""

    def __init__(self, store: SeriesStore, name: str) -> None:
        self.store = store
        self.name = name

    def put(self, block: Block, *, with_acq: bool) -> None:
        if with_acq:
            self.store.puta(block)
        else:
            self.store.put(block)

    def blocks(self, box: KeyRange, *, newest: bool = False, limit: int | None = None) -> Iterator[Block]:
        return self.store.blocks(box, order="newest" if newest else "stored", limit=limit)

    def last(self, box: KeyRange) -> Block | None:
        return self.store.last(box)

    def series(self, box: KeyRange) -> list[SeriesFigures]:
        return [
            SeriesFigures(SeriesKey(cid, mid, moid), count, oldest, newest)
            for cid, mid, moid, count, oldest, newest in self.store.series(box).tolist()
        ]

    def figures(self) -> dict[str, Any]:
        return dict(self.store.stats())


class ServerSource(Source):
    """A server, over a channel. As TStorage's protocol asks for boxes only, all else is made of these here."""

    def __init__(self, channel: Channel[bytes], name: str) -> None:
        self.channel = channel
        self.name = name

    def put(self, block: Block, *, with_acq: bool) -> None:
        (self.channel.puta if with_acq else self.channel.put)(block).raise_for_status()

    def blocks(self, box: KeyRange, *, newest: bool = False, limit: int | None = None) -> Iterator[Block]:
        if newest and limit is None:
            raise CommandFailed(
                "a server gives the newest first only with --limit N",
                Exit.USAGE,
                "It has no order for that, so they are chosen here, in bounded memory.",
            )
        with contextlib.closing(self.channel.blocks(box.min, box.max)) as found:
            if not newest or limit is None:
                yield from found if limit is None else _first(found, limit)
            elif (kept := newest_of(found, limit)) is not None:
                yield kept

    def last(self, box: KeyRange) -> Block | None:
        return last_of(self.channel.blocks(box.min, box.max))

    def series(self, box: KeyRange) -> list[SeriesFigures]:
        return figures_of(self.channel.blocks(box.min, box.max))

    def figures(self) -> dict[str, Any]:
        answer = self.channel.get_acq(LEAST, GREATEST)
        answer.raise_for_status()
        return {"horizon": answer.acq}


def _first(blocks: Iterator[Block], limit: int) -> Iterator[Block]:
    for block in blocks:
        yield block if len(block) <= limit else block.take(slice(0, limit))
        limit -= len(block)
        if limit <= 0:
            return


# Options


def whole_series(parts: SeriesParts) -> SeriesKey:
    """The one series that these parts name. Raises `CommandFailed` when some are left out."""
    cid, mid, moid = parts
    if cid is None or mid is None or moid is None:
        raise CommandFailed("--series must name one series here: CID/MID/MOID, as in 1/4/7", Exit.USAGE)
    return SeriesKey(cid, mid, moid)


def range_of(arguments: argparse.Namespace) -> KeyRange:
    """The box of the records that the options choose. Raises `CommandFailed` when it holds nothing."""
    cid, mid, moid = arguments.series or (None, None, None)
    since = LEAST.cap if arguments.since is None else arguments.since
    until = GREATEST.cap if arguments.until is None else arguments.until
    if since >= until:
        raise CommandFailed("--since is not before --until", Exit.USAGE)
    least = Key(
        LEAST.cid if cid is None else cid,
        LEAST.mid if mid is None else mid,
        LEAST.moid if moid is None else moid,
        since,
        LEAST.acq,
    )
    most = Key(
        GREATEST.cid if cid is None else cid + 1,
        GREATEST.mid if mid is None else mid + 1,
        GREATEST.moid if moid is None else moid + 1,
        until,
        GREATEST.acq,
    )
    return KeyRange(least, most)


def server_and_file(arguments: argparse.Namespace) -> tuple[str | None, str]:
    """The words of a command line: a server's address, unless --store is given, and a file. Raises `CommandFailed`."""
    words = arguments.words
    if len(words) == 1 and arguments.store is not None:
        return None, words[0]
    if len(words) == 2 and arguments.store is None:
        return words[0], words[1]
    raise CommandFailed("say where the records are, and the file: --store DIR FILE or HOST[:PORT] FILE", Exit.USAGE)


# Opening


@contextlib.contextmanager
def opened(arguments: argparse.Namespace, address: str | None, *, create: bool = False) -> Iterator[Source]:
    """What ``--store`` or the address names, closed at the end. ``create``: a store's folder is made if need be.

    Raises `CommandFailed` unless exactly one of them is given, and for a folder that is no store's.
    """
    if (arguments.store is None) == (address is None):
        raise CommandFailed(
            "say where the records are: --store DIR or HOST[:PORT]"
            if address is None
            else f"the records are either in --store {arguments.store} or at {address}",
            Exit.USAGE,
        )
    if address is None:
        if not create and not os.path.exists(os.path.join(arguments.store, "series.sqlite")):
            raise CommandFailed(f"there is no series store in {arguments.store!r}", Exit.FILE_NOT_FOUND)
        with _store(arguments.store) as store:
            yield StoreSource(store, arguments.store)
        return
    if os.path.isdir(address):
        raise CommandFailed(
            f"{address!r} is a folder here; a store's folder is given with --store {address}", Exit.USAGE
        )
    try:
        arguments.address = parse_address(address)
    except argparse.ArgumentTypeError as error:
        raise CommandFailed(str(error), Exit.USAGE) from None
    with _dialled(arguments) as channel:
        yield ServerSource(channel, str(arguments.address))


def _store(folder: str) -> SeriesStore:
    try:
        return SeriesStore(folder)
    except StoreBusy as error:
        raise CommandFailed(
            str(error),
            Exit.RETRY,
            "In place of --store name who has it open: HOST[:PORT] of a series server, HOST[:PORT] --gateway of a "
            "gateway.",
        ) from error


@contextlib.contextmanager
def _dialled(arguments: argparse.Namespace) -> Iterator[Channel[bytes]]:
    if arguments.gateway or arguments.key_file or os.environ.get("PYNETWORK_KEY"):
        channel = _channel_of_gateway(arguments)
    else:
        host, port = arguments.address.host, arguments.address.port
        channel = Channel(host, port, _BYTES, tls=tls_of(arguments), timeout=arguments.timeout or None)
    try:
        channel.connect().raise_for_status()
        yield channel
    except RemoteProtocolError as error:
        raise CommandFailed(
            f"{arguments.address} does not speak TStorage: {error}",
            Exit.FATAL,
            "A gateway takes --gateway or its key, a server with a key that: --key-file FILE or PYNETWORK_KEY.",
        ) from error
    finally:
        channel.close()


def _channel_of_gateway(arguments: argparse.Namespace) -> Channel[bytes]:
    try:
        client = make_controller(arguments).get_client(arguments.wait or None)
    except (DeadlineExceeded, RemoteProtocolError) as error:
        raise CommandFailed(
            str(error),
            exit_code(error),
            "A TStorage, and a server without a key, speak another protocol: leave --gateway and the key out.",
        ) from error
    try:
        return client.series(_BYTES, timeout=arguments.timeout or None)
    except BaseException as error:
        client.lose(error)
        raise

"""Stores, servers and gateways with a few records, which tests of the actions look at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from handshakes.records import Block
from pynetwork.gateway import Gateway
from pynetwork.series.conversions import block_from
from pynetwork.series.payloads import BytesPayloadType, NumpyPayloadType
from pynetwork.series.record import Record, SeriesKey
from pynetwork.series.server import SeriesServer
from pynetwork.series.service import SeriesService
from pynetwork.series.store import SeriesStore
from pynetwork.series.timestamps import Tstoragedatetime

SECOND = 10**9
NOON = Tstoragedatetime.fromisoformat("2026-11-21T12:00:00Z").to_tstorage_ns()
PAIRS = NumpyPayloadType([("x", "<f8"), ("n", "<i4")])
ROOM, HALL = SeriesKey(1, 4, 7), SeriesKey(1, 4, 8)


def pairs(count: int, series: SeriesKey = ROOM, begin: int = NOON) -> Block:
    """Records a second apart, whose payloads are (number / 2, number)."""
    whole = numpy.zeros(count, [("cid", "i4"), ("mid", "i8"), ("moid", "i4"), ("cap", "i8"), ("x", "f8"), ("n", "i4")])
    whole["cid"], whole["mid"], whole["moid"] = series
    whole["cap"] = begin + numpy.arange(count) * SECOND
    whole["x"] = numpy.arange(count) / 2
    whole["n"] = numpy.arange(count)
    return block_from(whole, PAIRS)


@contextlib.contextmanager
def filled(folder: Path, *blocks: Block) -> Iterator[SeriesStore]:
    """An open store with these records: by default three of one series and two of another."""
    with SeriesStore(folder) as store:
        for block in blocks or (pairs(3), pairs(2, HALL, NOON + 10 * SECOND)):
            store.put(block)
        yield store


def made(folder: Path, *blocks: Block) -> Path:
    """The same, closed."""
    with filled(folder, *blocks):
        return folder


@contextlib.contextmanager
def served(folder: Path, *blocks: Block, **options: Any) -> Iterator[str]:
    """The same on a server: its address."""
    with filled(folder, *blocks) as store, SeriesServer(store, "127.0.0.1", **options) as server:
        yield f"127.0.0.1:{server.port}"


@contextlib.contextmanager
def mounted(folder: Path, *blocks: Block, **options: Any) -> Iterator[str]:
    """The same on a gateway: its address."""
    with filled(folder, *blocks) as store:
        gateway = Gateway(0, "127.0.0.1", **options)
        gateway.add_service("series", SeriesService(store))
        with gateway:
            yield f"127.0.0.1:{gateway.port}"


def texts(series: SeriesKey, *payloads: bytes) -> Block:
    """Records a second apart with these payloads."""
    records = [Record(series.key(NOON + at * SECOND), payload) for at, payload in enumerate(payloads)]
    return block_from(records, BytesPayloadType())

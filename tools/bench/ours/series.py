"""`SeriesStore`, and `Channel` and `AsyncChannel` to a `SeriesServer`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy

from handshakes.records import KEY, Key, KeyRange
from pynetwork.series.aio_channel import AsyncChannel
from pynetwork.series.channel import Channel
from pynetwork.series.payloads import BytesPayloadType, NumpyPayloadType
from pynetwork.series.record import Record
from pynetwork.series.server import SeriesServer
from pynetwork.series.store import SeriesStore
from tools.bench.raw.sockets import Address
from tools.bench.sensors import Array
from tools.bench.workloads.series_channel import AsyncPut, ChannelSides, Put, PutterSides, Session
from tools.bench.workloads.series_memory import LIMIT, StreamingSession, StreamingSides
from tools.bench.workloads.series_store import Store, StoreSides

__all__ = ["OurChannel", "OurPutters", "OurStore", "OurStreaming"]

_HOST: Final = "127.0.0.1"
_READING: Final = NumpyPayloadType([("value", "<f8"), ("voltage", "<f8")])
_ROW: Final = numpy.dtype([*KEY.descr, *_READING.dtype.descr])
_BYTES: Final = BytesPayloadType()


class OurStore(StoreSides):
    """Arrays in and out with the fields that the payloads have."""

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Store]:
        """With its options as they are."""
        with SeriesStore(folder) as store:
            yield _Opened(store)


class _Opened(Store):
    def __init__(self, store: SeriesStore) -> None:
        self._store = store

    def put(self, rows: Array) -> None:
        """`SeriesStore.put`."""
        self._store.put(rows.view(_ROW), _READING)

    def put_one(self, key: Key, payload: bytes) -> None:
        """A list of one record."""
        self._store.put([Record(key, payload)], _BYTES)

    def get(self, box: KeyRange) -> Array:
        """`SeriesStore.array`."""
        return self._store.array(box, _READING)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[Address]:
    with SeriesStore(folder) as store, SeriesServer(store, _HOST) as server:
        yield _HOST, server.port


class OurChannel(ChannelSides):
    """Arrays as in the store."""

    def serve(self, folder: Path) -> AbstractContextManager[Any]:
        """Without a key, so that it is plain TStorage."""
        return _served(folder)

    @contextlib.contextmanager
    def connect(self, address: Address) -> Iterator[Session]:
        """With its options as they are."""
        host, port = address
        with Channel(host, port, _READING) as channel:
            yield _Connected(channel)


class _Connected(Session):
    def __init__(self, channel: Channel[Any]) -> None:
        self._channel = channel

    def put(self, rows: Array) -> None:
        """`Channel.put`."""
        self._channel.put(rows.view(_ROW)).raise_for_status()

    def get(self, box: KeyRange) -> Array:
        """`Channel.get`."""
        response = self._channel.get(*box)
        response.raise_for_status()
        found: Any = response.data
        return numpy.asarray(found)


class OurPutters(PutterSides):
    """Lists of one record."""

    def serve(self, folder: Path) -> AbstractContextManager[Any]:
        """As for the channel."""
        return _served(folder)

    @contextlib.contextmanager
    def connect(self, address: Address) -> Iterator[Put]:
        """`Channel.put`."""
        with Channel(*address, _BYTES) as channel:

            def put(key: Key, payload: bytes) -> None:
                channel.put([Record(key, payload)]).raise_for_status()

            yield put

    @contextlib.asynccontextmanager
    async def connect_async(self, address: Address) -> AsyncIterator[AsyncPut]:
        """`AsyncChannel.put`."""
        async with AsyncChannel(*address, _BYTES) as channel:

            async def put(key: Key, payload: bytes) -> None:
                (await channel.put([Record(key, payload)])).raise_for_status()

            yield put

    def count(self, address: Address) -> int:
        """By getting them."""
        with Channel(*address, _BYTES) as channel:
            return sum(len(block) for block in channel.blocks(*KeyRange.everything()))


class OurStreaming(StreamingSides):
    """`Channel.get_stream`."""

    def serve(self, folder: Path) -> AbstractContextManager[Any]:
        """As for the channel."""
        return _served(folder)

    @contextlib.contextmanager
    def connect(self, address: Address) -> Iterator[StreamingSession]:
        """With a limit."""
        with Channel(*address, _READING, memory_limit=LIMIT) as channel:
            yield _Streaming(channel)


class _Streaming(StreamingSession):
    def __init__(self, channel: Channel[Any]) -> None:
        self._channel = channel

    def put(self, rows: Array) -> None:
        """`Channel.put`."""
        self._channel.put(rows.view(_ROW)).raise_for_status()

    def stream(self) -> int:
        """A batch is a list of arrays."""
        counts: list[int] = []
        response = self._channel.get_stream(*KeyRange.everything(), lambda batch: counts.extend(map(len, batch)))
        response.raise_for_status()
        return sum(counts)

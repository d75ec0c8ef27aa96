"""The channels of both kinds, with the blocking one's methods, over each kind of stream, and what is asked of them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

from handshakes.records import KEY, Key
from handshakes.tstorage import Status
from pynetwork.series.aio_channel import AsyncChannel, AsyncRecordIterator
from pynetwork.series.channel import Channel
from pynetwork.series.payloads import BytesPayloadType, NumpyPayloadType, PayloadType
from pynetwork.series.record import Record
from tests.certificates import Certificates
from tests.playing import Play, Server, answered, full_key, header, playing, record
from tests.serving import PATIENCE
from tools.facade import LoopThread

__all__ = [
    "BOX",
    "CHANNELS",
    "FAILURE",
    "FLOATS",
    "LARGE",
    "PUT_OK",
    "REQUESTS",
    "TWO",
    "TWO_BYTES",
    "A",
    "Channels",
    "asked",
    "assert_failed",
    "channels",
    "many",
    "many_bytes",
]

CHANNELS = [f"{channel} over {stream}" for channel in ("blocking", "asyncio") for stream in ("tcp", "tls")]

BOX = (Key(0, 0, 0, 0, 0), Key(9, 9, 9, 9, 9))
A, B = Key(1, 2, 3, 4, 5), Key(1, 2, 3, 5, 6)
TWO = [Record(A, b"one"), Record(B, b"second")]
TWO_BYTES = answered(record(full_key(*A), b"one"), record(full_key(*B), b"second"), acq=7)
PUT_OK = header(0, 16) + struct.pack("<qq", 10, 11)
FAILURE = header(-1, 0)
FLOATS = NumpyPayloadType([("value", "<f8")])
LARGE = 400_000
"""Records that no buffer of the system holds."""


class Channels:
    """Makes channels of one of `CHANNELS`, and servers for them."""

    def __init__(self, name: str, certificates: Certificates) -> None:
        kind, _, self.stream = name.partition(" over ")
        self._certificates = certificates
        self._loop = LoopThread() if kind == "asyncio" else None

    def playing(self, *plays: Play) -> contextlib.AbstractContextManager[Server]:
        """A server for them."""
        return playing(*plays, tls=self._certificates.gateway if self.stream == "tls" else None)

    def to(self, port: int, payload_type: PayloadType[Any] | None = None, **options: Any) -> Any:
        """A channel that is not connected."""
        if self.stream == "tls" and not {"tls", "ssl_context"} & set(options):
            options["tls"] = self._certificates.controller
        options = {"timeout": PATIENCE, **options}
        made = payload_type or BytesPayloadType()
        if self._loop is None:
            return Channel("127.0.0.1", port, made, **options)
        return _Facade(self._loop, AsyncChannel("127.0.0.1", port, made, **options))

    @contextlib.contextmanager
    def talking(self, *plays: Play, **options: Any) -> Iterator[tuple[Server, Any]]:
        """A server that plays these, and a channel that is connected to it."""
        with self.playing(*plays) as server, self.to(server.port, **options) as channel:
            yield server, channel

    def close(self) -> None:
        """End its event loop, if it has one."""
        if self._loop is not None:
            self._loop.close()


class _Facade:
    """An `AsyncChannel` with the methods of a `Channel`, its requests run on the loop's thread."""

    def __init__(self, loop: LoopThread, channel: AsyncChannel[Any]) -> None:
        self._loop = loop
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._channel, name)
        if not callable(found):
            return found
        if name == "get_iter":
            return lambda *arguments: _Iterated(self._loop, found(*arguments))
        if name == "blocks":
            return lambda *arguments: _each(self._loop, found(*arguments))
        return lambda *arguments, **options: self._loop.run(lambda: found(*arguments, **options))

    def __enter__(self) -> _Facade:
        self._loop.run(self._channel.__aenter__)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.run(lambda: self._channel.__aexit__(*exception))


class _Iterated:
    """An `AsyncRecordIterator` with the methods of a `RecordIterator`."""

    def __init__(self, loop: LoopThread, items: AsyncRecordIterator[Any]) -> None:
        self._loop = loop
        self._items = items

    @property
    def response(self) -> Any:
        return self._items.response

    def __iter__(self) -> Iterator[Any]:
        return _each(self._loop, self._items)

    def __next__(self) -> Any:
        return self._loop.run(lambda: anext(self._items))

    def records(self) -> Iterator[Any]:
        return _each(self._loop, self._items.records())

    def close(self) -> None:
        async def close() -> None:
            self._items.close()

        self._loop.run(close)


def _each(loop: LoopThread, items: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                yield loop.run(lambda: anext(items))
            except StopAsyncIteration:
                return
    finally:
        if hasattr(items, "aclose"):
            loop.run(items.aclose)


@pytest.fixture(params=CHANNELS)
def channels(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Channels]:
    """Each channel over each kind of stream."""
    made = Channels(request.param, certificates)
    yield made
    made.close()


def many(count: int) -> numpy.ndarray[Any, Any]:
    """So many records with a float, as an array."""
    rows = numpy.zeros(count, [*KEY.descr, ("value", "<f8")])
    rows["cid"], rows["cap"], rows["value"] = 1, numpy.arange(count), numpy.arange(count) / 4
    return rows


def many_bytes(rows: numpy.ndarray[Any, Any]) -> bytes:
    """The same as records of an answer."""
    wire = numpy.empty(len(rows), [("size", "<i4"), ("row", rows.dtype)])
    wire["size"], wire["row"] = 40, rows
    return wire.tobytes()


def asked(channel: Any, name: str) -> Any:
    """What comes of this request, whose arguments are as they should be."""
    arguments: dict[str, tuple[Any, ...]] = {
        "put": (TWO,),
        "puta": (TWO,),
        "get_acq": BOX,
        "get": BOX,
        "get_stream": (*BOX, lambda _batch: None),
    }
    if name == "get_iter":
        *_, last = channel.get_iter(*BOX)
        return last
    return getattr(channel, name)(*arguments[name])


REQUESTS = ["put", "puta", "get_acq", "get", "get_stream", "get_iter"]


def assert_failed(response: Any, status: Status, error: type[Exception], what: str = "") -> None:
    assert response.status is status
    assert not response
    assert type(response.error) is error
    with pytest.raises(error, match=what or None):
        response.raise_for_status()

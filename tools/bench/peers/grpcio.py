"""gRPC: unary calls, streams of items and of records; generic handlers, so nothing has to be generated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import grpc
import grpc.experimental
import numpy
import orjson

from handshakes.records import KeyRange, row_type
from tools.bench.peers.packing import ARRAYS, BYTES, JSON, Packing
from tools.bench.sensors import WIDTH, Array
from tools.bench.workloads.call import CallSides, Functions
from tools.bench.workloads.series_channel import ChannelSides, Session
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["ArrayItems", "Call", "JsonItems", "Records", "SmallItems"]

_SERVICE = "bench"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)
_ONE_THREAD = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
_SECONDS = 5.0
_PIECE = 1 << 20


class Call(CallSides):
    """JSON in the messages, as in all other contestants."""

    @contextlib.contextmanager
    def serve(self, functions: Functions) -> Iterator[str]:
        """A method for each function."""

        def handler(function: Callable[..., Any]) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                lambda request, _context: function(*request[0], **request[1]), orjson.loads, orjson.dumps
            )

        with _serving({name: handler(function) for name, function in functions.items()}) as address:
            yield address

    @contextlib.contextmanager
    def connect(self, address: str) -> Iterator[Callable[..., Any]]:
        """One channel; its callables are made once, as those of a generated stub are."""
        with grpc.insecure_channel(address, _OPTIONS) as channel:

            @cache
            def method(name: str) -> Any:
                return channel.unary_unary(f"/{_SERVICE}/{name}", orjson.dumps, orjson.loads)

            yield lambda name, *arguments, **keywords: method(name)((arguments, keywords))


class _Stream(StreamSides):
    """A message for each item."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing

    @contextlib.contextmanager
    def serve(self, source: Source) -> Iterator[str]:
        """One method."""
        pack = self._packing.pack

        def items(_request: bytes, _context: Any) -> Iterator[bytes]:
            return (pack(ident, payload) for ident, payload in source())

        with _serving({"items": grpc.unary_stream_rpc_method_handler(items)}) as address:
            yield address

    @contextlib.contextmanager
    def items(self, address: str) -> Iterator[Iterator[tuple[int, Any]]]:
        """Read by the caller's own thread: no other has to be woken for an item."""
        with grpc.insecure_channel(address, (*_OPTIONS, _ONE_THREAD)) as channel:
            messages = channel.unary_stream(f"/{_SERVICE}/items")(b"")
            try:
                yield map(self._packing.unpack, messages)
            finally:
                messages.cancel()


SmallItems = partial(_Stream, BYTES)
JsonItems = partial(_Stream, JSON)
ArrayItems = partial(_Stream, ARRAYS)


class Records(ChannelSides):
    """Rows as they lie in memory, in messages of about 1 MiB; the server holds what was put last."""

    @contextlib.contextmanager
    def serve(self, folder: Path) -> Iterator[str]:
        """A stream in, a stream out."""
        del folder
        held = [b""]

        def put(pieces: Iterator[bytes], _context: Any) -> bytes:
            held[0] = b"".join(pieces)
            return b""

        def get(_request: bytes, _context: Any) -> Iterator[bytes]:
            return _cut(held[0])

        methods = {
            "put": grpc.stream_unary_rpc_method_handler(put),
            "get": grpc.unary_stream_rpc_method_handler(get),
        }
        with _serving(methods) as address:
            yield address

    @contextlib.contextmanager
    def connect(self, address: str) -> Iterator[Session]:
        """One channel."""
        with grpc.insecure_channel(address, (*_OPTIONS, _ONE_THREAD)) as channel:
            yield _Records(channel)


class _Records(Session):
    def __init__(self, channel: Any) -> None:
        self._put = channel.stream_unary(f"/{_SERVICE}/put")
        self._get = channel.unary_stream(f"/{_SERVICE}/get")

    def put(self, rows: Array) -> None:
        """Cut into messages."""
        self._put(_cut(rows.view(numpy.uint8).data))

    def get(self, box: KeyRange) -> Array:
        """All there is."""
        del box
        return numpy.frombuffer(b"".join(self._get(b"")), row_type(WIDTH))


def _cut(data: bytes | memoryview) -> Iterator[bytes]:
    return (bytes(data[begin : begin + _PIECE]) for begin in range(0, len(data), _PIECE))


@contextlib.contextmanager
def _serving(methods: dict[str, Any]) -> Iterator[str]:
    server = grpc.server(
        ThreadPoolExecutor(4), (grpc.method_handlers_generic_handler(_SERVICE, methods),), options=_OPTIONS
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield address
    finally:
        server.stop(None).wait(_SECONDS)

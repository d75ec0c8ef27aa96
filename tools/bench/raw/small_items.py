"""Streams of small items over a blocking socket."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain, islice
from typing import Any

from tools.bench.raw.sockets import LENGTH, Address, connected, frames, served
from tools.bench.workloads.small_items import SIZE
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["RawSingles", "RawSlices", "RawStruct"]

_TOGETHER = 1000
_IDENT = struct.Struct("<q")
_ITEM = struct.Struct(f"<q{SIZE}s")


class RawStruct(StreamSides):
    """A thousand items in a frame, packed by one call and unpacked by one iterator."""

    def serve(self, source: Source) -> AbstractContextManager[Any]:
        """A thread for each client."""
        frame = struct.Struct("<I" + f"q{SIZE}s" * _TOGETHER)

        def work(sock: socket.socket) -> None:
            items = source()
            size = frame.size - LENGTH.size
            while True:
                sock.sendall(frame.pack(size, *chain.from_iterable(islice(items, _TOGETHER))))

        return served(work)

    @contextlib.contextmanager
    def items(self, address: Address) -> Iterator[Iterator[tuple[int, Any]]]:
        """No step of Python for an item."""
        with connected(address) as sock:
            yield chain.from_iterable(map(_ITEM.iter_unpack, frames(sock)))


class RawSlices(StreamSides):
    """A thousand items in a frame, joined, and cut again item by item."""

    def serve(self, source: Source) -> AbstractContextManager[Any]:
        """A thread for each client."""

        def work(sock: socket.socket) -> None:
            items = source()
            pack = _IDENT.pack
            while True:
                body = b"".join([pack(ident) + payload for ident, payload in islice(items, _TOGETHER)])
                sock.sendall(LENGTH.pack(len(body)) + body)

        return served(work)

    @contextlib.contextmanager
    def items(self, address: Address) -> Iterator[Iterator[tuple[int, Any]]]:
        """Each cut from its frame."""
        with connected(address) as sock:
            yield _cut(sock)


def _cut(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    read_ident = _IDENT.unpack_from
    step = _IDENT.size + SIZE
    for frame in frames(sock):
        data = bytes(frame)
        for start in range(0, len(data), step):
            yield read_ident(data, start)[0], data[start + 8 : start + step]


class RawSingles(StreamSides):
    """Each item leaves at once."""

    def serve(self, source: Source) -> AbstractContextManager[Any]:
        """A thread for each client."""

        def work(sock: socket.socket) -> None:
            for ident, payload in source():
                sock.sendall(_ITEM.pack(ident, payload))

        return served(work)

    @contextlib.contextmanager
    def items(self, address: Address) -> Iterator[Iterator[tuple[int, Any]]]:
        """As many as have arrived."""
        with connected(address) as sock:
            yield _singles(sock)


def _singles(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    data = b""
    while True:
        more = sock.recv(65536)
        if not more:
            raise ConnectionResetError("the server has left")
        data += more
        whole = len(data) // _ITEM.size * _ITEM.size
        yield from _ITEM.iter_unpack(data[:whole])
        data = data[whole:]

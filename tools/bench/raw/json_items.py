"""A stream of JSON values over a blocking socket: idents and values of many items as one JSON text."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain, islice
from typing import Any

import orjson

from tools.bench.raw.sockets import LENGTH, Address, connected, frames, served
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["RawJson"]

_TOGETHER = 400


class RawJson(StreamSides):
    """``[[ident, value], ...]`` in each frame."""

    def serve(self, source: Source) -> AbstractContextManager[Any]:
        """A thread for each client."""

        def work(sock: socket.socket) -> None:
            items = source()
            while True:
                body = orjson.dumps(list(islice(items, _TOGETHER)))
                sock.sendall(LENGTH.pack(len(body)) + body)

        return served(work)

    @contextlib.contextmanager
    def items(self, address: Address) -> Iterator[Iterator[tuple[int, Any]]]:
        """The lists of two that JSON gives, as they are."""
        with connected(address) as sock:
            yield chain.from_iterable(map(orjson.loads, frames(sock)))

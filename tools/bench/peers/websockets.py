"""WebSockets: requests and answers, and a stream of messages.

By the interface that blocks, which is like ours and measured no slower than that of asyncio.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from tools.bench.peers.packing import ARRAYS, BYTES, JSON, Packing
from tools.bench.workloads.call import CallSides, Functions
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["ArrayItems", "Call", "JsonItems", "SmallItems"]

_WAITING = 256
"""Messages that may wait to be read; the default of 16 stops and starts the reading all the time."""


class Call(CallSides):
    """A message there and one back."""

    def serve(self, functions: Functions) -> AbstractContextManager[str]:
        """A thread for each client."""

        def answer(connection: Any) -> None:
            for request in connection:
                name, arguments, keywords = orjson.loads(request)
                connection.send(orjson.dumps(functions[name](*arguments, **keywords)))

        return _serving(answer)

    @contextlib.contextmanager
    def connect(self, address: str) -> Iterator[Callable[..., Any]]:
        """One connection."""
        with connect(address, compression=None, proxy=None) as connection:

            def call(name: str, *arguments: Any, **keywords: Any) -> Any:
                connection.send(orjson.dumps((name, arguments, keywords)))
                return orjson.loads(connection.recv())

            yield call


class _Stream(StreamSides):
    """A message for each item."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing

    def serve(self, source: Source) -> AbstractContextManager[str]:
        """Items from the first moment, until the client leaves."""
        pack = self._packing.pack

        def push(connection: Any) -> None:
            send = connection.send
            with contextlib.suppress(ConnectionClosed):
                for ident, payload in source():
                    send(pack(ident, payload))

        return _serving(push)

    @contextlib.contextmanager
    def items(self, address: str) -> Iterator[Iterator[tuple[int, Any]]]:
        """One connection."""
        # Who leaves an endless stream in its middle need not wait for it to end in good order.
        with connect(address, compression=None, proxy=None, max_queue=_WAITING, close_timeout=0) as connection:
            yield map(self._packing.unpack, connection)


SmallItems = partial(_Stream, BYTES)
JsonItems = partial(_Stream, JSON)
ArrayItems = partial(_Stream, ARRAYS)


@contextlib.contextmanager
def _serving(handle: Callable[[Any], None]) -> Iterator[str]:
    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()

"""RPyC: a service with exposed functions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any

import orjson
import rpyc
from rpyc.utils.server import ThreadedServer

from tools.bench.workloads.call import CallSides, Functions

__all__ = ["Call"]


class Call(CallSides):
    """RPyC hands out references to dicts, and asks back for each look into one: results are sent as JSON."""

    @contextlib.contextmanager
    def serve(self, functions: Functions) -> Iterator[int]:
        """A thread for each client."""
        exposed = {f"exposed_{name}": staticmethod(_by_value(function)) for name, function in functions.items()}
        service = type("Functions", (rpyc.Service,), exposed)
        server = ThreadedServer(service, hostname="127.0.0.1", port=0)
        thread = threading.Thread(target=server.start, daemon=True)
        thread.start()
        try:
            yield server.port
        finally:
            server.close()
            thread.join()

    @contextlib.contextmanager
    def connect(self, address: int) -> Iterator[Callable[..., Any]]:
        """One connection; functions are looked up once."""
        stream = rpyc.SocketStream.connect("127.0.0.1", address, nodelay=True)
        with rpyc.utils.factory.connect_stream(stream) as connection:

            @cache
            def remote(name: str) -> Any:
                return getattr(connection.root, name)

            yield lambda name, *arguments, **keywords: orjson.loads(remote(name)(*arguments, **keywords))


def _by_value(function: Callable[..., Any]) -> Callable[..., bytes]:
    @wraps(function)
    def call(*arguments: Any, **keywords: Any) -> bytes:
        return orjson.dumps(function(*arguments, **keywords))

    return call

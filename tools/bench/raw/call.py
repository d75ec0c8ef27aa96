"""A call over a blocking socket: a length, then orjson of name, arguments and keywords; the same back."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import orjson

from tools.bench.raw.sockets import LENGTH, Address, connected, served
from tools.bench.workloads.call import CallSides

__all__ = ["RawCall"]

_MOST = 65536


class RawCall(CallSides):
    """One send and one receive a side."""

    def serve(self, functions: Mapping[str, Callable[..., Any]]) -> AbstractContextManager[Any]:
        """A thread for each client."""

        def work(sock: socket.socket) -> None:
            while True:
                name, arguments, keywords = orjson.loads(_receive(sock))
                answer = orjson.dumps(functions[name](*arguments, **keywords))
                sock.sendall(LENGTH.pack(len(answer)) + answer)

        return served(work)

    @contextlib.contextmanager
    def connect(self, address: Address) -> Iterator[Callable[..., Any]]:
        """One connection."""
        with connected(address) as sock:

            def call(name: str, *arguments: Any, **keywords: Any) -> Any:
                request = orjson.dumps((name, arguments, keywords))
                sock.sendall(LENGTH.pack(len(request)) + request)
                return orjson.loads(_receive(sock))

            yield call


def _receive(sock: socket.socket) -> bytes:
    """One message; as each side waits for the other there is never a second behind it."""
    data = sock.recv(_MOST)
    while len(data) < 4 or len(data) < 4 + LENGTH.unpack_from(data)[0]:
        more = sock.recv(_MOST)
        if not more:
            raise ConnectionResetError("the other side has left")
        data += more
    return data[4:]

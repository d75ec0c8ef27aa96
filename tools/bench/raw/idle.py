"""Connections that do nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tools.bench.raw.sockets import Address, connected, served
from tools.bench.workloads.memory import IdleSides

__all__ = ["RawIdle"]


class RawIdle(IdleSides):
    """A blocked thread for each at the server, a socket at the client."""

    def serve(self, most: int) -> AbstractContextManager[Any]:
        """As many as come."""
        del most

        def work(sock: socket.socket) -> None:
            while data := sock.recv(4096):
                sock.sendall(data)

        return served(work)

    def connect(self, address: Address) -> Callable[[], AbstractContextManager[Any]]:
        """A connection a call."""
        return lambda: _answered(address)


@contextlib.contextmanager
def _answered(address: Address) -> Iterator[socket.socket]:
    with connected(address) as sock:
        sock.sendall(b"?")
        sock.recv(1)
        yield sock

"""A stream of arrays over a blocking socket: sent from where they lie, received to where they stay."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import numpy
from numpy.typing import NDArray

from tools.bench.raw.sockets import Address, connected, receive_exactly, served
from tools.bench.workloads.array_items import LENGTH
from tools.bench.workloads.streams import Source, StreamSides

__all__ = ["RawArrays"]

_TOGETHER = 32
_IDENTS = struct.Struct(f"<{_TOGETHER}q")


class RawArrays(StreamSides):
    """A frame is a column of idents and as many arrays, sent by one system call as a rule."""

    def serve(self, source: Source) -> AbstractContextManager[Any]:
        """A thread for each client."""

        def work(sock: socket.socket) -> None:
            items = source()
            size = _IDENTS.size + _TOGETHER * LENGTH * 8
            while True:
                idents, arrays = zip(*islice(items, _TOGETHER), strict=True)
                sent = sock.sendmsg([_IDENTS.pack(*idents), *arrays])
                if sent < size:
                    _send_rest(sock, sent, arrays)

        return served(work)

    @contextlib.contextmanager
    def items(self, address: Address) -> Iterator[Iterator[tuple[int, Any]]]:
        """Arrays as rows of what was received."""
        with connected(address) as sock:
            yield _receive(sock)


def _send_rest(sock: socket.socket, sent: int, arrays: tuple[NDArray[numpy.float64], ...]) -> None:
    # What did not fit is always from among the arrays: the idents come first and are small.
    whole, part = divmod(sent - _IDENTS.size, LENGTH * 8)
    sock.sendall(arrays[whole].data.cast("B")[part:])
    for array in arrays[whole + 1 :]:
        sock.sendall(array.data)


def _receive(sock: socket.socket) -> Iterator[tuple[int, NDArray[numpy.float64]]]:
    column = memoryview(bytearray(_IDENTS.size))
    while True:
        receive_exactly(sock, column)
        arrays = numpy.empty((_TOGETHER, LENGTH))
        receive_exactly(sock, arrays.data.cast("B"))
        yield from zip(_IDENTS.unpack(column), arrays, strict=True)

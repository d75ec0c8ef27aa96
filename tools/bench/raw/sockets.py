"""Sockets for the raw limits: a server with a thread a connection, and frames with a length before them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

__all__ = ["LENGTH", "Address", "connected", "frames", "receive_exactly", "served"]

Address = tuple[str, int]
LENGTH = struct.Struct("<I")
_CAPACITY = 256 * 1024


@contextlib.contextmanager
def served(work: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[Address]:
    """Run ``work`` for each connection, in a thread, until the client leaves."""
    listener = socket.create_server((host, 0))
    listener.settimeout(0.1)
    stopping = threading.Event()

    def run(sock: socket.socket) -> None:
        with sock, contextlib.suppress(ConnectionError):
            work(sock)

    def accept() -> None:
        while not stopping.is_set():
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=run, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        stopping.set()
        thread.join()
        listener.close()


@contextlib.contextmanager
def connected(address: Address) -> Iterator[socket.socket]:
    """A connected socket."""
    with socket.create_connection((address[0], address[1])) as sock:
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def frames(sock: socket.socket) -> Iterator[memoryview]:
    """The frames that arrive, each good until the next is asked for. Raises ConnectionError at the end."""
    buffer = memoryview(bytearray(_CAPACITY))
    begin = end = 0
    while True:
        while end - begin < 4 or end - begin < 4 + LENGTH.unpack_from(buffer, begin)[0]:
            if _CAPACITY - end < _CAPACITY // 2:
                held = end - begin
                buffer[:held] = buffer[begin:end]
                begin, end = 0, held
            count = sock.recv_into(buffer[end:])
            if not count:
                raise ConnectionResetError("the server has left")
            end += count
        first = begin + 4
        begin = first + LENGTH.unpack_from(buffer, begin)[0]
        yield buffer[first:begin]


def receive_exactly(sock: socket.socket, memory: memoryview) -> None:
    """Fill ``memory``. Raises ConnectionError at the end."""
    filled = 0
    while filled < len(memory):
        count = sock.recv_into(memory[filled:])
        if not count:
            raise ConnectionResetError("the other side has left")
        filled += count

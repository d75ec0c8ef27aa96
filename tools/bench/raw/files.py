"""Files over blocking sockets: sendfile, recv_into, pwrite, without digests and without care; and ``cp``."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson

from tools.bench.peers.programs import flushing
from tools.bench.raw.sockets import LENGTH, Address, connected, receive_exactly, served
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["Copy", "FlushedCopy", "FlushedFiles", "RawFiles", "Update"]

Job = tuple[str, int, int]
"""Path, first byte, number of bytes."""

_SMALL = 64 * 1024
_TOGETHER = 256 * 1024
_CAPACITY = 1 << 20


class RawFiles(FileSides):
    """Jobs go round over the connections; a file that is large for their number is cut into as many parts."""

    def serve(self, source: Path, host: str) -> AbstractContextManager[Any]:
        """Answer lists of jobs; an empty list asks what there is."""

        def work(sock: socket.socket) -> None:
            while True:
                jobs = orjson.loads(_receive(sock))
                if jobs:
                    _send_files(sock, source, jobs)
                else:
                    _send(sock, _listing(source))

        return served(work, host)

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """A thread for each connection beyond the first."""
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connected(address)) for _ in range(connections)]

            def fetch(target: Path) -> None:
                _send(socks[0], [])
                names = orjson.loads(_receive(socks[0]))
                for folder in {os.path.dirname(name) for name, _ in names}:
                    (target / folder).mkdir(exist_ok=True)
                shares = _shared_out(names, connections)
                threads = [
                    threading.Thread(target=_fetch, args=(sock, str(target), jobs))
                    for sock, jobs in zip(socks[1:], shares[1:], strict=True)
                ]
                for thread in threads:
                    thread.start()
                _fetch(socks[0], str(target), shares[0])
                for thread in threads:
                    thread.join()

            yield fetch


class FlushedFiles(RawFiles):
    """With all on the disk at the end."""

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """By the command, as the others."""
        with super().session(address, connections) as fetch:
            yield flushing(fetch)


def _listing(source: Path) -> list[tuple[str, int]]:
    found = []
    for folder, _, names in os.walk(source):
        place = os.path.relpath(folder, source)
        for name in names:
            found.append((os.path.normpath(f"{place}/{name}"), os.stat(f"{folder}/{name}").st_size))
    return found


def _shared_out(names: list[tuple[str, int]], connections: int) -> list[list[Job]]:
    if len(names) >= connections:
        return [[(name, 0, size) for name, size in names[lane::connections]] for lane in range(connections)]
    shares: list[list[Job]] = [[] for _ in range(connections)]
    for name, size in names:
        edges = [size * part // connections for part in range(connections + 1)]
        for lane in range(connections):
            shares[lane].append((name, edges[lane], edges[lane + 1] - edges[lane]))
    return shares


def _send_files(sock: socket.socket, source: Path, jobs: list[Job]) -> None:
    """Large files by sendfile; small ones are read, and leave together."""
    root = f"{source}/"
    small: list[bytes] = []
    held = 0
    for name, start, size in jobs:
        handle = os.open(root + name, os.O_RDONLY)
        try:
            if size < _SMALL:
                small.append(os.pread(handle, size, start))
                held += size
            if small and (size >= _SMALL or held >= _TOGETHER):
                sock.sendall(b"".join(small))
                small.clear()
                held = 0
            if size >= _SMALL:
                offset, end = start, start + size
                while offset < end:
                    offset += os.sendfile(sock.fileno(), handle, offset, end - offset)
        finally:
            os.close(handle)
    sock.sendall(b"".join(small))


def _fetch(sock: socket.socket, target: str, jobs: list[Job]) -> None:
    if not jobs:
        return
    _send(sock, jobs)
    buffer = memoryview(bytearray(_CAPACITY))
    begin = end = 0
    for name, start, size in jobs:
        handle = os.open(f"{target}/{name}", os.O_WRONLY | os.O_CREAT, 0o644)
        offset, rest = start, size
        while rest:
            if begin == end:
                begin, end = 0, sock.recv_into(buffer)
                if not end:
                    raise ConnectionResetError("the server has left")
            written = os.pwrite(handle, buffer[begin : min(end, begin + rest)], offset)
            begin += written
            offset += written
            rest -= written
        os.close(handle)


def _send(sock: socket.socket, message: Any) -> None:
    data = orjson.dumps(message)
    sock.sendall(LENGTH.pack(len(data)) + data)


def _receive(sock: socket.socket) -> memoryview:
    length = memoryview(bytearray(LENGTH.size))
    receive_exactly(sock, length)
    data = memoryview(bytearray(LENGTH.unpack(length)[0]))
    receive_exactly(sock, data)
    return data


class Copy(FileSides):
    """``cp -a`` from folder to folder: no network at all."""

    remote = False
    options: tuple[str, ...] = ("--archive",)

    def serve(self, source: Path, host: str) -> AbstractContextManager[Any]:
        """Nothing has to run."""
        del host
        return contextlib.nullcontext(str(source))

    @contextlib.contextmanager
    def session(self, address: str, connections: int) -> Iterator[Fetch]:
        """The time of the program's start counts."""
        del connections

        def fetch(target: Path) -> None:
            subprocess.run(["cp", *self.options, f"{address}/.", f"{target}/"], check=True)

        yield fetch


class Update(Copy):
    """``cp -a --update``: only what is newer."""

    options = ("--archive", "--update")


class FlushedCopy(Copy):
    """``cp -a``, and what it wrote on the disk at the end."""

    @contextlib.contextmanager
    def session(self, address: str, connections: int) -> Iterator[Fetch]:
        """As a line of the shell would do it."""
        with super().session(address, connections) as fetch:
            yield flushing(fetch)

"""tar from one netcat to another: no names to agree on, no digests, nothing to ask."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from tools.bench.peers import NETCAT, TAR
from tools.bench.peers.programs import ended, flushing, path_of
from tools.bench.raw.sockets import LENGTH, Address, connected, receive_exactly, served
from tools.bench.workloads.files import Fetch, FileSides

__all__ = ["Files", "FlushedFiles"]


class Files(FileSides):
    """Somebody has to start a new pair for each turn: a raw connection stands for the two at their keyboards."""

    def serve(self, source: Path, host: str) -> AbstractContextManager[Address]:
        """Tells each who connects the port at which netcat listens for it."""

        def work(sock: socket.socket) -> None:
            with _listening(source, host) as port:
                sock.sendall(LENGTH.pack(port))
                sock.recv(1)

        return served(work, host)

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """One connection, whatever their number; the time of the programs' start at this side counts."""
        del connections
        with connected(address) as sock:
            port = memoryview(bytearray(LENGTH.size))
            receive_exactly(sock, port)
            yield lambda target: _fetch(target, (address[0], LENGTH.unpack(port)[0]))


class FlushedFiles(Files):
    """With what it wrote on the disk at the end."""

    @contextlib.contextmanager
    def session(self, address: Address, connections: int) -> Iterator[Fetch]:
        """As a line of the shell would do it."""
        with super().session(address, connections) as fetch:
            yield flushing(fetch)


@contextlib.contextmanager
def _listening(source: Path, host: str) -> Iterator[int]:
    tar = subprocess.Popen([path_of(TAR), "-C", str(source), "-cf", "-", "."], stdout=subprocess.PIPE)
    with ended(tar):
        assert tar.stdout is not None
        command = [path_of(NETCAT), "-v", "-n", "-N", "-l", host, "0"]
        netcat = subprocess.Popen(command, stdin=tar.stdout, stderr=subprocess.PIPE)
        tar.stdout.close()
        with ended(netcat):
            assert netcat.stderr is not None
            with netcat.stderr as said:
                found = re.search(rb"(\d+)\s*$", said.readline())
                if found is None:
                    raise OSError("netcat does not say where it listens")
                yield int(found[1])


def _fetch(target: Path, address: Address) -> None:
    netcat = subprocess.Popen(
        [path_of(NETCAT), "-n", "-d", *map(str, address)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    with ended(netcat):
        assert netcat.stdout is not None
        with netcat.stdout as pipe:
            subprocess.run([path_of(TAR), "-C", str(target), "-xf", "-"], stdin=pipe, check=True)

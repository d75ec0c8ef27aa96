"""Servers of the TStorage protocol that play what a test has written by hand, with nothing of the code under test."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

from pynetwork.tls import TLS
from tests.serving import PATIENCE, Background

__all__ = [
    "GET",
    "GET_ACQ",
    "PUT",
    "PUTA",
    "Heard",
    "Play",
    "Server",
    "answered",
    "batch",
    "endless",
    "full_key",
    "header",
    "playing",
    "record",
    "request",
]

GET, PUT, PUTA, GET_ACQ = 1, 5, 6, 7


def header(code: int, size: int) -> bytes:
    return struct.pack("<iQ", code, size)


def full_key(cid: int, mid: int, moid: int, cap: int = 0, acq: int = 0) -> bytes:
    return struct.pack("<iqiqq", cid, mid, moid, cap, acq)


def request(code: int, least: bytes, most: bytes) -> bytes:
    """A get, or the question for a time of acquisition."""
    return header(code, 64) + least + most


def batch(cid: int, *records: bytes) -> bytes:
    """A batch of a put; each record without its size."""
    body = b"".join(struct.pack("<i", len(each)) + each for each in records)
    return struct.pack("<ii", cid, len(body)) + body


def record(key: bytes, payload: bytes = b"") -> bytes:
    """A record in the answer of a get."""
    return struct.pack("<i", len(key) + len(payload)) + key + payload


def answered(*records: bytes, acq: int = 0, status: int = 0) -> bytes:
    """The whole answer of a get."""
    return header(0, 0) + b"".join(records) + struct.pack("<i", 0) + header(status, 8) + struct.pack("<q", acq)


class Heard:
    """One connection, seen from the server. Everything that was received is in ``data``."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""

    def hear(self, count: int) -> bytes:
        """Exactly so many bytes."""
        found = bytearray()
        while len(found) < count:
            piece = self.sock.recv(min(count - len(found), 1 << 20))
            assert piece, f"the caller hung up after {bytes(found[-100:])!r}, {count - len(found)} bytes before the end"
            found += piece
        self.data += found
        return bytes(found)

    def say(self, data: bytes) -> Heard:
        self.sock.sendall(data)
        return self

    def answer(self, data: bytes, count: int = 12 + 64) -> Heard:
        """Say this when so many bytes were heard: one request for a box, unless told otherwise."""
        self.hear(count)
        return self.say(data)

    def dribble(self, data: bytes) -> None:
        """Say it byte by byte, each in a packet of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            self.sock.sendall(bytes([byte]))

    def rest(self) -> bytes:
        """Everything up to the end of the connection, however that comes."""
        with contextlib.suppress(OSError):
            while piece := self.sock.recv(1 << 20):
                self.data += piece
        return self.data


Play = Callable[[Heard], Any]


def endless(mebibytes: int) -> Play:
    """Answers a get with records of 52 bytes, 16 of them payload: as many as there are room for in each MiB."""
    piece = record(full_key(1, 0, 0), bytes(16)) * ((1 << 20) // 52)

    def play(heard: Heard) -> None:
        heard.answer(header(0, 0))
        for _ in range(mebibytes):
            heard.sock.sendall(piece)
        heard.say(struct.pack("<i", 0) + header(0, 8) + bytes(8))

    return play


class Server:
    """Plays each of ``plays`` to one caller, one after another. ``heard`` are its connections."""

    def __init__(self, plays: tuple[Play, ...], tls: TLS | None) -> None:
        self.heard: list[Heard] = []
        self._plays = plays
        self._context = None if tls is None else tls.server_context()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._running = Background(self._run)

    def _run(self) -> None:
        for play in self._plays:
            sock, _ = self._listener.accept()
            sock.settimeout(PATIENCE)
            with sock:
                if self._context is None:
                    self._play(play, sock)
                    continue
                with contextlib.suppress(ssl.SSLError), self._context.wrap_socket(sock, server_side=True) as secured:
                    self._play(play, secured)

    def _play(self, play: Play, sock: socket.socket) -> None:
        self.heard.append(Heard(sock))
        play(self.heard[-1])

    def close(self) -> None:
        """Wait until everything was played."""
        try:
            self._running.result()
        finally:
            self._listener.close()


@contextlib.contextmanager
def playing(*plays: Play, tls: TLS | None = None) -> Iterator[Server]:
    """A server on a free port that plays these, each to one caller."""
    server = Server(plays, tls)
    try:
        yield server
    finally:
        server.close()

"""A TStorage client written from the page of the protocol alone, with nothing of the code under test."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from tests.serving import PATIENCE, RawSocket

GET, PUT, PUTA, GETACQ = 1, 5, 6, 7
FAILURE = struct.pack("<iQ", -1, 0)
LEAST = (0, -(2**63), -(2**31), -(2**63), -(2**63))
GREATEST = (2**31 - 1, 2**63 - 1, 2**31 - 1, 2**63 - 1, 2**63 - 1)

Full = tuple[int, int, int, int, int]


def box(command: int, least: Full = LEAST, greatest: Full = GREATEST) -> bytes:
    """A request for a box."""
    return struct.pack("<iQ", command, 64) + struct.pack("<iqiqq", *least) + struct.pack("<iqiqq", *greatest)


def record(key: Full, payload: bytes, with_acq: bool = False) -> bytes:
    """A record within a batch."""
    fields = struct.pack("<qiqq" if with_acq else "<qiq", *key[1 : 5 if with_acq else 4])
    return struct.pack("<i", len(fields) + len(payload)) + fields + payload


def batch(cid: int, *records: bytes) -> bytes:
    """A batch of records."""
    body = b"".join(records)
    return struct.pack("<ii", cid, len(body)) + body


def put(*batches: bytes, with_acq: bool = False) -> bytes:
    """A whole put."""
    return struct.pack("<iQ", PUTA if with_acq else PUT, 0) + b"".join(batches) + struct.pack("<i", -1)


def put_records(*records: tuple[Full, bytes], with_acq: bool = False) -> bytes:
    """A put of these records, a batch for each."""
    return put(*(batch(key[0], record(key, payload, with_acq)) for key, payload in records), with_acq=with_acq)


class RawClient(RawSocket):
    """A socket that says what it is told to, and reads answers."""

    def __init__(self, port: int, timeout: float = PATIENCE, sock: socket.socket | None = None) -> None:
        super().__init__(sock or socket.create_connection(("127.0.0.1", port), timeout))

    def say(self, data: bytes | Iterable[bytes]) -> RawClient:
        for piece in [data] if isinstance(data, bytes) else data:
            self.sock.sendall(piece)
        return self

    def take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise EOFError(data)
        return data

    def header(self) -> tuple[int, int]:
        code, size = struct.unpack("<iQ", self.take(12))
        return code, size

    def put_answer(self) -> tuple[int, int]:
        assert self.header() == (0, 16)
        first, last = struct.unpack("<qq", self.take(16))
        return first, last

    def acq_answer(self) -> int:
        assert self.header() == (0, 8)
        return int(struct.unpack("<q", self.take(8))[0])

    def get_answer(self) -> tuple[list[tuple[Full, bytes]], int]:
        records, status, acq = self.get_to_end()
        assert status == 0
        return records, acq

    def get_to_end(self) -> tuple[list[tuple[Full, bytes]], int, int]:
        assert self.header() == (0, 0)
        records = []
        while size := struct.unpack("<i", self.take(4))[0]:
            data = self.take(size)
            records.append((struct.unpack("<iqiqq", data[:32]), data[32:]))
        status, size = self.header()
        assert size == 8
        return records, status, struct.unpack("<q", self.take(8))[0]

"""Records over bare sockets: the bytes that TStorage's protocol has for them, copied by NumPy, and no store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy

from handshakes.records import KEY, Key, KeyRange, row_type
from tools.bench.raw.sockets import Address, connected, receive_exactly, served
from tools.bench.sensors import CID, WIDTH, Array
from tools.bench.workloads.series_channel import AsyncPut, ChannelSides, Put, PutterSides, Session

__all__ = ["RawChannel", "RawPutters"]

_TOGETHER: Final = 16384
_COUNT: Final = struct.Struct("<i")

# A record as a row, and as it is sent: its size, and what it is not known by already.
_ROW: Final = row_type(WIDTH)
_SENT_ROW: Final = numpy.dtype([("size", "<i4"), ("row", f"V{_ROW.itemsize}")])
_PART: Final = numpy.dtype(
    {
        "names": ["key", "payload"],
        "formats": ["V20", f"V{WIDTH}"],
        "offsets": [4, KEY.itemsize],
        "itemsize": _ROW.itemsize,
    }
)
_SENT_PART: Final = numpy.dtype([("size", "<i4"), ("key", "V20"), ("payload", f"V{WIDTH}")])


class RawChannel(ChannelSides):
    """The server holds in memory what was put last."""

    def serve(self, folder: Path) -> AbstractContextManager[Any]:
        """A thread for each connection. A count of records comes first; without any it asks for them."""
        del folder
        held = numpy.empty(0, _ROW)

        def work(sock: socket.socket) -> None:
            nonlocal held
            while True:
                count = _receive_count(sock)
                if count:
                    held = _receive_parts(sock, count)
                    sock.sendall(_COUNT.pack(count))
                else:
                    _send_rows(sock, held)

        return served(work)

    @contextlib.contextmanager
    def connect(self, address: Address) -> Iterator[Session]:
        """One connection."""
        with connected(address) as sock:
            yield _RawSession(sock)


class _RawSession(Session):
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def put(self, rows: Array) -> None:
        """Without cid and acq, which are the server's to know."""
        self._sock.sendall(_COUNT.pack(len(rows)))
        parts = rows.view(_PART)
        sent = numpy.empty(_TOGETHER, _SENT_PART)
        sent["size"] = _SENT_PART.itemsize
        for begin in range(0, len(rows), _TOGETHER):
            some = parts[begin : begin + _TOGETHER]
            for name in ("key", "payload"):
                sent[name][: len(some)] = some[name]
            self._sock.sendall(sent[: len(some)].view(numpy.uint8).data)
        if _receive_count(self._sock) != len(rows):
            raise ValueError("the server has not taken all of them")

    def get(self, box: KeyRange) -> Array:
        """All there is."""
        del box
        self._sock.sendall(_COUNT.pack(0))
        rows = numpy.empty(_receive_count(self._sock), f"V{_ROW.itemsize}")
        received = numpy.empty(_TOGETHER, _SENT_ROW)
        for begin in range(0, len(rows), _TOGETHER):
            some = received[: len(rows) - begin]
            receive_exactly(self._sock, some.view(numpy.uint8).data)
            rows[begin : begin + len(some)] = some["row"]
        return rows.view(_ROW)


def _receive_parts(sock: socket.socket, count: int) -> Array:
    rows = numpy.empty(count, _ROW)
    rows["cid"], rows["acq"] = CID, 0
    parts = rows.view(_PART)
    received = numpy.empty(_TOGETHER, _SENT_PART)
    for begin in range(0, count, _TOGETHER):
        some = received[: count - begin]
        receive_exactly(sock, some.view(numpy.uint8).data)
        for name in ("key", "payload"):
            parts[name][begin : begin + len(some)] = some[name]
    return rows


def _send_rows(sock: socket.socket, rows: Array) -> None:
    sock.sendall(_COUNT.pack(len(rows)))
    plain = rows.view(f"V{_ROW.itemsize}")
    sent = numpy.empty(_TOGETHER, _SENT_ROW)
    sent["size"] = _ROW.itemsize
    for begin in range(0, len(rows), _TOGETHER):
        some = plain[begin : begin + _TOGETHER]
        sent["row"][: len(some)] = some
        sock.sendall(sent[: len(some)].view(numpy.uint8).data)


def _receive_count(sock: socket.socket) -> int:
    data = bytearray(_COUNT.size)
    receive_exactly(sock, memoryview(data))
    return int(_COUNT.unpack(data)[0])


_REQUEST: Final = struct.Struct(f"<iQiiiqiq{WIDTH}si")
"""As TStorage's put of one record: command, size; cid, bytes; size, mid, moid, cap, payload; end."""
_ANSWER: Final = bytes(28)
_HOW_MANY: Final = bytes(_REQUEST.size)


class RawPutters(PutterSides):
    """One thread reads what all have sent, appends it to a file, flushes the file, and confirms it to all."""

    @contextlib.contextmanager
    def serve(self, folder: Path) -> Iterator[Address]:
        """A request of zeros asks how many records there are."""
        stop, stopped = socket.socketpair()
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, stop, stopped:
            thread = threading.Thread(target=_append, args=(listener, stopped, folder))
            thread.start()
            try:
                yield listener.getsockname()
            finally:
                stop.close()
                thread.join()

    @contextlib.contextmanager
    def connect(self, address: Address) -> Iterator[Put]:
        """A blocking socket."""
        with connected(address) as sock:
            answer = memoryview(bytearray(len(_ANSWER)))

            def put(key: Key, payload: bytes) -> None:
                sock.sendall(_request(key, payload))
                receive_exactly(sock, answer)

            yield put

    @contextlib.asynccontextmanager
    async def connect_async(self, address: Address) -> AsyncIterator[AsyncPut]:
        """A protocol, which has less to do than streams have."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(_Answers, *address)

        async def put(key: Key, payload: bytes) -> None:
            protocol.answered = loop.create_future()
            transport.write(_request(key, payload))
            await protocol.answered

        try:
            yield put
        finally:
            transport.close()

    def count(self, address: Address) -> int:
        """In the file."""
        with connected(address) as sock:
            sock.sendall(_HOW_MANY)
            answer = bytearray(len(_ANSWER))
            receive_exactly(sock, memoryview(answer))
        return int.from_bytes(answer, "little")


class _Answers(asyncio.Protocol):
    answered: asyncio.Future[None]

    def data_received(self, data: bytes) -> None:
        """An answer is too small to come in parts."""
        del data
        self.answered.set_result(None)


def _request(key: Key, payload: bytes) -> bytes:
    return _REQUEST.pack(5, 0, key.cid, 40, 36, key.mid, key.moid, key.cap, payload, -1)


def _append(listener: socket.socket, stopped: socket.socket, folder: Path) -> None:
    """Until the other end of ``stopped`` is closed."""
    folder.mkdir()
    with (folder / "records").open("wb", buffering=0) as file, selectors.DefaultSelector() as selector:
        for each in (listener, stopped):
            selector.register(each, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if stopped in ready:
                break
            if listener in ready:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ)
            _confirm(
                [each for each in ready if isinstance(each, socket.socket) and each is not listener], file, selector
            )
        for key in list(selector.get_map().values()):
            if key.fileobj not in (listener, stopped):
                key.fileobj.close()  # type: ignore[union-attr]


def _confirm(ready: list[socket.socket], file: Any, selector: selectors.BaseSelector) -> None:
    """All that came is flushed together."""
    putters: list[socket.socket] = []
    came: list[bytes] = []
    for sock in ready:
        request = sock.recv(_REQUEST.size)
        if not request:
            selector.unregister(sock)
            sock.close()
        elif request == _HOW_MANY:
            sock.sendall((file.tell() // _REQUEST.size).to_bytes(len(_ANSWER), "little"))
        else:
            putters.append(sock)
            came.append(request)
    if came:
        file.write(b"".join(came))
        os.fdatasync(file.fileno())
        for sock in putters:
            sock.sendall(_ANSWER)

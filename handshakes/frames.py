"""Frames: how messages lie in the byte stream, and the parser that finds them again.

A frame is a header of 12 bytes, a head and a body::

    offset  size  field
    0       1     kind        `handshakes.messages.Kind`
    1       1     flags       the form of a value, or the code of a message
    2       2     operation   number of the operation on this pair, counting round from 0
    4       4     head size   bytes
    8       4     body size   bytes
    12            head, then body

Everything is little-endian. The head is small and describes the body; the body is the payload, which the
parser never touches: a body that fits the receive buffer is handed on as a view of it, a larger one is
received straight into memory of its own. No length is believed before it was checked against the limits.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy

from handshakes.errors import RemoteProtocolError
from handshakes.messages import Bytes, Kind

__all__ = ["HEADER", "LARGEST_HEAD", "Frame", "FrameParser", "pack_header"]

HEADER = struct.Struct("<BBHII")
HEADER_SIZE = HEADER.size
pack_header = HEADER.pack
_unpack_header = HEADER.unpack_from

LARGEST_HEAD = 64 * 1024
_KINDS = frozenset(int(kind) for kind in Kind)


class Frame:
    """One frame. ``shared``: its ``body`` is a view of the receive buffer, good until more is received."""

    __slots__ = ("body", "flags", "head", "kind", "operation", "shared")

    def __init__(self, kind: int, flags: int, operation: int, head: bytes, body: Bytes, shared: bool) -> None:
        self.kind = kind
        self.flags = flags
        self.operation = operation
        self.head = head
        self.body = body
        self.shared = shared


class FrameParser:
    """Turns received bytes into frames, without copying the large ones.

    The driver receives into ``buffer()``, reports the count with ``advance(count)`` and calls
    ``next_frame()`` until it answers None. ``limit`` is the largest body accepted, in bytes; ``capacity`` the
    size of the receive buffer, which also bounds what is held before the first large frame was announced and
    accepted.
    """

    def __init__(self, *, limit: int, largest_head: int = LARGEST_HEAD, capacity: int = 64 * 1024) -> None:
        self.limit = limit
        self.largest_head = largest_head
        self._capacity = capacity
        self._store = memoryview(bytearray(capacity))
        self._start = 0
        self._end = 0
        self._large: memoryview | None = None
        self._filled = 0
        self._header: tuple[Any, ...] = ()
        self._head = b""
        self._after_large = False
        self._spare: memoryview | None = None

    def resize(self, *, limit: int, largest_head: int, capacity: int) -> None:
        """New limits, once the peer has proved itself; what was received already is kept."""
        self.limit = limit
        self.largest_head = largest_head
        held = bytes(self._store[self._start : self._end])
        self._capacity = capacity
        self._store = memoryview(bytearray(max(capacity, len(held))))
        self._store[: len(held)] = held
        self._start, self._end = 0, len(held)

    @property
    def pending(self) -> bool:
        """Whether bytes of a frame that is not complete yet are held."""
        return self._large is not None or self._start != self._end

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty after ``next_frame()`` answered None."""
        if self._large is not None:
            return self._large[self._filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start and len(self._store) - self._end < self._capacity // 2:
            held = self._end - self._start
            self._store[:held] = self._store[self._start : self._end]
            self._start, self._end = 0, held
        if self._after_large:
            # Another large frame is likely: read just its beginning, so that its body needs no copy.
            return self._store[self._end : self._end + 4096]
        return self._store[self._end :]

    def advance(self, count: int) -> None:
        """``count`` bytes were received into ``buffer()``."""
        if self._large is not None:
            self._filled += count
        else:
            self._end += count

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None when more bytes are needed. Raises `RemoteProtocolError`."""
        if self._large is not None:
            return self._finish_large()
        start = self._start
        available = self._end - start
        if available < HEADER_SIZE:
            return None
        header = _unpack_header(self._store, start)
        kind, flags, operation, head_size, body_size = header
        if kind not in _KINDS or head_size > self.largest_head or body_size > self.limit:
            raise self._violation(kind, head_size, body_size)
        body_start = start + HEADER_SIZE + head_size
        end = body_start + body_size
        if end > self._end:
            return self._begin_large(header, body_start) if end - start > self._capacity else None
        self._start = end
        self._after_large = False
        head = bytes(self._store[start + HEADER_SIZE : body_start]) if head_size else b""
        return Frame(kind, flags, operation, head, self._store[body_start:end], True)

    def recycle(self, body: Bytes) -> None:
        """Let the memory of a body that its user is done with receive the next large one."""
        if isinstance(body, memoryview) and not body.readonly and (self._spare is None or len(body) > len(self._spare)):
            self._spare = body

    def _begin_large(self, header: tuple[Any, ...], body_start: int) -> Frame | None:
        """Move on to memory of the body's own, as soon as the head is whole."""
        size = header[4]
        if self._end < body_start:
            if body_start - self._start > len(self._store):
                # The head alone outgrows the receive buffer; its size has been checked.
                grown = memoryview(bytearray(body_start - self._start))
                held = self._end - self._start
                grown[:held] = self._store[self._start : self._end]
                self._store, self._start, self._end = grown, 0, held
            return None
        head_start = self._start + HEADER_SIZE
        self._header, self._head = header, bytes(self._store[head_start:body_start])
        self._large = self._allocate(size)
        self._filled = self._end - body_start
        self._large[: self._filled] = self._store[body_start : self._end]
        self._start = self._end = 0
        return self._finish_large()

    def _allocate(self, size: int) -> memoryview:
        spare, self._spare = self._spare, None
        if spare is not None and len(spare) >= size:
            return spare[:size]
        # numpy hands out memory without zeroing it first.
        return numpy.empty(size, numpy.uint8).data

    def _finish_large(self) -> Frame | None:
        body = self._large
        if body is None or self._filled < len(body):
            return None
        kind, flags, operation, _, _ = self._header
        frame = Frame(kind, flags, operation, self._head, body, False)
        self._large, self._head, self._after_large = None, b"", True
        return frame

    def _violation(self, kind: int, head_size: int, body_size: int) -> RemoteProtocolError:
        if kind not in _KINDS:
            return RemoteProtocolError(
                f"{_guess(bytes(self._store[self._start : self._end]))} arrived in place of a frame"
            )
        size, most = (head_size, self.largest_head) if head_size > self.largest_head else (body_size, self.limit)
        return RemoteProtocolError(
            f"a {Kind(kind).name} frame of {size} bytes was announced; at most {most} are accepted"
        )


def _guess(data: bytes) -> str:
    """What bytes that are no frame probably are, for a person to read."""
    if data[0] in (0x14, 0x15, 0x16, 0x17) and data[1] == 3:
        return "TLS (one side uses tls=, the other does not)"
    if data[:5] in (b"GET /", b"POST ", b"HEAD ", b"HTTP/", b"OPTIO", b"PUT /"):
        return "HTTP"
    if data[:4] == b"SSH-":
        return "SSH"
    return f"an unknown kind of message ({data[:8].hex(' ')})"

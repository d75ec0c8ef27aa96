"""Answering what callers fetch: chunks, packs, digests, pieces and what was added to files.

Bulk data gives way to what else the gateway serves. Where the caller can take it, data is compressed, body by body, if
that pays on the link: see `pynetwork.pacing` and `pynetwork.files.compression`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from handshakes.deltas import PieceWant, decode_grown, decode_ranges, encode_grown_rows
from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import DIGEST_SIZE, PACK_FILES, PACK_SIZE, PACK_TABLE, decode_page
from handshakes.messages import Bytes, Message
from handshakes.transfer import ChunkHead, Code, Compressed, Status, Want, encode_rows
from pynetwork.files import compression
from pynetwork.files.folders import reason_for
from pynetwork.files.reading import Reader
from pynetwork.pacing import Bottleneck
from pynetwork.service import ServedOperation

__all__ = ["Answerer"]

_NOTHING = bytes(DIGEST_SIZE)
# Seconds between looks at who else is served, and until nobody is for long enough.
_LOOK = 0.05
_FAREWELL = 3.0


class Courtesy:
    """Lets an operation's data give way: ``always`` to whatever else is on the link, or, if it is to at all (``ever``),
    as long as the gateway serves somebody else who is not moving bulk data himself.
    """

    def __init__(
        self,
        operation: ServedOperation,
        bottleneck: Bottleneck,
        *,
        always: bool = False,
        ever: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._operation = operation
        self._bottleneck = bottleneck
        self._always = always
        self._ever = ever or always
        self._clock = clock
        self._looks_at = clock()
        self._alone_since: float | None = None
        self._giving_way: AbstractContextManager[None] | None = None

    def look(self) -> None:
        """Begin or end to give way, if it is time."""
        if not self._ever:
            return
        now = self._clock()
        if now < self._looks_at:
            return
        self._looks_at = now + _LOOK
        if self._always or self._operation.has_company:
            self._alone_since = None
            if self._giving_way is None:
                self._giving_way = self._operation.giving_way(self._bottleneck)
                self._giving_way.__enter__()
        elif self._giving_way is not None:
            self._alone_since = self._alone_since or now
            if now - self._alone_since > _FAREWELL:
                self.close()

    def close(self) -> None:
        """Give way no longer."""
        giving_way, self._giving_way = self._giving_way, None
        if giving_way is not None:
            giving_way.__exit__(None, None, None)


class Answerer:
    """Answers one caller's requests, in their order. ``compress``: the caller can decompress."""

    def __init__(
        self, operation: ServedOperation, reader: Reader, courtesy: Courtesy | None = None, *, compress: bool = False
    ) -> None:
        self._operation = operation
        self._reader = reader
        self._courtesy = courtesy
        wanted = compress and compression.available()
        self._compressor = compression.Compressor(round_trip=operation.round_trip) if wanted else None
        self._answers = {
            Code.RUN: self._run,
            Code.SEAL: self._seal,
            Code.PACK: self._pack,
            Code.SUMS: self._sums,
            Code.PIECE: self._piece,
            Code.GROWN: self._grown,
        }

    def answer(self, message: Message) -> None:
        """Answer one request. Raises `RemoteProtocolError` for what is none."""
        answer = self._answers.get(Code(message.code)) if message.code in _CODES else None
        if answer is None:
            raise RemoteProtocolError(f"message {message.code} is no part of fetching files")
        answer(message)

    # Sending

    def _send(self, code: Code, head: bytes, *buffers: Bytes) -> None:
        if self._courtesy is not None:
            self._courtesy.look()
        compressor = self._compressor
        if compressor is None:
            self._operation.send(code, head, *buffers)
            return
        began = time.perf_counter()
        self._operation.send(code, head, *buffers)
        compressor.sent(sum(map(len, buffers)), time.perf_counter() - began)

    def _send_chunk(self, code: Code, head: ChunkHead, data: Bytes) -> None:
        packed = self._compressor.offer(data) if self._compressor and head.status is Status.OK else None
        if packed is None:
            self._send(code, head.encode(), data)
        else:
            self._send(code, head._replace(status=Status.COMPRESSED).encode(), packed)

    def _send_table(self, code: Code, rows: bytes, data: Bytes) -> None:
        packed = self._compressor.offer(data) if self._compressor else None
        if packed is None:
            self._send(code, b"", rows, data)
        else:
            self._send(code, Compressed(len(rows), len(data)).encode(), rows, packed)

    def _send_failure(self, code: Code, number: int, error: Exception) -> None:
        head = ChunkHead(Status.FAILED, number, _NOTHING, 0, 0, 0)
        self._operation.send(code, head.encode(), reason_for(error).encode("utf-8", "replace"))

    # Answers

    def _run(self, message: Message) -> None:
        want = Want.decode(message.head)
        for number in range(want.first, want.first + want.chunks):
            try:
                head, data = self._reader.read_chunk(want.entry, want.chunk, number)
            except (OSError, UnsafePath) as error:
                self._send_failure(Code.CHUNK, number, error)
            else:
                self._send_chunk(Code.CHUNK, head, data)

    def _piece(self, message: Message) -> None:
        want, skip = PieceWant.decode(message.head)
        try:
            head, data = self._reader.read_piece(want.entry, want.chunk, want.first, skip)
        except (OSError, UnsafePath) as error:
            self._send_failure(Code.PIECE, want.first, error)
        else:
            self._send_chunk(Code.PIECE, head, data)

    def _seal(self, message: Message) -> None:
        want = Want.decode(message.head)
        try:
            head = self._reader.seal(want.entry, want.chunk)
        except (OSError, UnsafePath) as error:
            self._send_failure(Code.SEAL, 0, error)
        else:
            self._send(Code.SEAL, head.encode())

    def _sums(self, message: Message) -> None:
        want = Want.decode(message.head)
        ranges = decode_ranges(message.body, want.entry.size)
        try:
            head, found = self._reader.sums(want.entry, ranges)
        except (OSError, UnsafePath) as error:
            self._send_failure(Code.SUMS, 0, error)
        else:
            self._send(Code.SUMS, head.encode(), b"".join(found))

    def _pack(self, message: Message) -> None:
        entries = decode_page(message.body).files if len(message.body) <= PACK_TABLE else []
        if not 0 < len(entries) <= PACK_FILES or sum(entry.size for entry in entries) > PACK_SIZE:
            raise RemoteProtocolError(f"a pack of {len(entries)} files, or of too many bytes, was asked for")
        rows, data = self._reader.read_pack(entries)
        self._send_table(Code.PACK, encode_rows(rows), data)

    def _grown(self, message: Message) -> None:
        rows, data = self._reader.read_grown(decode_grown(message.body))
        self._send_table(Code.GROWN, encode_grown_rows(rows), data)


_CODES = frozenset(Code)

"""The words of the file service: messages within the operations that list, fetch and store files.

Each is a message of `handshakes.connection` with a code, a small head and, where it carries data, a body.

*List* (``files.list``): the gateway sends PAGE after PAGE of entries and waits for a MORE when `PAGE_WINDOW`
of them are unanswered; a caller that named files itself sends NAMES, each answered by one PAGE, and FINISH.

*Fetch* (``files.fetch``): the caller asks with RUN (consecutive chunks of one file), PACK (many small files)
and SEAL (the digest of a file as it is now) and sends FINISH at the end. Everything is answered strictly in
order: a RUN by its CHUNKs, a PACK by one PACK, a SEAL by one SEAL. The gateway remembers nothing between
requests. Who holds a part of the data already asks with SUMS (the digests of ranges of one file), PIECE (one chunk
from some offset in it) and GROWN (small files, of which only what follows the longest beginning that is known comes).
A gateway that was told that it may sends bodies compressed (zstd): of a CHUNK its status says so, a PACK and a GROWN
have the size of their body in the head then.

*Remove* (``files.remove``): the caller sends one REMOVE for each file with the digest of what it holds of it; each is
answered by one RECEIPT, once the file is gone or stays.

*Store* (``files.store``): the caller sends CHUNK, PACK, SEAL (these are all chunks, this is the file's
digest) and DROP (forget this file), each answered in order by one RECEIPT, and FINISH at the end. Where the gateway may
hold a part of the data already the caller asks first, with SUMS (the digests of consecutive chunks of one file) and
HELD (small files with a digest each): the receipt calls OK what is there, so that it need not be sent, and CHANGED what
is not. ARRANGE brings rows of `handshakes.survey`: folders to be made and to be given their mode and time, links to be
made, and files that lack nothing but their mode. A SEAL whose receipt says WAIT is to be sent again.

Parsing answers with checked objects or raises `RemoteProtocolError`. Paths are judged where they are used.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from handshakes.errors import RemoteProtocolError
from handshakes.manifest import PACK_FILES, PACK_SIZE, PACK_TABLE, Entry, chunk_count
from handshakes.messages import Bytes
from handshakes.paths import from_bytes, to_bytes

__all__ = [
    "PAGE_WINDOW",
    "REASON_LIMIT",
    "ChunkHead",
    "Code",
    "Compressed",
    "PutHead",
    "Receipt",
    "Row",
    "SealAnswer",
    "Status",
    "Want",
    "decode_names",
    "decode_receipt",
    "decode_rows",
    "encode_names",
    "encode_receipt",
    "encode_rows",
    "reason_text",
    "status_of",
    "unpack_head",
]

PAGE_WINDOW: Final = 4
"""Pages of a listing that may be on their way."""

_RECEIPT_TEXT: Final = 8 << 10
_MOST_NAMES: Final = 1 << 10
REASON_LIMIT: Final = 300
"""The most bytes of a reason."""


class Code(enum.IntEnum):
    """The codes of messages."""

    PAGE = 1
    MORE = 2
    NAMES = 3
    RUN = 4
    PACK = 5
    SEAL = 6
    CHUNK = 7
    DROP = 8
    RECEIPT = 9
    FINISH = 10
    SUMS = 11
    PIECE = 12
    GROWN = 13
    REMOVE = 14
    HELD = 15
    ARRANGE = 16


class Status(enum.IntEnum):
    """How it went with one chunk or one file."""

    OK = 0
    HOLE = 1
    """The chunk is all zeros, within a hole of the file; no data comes with it."""
    CHANGED = 2
    """The file is not what it was when it was listed; what it is now comes with this."""
    FAILED = 3
    """It can't be had or stored, for the reason that comes with this."""
    DAMAGED = 4
    """The data does not have the digest that came with it."""
    COMPRESSED = 5
    """As OK; the data is compressed."""
    WAIT = 6
    """It is not done yet, and takes longer than anybody should be kept waiting: ask again."""


_STATUSES: Final = frozenset(Status)
_KNOWN: Final = dict(enumerate(Status))
_OK: Final = Status.OK


def reason_text(data: Bytes) -> str:
    """The reason in the body of a message, for people."""
    return bytes(data[:REASON_LIMIT]).decode("utf-8", "replace")


def status_of(number: int) -> Status:
    """The status with this number. Raises `RemoteProtocolError`."""
    if number not in _STATUSES:
        raise RemoteProtocolError(f"a file message has the unknown status {number}")
    return _KNOWN[number]


def unpack_head(form: struct.Struct, head: bytes, what: str) -> tuple[int, ...]:
    """The fields of ``head``, which may go on behind them. Raises `RemoteProtocolError` when they are not all there."""
    if len(head) < form.size:
        raise RemoteProtocolError(f"a {what} has a head of {len(head)} bytes; it needs {form.size}")
    return form.unpack_from(head)


class Want(NamedTuple):
    """A caller's request: ``chunks`` chunks of ``chunk`` bytes from number ``first``; for a SEAL of the whole
    file.

    ``entry`` is the file as it was listed.
    """

    entry: Entry
    chunk: int
    first: int = 0
    chunks: int = 0

    def encode(self) -> bytes:
        """The head of a RUN or SEAL."""
        path, size, mtime_ns, mode, identity = self.entry
        return _WANT.pack(size, mtime_ns, mode, identity, self.chunk, self.first, self.chunks) + to_bytes(path)

    @classmethod
    def decode(cls, head: bytes) -> Want:
        """The request in ``head``; its chunks lie within the file."""
        size, mtime_ns, mode, identity, chunk, first, chunks = unpack_head(_WANT, head, "request for chunks")
        if first + chunks > chunk_count(size, chunk):
            raise RemoteProtocolError(f"chunks {first} to {first + chunks} were asked for, of a file of {size} bytes")
        return cls(Entry(from_bytes(head[_WANT.size :]), size, mtime_ns, mode, identity), chunk, first, chunks)


_WANT: Final = struct.Struct("<qqHIIII")


class ChunkHead(NamedTuple):
    """The head of a CHUNK that was fetched; ``entry`` is the file as it was just after the chunk was read."""

    status: Status
    number: int
    digest: bytes
    size: int
    mtime_ns: int
    mode: int
    identity: int = 0

    def encode(self) -> bytes:
        """The head's bytes."""
        return _CHUNK.pack(*self)

    def entry(self, path: str) -> Entry:
        """The file as it is now."""
        return Entry(path, self.size, self.mtime_ns, self.mode, self.identity)

    def shows(self, entry: Entry) -> bool:
        """Whether the file is still what ``entry`` says."""
        return (self.size, self.mtime_ns, self.identity) == (entry.size, entry.mtime_ns, entry.identity)

    @classmethod
    def decode(cls, head: bytes) -> ChunkHead:
        """The head in ``head``."""
        if len(head) != _CHUNK.size:
            raise RemoteProtocolError(f"a chunk has a head of {len(head)} bytes; it needs {_CHUNK.size}")
        status, number, digest, size, mtime_ns, mode, identity = _CHUNK.unpack(head)
        if size < 0 or mode > 0o777:
            raise RemoteProtocolError(f"a chunk comes from a file of {size} bytes and mode {mode:o}")
        return cls(status_of(status), number, digest, size, mtime_ns, mode, identity)


_CHUNK: Final = struct.Struct("<BI16sqqHI")

SealAnswer = ChunkHead
"""A SEAL is answered with the same head: its digest is the file's, its number means nothing."""


class PutHead(NamedTuple):
    """The head of a CHUNK, SEAL or DROP that is to be stored.

    ``generation`` counts how often the caller has begun this file anew: chunks of different generations don't
    mix.
    """

    status: Status
    generation: int
    entry: Entry
    chunk: int
    number: int
    digest: bytes

    def encode(self) -> bytes:
        """The head's bytes."""
        path, size, mtime_ns, mode, _ = self.entry
        fixed = _PUT.pack(self.status, self.generation, size, mtime_ns, mode, self.chunk, self.number, self.digest)
        return fixed + to_bytes(path)

    @classmethod
    def decode(cls, head: bytes) -> PutHead:
        """The head in ``head``; the chunk lies within the file."""
        if len(head) < _PUT.size:
            raise RemoteProtocolError(f"a chunk to store has a head of {len(head)} bytes; it needs {_PUT.size}")
        status, generation, size, mtime_ns, mode, chunk, number, digest = _PUT.unpack_from(head)
        if size < 0 or mode > 0o777 or number >= max(1, chunk_count(size, chunk)):
            raise RemoteProtocolError(f"chunk {number} of {chunk} bytes came for a file of {size} bytes, mode {mode:o}")
        entry = Entry(from_bytes(head[_PUT.size :]), size, mtime_ns, mode)
        return cls(status_of(status), generation, entry, chunk, number, digest)


_PUT: Final = struct.Struct("<BHqqHII16s")


class Row(NamedTuple):
    """One file of a pack. ``length`` bytes of the pack's data are its contents, or the reason why there are
    none.
    """

    status: Status
    mode: int
    length: int
    mtime_ns: int
    digest: bytes


_ROW: Final = struct.Struct("<BHIq16s")


class Compressed(NamedTuple):
    """The head of a PACK or GROWN whose data is compressed: ``table`` bytes of rows come as they are, then data of
    ``size`` bytes, compressed.
    """

    table: int
    size: int

    def encode(self) -> bytes:
        """The head's bytes."""
        return _COMPRESSED.pack(*self)

    @classmethod
    def decode(cls, head: bytes, body: Bytes) -> Compressed:
        """The head of a message with this body."""
        compressed = cls(*unpack_head(_COMPRESSED, head, "compressed pack"))
        if compressed.table > len(body) or compressed.size > _MOST_DATA:
            raise RemoteProtocolError(f"a compressed pack of {compressed.size} bytes came with {len(body)}")
        return compressed


_COMPRESSED: Final = struct.Struct("<II")
_MOST_DATA: Final = PACK_SIZE + PACK_TABLE + PACK_FILES * REASON_LIMIT


def encode_rows(rows: Iterable[tuple[int, int, int, int, bytes]]) -> bytes:
    """The table of a pack; its data follows in the same order."""
    pack = _ROW.pack
    return b"".join([pack(*row) for row in rows])


def decode_rows(body: Bytes, count: int) -> tuple[list[Row], memoryview]:
    """The ``count`` rows at the beginning of a pack, and the data behind them, which is as long as they say."""
    size = count * _ROW.size
    view = memoryview(body)
    if not 0 < count <= PACK_FILES or len(view) < size:
        raise RemoteProtocolError(f"a pack of {count} files has {len(view)} bytes")
    rows = []
    total = 0
    new = tuple.__new__
    for status, mode, length, mtime_ns, digest in _ROW.iter_unpack(view[:size]):
        if mode > 0o777:
            raise RemoteProtocolError(f"a pack has a file of mode {mode:o}")
        rows.append(new(Row, (_OK if not status else status_of(status), mode, length, mtime_ns, digest)))
        total += length
    if total != len(view) - size or total > _MOST_DATA:
        raise RemoteProtocolError(f"the files of a pack have {total} bytes, but {len(view) - size} came with it")
    return rows, view[size:]


class Receipt(NamedTuple):
    """How storing one chunk or file went."""

    status: Status
    reason: str = ""


def encode_receipt(receipts: Sequence[Receipt]) -> bytes:
    """The body of a RECEIPT: a status each, then the reasons of those that went wrong, as far as there is
    room.
    """
    parts = [bytes([receipt.status for receipt in receipts])]
    room = _RECEIPT_TEXT
    for receipt in receipts:
        if receipt.status:
            raw = receipt.reason.encode("utf-8", "replace")[: min(REASON_LIMIT, room)]
            room -= len(raw)
            parts.append(_LENGTH.pack(len(raw)) + raw)
    return b"".join(parts)


def decode_receipt(body: Bytes, count: int) -> list[Receipt]:
    """The ``count`` receipts in ``body``."""
    data = bytes(body)
    if len(data) < count:
        raise RemoteProtocolError(f"a receipt for {count} files has {len(data)} bytes")
    receipts = []
    at = count
    for number in data[:count]:
        status, reason = status_of(number), ""
        if status:
            start = at + _LENGTH.size
            at = start + (_LENGTH.unpack_from(data, at)[0] if start <= len(data) else 0)
            if at > len(data):
                raise RemoteProtocolError("a receipt ends within a reason")
            reason = reason_text(data[start:at])
        receipts.append(Receipt(status, reason))
    if at != len(data):
        raise RemoteProtocolError(f"a receipt has {len(data) - at} bytes too many")
    return receipts


_LENGTH: Final = struct.Struct("<H")


def encode_names(names: Iterable[str]) -> bytes:
    """The body of a NAMES: each path behind its length."""
    raws = [to_bytes(name) for name in names]
    return b"".join([_LENGTH.pack(len(raw)) + raw for raw in raws])


def decode_names(body: Bytes) -> list[str]:
    """The paths in ``body``, not judged yet."""
    data = bytes(body)
    names: list[str] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        at = start + (_LENGTH.unpack_from(data, at)[0] if start <= len(data) else 1)
        if at > len(data):
            raise RemoteProtocolError("a list of names ends within a name")
        if len(names) >= _MOST_NAMES:
            raise RemoteProtocolError(f"a list has more than {_MOST_NAMES} names")
        names.append(from_bytes(data[start:at]))
    return names

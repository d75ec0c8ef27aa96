"""What somebody asks of a file who holds a part of its data already: digests, pieces, and what has been added to it.

These are further words of the operations that `handshakes.transfer` describes; parsing them raises
`RemoteProtocolError` in the same way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from handshakes.errors import RemoteProtocolError
from handshakes.manifest import (
    CHUNK_LIMIT,
    DIGEST_SIZE,
    PACK_FILES,
    PACK_SIZE,
    PACK_TABLE,
    Entry,
    chunk_count,
    decode_page,
    encode_file,
)
from handshakes.messages import Bytes
from handshakes.transfer import PutHead, Status, Want, status_of, unpack_head

__all__ = [
    "MOST_BEGINNINGS",
    "MOST_RANGES",
    "SUMS_LIMIT",
    "Beginning",
    "GrownRow",
    "PieceWant",
    "Range",
    "RemoveHead",
    "decode_grown",
    "decode_grown_rows",
    "decode_held",
    "decode_offer",
    "decode_ranges",
    "decode_sums",
    "encode_grown",
    "encode_grown_rows",
    "encode_ranges",
]

SUMS_LIMIT: Final = 64 << 20
"""The most bytes of which one SUMS may ask the digests."""

MOST_RANGES: Final = 4096
"""The most ranges in one SUMS."""

MOST_BEGINNINGS: Final = 8
"""The most beginnings that may be named for one file."""

_LENGTH: Final = struct.Struct("<H")


class PieceWant(NamedTuple):
    """A caller's request for the one chunk of ``want``, without the first ``skip`` bytes of it."""

    want: Want
    skip: int

    def encode(self) -> bytes:
        """The head's bytes."""
        return _SKIP.pack(self.skip) + self.want.encode()

    @classmethod
    def decode(cls, head: bytes) -> PieceWant:
        """The request in ``head``; something is left of the chunk."""
        (skip,) = unpack_head(_SKIP, head, "request for a piece")
        want = Want.decode(head[_SKIP.size :])
        if want.chunks != 1 or not 0 < skip < min(want.chunk, want.entry.size - want.first * want.chunk):
            raise RemoteProtocolError(f"a piece of {want.chunks} chunks without {skip} bytes was asked for")
        return cls(want, skip)


_SKIP: Final = struct.Struct("<I")


class Range(NamedTuple):
    """``length`` bytes of a file from ``offset``."""

    offset: int
    length: int


_RANGE: Final = struct.Struct("<QI")


def encode_ranges(ranges: Iterable[Range]) -> bytes:
    """The body of a SUMS that asks."""
    return b"".join([_RANGE.pack(*each) for each in ranges])


def decode_ranges(body: Bytes, size: int) -> list[Range]:
    """The ranges in ``body``, all of them within a file of ``size`` bytes; at most `SUMS_LIMIT` bytes altogether."""
    if len(body) % _RANGE.size or len(body) > MOST_RANGES * _RANGE.size:
        raise RemoteProtocolError(f"a request for digests has {len(body)} bytes")
    ranges = [Range(*fields) for fields in _RANGE.iter_unpack(body)]
    if any(not 0 < length <= CHUNK_LIMIT or offset + length > size for offset, length in ranges):
        raise RemoteProtocolError(f"digests were asked for of what a file of {size} bytes does not have")
    if not ranges or sum(each.length for each in ranges) > SUMS_LIMIT:
        raise RemoteProtocolError("a request for digests asks for nothing or for too much")
    return ranges


def decode_sums(body: Bytes, count: int) -> list[bytes]:
    """The ``count`` digests in the answer to a SUMS."""
    if len(body) != count * DIGEST_SIZE:
        raise RemoteProtocolError(f"{len(body)} bytes came in place of {count} digests")
    data = bytes(body)
    return [data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE)]


def decode_offer(head: PutHead, body: Bytes) -> list[bytes]:
    """The digests in the body of a SUMS that offers chunks to be stored, those from ``head.number`` on."""
    count = len(body) // DIGEST_SIZE
    most = min(MOST_RANGES, chunk_count(head.entry.size, head.chunk) - head.number)
    if not 0 < count <= most or count * head.chunk > SUMS_LIMIT:
        raise RemoteProtocolError(f"{count} digests came for a file of {head.entry.size} bytes")
    return decode_sums(body, count)


def decode_held(head: bytes, body: Bytes) -> list[tuple[Entry, bytes]]:
    """The small files in a HELD and their digests. As in a PACK, ``head`` is the size of the table of files, which the
    digests follow.
    """
    size = int.from_bytes(head, "little")
    data = bytes(body)
    page = decode_page(data[:size]) if size <= min(PACK_TABLE, len(data)) else None
    if page is None or page.folders or page.skipped or not 0 < len(page.files) <= PACK_FILES:
        raise RemoteProtocolError("a list of small files with digests is malformed")
    if sum(entry.size for entry in page.files) > PACK_SIZE:
        raise RemoteProtocolError(f"{len(page.files)} small files are too large to be compared at once")
    return list(zip(page.files, decode_sums(data[size:], len(page.files)), strict=True))


class Beginning(NamedTuple):
    """What somebody holds and a file may begin with: so many bytes with this digest."""

    size: int
    digest: bytes


_BEGINNING: Final = struct.Struct("<Q16s")


def encode_grown(files: Iterable[tuple[Entry, Sequence[Beginning]]]) -> bytes:
    """The body of a GROWN that asks."""
    parts = []
    for entry, beginnings in files:
        raw = encode_file(entry)
        parts += [_LENGTH.pack(len(raw)), raw, bytes((len(beginnings),))]
        parts += [_BEGINNING.pack(*each) for each in beginnings]
    return b"".join(parts)


def decode_grown(body: Bytes) -> list[tuple[Entry, list[Beginning]]]:
    """The files in ``body``, of at most `PACK_SIZE` bytes altogether, each with what is held that it may begin with."""
    data = bytes(body)
    files: list[tuple[Entry, list[Beginning]]] = []
    at, size = 0, 0
    while at < len(data):
        start = at + _LENGTH.size
        after = start + (_LENGTH.unpack_from(data, at)[0] if start <= len(data) else len(data))
        page = decode_page(data[start:after]) if after < len(data) else None
        if page is None or len(page.files) != 1 or page.folders or page.skipped or data[after] > MOST_BEGINNINGS:
            raise RemoteProtocolError("a request for grown files is malformed")
        at = after + 1 + data[after] * _BEGINNING.size
        if at > len(data):
            raise RemoteProtocolError("a request for grown files ends within a beginning")
        beginnings = [Beginning(*fields) for fields in _BEGINNING.iter_unpack(data[after + 1 : at])]
        files.append((page.files[0], beginnings))
        size += page.files[0].size
        if len(files) > PACK_FILES or size > PACK_SIZE:
            raise RemoteProtocolError(f"{len(files)} grown files of {size} bytes were asked for, or more")
    if not files:
        raise RemoteProtocolError("no grown files were asked for")
    return files


class GrownRow(NamedTuple):
    """One file of the answer to a GROWN: ``length`` bytes of the data follow the beginning with the number ``known``
    (from 1; 0: they are all of it); ``digest`` is that of the whole. With another status they are as in a `Row`.
    """

    status: Status
    mode: int
    known: int
    length: int
    mtime_ns: int
    digest: bytes


_GROWN: Final = struct.Struct("<BHBIq16s")


def encode_grown_rows(rows: Iterable[GrownRow]) -> bytes:
    """The table of an answer to a GROWN; its data follows in the same order."""
    return b"".join([_GROWN.pack(*row) for row in rows])


def decode_grown_rows(body: Bytes, count: int) -> tuple[list[GrownRow], memoryview]:
    """The ``count`` rows at the beginning of an answer to a GROWN, and the data behind them."""
    size = count * _GROWN.size
    view = memoryview(body)
    if len(view) < size:
        raise RemoteProtocolError(f"an answer for {count} grown files has {len(view)} bytes")
    rows = [GrownRow(status_of(fields[0]), *fields[1:]) for fields in _GROWN.iter_unpack(view[:size])]
    if any(row.mode > 0o777 for row in rows) or sum(row.length for row in rows) != len(view) - size:
        raise RemoteProtocolError("the data of grown files is not as long as their rows say")
    return rows, view[size:]


class RemoveHead(NamedTuple):
    """The head of a REMOVE: the file as it was surveyed, and the digest of what is held of it."""

    entry: Entry
    digest: bytes

    def encode(self) -> bytes:
        """The head's bytes."""
        return self.digest + encode_file(self.entry)

    @classmethod
    def decode(cls, head: bytes) -> RemoveHead:
        """The request in ``head``."""
        page = decode_page(head[DIGEST_SIZE:])
        if len(page.files) != 1 or page.folders or page.skipped:
            raise RemoteProtocolError("a request to remove a file is malformed")
        return cls(page.files[0], head[:DIGEST_SIZE])

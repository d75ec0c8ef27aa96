"""What is to be transferred: entries of a folder, their form on the wire, and the digests of their data.

An entry is a header of 25 bytes and a path::

    offset  size  field
    0       1     kind       0 file, 1 folder, 2 skipped
    1       2     mode       permission bits
    3       2     length     of the path, in bytes
    5       8     size       of the file, in bytes
    13      8     mtime      nanoseconds since 1970
    21      4     identity   tells a file from another that had its name before
    25            path       UTF-8, undecodable bytes as they are; of a skipped entry: path, NUL, reason

Everything is little-endian. Pages of a listing and requests for packs are such entries, one after the other.
Digests are xxh3 with 128 bits. A file is cut into chunks of one size, the last may be shorter. The digest of
a file of more than one chunk is the digest of its chunks' digests, so that chunks may be read, and checked,
in any order.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from xxhash import xxh3_128_digest

from handshakes.errors import RemoteProtocolError
from handshakes.messages import Bytes
from handshakes.paths import from_bytes, to_bytes

__all__ = [
    "CHUNK_LIMIT",
    "CHUNK_SIZE",
    "DIGEST_SIZE",
    "PACK_FILES",
    "PACK_SIZE",
    "PACK_TABLE",
    "Entry",
    "Page",
    "Skipped",
    "chunk_count",
    "chunk_size_for",
    "decode_page",
    "digest",
    "encode_file",
    "encode_folder",
    "encode_skipped",
    "hole_digest",
    "packs",
]

CHUNK_SIZE: Final = 1 << 20
"""Bytes of a chunk, unless the file is enormous. What is read, hashed and written at once stays in a core's
cache.
"""

CHUNK_LIMIT: Final = 8 << 20
"""The largest chunk that is accepted."""

_MANY_CHUNKS: Final = 1 << 16
_MOST_CHUNKS: Final = 1 << 22

PACK_SIZE: Final = 1 << 20
"""The most bytes of data in one pack of small files."""

PACK_FILES: Final = 128
"""The most files in one pack."""

PACK_TABLE: Final = 32 << 10
"""The most bytes of entries that ask for one pack; kept small, so that asking never waits for being answered.
"""

DIGEST_SIZE: Final = 16

_HEADER: Final = struct.Struct("<BHHqqI")
_HEADER_SIZE: Final = _HEADER.size
_SIZE_LIMIT: Final = (1 << 63) - 1
_REASON_LIMIT: Final = 300


class Kind(enum.IntEnum):
    """What an entry stands for."""

    FILE = 0
    FOLDER = 1
    SKIPPED = 2


class Entry(NamedTuple):
    """A file (or folder): its path with ``/``, size in bytes, modification time in ns, permission bits.

    ``identity`` tells it from another file that had the same name before, for example before a log was rotated.
    """

    path: str
    size: int
    mtime_ns: int
    mode: int
    identity: int = 0


class Skipped(NamedTuple):
    """A path that is not transferred, and why."""

    path: str
    reason: str


class Page(NamedTuple):
    """The entries of one page, by kind, each in their order."""

    files: list[Entry]
    folders: list[Entry]
    skipped: list[Skipped]


def digest(data: Bytes) -> bytes:
    """The 16 bytes that identify ``data``: a chunk, a whole small file, or the digests of a file's chunks."""
    return xxh3_128_digest(data)


def hole_digest(length: int) -> bytes:
    """The digest of ``length`` zero bytes."""
    held = _HOLES.get(length)
    if held is None:
        held = xxh3_128_digest(bytes(length))
        if len(_HOLES) < 64:
            _HOLES[length] = held
    return held


_HOLES: Final[dict[int, bytes]] = {}


def chunk_size_for(size: int, least: int = CHUNK_SIZE) -> int:
    """The chunk size for a file of ``size`` bytes: ``least``, doubled (to `CHUNK_LIMIT`) while chunks are too
    many.
    """
    chunk = least
    while chunk < CHUNK_LIMIT and size > chunk * _MANY_CHUNKS:
        chunk *= 2
    return chunk


def chunk_count(size: int, chunk: int) -> int:
    """How many chunks of ``chunk`` bytes hold ``size`` bytes; an empty file has none.

    Raises `RemoteProtocolError` for a chunk size that nobody may ask for, and for more chunks than can be
    numbered.
    """
    if not 0 < chunk <= CHUNK_LIMIT:
        raise RemoteProtocolError(f"chunks of {chunk} bytes were asked for; at most {CHUNK_LIMIT} are served")
    count = -(-size // chunk)
    if not 0 <= count <= _MOST_CHUNKS:
        raise RemoteProtocolError(f"a file of {size} bytes can't be cut into chunks of {chunk} bytes")
    return count


def encode_file(entry: Entry) -> bytes:
    """The wire form of a file's entry. Raises `UnsafePath` for a path without bytes."""
    path, size, mtime_ns, mode, identity = entry
    raw = to_bytes(path)
    return _HEADER.pack(0, mode & 0o777, len(raw), size, mtime_ns, identity) + raw


def encode_folder(entry: Entry) -> bytes:
    """The wire form of a folder's entry."""
    raw = to_bytes(entry.path)
    return _HEADER.pack(1, entry.mode & 0o777, len(raw), 0, entry.mtime_ns, 0) + raw


def encode_skipped(skipped: Skipped) -> bytes:
    """The wire form of a path that can't be transferred. What can't be shown of it is replaced, what is too
    long is cut.
    """
    path = skipped.path.replace("\0", "?").encode("utf-8", "replace" if _lone(skipped.path) else "surrogateescape")
    raw = path[:8192] + b"\0" + skipped.reason.encode("utf-8", "replace")[:_REASON_LIMIT]
    return _HEADER.pack(2, 0, len(raw), 0, 0, 0) + raw


def _lone(path: str) -> bool:
    """Whether ``path`` has a surrogate that stands for no byte."""
    return any("\ud800" <= letter <= "\udc7f" or "\udd00" <= letter <= "\udfff" for letter in path)


def decode_page(body: Bytes) -> Page:
    """The entries in ``body``. Raises `RemoteProtocolError` when it does not consist of whole, sensible
    entries.

    Paths are not judged here: see `handshakes.paths.check_path`.
    """
    if not isinstance(body, (bytes, bytearray, memoryview)):
        # bytes() would make a number into so many zeros.
        raise RemoteProtocolError(f"a list of files is no bytes but {type(body).__name__}")
    data = bytes(body)
    page = Page([], [], [])
    files = page.files
    unpack, new = _HEADER.unpack_from, tuple.__new__
    at, end = 0, len(data)
    while at < end:
        start = at + _HEADER_SIZE
        if start > end:
            raise RemoteProtocolError("a list of files ends within an entry")
        kind, mode, length, size, mtime_ns, identity = unpack(data, at)
        at = start + length
        if at > end:
            raise RemoteProtocolError("a list of files ends within a path")
        if size < 0 or mode > 0o777:
            raise RemoteProtocolError(f"a list of files has an entry of {size} bytes and mode {mode:o}")
        raw = data[start:at]
        if kind == 0:
            files.append(new(Entry, (raw.decode("utf-8", "surrogateescape"), size, mtime_ns, mode, identity)))
        elif kind == Kind.FOLDER:
            page.folders.append(Entry(from_bytes(raw), 0, mtime_ns, mode))
        elif kind == Kind.SKIPPED:
            path, _, reason = raw.partition(b"\0")
            page.skipped.append(Skipped(from_bytes(path), reason.decode("utf-8", "replace")))
        else:
            raise RemoteProtocolError(f"a list of files has an entry of the unknown kind {kind}")
    return page


def packs(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """``entries``, each of at most `PACK_SIZE` bytes, in groups that fit one pack each; their order is kept."""
    group: list[Entry] = []
    size = table = 0
    for entry in entries:
        # Three bytes hold any character of a path, undecodable bytes included.
        row = _HEADER_SIZE + (len(entry.path) if entry.path.isascii() else len(to_bytes(entry.path)))
        if group and (size + entry.size > PACK_SIZE or table + row > PACK_TABLE or len(group) >= PACK_FILES):
            yield group
            group, size, table = [], 0, 0
        group.append(entry)
        size += entry.size
        table += row
    if group:
        yield group

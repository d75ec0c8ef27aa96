"""Reading files to send them: whole small ones, chunks of large ones, and digests.

Everything is read with ``pread`` into one buffer that is used again and again. A file may shrink, grow or be
replaced at any moment: what was read is sent only when the file's status after reading shows that it is still
the listed one, or when a second reading brings the same bytes. Files are never mapped: a mapped file that
shrinks kills its reader.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from handshakes.chunks import Assembly
from handshakes.deltas import Beginning, GrownRow, Range
from handshakes.errors import UnsafePath
from handshakes.manifest import (
    DIGEST_SIZE,
    PACK_FILES,
    PACK_SIZE,
    PACK_TABLE,
    Entry,
    chunk_count,
    chunk_size_for,
    digest,
    encode_file,
    hole_digest,
)
from handshakes.survey import is_settled
from handshakes.transfer import REASON_LIMIT, ChunkHead, Status
from pynetwork.files.descriptors import read_into
from pynetwork.files.folders import Folder, NotAFile, Turn, changed_at, entry_of, reason_for

__all__ = ["DigestCache", "Reader", "Unsteady"]

_NOTHING = bytes(DIGEST_SIZE)
_READINGS = 3
_KEPT_FILES = 4
_CHUNK_COST = DIGEST_SIZE + 1

RowFields = tuple[int, int, int, int, bytes]
Version = tuple[str, str, int, int, int, int, int, int]


class Unsteady(OSError):
    """The file changed each time it was read."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "it changed while it was read")


class _Replaced(Exception):
    """Another file, ``entry``, has the name of the one that was to be read."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.path)
        self.entry = entry


class DigestCache:
    """Digests of chunks as they were read, so that a file's digest needs no second reading. Safe for threads.

    Takes at most about ``limit`` bytes and keeps the files that were read last.
    """

    def __init__(self, limit: int = 4 << 20) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()
        self._files: OrderedDict[Version, Assembly] = OrderedDict()

    def put(self, version: Version, count: int, index: int, chunk_digest: bytes) -> None:
        """Chunk ``index`` of the ``count`` of this version of a file has this digest."""
        with self._lock:
            digests = self._files.get(version)
            if digests is None:
                if count * _CHUNK_COST > self._limit:
                    return
                digests = self._files[version] = Assembly(count)
                self._held += count * _CHUNK_COST
                while self._held > self._limit:
                    _, oldest = self._files.popitem(last=False)
                    self._held -= oldest.count * _CHUNK_COST
            else:
                self._files.move_to_end(version)
            digests.accept(index, chunk_digest)

    def get(self, version: Version, index: int) -> bytes | None:
        """The digest of chunk ``index``, if it is held."""
        with self._lock:
            digests = self._files.get(version)
            return None if digests is None else digests.get(index)


class _OpenFile:
    """A large file that is held open between its chunks; it closes ``handle`` when it is no regular file."""

    __slots__ = ("data_after", "data_before", "handle", "sparse")

    def __init__(self, handle: int) -> None:
        self.handle = handle
        # The last hole that was found: no data between these two.
        self.data_before = self.data_after = 0
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise NotAFile(status.st_mode)
        self.sparse = hasattr(os, "SEEK_DATA") and status.st_blocks * 512 < status.st_size
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def is_hole(self, offset: int, length: int) -> bool:
        """Whether there is no data in ``length`` bytes from ``offset``."""
        if not self.sparse:
            return False
        if not self.data_before <= offset < self.data_after:
            self.data_before = offset
            try:
                self.data_after = os.lseek(self.handle, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                self.data_after = offset + length
        return self.data_after >= offset + length


class Reader:
    """Reads the files of one folder for one operation, on one thread. What it answers is good until the next
    call.

    ``scope`` tells the folder from others in ``digests``; ``turn`` is shared with other readers of the same
    process.
    """

    def __init__(
        self,
        folder: Folder,
        digests: DigestCache,
        scope: str = "",
        turn: Turn | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._digests = digests
        self._scope = scope
        self._turn = turn or Turn()
        self._clock = clock
        self._buffer = memoryview(b"")
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()

    def _room(self, size: int) -> memoryview:
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(size))
        return self._buffer

    # Small files

    def read_pack(self, entries: Iterable[Entry]) -> tuple[list[RowFields], memoryview]:
        """Read small files, at most `PACK_SIZE` bytes altogether, one behind the other.

        Answers a row each (see `handshakes.transfer.Row`) and the data. Of a file that has grown since it was listed
        the listed size is read; one that has shrunk is read as it is; of a larger one that has taken its name there
        is its entry.
        """
        with self._turn.taken():
            return self._read_pack(entries)

    def _read_pack(self, entries: Iterable[Entry]) -> tuple[list[RowFields], memoryview]:
        return self._read_pack_into(self._room(PACK_SIZE + PACK_TABLE + PACK_FILES * REASON_LIMIT), entries)

    def _read_pack_into(self, buffer: memoryview, entries: Iterable[Entry]) -> tuple[list[RowFields], memoryview]:
        rows: list[RowFields] = []
        at = 0
        for entry in entries:
            try:
                row = self._read_small(entry, buffer[at : at + entry.size])
            except _Replaced as other:
                text = encode_file(other.entry)
                buffer[at : at + len(text)] = text
                row = (Status.CHANGED, 0, len(text), 0, _NOTHING)
            except (OSError, UnsafePath) as error:
                text = reason_for(error).encode("utf-8", "replace")[:REASON_LIMIT]
                buffer[at : at + len(text)] = text
                row = (Status.FAILED, 0, len(text), 0, _NOTHING)
            rows.append(row)
            at += row[2]
        return rows, buffer[:at]

    def _read_small(self, entry: Entry, view: memoryview) -> RowFields:
        handle = self._folder.open_file(entry.path)
        try:
            got = read_into(handle, view, 0)
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise NotAFile(status.st_mode)
            if changed_at(status) != entry.mtime_ns or got != entry.size or status.st_size != got:
                now = entry_of(entry.path, status)
                if now.identity != entry.identity and now.size > entry.size:
                    # Another file has the name now. A beginning of it would be good for nothing.
                    raise _Replaced(now)
                status, got = _read_steadily(handle, view)
        finally:
            os.close(handle)
        return 0, status.st_mode & 0o777, got, changed_at(status), digest(view[:got])

    def read_grown(self, files: Iterable[tuple[Entry, Sequence[Beginning]]]) -> tuple[list[GrownRow], memoryview]:
        """Read small files, of each only what follows the longest of the beginnings that it really has.

        Answers a row each and the data; otherwise as ``read_pack``.
        """
        with self._turn.taken():
            return self._read_grown(files)

    def _read_grown(self, files: Iterable[tuple[Entry, Sequence[Beginning]]]) -> tuple[list[GrownRow], memoryview]:
        buffer = self._room(PACK_SIZE + PACK_TABLE + PACK_FILES * REASON_LIMIT)
        rows: list[GrownRow] = []
        at = 0
        for entry, beginnings in files:
            (row,), data = self._read_pack_into(buffer[at:], (entry,))
            status, mode, length, mtime_ns, whole = row
            known = skip = 0
            if status == Status.OK:
                known, skip = _longest(beginnings, data)
                data = data[skip:]
                buffer[at : at + len(data)] = data
            rows.append(GrownRow(Status(status), mode, known, length - skip, mtime_ns, whole))
            at += length - skip
        return rows, buffer[:at]

    # Large files

    def read_piece(self, entry: Entry, chunk: int, index: int, skip: int) -> tuple[ChunkHead, memoryview]:
        """Chunk ``index`` without its first ``skip`` bytes, with the digest of the rest. Raises as ``read_chunk``."""
        head, data = self._read_chunk(self._file(entry), entry, chunk, index)
        if head.status is Status.CHANGED:
            return head, data
        if head.status is Status.HOLE:
            data = self._room(chunk)[: min(chunk, entry.size - index * chunk)]
            data[:] = bytes(len(data))
        piece = data[skip:]
        return head._replace(status=Status.OK, digest=digest(piece)), piece

    def sums(self, entry: Entry, ranges: Sequence[Range]) -> tuple[ChunkHead, list[bytes]]:
        """The digests of these ranges of a file that was listed as ``entry``, and what it is now, in a head.

        Raises as ``read_chunk``. What was read before, of the very same version of the file, is not read again.
        """
        file = self._file(entry)
        status = os.fstat(file.handle)
        settled = self._is_settled(entry, status)
        found: list[bytes] = []
        for offset, length in ranges:
            chunk = chunk_size_for(entry.size)
            index = offset // chunk
            whole = offset == index * chunk and length == min(chunk, entry.size - offset)
            version = self._version(entry, status, chunk) if whole and settled else None
            known = self._digests.get(version, index) if version is not None else None
            if known is None and whole:
                head, _ = self._read_chunk(file, entry, chunk, index)
                if head.status is Status.CHANGED:
                    return head, []
                known = head.digest
            elif known is None:
                view = self._room(length)[:length]
                if read_into(file.handle, view, offset) < length:
                    return _head(Status.CHANGED, 0, _NOTHING, entry_of(entry.path, os.fstat(file.handle))), []
                known = digest(view)
            found.append(known)
        now = entry_of(entry.path, os.fstat(file.handle))
        changed = now.size < entry.size or now.identity != entry.identity
        return _head(Status.CHANGED if changed else Status.OK, 0, _NOTHING, now), [] if changed else found

    def read_chunk(self, entry: Entry, chunk: int, index: int) -> tuple[ChunkHead, memoryview]:
        """Chunk ``index`` of a file that was listed as ``entry``. Raises `UnsafePath` and `OSError`."""
        return self._read_chunk(self._file(entry), entry, chunk, index)

    def _read_chunk(self, file: _OpenFile, entry: Entry, chunk: int, index: int) -> tuple[ChunkHead, memoryview]:
        offset = index * chunk
        length = min(chunk, entry.size - offset)
        view = self._room(length)[:length]
        hole = file.is_hole(offset, length)
        got = length if hole else read_into(file.handle, view, offset)
        status = os.fstat(file.handle)
        now = entry_of(entry.path, status)
        if got < length or now.size < entry.size or now.identity != entry.identity:
            return _head(Status.CHANGED, index, _NOTHING, now), view[:0]
        found = hole_digest(length) if hole else digest(view)
        if self._is_settled(entry, status):
            self._digests.put(self._version(entry, status, chunk), chunk_count(entry.size, chunk), index, found)
        if hole:
            return _head(Status.HOLE, index, found, now), view[:0]
        return _head(Status.OK, index, found, now), view

    def seal(self, entry: Entry, chunk: int) -> ChunkHead:
        """The digest of the first ``entry.size`` bytes as they are now, in a head without index.

        Raises as `read_chunk`.
        What was read before, of the very same version of the file, is not read again.
        """
        self._close_file(entry.path)
        file = self._file(entry)
        status = os.fstat(file.handle)
        count = chunk_count(entry.size, chunk)
        digests = Assembly(count)
        version = self._version(entry, status, chunk) if self._is_settled(entry, status) else None
        for index in range(count):
            known = None if version is None else self._digests.get(version, index)
            if known is None:
                head, _ = self._read_chunk(file, entry, chunk, index)
                if head.status is Status.CHANGED:
                    return head
                known = head.digest
            digests.accept(index, known)
        now = entry_of(entry.path, os.fstat(file.handle))
        return _head(Status.OK, 0, digests.digest(), now)

    def _version(self, entry: Entry, status: os.stat_result, chunk: int) -> Version:
        # With the time that nobody can set back: so that content is looked at where the modification time was.
        times = (status.st_mtime_ns, status.st_ctime_ns)
        return (self._scope, entry.path, status.st_dev, status.st_ino, status.st_size, *times, chunk)

    def _is_settled(self, entry: Entry, status: os.stat_result) -> bool:
        """Whether the file is the listed one, and another change now would show in its time."""
        mtime_ns = changed_at(status)
        same = mtime_ns == entry.mtime_ns and status.st_size == entry.size
        return same and is_settled(mtime_ns, now := self._clock()) and is_settled(status.st_ctime_ns, now)

    def _file(self, entry: Entry) -> _OpenFile:
        """The open file of ``entry``; opened again when another one is asked for under the same name."""
        file = self._files.get(entry.path)
        if file is not None:
            if entry_of(entry.path, os.fstat(file.handle)).identity == entry.identity:
                self._files.move_to_end(entry.path)
                return file
            self._close_file(entry.path)
        file = _OpenFile(self._folder.open_file(entry.path))
        self._files[entry.path] = file
        while len(self._files) > _KEPT_FILES:
            self._close_file(next(iter(self._files)))
        return file

    def _close_file(self, path: str) -> None:
        file = self._files.pop(path, None)
        if file is not None:
            os.close(file.handle)

    def close(self) -> None:
        """Close every file. The folder is its owner's."""
        for path in list(self._files):
            self._close_file(path)


def _longest(beginnings: Sequence[Beginning], data: memoryview) -> tuple[int, int]:
    """Number (from 1) and size of the longest of the beginnings that ``data`` has; zeros when it has none."""
    for number, (size, expected) in sorted(enumerate(beginnings, 1), key=lambda each: -each[1].size):
        if size <= len(data) and digest(data[:size]) == expected:
            return number, size
    return 0, 0


def _head(status: Status, index: int, found: bytes, now: Entry) -> ChunkHead:
    return ChunkHead(status, index, found, now.size, now.mtime_ns, now.mode, now.identity)


def _read_steadily(handle: int, view: memoryview) -> tuple[os.stat_result, int]:
    """Read a file that is not as it was listed, until two looks at it agree: at its status, or at its bytes.

    A log that only grows is steady: its first bytes stay what they are. Raises `Unsteady`.
    """
    before = os.fstat(handle)
    seen: tuple[int, bytes] | None = None
    for _ in range(_READINGS):
        got = read_into(handle, view, 0)
        after = os.fstat(handle)
        now = (got, digest(view[:got]))
        if (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns) or now == seen:
            return before, got
        before, seen = after, now
    raise Unsteady

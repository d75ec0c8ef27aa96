"""A folder and all that is below it as compact rows: what a backup compares with what it holds.

A survey is a sequence of pages, each of whole rows. A folder's row comes before those of what is in it, and these come
in ascending order of the bytes of their names, so that whoever holds such a list can compare without holding this one.
All integers are little-endian; *facts* are 34 bytes that change when a file does::

    facts     mode u16, owner u32, group u32, size i64, mtime i64 (ns since 1970), inode i64
    FILE      kind u8, length of the name u8, facts, name
    FOLDER    kind u8, flags u8, facts, device i64, clock i64 (ns since 1970), length of the path u16, path
    LINK      kind u8, length of the name u8, facts, length of the target u16, name, target
    SKIPPED   kind u8, length of the name u8, length of the reason u16, name, reason
    END       kind u8, flags u8, files i64, folders i64
    GONE      kind u8, flags u8, length of the path u16, path

A folder's path is relative to the survey's root, which is the empty one. Its clock is that of the surveyed machine
when the folder was read: a file that was changed just before may be changed again without showing it. A folder whose
rows are not all that is in it, because it could not be read to its end or because only changes are told, lacks the
flag COMPLETE. SKIPPED without a name speaks of the folder itself, or of something in it whose name can't be told. END
closes a round and counts its rows; where changes are told, GONE says that a folder of an earlier round is not there any
more.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from handshakes.errors import RemoteProtocolError
from handshakes.messages import Bytes
from handshakes.paths import COMPONENT_LIMIT, PATH_LIMIT

__all__ = [
    "FACTS",
    "End",
    "Facts",
    "FileRow",
    "FolderRow",
    "GoneRow",
    "LinkRow",
    "Row",
    "SkippedRow",
    "encode_end",
    "encode_file_row",
    "encode_folder_row",
    "encode_gone_row",
    "encode_link_row",
    "encode_skipped_row",
    "is_settled",
    "read_rows",
    "read_runs",
]

FACTS: Final = struct.Struct("<HIIqqq")
_SIZE: Final = FACTS.size
_FILE: Final = struct.Struct("<BBHIIqqq")
_FOLDER_REST: Final = struct.Struct("<qqH")
_SKIPPED: Final = struct.Struct("<BBH")
_LENGTH: Final = struct.Struct("<H")
_END: Final = struct.Struct("<BBqq")
_REASON_LIMIT: Final = 300
TARGET_LIMIT: Final = PATH_LIMIT
"""The most bytes in the target of a symbolic link."""

_COMPLETE: Final = 1

_SECOND: Final = 1_000_000_000
# So long after a change another one may leave the modification time as it is: a tick of the kernel's clock,
# or, where times are whole seconds, the two seconds of FAT.
_FINE_TICK: Final = _SECOND // 50
_COARSE_TICK: Final = 3 * _SECOND
# No folder is read for so long that this would be the time of a change while it was read.
_AHEAD: Final = 600 * _SECOND


class Kind(enum.IntEnum):
    """What a row stands for."""

    FILE = 0
    FOLDER = 1
    LINK = 2
    SKIPPED = 3
    END = 4
    GONE = 5


_FILE_KIND: Final = int(Kind.FILE)


class Facts(NamedTuple):
    """What is known of a file without reading it. ``mode``: permission bits; ``owner``, ``group``: numbers; ``size`` in
    bytes; ``mtime_ns`` since 1970; ``inode``: with the device, tells it from any other file there is at that time.
    """

    mode: int
    owner: int
    group: int
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def decode(cls, raw: bytes) -> Facts:
        """The facts in 34 bytes. Raises `RemoteProtocolError` when no file is like that."""
        facts = cls(*FACTS.unpack(raw))
        if facts.size < 0 or facts.mode > 0o777:
            raise RemoteProtocolError(f"a survey has a file of {facts.size} bytes and mode {facts.mode:o}")
        return facts

    def encode(self) -> bytes:
        """As 34 bytes."""
        return FACTS.pack(*self)


class FileRow(NamedTuple):
    """A file in the folder whose row came last. ``facts`` in their wire form: mostly they are only compared."""

    name: bytes
    facts: bytes


class FolderRow(NamedTuple):
    """A folder; ``path`` is relative, its parts are safe and separated by ``/``."""

    path: bytes
    facts: Facts
    device: int
    clock_ns: int
    complete: bool


class LinkRow(NamedTuple):
    """A symbolic link in the folder whose row came last."""

    name: bytes
    facts: Facts
    target: bytes


class SkippedRow(NamedTuple):
    """Something that can't be had, and why; without a name the folder itself."""

    name: bytes
    reason: str


class End(NamedTuple):
    """The end of a round of so many file and folder rows."""

    files: int
    folders: int


class GoneRow(NamedTuple):
    """A folder that was there in an earlier round."""

    path: bytes


Row = FileRow | FolderRow | LinkRow | SkippedRow | End | GoneRow


def is_settled(mtime_ns: int, clock_ns: int) -> bool:
    """Whether a change after ``clock_ns`` would show in a modification time that was ``mtime_ns`` then."""
    age = clock_ns - mtime_ns
    return age > (_FINE_TICK if mtime_ns % _SECOND else _COARSE_TICK) or age < -_AHEAD


def encode_file_row(name: bytes, facts: Facts) -> bytes:
    """A file's row; the name has 1 to 255 bytes."""
    return _FILE.pack(_FILE_KIND, len(name), *facts) + name


def encode_folder_row(row: FolderRow) -> bytes:
    """A folder's row."""
    flags = _COMPLETE if row.complete else 0
    rest = _FOLDER_REST.pack(row.device, row.clock_ns, len(row.path))
    return bytes((Kind.FOLDER, flags)) + row.facts.encode() + rest + row.path


def encode_link_row(row: LinkRow) -> bytes:
    """A symbolic link's row."""
    head = bytes((Kind.LINK, len(row.name))) + row.facts.encode()
    return head + _LENGTH.pack(len(row.target)) + row.name + row.target


def encode_skipped_row(row: SkippedRow) -> bytes:
    """The row of what can't be had; a long reason is cut."""
    reason = row.reason.encode("utf-8", "replace")[:_REASON_LIMIT]
    return _SKIPPED.pack(Kind.SKIPPED, len(row.name), len(reason)) + row.name + reason


def encode_end(end: End) -> bytes:
    """The row that ends a round."""
    return _END.pack(Kind.END, 0, end.files, end.folders)


def encode_gone_row(row: GoneRow) -> bytes:
    """The row of a folder that has gone."""
    return bytes((Kind.GONE, 0)) + _LENGTH.pack(len(row.path)) + row.path


def read_rows(page: Bytes) -> Iterator[Row]:
    """The rows in ``page``. Raises `RemoteProtocolError` where it does not consist of whole, sensible rows.

    Names and paths are judged here. The order of the rows is not, nor are the facts of files: see `Facts.decode`.
    """
    data = bytes(page)
    at, end = 0, len(data)
    new = tuple.__new__
    while at < end:
        if data[at] == _FILE_KIND:
            start = at + 2 + _SIZE
            after = start + data[at + 1] if start <= end else end + 1
            if after > end:
                raise RemoteProtocolError("a survey ends within a file's row")
            name = data[start:after]
            _check_name(name)
            yield new(FileRow, (name, data[at + 2 : start]))
            at = after
        else:
            row, at = _read_other(data, at)
            yield row


def read_runs(page: Bytes) -> Iterator[Row | list[FileRow]]:
    """As `read_rows`; but files that follow each other come together, which is quicker where there are thousands."""
    data = bytes(page)
    at, end = 0, len(data)
    new = tuple.__new__
    run: list[FileRow] = []
    while at < end:
        if data[at] == _FILE_KIND:
            start = at + 2 + _SIZE
            after = start + data[at + 1] if start <= end else end + 1
            if after > end:
                raise RemoteProtocolError("a survey ends within a file's row")
            run.append(new(FileRow, (data[start:after], data[at + 2 : start])))
            at = after
        else:
            if run:
                _check_names([row.name for row in run])
                yield run
                run = []
            row, at = _read_other(data, at)
            yield row
    if run:
        _check_names([row.name for row in run])
        yield run


def _check_names(names: list[bytes]) -> None:
    """`_check_name` for many: one look at all of them, unless there is something to find."""
    joined = b"/".join(names)
    if (
        b"\0" in joined
        or joined.count(b"/") >= len(names)
        or not all(names)
        or not _NO_NAMES.isdisjoint(names)
        or max(map(len, names)) > COMPONENT_LIMIT
    ):
        for name in names:  # pragma: no branch - one of them is refused
            _check_name(name)


def _read_other(data: bytes, at: int) -> tuple[Row, int]:
    """The row at ``at`` that is not a file's, and where the next begins."""
    kind = data[at]
    reader = _READERS.get(kind)
    if reader is None:
        raise RemoteProtocolError(f"a survey has a row of the unknown kind {kind}")
    try:
        return reader(data, at)
    except struct.error as error:
        raise RemoteProtocolError("a survey ends within a row") from error


def _read_folder(data: bytes, at: int) -> tuple[Row, int]:
    rest = at + 2 + _SIZE
    facts = Facts.decode(_cut(data, at + 2, rest))
    device, clock_ns, length = _FOLDER_REST.unpack_from(data, rest)
    start = rest + _FOLDER_REST.size
    path = _read_path(data, start, length)
    return FolderRow(path, facts, device, clock_ns, bool(data[at + 1] & _COMPLETE)), start + length


def _read_link(data: bytes, at: int) -> tuple[Row, int]:
    rest = at + 2 + _SIZE
    facts = Facts.decode(_cut(data, at + 2, rest))
    (length,) = _LENGTH.unpack_from(data, rest)
    start = rest + _LENGTH.size
    middle = start + data[at + 1]
    name, target = _cut(data, start, middle), _cut(data, middle, middle + length)
    _check_name(name)
    if not 0 < length <= TARGET_LIMIT or b"\0" in target:
        raise RemoteProtocolError(f"a survey has a link to {length} bytes of no path")
    return LinkRow(name, facts, target), middle + length


def _read_skipped(data: bytes, at: int) -> tuple[Row, int]:
    _, name_length, length = _SKIPPED.unpack_from(data, at)
    start = at + _SKIPPED.size
    middle = start + name_length
    name, reason = _cut(data, start, middle), _cut(data, middle, middle + length)
    if name:
        _check_name(name)
    return SkippedRow(name, reason[:_REASON_LIMIT].decode("utf-8", "replace")), middle + length


def _read_end(data: bytes, at: int) -> tuple[Row, int]:
    _, _, files, folders = _END.unpack_from(data, at)
    return End(files, folders), at + _END.size


def _read_gone(data: bytes, at: int) -> tuple[Row, int]:
    (length,) = _LENGTH.unpack_from(data, at + 2)
    start = at + 2 + _LENGTH.size
    return GoneRow(_read_path(data, start, length)), start + length


def _read_path(data: bytes, start: int, length: int) -> bytes:
    if length > PATH_LIMIT:
        raise RemoteProtocolError(f"a survey has a path of {length} bytes")
    path = _cut(data, start, start + length)
    for part in path.split(b"/") if path else ():
        _check_name(part)
    return path


_READERS: Final = {
    int(Kind.FOLDER): _read_folder,
    int(Kind.LINK): _read_link,
    int(Kind.SKIPPED): _read_skipped,
    int(Kind.END): _read_end,
    int(Kind.GONE): _read_gone,
}


def _cut(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise RemoteProtocolError("a survey ends within a row")
    return data[start:end]


def _check_name(name: bytes) -> None:
    """Raise `RemoteProtocolError` for what is no name of one thing in a folder."""
    if not name or len(name) > COMPONENT_LIMIT or b"/" in name or b"\0" in name or name in _NO_NAMES:
        raise RemoteProtocolError(f"a survey has the name {name[:100]!r}, which no file can have")


_NO_NAMES: Final = frozenset([b".", b".."])

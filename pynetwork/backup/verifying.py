"""Is a mirror still what was backed up? Everything is read again and compared with the catalogue's digests, offline."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from handshakes.errors import UnsafePath
from handshakes.manifest import DIGEST_SIZE, Skipped, chunk_size_for, digest
from handshakes.paths import from_bytes
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.records import FileRecord
from pynetwork.files.descriptors import read_into
from pynetwork.files.folders import Folder, reason_for

__all__ = ["BadFile", "VerifyReport", "digest_of", "verify"]

_MISSING: Final = "it is missing"


@dataclass(frozen=True)
class BadFile:
    """A file that is not what was backed up. ``path`` in the share; ``folder`` and ``name`` in the catalogue."""

    path: str
    reason: str
    folder: int
    name: bytes


@dataclass
class VerifyReport:
    """What came of it: so many ``files`` of ``bytes`` were compared in ``seconds``, and these are ``bad``.

    ``unfinished``: an interrupted run was still adding to these; what was backed up of them before is right.
    """

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    bad: list[BadFile] = field(default_factory=list)
    unfinished: list[Skipped] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; undecodable bytes of names are replaced."""
        values = dataclasses.asdict(self)
        values["bad"] = [{"path": _shown(bad.path), "reason": bad.reason} for bad in self.bad]
        values["unfinished"] = [_shown(path) for path, _ in self.unfinished]
        return values


def verify(
    mirror: Mirror, catalogue: Catalogue, *, progress: Callable[[int, int, int, int], object] | None = None
) -> VerifyReport:
    """Read every file of the mirror and compare it with its digest.

    ``progress``: called now and then with bytes done, bytes in all, files done and files in all.
    """
    began = time.perf_counter()
    report = VerifyReport()
    files, size = catalogue.count_files()
    unfinished = {each.place for each in catalogue.unfinished()}
    with mirror.open() as folder:
        for path, number, record in catalogue.all_files():
            _verify_one(folder, mirror, path, number, record, report, unfinished)
            if progress is not None:
                progress(report.bytes, size, report.files, files)
    report.seconds = time.perf_counter() - began
    return report


def _verify_one(
    folder: Folder,
    mirror: Mirror,
    folder_path: bytes,
    number: int,
    record: FileRecord,
    report: VerifyReport,
    unfinished: set[str],
) -> None:
    name = from_bytes(record.name)
    path = f"{from_bytes(folder_path)}/{name}" if folder_path else name
    try:
        place = mirror.place_of(folder_path, record)
        reason = _why_bad(folder, place, record)
        if reason and place in unfinished and record.digest == digest_of(folder, place, record.size):
            report.unfinished.append(Skipped(path, reason))
            reason = ""
    except FileNotFoundError:
        reason = _MISSING
    except (OSError, UnsafePath) as error:
        reason = reason_for(error)
    report.files += 1
    report.bytes += record.size
    if reason:
        report.bad.append(BadFile(path, reason, number, record.name))


def _why_bad(folder: Folder, place: str, record: FileRecord) -> str:
    """Why what stands at ``place`` is not the file that was backed up; empty when it is. Raises `OSError`."""
    components = folder.split(place)
    directory = folder.directory(components[:-1])
    if record.target is not None:
        leads = directory.read_link(components[-1])
        return "" if leads == from_bytes(record.target) else f"it leads to {leads!r}"
    status = directory.status(components[-1])
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file any more"
    if status.st_size != record.size:
        return f"it has {status.st_size} bytes in place of {record.size}"
    return "" if digest_of(folder, place, record.size) == record.digest else "its content is not what was backed up"


def digest_of(folder: Folder, place: str, size: int) -> bytes:
    """The digest of the first ``size`` bytes of a file, as transfers make it. Raises `OSError`."""
    handle = folder.open_file(place)
    try:
        chunk = chunk_size_for(size)
        digests = bytearray()
        view = memoryview(bytearray(min(chunk, size)))
        for piece in _pieces(handle, view, size):
            digests += digest(piece)
        if not digests:
            return digest(b"")
        return bytes(digests) if len(digests) == DIGEST_SIZE else digest(digests)
    finally:
        os.close(handle)


def _pieces(handle: int, view: memoryview, size: int) -> Iterator[memoryview]:
    offset = 0
    while offset < size:
        length = min(len(view), size - offset)
        if read_into(handle, view[:length], offset) < length:
            raise OSError(errno.EIO, "it is shorter than it was")
        yield view[:length]
        offset += length


def _shown(path: str) -> str:
    return path.encode("utf-8", "replace").decode()

"""What here may hold a part of a file that is wanted: the file as it was, what had its inode (a log that was renamed),
files of the same family of names (a log that was copied and truncated).

Nothing of that is believed: lanes compare digests with the gateway's before any of it is used.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Final

from handshakes.deltas import MOST_BEGINNINGS
from handshakes.errors import UnsafePath
from handshakes.manifest import CHUNK_SIZE, Entry, digest
from handshakes.paths import partial_name
from handshakes.survey import Facts
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.holding import Holdings
from pynetwork.backup.mirror import Base, Mirror
from pynetwork.backup.records import FileRecord, State
from pynetwork.files.descriptors import read_into
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder

__all__ = ["Finder", "Wanted", "identity_of", "is_same_time"]

_MOST_BASES: Final = 2 * MOST_BEGINNINGS
_SECOND: Final = 1_000_000_000
_FAMILY: Final = re.compile(rb"(.+?)(?:[.-][0-9][0-9_.T-]*)?", re.DOTALL)
_COMPRESSED: Final = re.compile(rb".*\.(?:gz|xz|bz2|zst|lz4|Z)", re.DOTALL)


@dataclass(slots=True)
class Wanted:
    """A file that is not here as it is at the source. ``entry``: how it is asked for, by its path in the share;
    ``place``: where it belongs below the destination; ``before`` its record; ``bases`` what here may hold a part of it;
    ``known``: so many bytes from its beginning may be here.
    """

    entry: Entry
    place: str
    folder: int
    name: bytes
    own_place: bytes | None
    facts: Facts
    device: int
    settled: bool
    before: FileRecord | None = None
    bases: list[Base] = field(default_factory=list)
    known: int = 0

    @property
    def path(self) -> str:
        """Where it is in the share."""
        return self.entry.path


class Finder:
    """Looks in the mirror, of which ``target`` is this thread's, and in what the catalogue and holdings know of it.

    With ``checksum`` no digest is believed for the facts of a file. ``nothing_known``: nothing was backed up here yet.
    """

    def __init__(
        self,
        mirror: Mirror,
        catalogue: Catalogue,
        holdings: Holdings,
        target: Folder,
        *,
        checksum: bool = False,
        nothing_known: bool = False,
    ) -> None:
        self._mirror = mirror
        self._catalogue = catalogue
        self._holdings = holdings
        self._target = target
        self._checksum = checksum
        self.nothing_known = nothing_known

    def find(self, wanted: Wanted, folder_path: bytes, directory: Directory | None) -> None:
        """Fill in the bases of ``wanted``. ``directory`` is where it stands in the mirror; None: that is empty."""
        size, record = wanted.facts.size, wanted.before
        own_name = wanted.place.rpartition("/")[2]
        bases: list[Base] = []
        status = None
        if directory is not None:
            with contextlib.suppress(OSError):
                status = directory.status(own_name)
        if status is not None and stat.S_ISREG(status.st_mode) and (status.st_size or not size):
            bases.append(Base(wanted.place, status.st_size, self._believed(record, status)))
        identity = (wanted.device, wanted.facts.inode)
        # What an earlier run had begun to gather of it, for one.
        bases += [Base("", held.size, held.digest) for held in self._holdings.by_identity(*identity) if size]
        is_same = record is not None and (record.device, record.inode) == identity and size >= record.size
        # A rotated log that grows is being copied from another.
        if size and (not is_same or _is_rotated(wanted.name)):
            bases += self._other_bases(wanted, folder_path, identity)
        if size <= CHUNK_SIZE:
            bases += [base._replace(size=size, digest=None) for base in bases if base.place and base.size > size][:2]
            bases = [base for base in map(self._measured, bases) if base is not None and base.size <= size]
            wanted.bases = list(dict.fromkeys(bases))[:MOST_BEGINNINGS]
            return
        self._holdings.take_back(self._target, wanted.place, *identity, size)
        wanted.bases = list(dict.fromkeys(bases))[:_MOST_BASES]
        known = max((base.size for base in wanted.bases), default=0)
        if directory is not None:
            with contextlib.suppress(OSError):
                known = max(known, directory.status(partial_name(own_name)).st_size)
        wanted.known = known

    def _believed(self, record: FileRecord | None, status: os.stat_result) -> bytes | None:
        """The digest of what is here, if the record speaks of it."""
        if record is None or record.state == State.UNFLUSHED or self._checksum:
            return None
        if status.st_size != record.size or not is_same_time(status.st_mtime_ns, record.mtime_ns):
            return None
        return record.digest

    def _other_bases(self, wanted: Wanted, folder_path: bytes, identity: tuple[int, int]) -> list[Base]:
        """What here may be this file under an earlier name."""
        if self.nothing_known:
            return []
        catalogue, mirror = self._catalogue, self._mirror
        found: list[Base] = []
        for folder, record in catalogue.by_identity(*identity):
            if (folder, record.name) != (wanted.folder, wanted.name):
                found.append(Base(mirror.place_of(catalogue.folder_path(folder), record), record.size, record.digest))
        family = _family(wanted.name)
        if _is_rotated(wanted.name):
            kin = [
                (held.name, Base("", held.size, held.digest))
                for held in self._holdings.in_folder(wanted.folder)
                if _family(held.name) == family
            ]
            for record in catalogue.in_family(wanted.folder, family):
                if record.name != wanted.name and _family(record.name) == family:
                    base = Base(mirror.place_of(folder_path, record), record.size, record.digest)
                    kin.append((record.name, base))
                    if record.digest in self._holdings:
                        # What stands there now may be what a run brought that was killed before it said so.
                        kin.append((record.name, base._replace(digest=None)))
            # What is copied in a rotation is the log itself, and numbers grow by one; only so many can be asked about.
            own = _number(wanted.name)
            found += [
                base for _, base in sorted(kin, key=lambda each: each[0] != family and 1 + abs(_number(each[0]) - own))
            ]
        return [base for base in found if base.size]

    def _measured(self, base: Base) -> Base | None:
        """``base`` with its digest, read if it is not known; None when it can't be read or is too large to be one."""
        if base.digest is not None:
            return base
        if base.size > CHUNK_SIZE:
            return None
        try:
            handle = self._target.open_file(base.place)
        except (OSError, UnsafePath):
            return None
        try:
            view = memoryview(bytearray(base.size))
            got = read_into(handle, view, 0)
        except OSError:
            return None
        finally:
            os.close(handle)
        return base._replace(digest=digest(view)) if got == base.size else None


def identity_of(device: int, inode: int) -> int:
    """What tells the file in requests from another that had its name; as the gateway makes it."""
    inode &= (1 << 64) - 1
    return (inode ^ inode >> 32 ^ (device & (1 << 64) - 1) << 16) & 0xFFFFFFFF


def is_same_time(found: int, recorded: int) -> bool:
    """Whether these are one time, as far as the file system here can keep it (FAT: two seconds)."""
    return found == recorded or (not found % _SECOND and abs(found - recorded) < 2 * _SECOND)


def _is_rotated(name: bytes) -> bool:
    """Whether the name is that of a log with a number or a date."""
    return _family(name) not in {b"", name}


def _number(name: bytes) -> int:
    """The number, or the digits of the date, at the end of the name of a rotated log; else 0."""
    return int(re.sub(rb"[^0-9]", b"", name[len(_family(name)) :]) or 0)


def _family(name: bytes) -> bytes:
    """What the names of a log and of what it was rotated to have in common; empty for what is compressed."""
    if _COMPRESSED.fullmatch(name):
        return b""
    found = _FAMILY.fullmatch(name)
    return found.group(1) if found else b""

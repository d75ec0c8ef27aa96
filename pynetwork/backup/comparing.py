"""Comparing a survey with what is held: what is unchanged, what has gone, and what is wanted.

A survey's rows and the catalogue's come in the same order, folder by folder, so that neither has to be in memory. Of
what is wanted it is said what here may hold a part of it: the file as it was, a file that had its inode (a log that
was renamed), and files of the same family of names (a log that was copied and truncated). Nothing of that is believed:
lanes compare digests with the gateway's before any of it is used.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from handshakes.deltas import MOST_BEGINNINGS
from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import CHUNK_SIZE, Entry, Skipped, digest
from handshakes.paths import from_bytes, partial_name, to_bytes
from handshakes.survey import End, Facts, FileRow, FolderRow, GoneRow, LinkRow, Row, SkippedRow
from pynetwork.backup.catalogue import Catalogue, FileRecord, State
from pynetwork.backup.mirror import Base, Holdings, Mirror
from pynetwork.backup.names import escape_case, fold_key
from pynetwork.files.descriptors import read_into
from pynetwork.files.directories import Directory
from pynetwork.files.folders import reason_for

__all__ = ["Comparer", "Counts", "Wanted", "identity_of"]

_SECOND: Final = 1_000_000_000
# So long after a change another one may leave the modification time as it is; see `pynetwork.files.reading`.
_FINE_TICK: Final = _SECOND // 50
_COARSE_TICK: Final = 3 * _SECOND
_FAMILY: Final = re.compile(rb"(.+?)(?:[.-][0-9][0-9_.T-]*)?")
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


@dataclass(slots=True)
class Counts:
    """What a survey came to: ``files`` and ``bytes`` at the source as far as they were chosen, those ``unchanged``, and
    what has ``gone``.
    """

    files: int = 0
    bytes: int = 0
    unchanged: int = 0
    gone: int = 0


class Comparer:
    """Compares rows with the catalogue and the mirror, on one thread.

    ``want`` is called with each file that is wanted, ``skip`` with what can't be had and why; ``chosen`` tells by path
    and facts what the backup is about; with ``checksum`` nothing is believed to be unchanged for its facts.
    """

    def __init__(
        self,
        mirror: Mirror,
        catalogue: Catalogue,
        holdings: Holdings,
        *,
        want: Callable[[Wanted], None],
        skip: Callable[[Skipped], None],
        chosen: Callable[[str, Facts], bool] | None = None,
        checksum: bool = False,
        owner: bool = False,
    ) -> None:
        self._mirror = mirror
        self._catalogue = catalogue
        self._holdings = holdings
        self._want = want
        self._skip = skip
        self._chosen = chosen
        self._checksum = checksum
        self._owner = owner
        self._target = mirror.open()
        self._nothing_known = not catalogue.count_files()[0] and not holdings
        self._seen: set[int] = set()
        self._now: _FolderNow | None = None
        self._files = self._folders = 0
        self._first_round = True
        self.counts = Counts()
        self.touched: set[int] = set()

    def close(self) -> None:
        """Give the mirror back."""
        self._target.close()

    def forget_held(self) -> None:
        """Nothing is wanted any more that could be found in what was replaced."""
        if self._holdings:
            self._mirror.forget_held(self._target)
            self._holdings.forget()

    def count(self, size: int, *, unchanged: bool = False) -> None:
        """A file of the source; in later rounds only what changes comes, and those were counted before."""
        if self._first_round:
            self.counts.files += 1
            self.counts.bytes += size
            self.counts.unchanged += unchanged

    def begin_anew(self) -> None:
        """The survey was cut off: its rows will come again from the first on."""
        self._now = None
        self._files = self._folders = 0
        self._first_round = True
        self._seen.clear()
        self.counts = Counts(gone=self.counts.gone)
        self._catalogue.commit()

    def renew(self, wanted: Wanted) -> None:
        """Want a file that was surveyed again while it was being moved: look anew for what is here of it."""
        record = self._catalogue.file(wanted.folder, wanted.name)
        path = self._catalogue.folder_path(wanted.folder)
        now = _FolderNow(
            self, FolderRow(path, wanted.facts, wanted.device, 0, complete=False), wanted.folder, known=True
        )
        try:
            now.want_again(wanted, record)
        finally:
            now.end()

    def take(self, row: Row) -> bool:
        """Compare the next row; True when it ended a round. Raises `RemoteProtocolError`."""
        if type(row) is FileRow:
            self._files += 1
            self._folder_now().take_file(row.name, row.facts)
        elif type(row) is FolderRow:
            self._begin_folder(row)
        elif type(row) is LinkRow:
            self._folder_now().take_link(row)
        elif type(row) is SkippedRow:
            self._folder_now().take_skipped(row)
        elif type(row) is GoneRow:
            self._end_folder()
            self.counts.gone += self._catalogue.mark_folder_gone(row.path)
        else:
            assert type(row) is End
            self._end_round(row)
            return True
        return False

    def _folder_now(self) -> _FolderNow:
        if self._now is None:
            raise RemoteProtocolError("a survey has a file before the first folder")
        return self._now

    def _begin_folder(self, row: FolderRow) -> None:
        self._end_folder()
        self._folders += 1
        number, known = self._catalogue.see_folder(row)
        if self._first_round and number in self._seen:
            raise RemoteProtocolError(f"a survey has the folder {from_bytes(row.path)!r} twice")
        self._seen.add(number)
        if known is None or known.facts != row.facts.encode():
            self.touched.add(number)
        self._now = _FolderNow(self, row, number, known=known is not None)

    def _end_folder(self) -> None:
        if self._now is not None:
            self._now.end()
            self._now = None

    def _end_round(self, row: End) -> None:
        self._end_folder()
        if (row.files, row.folders) != (self._files, self._folders):
            raise RemoteProtocolError(f"a survey of {row.files} files came with {self._files}")
        self._files = self._folders = 0
        if self._first_round:
            self._first_round = False
            for path in self._catalogue.folders_but(self._seen):
                self.counts.gone += self._catalogue.mark_folder_gone(path)


class _FolderNow:
    """The folder whose rows come now."""

    def __init__(self, owner: Comparer, row: FolderRow, number: int, *, known: bool) -> None:
        self._owner = owner
        self._row = row
        self._number = number
        self._path = from_bytes(row.path)
        self._prefix = f"{self._path}/" if self._path else ""
        self._records: Iterator[FileRecord] = owner._catalogue.files(number) if known and row.complete else iter(())
        self._by_name = known and not row.complete
        self._record = next(self._records, None)
        self._last = b""
        self._gone: list[bytes] = []
        self._folded: set[str] = set()
        self._directory: Directory | None = None
        self._is_empty = False
        self._place = ""
        try:
            self._place = owner._mirror.place_of_folder(row.path)
            self._directory = self._open()
            self._is_empty = not known and next(self._directory.entries(), None) is None
        except (UnsafePath, OSError) as error:
            owner._skip(Skipped(self._path or ".", reason_for(error)))

    def _open(self) -> Directory:
        """The folder in the mirror, made if need be; what is no folder and has its name goes."""
        target = self._owner._target
        components = target.split(self._place) if self._place else ()
        try:
            return target.directory(components, create=True).again()
        except (NotADirectoryError, FileExistsError):
            above = target.directory(components[:-1])
            if stat.S_ISDIR(above.status(components[-1]).st_mode):
                raise
            above.remove(components[-1])
            return target.directory(components, create=True).again()

    # Rows

    def take_file(self, name: bytes, facts: bytes) -> None:
        record = self._match(name)
        directory = self._directory
        if directory is None:
            return
        owner = self._owner
        if (
            record is not None
            and record.facts == facts
            and not record.state
            and not owner._checksum
            and not record.gone
        ):
            place = from_bytes(record.place or name)
            try:
                status = directory.status(place)
            except OSError:
                pass
            else:
                if status.st_size == record.size and _same_time(status.st_mtime_ns, record.mtime_ns):
                    if owner._chosen is None or owner._chosen(self._prefix + from_bytes(name), Facts.decode(facts)):
                        owner.count(record.size, unchanged=True)
                    return
        self._changed(directory, name, Facts.decode(facts), record)

    def take_link(self, row: LinkRow) -> None:
        record = self._match(row.name)
        path = self._prefix + from_bytes(row.name)
        if self._directory is None or (self._owner._chosen is not None and not self._owner._chosen(path, row.facts)):
            return
        try:
            self._keep_link(self._directory, row, path, record)
        except (UnsafePath, OSError) as error:
            self._owner._skip(Skipped(path, reason_for(error)))

    def take_skipped(self, row: SkippedRow) -> None:
        if row.name:
            self._match(row.name)
        path = self._prefix + from_bytes(row.name) if row.name else self._path or "."
        self._owner._skip(Skipped(path, row.reason))

    def _match(self, name: bytes) -> FileRecord | None:
        """The record of ``name``; those before it have gone. Raises `RemoteProtocolError` for rows out of order."""
        if name <= self._last:
            raise RemoteProtocolError(f"a survey has {name!r} after {self._last!r}")
        self._last = name
        if self._by_name:
            return self._owner._catalogue.file(self._number, name)
        record = self._record
        while record is not None and record.name < name:
            self._vanish(record)
            record = next(self._records, None)
        if record is not None and record.name == name:
            self._record = next(self._records, None)
            return record
        self._record = record
        return None

    def _vanish(self, record: FileRecord) -> None:
        if record.gone is None and self._row.complete:
            path = self._prefix + from_bytes(record.name)
            if self._owner._chosen is None or self._owner._chosen(path, Facts.decode(record.facts)):
                self._gone.append(record.name)

    def end(self) -> None:
        """All rows of the folder have come."""
        while self._record is not None:
            self._vanish(self._record)
            self._record = next(self._records, None)
        if self._gone:
            self._owner._catalogue.mark_gone(self._number, self._gone)
            self._owner.counts.gone += len(self._gone)
        if self._directory is not None:
            self._directory.close()

    # What is wanted

    def _changed(self, directory: Directory, name: bytes, facts: Facts, record: FileRecord | None) -> None:
        owner = self._owner
        path = self._prefix + from_bytes(name)
        if owner._chosen is not None and not owner._chosen(path, facts):
            return
        owner.count(facts.size)
        if record is not None and record.target is not None:
            record = None
        try:
            own_place = self._place_of(name, record)
        except UnsafePath as error:
            owner._skip(Skipped(path, reason_for(error)))
            return
        place = f"{self._place}/{own_place}" if self._place else own_place
        wanted = Wanted(
            Entry(path, facts.size, facts.mtime_ns, facts.mode, identity_of(self._row.device, facts.inode)),
            place,
            self._number,
            name,
            None if own_place == from_bytes(name) else to_bytes(own_place),
            facts,
            self._row.device,
            self._row.clock_ns - facts.mtime_ns > (_FINE_TICK if facts.mtime_ns % _SECOND else _COARSE_TICK),
            record,
        )
        self._find_bases(directory, own_place, wanted)
        owner._want(wanted)

    def want_again(self, wanted: Wanted, record: FileRecord | None) -> None:
        """Want this file with what is here of it now."""
        if self._directory is not None:
            wanted.before, wanted.bases, wanted.known = record, [], 0
            self._find_bases(self._directory, from_bytes(wanted.own_place or wanted.name), wanted)
            self._owner._want(wanted)

    def _place_of(self, name: bytes, record: FileRecord | None) -> str:
        if record is not None and record.place is not None:
            return from_bytes(record.place)
        text = from_bytes(name)
        limits = self._owner._mirror.limits
        place = self._owner._mirror.place_of_name(text, top=not self._place)
        if limits.folds:
            if fold_key(place) in self._folded:
                place = escape_case(text, top=not self._place, windows=limits.windows, utf8=limits.utf8)
            self._folded.add(fold_key(place))
        return place

    def _find_bases(self, directory: Directory, own_place: str, wanted: Wanted) -> None:
        size = wanted.facts.size
        if not size:
            return
        record = wanted.before
        bases: list[Base] = []
        try:
            status = None if self._is_empty else directory.status(own_place)
        except OSError:
            status = None
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_size:
            bases.append(Base(wanted.place, status.st_size, self._believed(record, status)))
        identity = (self._row.device, wanted.facts.inode)
        if record is None or (record.device, record.inode) != identity or size < record.size:
            bases += self._other_bases(wanted, identity)
        if size <= CHUNK_SIZE:
            bases = [base for base in map(self._measured, bases) if base is not None and base.size <= size]
            wanted.bases = list(dict.fromkeys(bases))[:MOST_BEGINNINGS]
            return
        wanted.bases = list(dict.fromkeys(bases))[:MOST_BEGINNINGS]
        known = max((base.size for base in wanted.bases), default=0)
        with contextlib.suppress(OSError):
            known = max(known, directory.status(partial_name(own_place)).st_size)
        wanted.known = known

    def _believed(self, record: FileRecord | None, status: os.stat_result) -> bytes | None:
        """The digest of what is here, if the record speaks of it."""
        if record is None or record.state == State.UNFLUSHED or self._owner._checksum:
            return None
        if status.st_size != record.size or not _same_time(status.st_mtime_ns, record.mtime_ns):
            return None
        return record.digest

    def _other_bases(self, wanted: Wanted, identity: tuple[int, int]) -> list[Base]:
        """What here may be this file under an earlier name."""
        owner = self._owner
        if owner._nothing_known:
            return []
        catalogue, mirror = owner._catalogue, owner._mirror
        found = [Base("", held.size, held.digest) for held in owner._holdings.by_identity(*identity)]
        for folder, record in catalogue.by_identity(*identity):
            if (folder, record.name) != (self._number, wanted.name):
                found.append(Base(mirror.place_of(catalogue.folder_path(folder), record), record.size, record.digest))
        family = _family(wanted.name)
        if family and family != wanted.name:
            found += [
                Base("", held.size, held.digest)
                for held in owner._holdings.in_folder(self._number)
                if _family(held.name) == family
            ]
            for record in catalogue.in_family(self._number, family):
                if record.name != wanted.name and _family(record.name) == family:
                    found.append(Base(mirror.place_of(self._row.path, record), record.size, record.digest))
        return [base for base in found if base.size]

    def _measured(self, base: Base) -> Base | None:
        """``base`` with its digest, read if it is not known; None when it can't be read or is too large to be one."""
        if base.digest is not None:
            return base
        if base.size > CHUNK_SIZE:
            return None
        try:
            handle = self._owner._target.open_file(base.place)
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

    # Links

    def _keep_link(self, directory: Directory, row: LinkRow, path: str, record: FileRecord | None) -> None:
        """Make the link, unless it is there."""
        target = from_bytes(row.target)
        if not _stays_within(path, target):
            self._owner._skip(Skipped(path, "symbolic link that leads out of the folder"))
            return
        place = self._place_of(row.name, record)
        try:
            stands = directory.read_link(place) == target
        except OSError:
            stands = False
        self._owner.count(0, unchanged=stands)
        if stands:
            if record is not None and record.target == row.target:
                return
        else:
            with contextlib.suppress(FileNotFoundError):
                directory.remove(place)
            directory.make_link(place, target)
            self._owner.touched.add(self._number)
        own_place = None if place == from_bytes(row.name) else to_bytes(place)
        kept = FileRecord(
            row.name, row.facts.encode(), State.SETTLED, own_place, 0, row.facts.mtime_ns, self._row.device,
            row.facts.inode, None, row.target, self._owner._catalogue.run, None,
        )  # fmt: skip
        self._owner._catalogue.record(self._number, kept, "link", path.encode("utf-8", "surrogateescape"))


def identity_of(device: int, inode: int) -> int:
    """What tells the file in requests from another that had its name; as the gateway makes it."""
    inode &= (1 << 64) - 1
    return (inode ^ inode >> 32 ^ (device & (1 << 64) - 1) << 16) & 0xFFFFFFFF


def _family(name: bytes) -> bytes:
    """What the names of a log and of what it was rotated to have in common; empty for what is compressed."""
    if _COMPRESSED.fullmatch(name):
        return b""
    found = _FAMILY.fullmatch(name)
    return found.group(1) if found else b""


def _stays_within(path: str, target: str) -> bool:
    """Whether a link at ``path`` to ``target`` leads to somewhere in the same share."""
    if target.startswith("/") or "\0" in target:
        return False
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                return False
        elif part not in {"", "."}:
            depth += 1
    return True


def _same_time(found: int, recorded: int) -> bool:
    """Whether these are one time, as far as the file system here can keep it (FAT: two seconds)."""
    return found == recorded or (not found % _SECOND and abs(found - recorded) < 2 * _SECOND)

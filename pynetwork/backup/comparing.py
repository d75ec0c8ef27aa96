"""Comparing a survey with what is held: what is unchanged, what has gone, and what is wanted.

A survey's rows and the catalogue's come in the same order, folder by folder, so that neither has to be in memory.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from handshakes.errors import NotFound, RemoteProtocolError, UnsafePath
from handshakes.manifest import Entry, Skipped
from handshakes.messages import Bytes
from handshakes.paths import from_bytes, to_bytes
from handshakes.survey import End, Facts, FileRow, FolderRow, GoneRow, LinkRow, Row, SkippedRow, is_settled, read_runs
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.deleting import delete_gone, put_aside
from pynetwork.backup.finding import Finder, Wanted, identity_of, is_same_time
from pynetwork.backup.holding import Holdings
from pynetwork.backup.matching import Matcher, status_as_recorded
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.owning import Owners
from pynetwork.backup.places import Places
from pynetwork.backup.records import PRUNED, FileRecord, State
from pynetwork.files.arranging import leads_within
from pynetwork.files.directories import Directory
from pynetwork.files.folders import reason_for

__all__ = ["Comparer", "Counts"]

_IN_THE_WAY: Final = "a folder that was backed up has its name here, and goes only if deletions are mirrored"
_LEADS_OUT: Final = "symbolic link that leads out of the folder"


@dataclass(slots=True)
class Counts:
    """What a survey came to: ``files`` and ``bytes`` at the source as far as they were chosen, those ``unchanged``,
    links that are ``new`` or were ``changed``, what has ``gone`` and what was ``deleted`` to make room.
    """

    files: int = 0
    bytes: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    deleted: int = 0


class Comparer:
    """Compares rows with the catalogue and the mirror, on one thread.

    ``want`` is called with each file that is wanted, ``skip`` with what can't be had and why; to ``touched`` come the
    numbers of folders that do not look as at the source; ``chosen`` tells by path and facts what the backup is about;
    with ``checksum`` nothing is believed to be unchanged for its facts; ``owners`` keeps owner and group; with
    ``mirror_deletes`` folders give way to files that have taken their names.

    ``escaped``: paths that have another name here since now, and their places.
    """

    def __init__(
        self,
        mirror: Mirror,
        catalogue: Catalogue,
        holdings: Holdings,
        *,
        want: Callable[[Wanted], None],
        skip: Callable[[Skipped], None],
        touched: set[int],
        chosen: Callable[[str, Facts], bool] | None = None,
        checksum: bool = False,
        owners: Owners | None = None,
        mirror_deletes: bool = False,
    ) -> None:
        self._mirror = mirror
        self._catalogue = catalogue
        self._holdings = holdings
        self._want = want
        self._skip = skip
        self._chosen = chosen
        self._checksum = checksum
        self._owners = owners
        self._mirror_deletes = mirror_deletes
        nothing_known = catalogue.is_empty() and not holdings
        self._target = mirror.open()
        self._finder = Finder(mirror, catalogue, holdings, self._target, checksum=checksum, nothing_known=nothing_known)
        self._places = Places(mirror, catalogue)
        self._seen: set[int] = set()
        self._unread: list[bytes] = []
        self._now: _FolderNow | None = None
        self._files = self._folders = 0
        self._first_round = True
        self.counts = Counts()
        self.touched = touched
        self.escaped: list[tuple[str, str]] = []

    def close(self) -> None:
        """Give the mirror back."""
        self._leave_folder()
        self._target.close()

    def forget_held(self) -> None:
        """All that was wanted is here."""
        self._holdings.forget(self._target)

    def count(self, size: int, *, files: int = 1, unchanged: int = 0) -> None:
        """Files of the source; in later rounds only what changes comes, and those were counted before."""
        if self._first_round:
            self.counts.files += files
            self.counts.bytes += size
            self.counts.unchanged += unchanged

    @property
    def looks_closely(self) -> bool:
        """Whether a file may have to be looked at that is here with the same facts."""
        return self._checksum or self._chosen is not None or self._owners is not None

    def begin_anew(self) -> None:
        """The survey was cut off: its rows will come again from the first on."""
        self._leave_folder()
        self._files = self._folders = 0
        self._first_round = True
        self._seen.clear()
        self._unread.clear()
        self.counts = replace(self.counts, files=0, bytes=0, unchanged=0)
        self._catalogue.commit()

    def renew(self, wanted: Wanted) -> None:
        """Want a file that was surveyed again while it was being moved: look anew for what is here of it."""
        path = self._catalogue.folder_path(wanted.folder)
        components = self._target.split(wanted.place)
        wanted.before, wanted.bases, wanted.known = self._catalogue.file(wanted.folder, wanted.name), [], 0
        with contextlib.suppress(OSError):
            self._finder.find(wanted, path, self._target.directory(components[:-1], create=True))
        self._want(wanted)

    def take_page(self, page: Bytes) -> bool:
        """Compare the rows of a page; True when one of them ended a round. Raises as ``take``."""
        ended = False
        for rows in read_runs(page):
            if isinstance(rows, list):
                self._files += len(rows)
                self._folder_now().take_files(rows)
            else:
                ended |= self.take(rows)
        return ended

    def take(self, row: Row) -> bool:
        """Compare the next row; True when it ended a round. Raises `RemoteProtocolError`, and `NotFound` when the whole
        share has gone.
        """
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
            if not row.path:
                raise NotFound("the shared folder is not there any more")
            self.folder_gone(row.path)
        else:
            assert type(row) is End
            self._end_round(row)
            return True
        return False

    def folder_gone(self, path: bytes) -> None:
        """A folder is not at the source any more, with all below it that is chosen."""
        self.counts.gone += self._catalogue.mark_folder_gone(path, self._chosen)

    def make_way(self, path: bytes) -> None:
        """Remove what is here of the folder at ``path``, as something else has its name at the source."""
        self.folder_gone(path)
        self._catalogue.commit()
        deleted = delete_gone(self._mirror, self._catalogue, self._target, chosen=self._chosen, below=path)
        self.counts.deleted += deleted.files
        self.touched.update(deleted.folders)

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
        if self._first_round and not row.complete:
            self._unread.append(row.path)
        self._now = _FolderNow(self, row, number, known=known is not None)

    def _end_folder(self) -> None:
        if self._now is not None:
            self._now.end()
        self._leave_folder()

    def _leave_folder(self) -> None:
        if self._now is not None:
            self._now.close()
            self._now = None

    def _end_round(self, row: End) -> None:
        self._end_folder()
        if (row.files, row.folders) != (self._files, self._folders):
            raise RemoteProtocolError(
                f"a survey of {row.files} files in {row.folders} folders came with {self._files} in {self._folders}"
            )
        self._files = self._folders = 0
        self._finder.nothing_known = False
        if self._first_round:
            self._first_round = False
            for path in self._catalogue.folders_but(self._seen):
                # What is below a folder that could not be read to its end may be there.
                if not any(not above or path.startswith(above + b"/") for above in self._unread):
                    self.folder_gone(path)


class _FolderNow:
    """The folder whose rows come now."""

    def __init__(self, owner: Comparer, row: FolderRow, number: int, *, known: bool) -> None:
        self._owner = owner
        self._row = row
        self._number = number
        self._path = from_bytes(row.path)
        self._prefix = f"{self._path}/" if self._path else ""
        self._matcher = self._match_with(owner._catalogue, owner._chosen, known=known)
        self._directory: Directory | None = None
        self._is_empty = False
        self._place = ""
        try:
            owner._places.enter(row.path, number, known=known)
            self._place = owner._mirror.place_of_folder(row.path)
            self._directory = self._open()
            self._is_empty = not known and next(self._directory.entries(), None) is None
            self._look_at(self._directory, known=known)
        except (UnsafePath, OSError) as error:
            owner._skip(Skipped(self._path or ".", reason_for(error)))

    def _match_with(self, catalogue: Catalogue, chosen: Callable[[str, Facts], bool] | None, *, known: bool) -> Matcher:
        """Records for the rows. Where not every row comes, what is missing has not gone."""
        complete, number, prefix = self._row.complete, self._number, self._prefix
        return Matcher(
            catalogue.files(number) if known and complete else iter(()),
            partial(catalogue.file, number) if known and not complete else None,
            # Not a method: a folder that leads to itself would be in memory until the collector comes.
            chosen and (lambda record: chosen(prefix + from_bytes(record.name), Facts.decode(record.facts))),
        )

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
            self._replace(above, components[-1])
            return target.directory(components, create=True).again()

    def _replace(self, above: Directory, own_place: str) -> None:
        """A file or link gives way to this folder."""
        catalogue = self._owner._catalogue
        path, _, name = self._row.path.rpartition(b"/")
        known = catalogue.folder(path)
        record = None if known is None else catalogue.file(known.id, name)
        if known is not None and record is not None:
            if record.gone == PRUNED:
                put_aside(above, own_place, catalogue, known.id, record)
                return
            catalogue.forget_file(known.id, name)
        above.remove(own_place)

    def _look_at(self, directory: Directory, *, known: bool) -> None:
        """Does the folder look as at the source? What is written in it will show at the end."""
        facts, owner = self._row.facts, self._owner
        if not self._row.complete and not facts.inode:
            return
        status = directory.own_status()
        same = is_same_time(status.st_mtime_ns, facts.mtime_ns)
        if self._place:
            same &= status.st_mode & 0o777 == facts.mode | stat.S_IRWXU
            same &= owner._owners is None or owner._owners.has(status, facts)
        if not same:
            owner.touched.add(self._number)
        if not known and self._place.rpartition("/")[2] != self._path.rpartition("/")[2]:
            owner.escaped.append((self._path, self._place))

    # Rows

    def take_files(self, rows: list[FileRow]) -> None:
        """Files one after the other."""
        owner, directory, pending = self._owner, self._directory, iter(rows)
        if directory is None or owner.looks_closely:
            for name, facts in pending:
                self.take_file(name, facts)
            return
        run = owner._catalogue.run
        while True:
            row, files, size, older = self._matcher.pass_unchanged(pending, directory, run)
            if files:
                owner.count(size, files=files, unchanged=older)
            if row is None:
                return
            self.take_file(*row)

    def take_file(self, name: bytes, facts: bytes) -> None:
        record = self._matcher.match(name)
        directory = self._directory
        if directory is None:
            return
        owner = self._owner
        if (
            record is None
            or record.facts != facts
            or record.state
            or record.gone
            or owner._checksum
            or (status := status_as_recorded(directory, record)) is None
        ):
            self._changed(directory, name, Facts.decode(facts), record)
        elif owner._chosen is None or owner._chosen(self._prefix + from_bytes(name), Facts.decode(facts)):
            # What this run has brought is counted already; the survey has begun anew.
            owner.count(record.size, unchanged=record.run != owner._catalogue.run)
            if owner._owners is not None:
                owner._owners.give(directory, from_bytes(record.place or name), Facts.decode(facts), status)

    def take_link(self, row: LinkRow) -> None:
        record = self._matcher.match(row.name)
        path = self._prefix + from_bytes(row.name)
        if self._directory is None or (self._owner._chosen is not None and not self._owner._chosen(path, row.facts)):
            return
        try:
            self._keep_link(self._directory, row, path, record)
        except (UnsafePath, OSError) as error:
            self._owner._skip(Skipped(path, reason_for(error)))

    def take_skipped(self, row: SkippedRow) -> None:
        if row.name:
            self._matcher.match(row.name)
        path = self._prefix + from_bytes(row.name) if row.name else self._path or "."
        self._owner._skip(Skipped(path, row.reason))

    def end(self) -> None:
        """All rows of the folder have come."""
        if gone := self._matcher.end():
            self._owner._catalogue.mark_gone(self._number, gone)
            self._owner.counts.gone += len(gone)

    def close(self) -> None:
        """Give the folder in the mirror back."""
        if self._directory is not None:
            self._directory.close()
            self._directory = None

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
            own_place = self._place_of(directory, name, record)
        except (UnsafePath, OSError) as error:
            owner._skip(Skipped(path, reason_for(error)))
            return
        wanted = Wanted(
            Entry(path, facts.size, facts.mtime_ns, facts.mode, identity_of(self._row.device, facts.inode)),
            f"{self._place}/{own_place}" if self._place else own_place,
            self._number,
            name,
            None if own_place == from_bytes(name) else to_bytes(own_place),
            facts,
            self._row.device,
            is_settled(facts.mtime_ns, self._row.clock_ns),
            record,
        )
        owner._finder.find(wanted, self._row.path, None if self._is_empty else directory)
        owner._want(wanted)

    def _place_of(self, directory: Directory, name: bytes, record: FileRecord | None) -> str:
        """Where ``name`` stands here; no folder does any more. Raises `UnsafePath` and `OSError` when that can't be."""
        owner = self._owner
        text = from_bytes(name)
        place = owner._places.place_of(text, record, top=not self._place)
        if place != text and record is None:
            owner.escaped.append((self._prefix + text, f"{self._place}/{place}" if self._place else place))
        if not self._is_empty and _is_folder(directory, place):
            if owner._mirror_deletes:
                owner.make_way(to_bytes(self._prefix) + name)
            if _is_folder(directory, place):
                raise UnsafePath(_IN_THE_WAY)
        return place

    # Links

    def _keep_link(self, directory: Directory, row: LinkRow, path: str, record: FileRecord | None) -> None:
        """Make the link, unless it is there."""
        owner = self._owner
        target = from_bytes(row.target)
        if not leads_within(path.count("/"), target):
            owner._skip(Skipped(path, _LEADS_OUT))
            return
        place = self._place_of(directory, row.name, record)
        try:
            stands = directory.read_link(place) == target
        except OSError:
            stands = False
        owner.count(0, unchanged=stands)
        if not stands:
            if record is not None and record.gone == PRUNED:
                put_aside(directory, place, owner._catalogue, self._number, record)
            with contextlib.suppress(FileNotFoundError):
                directory.remove(place)
            directory.make_link(place, target)
            owner.counts.new += record is None
            owner.counts.changed += record is not None
            owner.touched.add(self._number)
        if owner._owners is not None:
            owner._owners.give(directory, place, row.facts, directory.status(place))
        if stands and record is not None and record.target == row.target and record.gone is None:
            return
        own_place = None if place == from_bytes(row.name) else to_bytes(place)
        kept = FileRecord(
            row.name, row.facts.encode(), State.SETTLED, own_place, 0, row.facts.mtime_ns, self._row.device,
            row.facts.inode, None, row.target, owner._catalogue.run, None,
        )  # fmt: skip
        owner._catalogue.record(self._number, kept, "" if stands else "link", to_bytes(path))


def _is_folder(directory: Directory, name: str) -> bool:
    try:
        return stat.S_ISDIR(directory.status(name).st_mode)
    except OSError:
        return False

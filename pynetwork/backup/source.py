"""What is to be restored: a mirror, with its names as they were, or any folder; folder by folder, in a survey's order.

The catalogue of a mirror tells which files had gone from the source when it was backed up last, and which digests they
must have. It is only read here. Without it a mirror can be restored all the same: names say themselves what they were.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from handshakes.errors import PynetworkError, UnsafePath
from handshakes.manifest import CHUNK_SIZE, Entry, Skipped
from handshakes.paths import from_bytes, is_partial, partial_name, to_bytes
from handshakes.survey import FACTS, Facts
from pynetwork.backup.finding import identity_of
from pynetwork.backup.mirror import OWN
from pynetwork.backup.names import unescape
from pynetwork.backup.schema import VERSION, CatalogueDamaged, CatalogueTooNew, is_damage
from pynetwork.files.arranging import LEADS_OUT, leads_within
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder, NotAFile, Turn, reason_for
from pynetwork.files.surveying import facts_of

__all__ = ["Key", "Source", "SourceFolder", "key_of"]

_SAME_NAME: Final = "another file of this backup has the same name"
_MARKS: Final = ("catalogue.sqlite", "held", "lock")
_NO_NAME: Final = "what it was called is no name of a file"

Key = tuple[bytes, ...]
"""The components of a path: folders come in the order of these."""


def key_of(path: bytes) -> Key:
    """Where the folder at ``path`` stands in that order."""
    return tuple(path.split(b"/")) if path else ()


@dataclass
class SourceFolder:
    """A folder that is to be restored, with what is in it by name: ``files`` and their facts in wire form, ``links``
    and where they lead, the folders ``below`` and their places. Where a file or link has another name here, that stands
    in ``places``. ``gone``: the source had it no more.
    """

    path: bytes
    place: str
    facts: Facts
    device: int
    gone: bool
    files: dict[bytes, bytes] = field(default_factory=dict)
    links: dict[bytes, bytes] = field(default_factory=dict)
    places: dict[bytes, str] = field(default_factory=dict)
    below: dict[bytes, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """Where it stands in the order of folders."""
        return key_of(self.path)

    def path_of(self, name: bytes) -> str:
        """The path of something in it, as it is to be."""
        return from_bytes(b"%b/%b" % (self.path, name) if self.path else name)

    def place_of(self, name: bytes) -> str:
        """The path of something in it, as it is here."""
        place = self.places.get(name) or from_bytes(name)
        return f"{self.place}/{place}" if self.place else place

    def entry(self, name: bytes) -> Entry:
        """A file in it as it is to be."""
        facts = Facts(*FACTS.unpack(self.files[name]))
        return Entry(self.path_of(name), facts.size, facts.mtime_ns, facts.mode, identity_of(self.device, facts.inode))

    @cached_property
    def partials(self) -> set[bytes]:
        """The names that what an interrupted restore left of its large files would have."""
        return {
            to_bytes(partial_name(from_bytes(name)))
            for name, facts in self.files.items()
            if FACTS.unpack(facts)[3] > CHUNK_SIZE
        }


class Source:
    """The folder ``path``. With ``include_gone`` what the source of a mirror had no more is a part of it.

    ``is_mirror`` tells whether it is a backup's destination. Raises `OSError` when it is no folder that can be read;
    `CatalogueDamaged`, `CatalogueTooNew` and `OSError` when its catalogue can't be, which does not matter with
    ``include_gone``.
    """

    def __init__(self, path: str | os.PathLike[str], *, include_gone: bool = False) -> None:
        self.root = Path(os.path.abspath(path))
        with self.open():
            # What was restored may have had a folder of that name.
            self.is_mirror = any(os.path.lexists(self.root / OWN / name) for name in _MARKS)
        self._include_gone = include_gone
        self._records: _Records | None = None
        catalogue = self.root / OWN / "catalogue.sqlite"
        if catalogue.is_file():
            try:
                self._records = _Records(catalogue)
            except (OSError, PynetworkError):
                if not include_gone:
                    raise

    def open(self) -> Folder:
        """The folder, for one thread."""
        return Folder(self.root, portable=False)

    def folders(self, turn: Turn | None = None) -> Generator[SourceFolder, None, None]:
        """All folders, each before those in it, by the bytes of the names that they had. Raises `OSError`.

        ``turn``: taken while one is read.
        """
        turn = turn or Turn()
        with self.open() as folder:
            pending = [(b"", "")]
            while pending:
                path, place = pending.pop()
                with turn.taken():
                    found = self._read(folder, path, place)
                if found is None:
                    continue
                yield found
                prefix, here = (path + b"/" if path else b""), (f"{place}/" if place else "")
                pending += [(prefix + name, here + place) for name, place in sorted(found.below.items(), reverse=True)]

    def digests(self, path: bytes) -> dict[bytes, tuple[int, int, bytes]]:
        """Size, time and digest that the files in the folder at ``path`` had when they were backed up."""
        if self._records is None:
            return {}
        try:
            return self._records.digests(path)
        except (OSError, PynetworkError):
            if not self._include_gone:
                raise
            return {}

    def close(self) -> None:
        """Close the catalogue."""
        if self._records is not None:
            self._records.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _read(self, folder: Folder, path: bytes, place: str) -> SourceFolder | None:
        """What is in one folder; None when it is not there any more."""
        gone, leave = False, frozenset[bytes]()
        if self._records is not None and not self._include_gone:
            gone, leave = self._records.gone(path)
        try:
            directory = folder.directory(folder.split(place) if place else ()).again()
        except FileNotFoundError:
            return None
        except (OSError, UnsafePath) as error:
            skipped = [Skipped(from_bytes(path) or ".", reason_for(error))]
            return SourceFolder(path, place, Facts(0o700, 0, 0, 0, 0, 0), 0, True, skipped=skipped)
        try:
            status = directory.own_status()
            found = SourceFolder(path, place, facts_of(status), status.st_dev, gone)
            try:
                for each in directory.entries():
                    self._sort_in(found, directory, each.name, leave)
            except OSError as error:
                found.skipped.append(Skipped(from_bytes(path) or ".", reason_for(error)))
            return found
        finally:
            directory.close()

    def _sort_in(self, found: SourceFolder, directory: Directory, place: str, leave: frozenset[bytes]) -> None:
        """Add what stands at ``place``, unless it is among those to ``leave``."""
        if self.is_mirror and place == OWN and not found.path:
            return
        name = to_bytes(unescape(place) if self.is_mirror else place)
        path = found.path_of(name)
        try:
            status = directory.status(place)
            if stat.S_ISREG(status.st_mode) and is_partial(place):
                return
            if name in leave:
                return
            if name in {b".", b".."}:
                found.skipped.append(Skipped(found.place_of(to_bytes(place)), _NO_NAME))
            elif name in found.files or name in found.links or name in found.below:
                found.skipped.append(Skipped(path, _SAME_NAME))
            elif stat.S_ISDIR(status.st_mode):
                found.below[name] = place
            else:
                _add(found, directory, name, place, status)
        except FileNotFoundError:
            pass
        except OSError as error:
            found.skipped.append(Skipped(path, reason_for(error)))


def _add(found: SourceFolder, directory: Directory, name: bytes, place: str, status: os.stat_result) -> None:
    """Add a file or link. Raises `OSError` for what is neither."""
    if stat.S_ISREG(status.st_mode):
        found.files[name] = facts_of(status).encode()
    elif stat.S_ISLNK(status.st_mode):
        target = directory.read_link(place)
        if not leads_within(len(found.key), target):
            found.skipped.append(Skipped(found.path_of(name), LEADS_OUT))
            return
        found.links[name] = to_bytes(target)
    else:
        raise NotAFile(status.st_mode)
    if from_bytes(name) != place:
        found.places[name] = place


class _Records:
    """A catalogue, only to be read; by one thread at a time. Raises as `Source`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        failure = sqlite3.Error()
        # Where nothing may be written, not even the table of readers, nobody else writes either.
        for how in ("mode=ro", "mode=ro&immutable=1"):
            connection = sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, check_same_thread=False)
            try:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                connection.execute("SELECT 1 FROM files, folders LIMIT 1").fetchone()
            except sqlite3.Error as error:
                connection.close()
                failure = error
            else:
                self._connection = connection
                break
        else:
            raise self._error(failure)
        if version > VERSION:
            self._connection.close()
            raise CatalogueTooNew(f"{path} was written by a later version of pynetwork; use that one")

    def _error(self, error: sqlite3.Error) -> Exception:
        if not is_damage(error):
            return OSError(errno.EIO, f"the catalogue fails: {error}", str(self._path))
        return CatalogueDamaged(
            f"the catalogue {str(self._path)!r} is damaged, so nobody knows which files had gone from the source: "
            f"{error}; the next backup begins a new one, or restore all that is here, with those that had gone"
        )

    def gone(self, path: bytes) -> tuple[bool, frozenset[bytes]]:
        """Whether the source had the folder at ``path`` no more, and which files in it."""
        with self._reading():
            folder = self._connection.execute("SELECT id, gone FROM folders WHERE path = ?", (path,)).fetchone()
            if folder is None:
                return False, frozenset()
            names = self._connection.execute(
                "SELECT name FROM files WHERE folder = ? AND gone IS NOT NULL", (folder[0],)
            )
            return folder[1] is not None, frozenset(name for (name,) in names)

    def digests(self, path: bytes) -> dict[bytes, tuple[int, int, bytes]]:
        """Size, time and digest of the files in the folder at ``path``."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT name, size, mtime_ns, digest FROM files JOIN folders ON folders.id = folder "
                "WHERE path = ? AND digest IS NOT NULL",
                (path,),
            )
            return {row[0]: row[1:] for row in rows}

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._connection.close()

"""What a destination holds, in one SQLite file: every file with its facts and digest, every run, every change.

The catalogue makes backups quick and lets a mirror be verified offline, but nothing depends on it alone: a file that it
does not know is compared by content with what is there, so a lost catalogue costs reading, not moving. What was not
brought to the disk before the machine stopped is compared by content too: `Catalogue.flushed` marks what was.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from handshakes.errors import RemoteProtocolError
from handshakes.paths import from_bytes, to_bytes
from handshakes.survey import Facts, FolderRow
from pynetwork.backup.records import PRUNED, FileRecord, FolderRecord, HeldRecord, RunRecord, State, UnfinishedRecord
from pynetwork.backup.schema import CatalogueDamaged, is_damage, prepare, set_aside

__all__ = ["Catalogue"]

# Behind all names, and all paths: no name has so many bytes.
_LAST: Final = b"\xff" * 256
_BATCH: Final = 4000
_UNTIL_COMMIT: Final = 0.1

_FILE: Final = ", ".join(FileRecord._fields)
_FOLDER: Final = ", ".join(FolderRecord._fields)
_RECORD: Final = (
    f"INSERT OR REPLACE INTO files (folder, {_FILE}) VALUES ({', '.join('?' * (len(FileRecord._fields) + 1))})"
)


class Catalogue:
    """The catalogue at ``path``, made if need be. One that is damaged is set aside and begun anew: ``aside`` is where
    it is then. Without ``mend`` it raises `CatalogueDamaged`.

    One thread reads and lays out runs; `record` and `hold` may be called from many. Raises `CatalogueTooNew`, and
    `sqlite3.Error` and `OSError` when nothing can be written there.
    """

    def __init__(
        self, path: Path, *, mend: bool = True, boot: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.aside: Path | None = None
        self.run = 0
        self._clock = clock
        self._boot = boot_identity() if boot is None else boot
        self._lock = threading.Lock()
        self._pending: list[tuple[Any, ...]] = []
        self._changes: list[tuple[Any, ...]] = []
        self._committed = time.monotonic()
        try:
            self._open()
        except sqlite3.Error as error:
            if not is_damage(error) and not path.is_dir():
                raise
            if not mend:
                raise CatalogueDamaged(
                    f"the catalogue {str(path)!r} is damaged: {error}; the next backup begins a new one, and "
                    "compares all that is here by content"
                ) from error
            self.aside = set_aside(path)
            self._open()
        try:
            self.reader = self._connect()
        except BaseException:
            self._writer.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30.0)

    def _open(self) -> None:
        writer = self._connect()
        try:
            prepare(writer, self.path)
        except BaseException:
            writer.close()
            raise
        self._writer = writer

    # Runs

    def begin_run(self, gateway: str, share: str) -> int:
        """A new run; its number. What an earlier one did not bring to the disk before the machine stopped is marked."""
        with self._lock:
            writer = self._writing()
            boot, since = self._about("boot"), self._about("unflushed since")
            if since is not None and boot != self._boot:
                writer.execute("UPDATE files SET state = ? WHERE run >= ?", (State.UNFLUSHED, int(since)))
            writer.execute("UPDATE runs SET outcome = 'interrupted' WHERE outcome = 'running'")
            cursor = writer.execute(
                "INSERT INTO runs (began, gateway, share, outcome, figures) VALUES (?, ?, ?, 'running', '{}')",
                (self._clock(), gateway, share),
            )
            self.run = cursor.lastrowid or 0
            self._tell("boot", self._boot)
            if since is None or boot != self._boot:
                self._tell("unflushed since", str(self.run))
            self._commit()
        return self.run

    def end_run(self, outcome: str, figures: dict[str, Any]) -> None:
        """The run has ended; everything recorded is committed."""
        with self._lock:
            self._writing().execute(
                "UPDATE runs SET ended = ?, outcome = ?, figures = ? WHERE id = ?",
                (self._clock(), outcome, json.dumps(figures), self.run),
            )
            self._commit()

    def flushed(self) -> None:
        """Everything that is recorded is on the disk, and now the catalogue too."""
        self.commit()
        with self._lock:
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writing().execute("DELETE FROM about WHERE key = 'unflushed since'")
            self._commit()
            self._writer.execute("PRAGMA synchronous=NORMAL")

    def runs(self) -> list[RunRecord]:
        """All runs, the oldest first."""
        rows = self.reader.execute("SELECT id, began, ended, gateway, share, outcome, figures FROM runs ORDER BY id")
        return [RunRecord._make((*row[:6], json.loads(row[6]))) for row in rows]

    def changes(self, run: int) -> Iterator[tuple[bytes, str, int, bytes | None]]:
        """Path, kind of change, size and digest of every file that the run brought."""
        yield from self.reader.execute(
            "SELECT path, change, size, digest FROM changes WHERE run = ? ORDER BY path", (run,)
        )

    # Recording, from any thread

    def record(self, folder: int, record: FileRecord, change: str = "", path: bytes = b"") -> None:
        """A file is here, complete and under its name."""
        with self._lock:
            self._pending.append((folder, *record))
            if change:
                self._changes.append((self.run, path, change, record.size, record.digest))
            if len(self._pending) >= _BATCH or time.monotonic() - self._committed > _UNTIL_COMMIT:
                self._commit()

    def hold(self, held: HeldRecord) -> None:
        """This content is about to be replaced. Committed when this returns."""
        with self._lock:
            self._writing().execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?, ?)", held)
            self._commit()

    def begin_file(self, place: str, folder: int, name: bytes, device: int, inode: int) -> None:
        """A partial file is begun at this place, of what is this file at the source. Committed when this returns."""
        with self._lock:
            self._writing().execute(
                "INSERT OR REPLACE INTO unfinished VALUES (?, ?, ?, ?, ?, ?)",
                (to_bytes(place), self.run, folder, name, device, inode),
            )
            self._commit()

    def end_file(self, place: str) -> None:
        """The partial file of this place is no more."""
        with self._lock:
            self._writing().execute("DELETE FROM unfinished WHERE place = ?", (to_bytes(place),))

    def commit(self) -> None:
        """Bring everything recorded so far into the file."""
        with self._lock:
            self._commit()

    def _commit(self) -> None:
        self._committed = time.monotonic()
        if self._pending or self._changes:
            writer = self._writing()
            writer.executemany(_RECORD, self._pending)
            writer.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", self._changes)
            self._pending, self._changes = [], []
        if self._writer.in_transaction:
            self._writer.execute("COMMIT")

    def _writing(self) -> sqlite3.Connection:
        """The connection to write with, in a transaction that the next commit ends."""
        if not self._writer.in_transaction:
            self._writer.execute("BEGIN IMMEDIATE")
        return self._writer

    # Folders

    def see_folder(self, row: FolderRow) -> tuple[int, FolderRecord | None]:
        """This folder is there now: its number, and what was known of it."""
        with self._lock:
            facts = row.facts.encode()
            known = self._writer.execute(f"SELECT {_FOLDER} FROM folders WHERE path = ?", (row.path,)).fetchone()
            if known is None:
                cursor = self._writing().execute(
                    "INSERT INTO folders (path, facts, device) VALUES (?, ?, ?)", (row.path, facts, row.device)
                )
                return cursor.lastrowid or 0, None
            if not row.facts.inode and not row.complete:
                # It could not be looked at.
                facts = known[2]
            if tuple(known[2:]) != (facts, row.device, None):
                self._writing().execute(
                    "UPDATE folders SET facts = ?, device = ?, gone = NULL WHERE id = ?", (facts, row.device, known[0])
                )
            return known[0], FolderRecord(*known)

    def folder(self, path: bytes) -> FolderRecord | None:
        """What is known of a folder."""
        found = self.reader.execute(f"SELECT {_FOLDER} FROM folders WHERE path = ?", (path,)).fetchone()
        return None if found is None else FolderRecord(*found)

    def folders(self) -> Iterator[FolderRecord]:
        """All folders in the order of their paths."""
        for row in self.reader.execute(f"SELECT {_FOLDER} FROM folders ORDER BY path").fetchall():
            yield FolderRecord(*row)

    def folders_in(self, path: bytes) -> list[bytes]:
        """The paths of the folders directly in one."""
        start, end = (path + b"/", path + b"0") if path else (b"", _LAST)
        rows = self.reader.execute("SELECT path FROM folders WHERE path > ? AND path < ?", (start, end)).fetchall()
        return [below for (below,) in rows if b"/" not in below[len(start) :]]

    def set_folder_place(self, folder: int, place: str) -> None:
        """A folder has another place in the one above it than it would have alone."""
        with self._lock:
            self._writing().execute("UPDATE folders SET place = ? WHERE id = ?", (to_bytes(place), folder))

    def folder_places(self) -> dict[bytes, str]:
        """The folders, by path, that have another place than they would have alone."""
        rows = self.reader.execute("SELECT path, place FROM folders WHERE place IS NOT NULL")
        return {path: from_bytes(place) for path, place in rows}

    def folder_path(self, folder: int) -> bytes:
        """The path of a folder by its number."""
        found = self.reader.execute("SELECT path FROM folders WHERE id = ?", (folder,)).fetchone()
        return bytes(found[0])

    # Files

    def files(self, folder: int) -> Iterator[FileRecord]:
        """The files of a folder in the order of their names, as they were when this was called first."""
        rows = self.reader.execute(f"SELECT {_FILE} FROM files WHERE folder = ? ORDER BY name", (folder,))
        return map(_as_record, rows)

    def file(self, folder: int, name: bytes) -> FileRecord | None:
        """One file."""
        cursor = self.reader.cursor()
        cursor.row_factory = _file_record
        found: FileRecord | None = cursor.execute(
            f"SELECT {_FILE} FROM files WHERE folder = ? AND name = ?", (folder, name)
        ).fetchone()
        return found

    def by_identity(self, device: int, inode: int) -> list[tuple[int, FileRecord]]:
        """The files, with their folders, that were this one when they were backed up."""
        rows = self.reader.execute(
            f"SELECT folder, {_FILE} FROM files WHERE inode = ? AND device = ? AND digest IS NOT NULL LIMIT 8",
            (inode, device),
        )
        return [(row[0], FileRecord(*row[1:])) for row in rows]

    def in_family(self, folder: int, stem: bytes) -> list[FileRecord]:
        """The files of a folder whose names begin with ``stem``, at most 64."""
        rows = self.reader.execute(
            f"SELECT {_FILE} FROM files WHERE folder = ? AND name >= ? AND name < ? AND digest IS NOT NULL LIMIT 64",
            (folder, stem, stem + _LAST),
        )
        return [FileRecord(*row) for row in rows]

    def held(self) -> list[HeldRecord]:
        """The content that earlier names of files had."""
        return [HeldRecord._make((*row[:-1], bool(row[-1]))) for row in self.reader.execute("SELECT * FROM held")]

    def forget_held(self, digests: list[bytes], *, keep: bool = False) -> None:
        """These contents are not held any more; with ``keep`` a whole run has not wanted the others."""
        with self._lock:
            writer = self._writing()
            writer.executemany("DELETE FROM held WHERE digest = ?", [(digest,) for digest in digests])
            if keep:
                writer.execute("UPDATE held SET kept = 1")
            self._commit()

    def unfinished(self) -> list[UnfinishedRecord]:
        """The partial files that were begun and have not ended."""
        rows = self.reader.execute("SELECT place, run, folder, name, device, inode FROM unfinished")
        return [UnfinishedRecord(from_bytes(row[0]), *row[1:]) for row in rows]

    def mark_gone(self, folder: int, names: list[bytes]) -> None:
        """These are not at the source any more."""
        with self._lock:
            self._mark_gone(folder, names)

    def _mark_gone(self, folder: int, names: list[bytes]) -> None:
        self._writing().executemany(
            "UPDATE files SET gone = ? WHERE folder = ? AND name = ? AND gone IS NULL",
            [(self.run, folder, name) for name in names],
        )

    def mark_folder_gone(self, path: bytes, chosen: Callable[[str, Facts], bool] | None = None) -> int:
        """This folder, and what is below it, is not at the source any more; answers how many files that are.

        Files that are not ``chosen``, by path and facts, stay as they are, and folders with such files.
        """
        below = path + b"/"
        with self._lock:
            writer = self._writing()
            found = writer.execute(
                "SELECT id, path FROM folders WHERE (path = ? OR (path >= ? AND path < ?)) AND gone IS NULL",
                (path, below, path + b"0"),
            ).fetchall()
            count = 0
            for folder, whole in found:
                names = writer.execute(
                    "SELECT name, facts FROM files WHERE folder = ? AND gone IS NULL", (folder,)
                ).fetchall()
                gone = [
                    name
                    for name, facts in names
                    if chosen is None or chosen(from_bytes(whole + b"/" + name), Facts.decode(facts))
                ]
                self._mark_gone(folder, gone)
                count += len(gone)
                if len(gone) == len(names):
                    writer.execute("UPDATE folders SET gone = ? WHERE id = ?", (self.run, folder))
        return count

    def folders_but(self, seen: set[int]) -> list[bytes]:
        """The paths of folders that are not among those ``seen`` and were not known to be gone."""
        rows = self.reader.execute("SELECT id, path FROM folders WHERE gone IS NULL ORDER BY path")
        return [path for folder, path in rows if folder not in seen]

    def all_files(self) -> Iterator[tuple[bytes, int, FileRecord]]:
        """Folder path, folder and record of every file, folder by folder."""
        rows = self.reader.execute(
            f"SELECT folders.path, folder, {', '.join(f'files.{name}' for name in FileRecord._fields)} "
            "FROM files JOIN folders ON folders.id = folder ORDER BY folder, name"
        )
        for row in rows:
            yield row[0], row[1], FileRecord(*row[2:])

    def is_empty(self) -> bool:
        """Whether no file was ever backed up."""
        return self.reader.execute("SELECT 1 FROM files LIMIT 1").fetchone() is None

    def count_files(self) -> tuple[int, int]:
        """How many files there are, and their bytes."""
        count, size = self.reader.execute("SELECT COUNT(*), TOTAL(size) FROM files").fetchone()
        return count, int(size)

    def distrust(self, files: list[tuple[int, bytes]]) -> None:
        """These, by folder and name, are not what they were: the next run compares their content."""
        with self._lock:
            self._writing().executemany(
                "UPDATE files SET state = ? WHERE folder = ? AND name = ?",
                [(State.UNFLUSHED, folder, name) for folder, name in files],
            )
            self._commit()

    def note(self, key: str, value: str) -> None:
        """Keep a word about this destination."""
        with self._lock:
            self._writing()
            self._tell(key, value)
            self._commit()

    def noted(self, key: str) -> str | None:
        """What was kept under ``key``."""
        with self._lock:
            return self._about(key)

    def gone_files(self, below: bytes = b"") -> list[tuple[bytes, int, FileRecord]]:
        """Folder path, folder and record of what is not at the source any more and was not pruned, in all folders or
        ``below`` one, which counts.
        """
        rows = self.reader.execute(
            f"SELECT folders.path, folder, {', '.join(f'files.{name}' for name in FileRecord._fields)} "
            "FROM files JOIN folders ON folders.id = folder WHERE files.gone > 0"
        )
        return [(row[0], row[1], FileRecord(*row[2:])) for row in rows if _is_below(row[0], below)]

    def gone_folders(self, below: bytes = b"") -> list[FolderRecord]:
        """The folders that are not at the source any more, the deepest first; all or ``below`` one, which counts."""
        found = [each for each in self.folders() if each.gone is not None and each.path and _is_below(each.path, below)]
        return found[::-1]

    def set_pruned(self, files: list[tuple[int, bytes]], *, pruned: bool = True) -> None:
        """These, by folder and name, are removed from the device as they are here, or (not ``pruned``) are not after
        all. Committed when this returns.
        """
        with self._lock:
            self._writing().executemany(
                "UPDATE files SET gone = ? WHERE folder = ? AND name = ?",
                [(PRUNED if pruned else None, folder, name) for folder, name in files],
            )
            self._commit()

    def adopt_pruned(self, other: Path) -> None:
        """Know what was pruned according to another catalogue, as far as that can be read: all of it is only here."""
        columns = ", ".join(f"files.{name}" for name in FileRecord._fields)
        with (
            contextlib.suppress(sqlite3.Error, RemoteProtocolError, struct.error, TypeError),
            contextlib.closing(sqlite3.connect(other, isolation_level=None)) as damaged,
        ):
            for path, facts, device, *fields in damaged.execute(
                f"SELECT path, folders.facts, folders.device, {columns} FROM files JOIN folders ON id = folder "
                "WHERE files.gone = ?",
                (PRUNED,),
            ):
                number, _ = self.see_folder(FolderRow(path, Facts.decode(facts), device, 0, complete=True))
                self.record(number, FileRecord(*fields))
        self.commit()

    def rename_file(self, folder: int, name: bytes, other: bytes) -> None:
        """A file has another name here, by itself, from now on. Committed when this returns."""
        with self._lock:
            self._writing().execute(
                "UPDATE files SET name = ?, place = ? WHERE folder = ? AND name = ?", (other, other, folder, name)
            )
            self._commit()

    def forget_file(self, folder: int, name: bytes) -> None:
        """A file was removed here."""
        with self._lock:
            self._writing().execute("DELETE FROM files WHERE folder = ? AND name = ?", (folder, name))

    def forget_folder(self, folder: int) -> None:
        """A folder was removed here."""
        with self._lock:
            self._writing().execute("DELETE FROM folders WHERE id = ?", (folder,))

    # Helpers

    def _about(self, key: str) -> str | None:
        found = self._writer.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return None if found is None else str(found[0])

    def _tell(self, key: str, value: str) -> None:
        self._writer.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Commit what is recorded and close the file."""
        try:
            self.commit()
        finally:
            self.reader.close()
            self._writer.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def boot_identity() -> str:
    """What tells this start of the machine from others; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _is_below(path: bytes, above: bytes) -> bool:
    return not above or path == above or path.startswith(above + b"/")


def _file_record(_cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> FileRecord:
    return FileRecord._make(row)


_as_record = partial(tuple.__new__, FileRecord)

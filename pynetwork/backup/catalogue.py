"""What a destination holds, in one SQLite file: every file with its facts and digest, every run, every change.

The catalogue makes backups quick and lets a mirror be verified offline, but nothing depends on it alone: a file that it
does not know is compared by content with what is there, so a lost catalogue costs reading, not moving. What was not
brought to the disk before the machine stopped is compared by content too: `Catalogue.flushed` marks what was.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from handshakes.errors import PynetworkError
from handshakes.paths import from_bytes, to_bytes
from handshakes.survey import FolderRow

__all__ = ["Catalogue", "CatalogueTooNew", "FileRecord", "FolderRecord", "HeldRecord", "RunRecord", "State"]

VERSION: Final = 1
_BATCH: Final = 4000
_UNTIL_COMMIT: Final = 2.0

_SCHEMA: Final = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE folders (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, facts BLOB NOT NULL, device INTEGER NOT NULL, gone INTEGER);
CREATE TABLE files (
    folder INTEGER NOT NULL, name BLOB NOT NULL, facts BLOB NOT NULL, state INTEGER NOT NULL, place BLOB,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
    digest BLOB, target BLOB, run INTEGER NOT NULL, gone INTEGER, PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE INDEX files_by_inode ON files (inode);
CREATE TABLE held (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
    folder INTEGER NOT NULL, name BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE unfinished (place BLOB PRIMARY KEY, run INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL, gateway TEXT NOT NULL, share TEXT NOT NULL,
    outcome TEXT NOT NULL, figures TEXT NOT NULL);
CREATE TABLE changes (
    run INTEGER NOT NULL, path BLOB NOT NULL, change TEXT NOT NULL, size INTEGER NOT NULL, digest BLOB);
CREATE INDEX changes_by_run ON changes (run);
"""


class CatalogueTooNew(PynetworkError):
    """The destination was written by a later version, which this one can't continue."""


class State:
    """How far a file's record can be believed."""

    SETTLED: Final = 0
    """A change since then would show in the facts."""
    UNSETTLED: Final = 1
    """It had been changed just before it was surveyed, or while it was read: what is there may have changed since."""
    UNFLUSHED: Final = 2
    """The machine stopped before the data was surely on the disk: what is here must be read to be believed."""


class FileRecord(NamedTuple):
    """A file as it was backed up. ``facts``: those of the source, in wire form; ``size``, ``mtime_ns``: of what is
    here; ``place``: its name here where that is another; ``target``: where it leads if it is a symbolic link, which has
    no digest.
    """

    name: bytes
    facts: bytes
    state: int
    place: bytes | None
    size: int
    mtime_ns: int
    device: int
    inode: int
    digest: bytes | None
    target: bytes | None
    run: int
    gone: int | None


class FolderRecord(NamedTuple):
    """A folder of the source."""

    id: int
    path: bytes
    facts: bytes
    device: int
    gone: int | None


class HeldRecord(NamedTuple):
    """Content that was replaced in this run, and may be wanted under another name."""

    digest: bytes
    size: int
    device: int
    inode: int
    folder: int
    name: bytes


class RunRecord(NamedTuple):
    """One run. ``began`` and ``ended``: seconds since 1970; ``outcome``: running, complete, interrupted or a reason."""

    id: int
    began: float
    ended: float | None
    gateway: str
    share: str
    outcome: str
    figures: dict[str, Any]


_FILE: Final = ", ".join(FileRecord._fields)
_FOLDER: Final = ", ".join(FolderRecord._fields)
_RECORD: Final = (
    f"INSERT OR REPLACE INTO files (folder, {_FILE}) VALUES ({', '.join('?' * (len(FileRecord._fields) + 1))})"
)


class Catalogue:
    """The catalogue at ``path``, made if need be. One that is damaged is set aside, beside its place, and begun anew:
    ``set_aside`` is where it is then.

    One thread reads and lays out runs; `record` and `hold` may be called from many. Raises `CatalogueTooNew`, and
    `sqlite3.Error` and `OSError` when nothing can be written there.
    """

    def __init__(self, path: Path, *, boot: str | None = None, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.set_aside: Path | None = None
        self.run = 0
        self._clock = clock
        self._boot = boot_identity() if boot is None else boot
        self._lock = threading.Lock()
        self._pending: list[tuple[Any, ...]] = []
        self._changes: list[tuple[Any, ...]] = []
        self._committed = time.monotonic()
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise
            self._set_aside()
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
            self._prepare(writer)
        except BaseException:
            writer.close()
            raise
        self._writer = writer

    def _prepare(self, writer: sqlite3.Connection) -> None:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA synchronous=NORMAL")
        version = writer.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise CatalogueTooNew(f"{self.path} was written by a later version of pynetwork; use that one")
        if version == 0:
            writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        damage = writer.execute("PRAGMA quick_check(1)").fetchone()[0] if self._was_left_open(writer) else "ok"
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)

    def _was_left_open(self, writer: sqlite3.Connection) -> bool:
        """Whether the last run did not end as it should."""
        row = writer.execute("SELECT outcome FROM runs ORDER BY id DESC LIMIT 1").fetchone()
        return row is not None and row[0] == "running"

    def _set_aside(self) -> None:
        self.set_aside = self.path.with_name(f"{self.path.name}.damaged-{uuid.uuid4().hex[:8]}")
        os.replace(self.path, self.set_aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")

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
            self._writing().execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?)", held)
            self._commit()

    def begin_file(self, place: str) -> None:
        """A partial file is begun at this place."""
        with self._lock:
            self._writing().execute("INSERT OR REPLACE INTO unfinished VALUES (?, ?)", (to_bytes(place), self.run))
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

    def folder_path(self, folder: int) -> bytes:
        """The path of a folder by its number."""
        found = self.reader.execute("SELECT path FROM folders WHERE id = ?", (folder,)).fetchone()
        return bytes(found[0])

    # Files

    def files(self, folder: int) -> Iterator[FileRecord]:
        """The files of a folder in the order of their names, as they were when this was called first."""
        cursor = self.reader.cursor()
        cursor.row_factory = _file_record
        return cursor.execute(f"SELECT {_FILE} FROM files WHERE folder = ? ORDER BY name", (folder,))

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
            (folder, stem, stem + b"\xff"),
        )
        return [FileRecord(*row) for row in rows]

    def held(self) -> list[HeldRecord]:
        """The content that earlier names of files had."""
        return [HeldRecord(*row) for row in self.reader.execute("SELECT * FROM held")]

    def forget_held(self) -> None:
        """Nothing is held any more."""
        with self._lock:
            self._writing().execute("DELETE FROM held")
            self._commit()

    def unfinished(self) -> list[str]:
        """The places where a partial file was begun and has not ended."""
        return [from_bytes(row[0]) for row in self.reader.execute("SELECT place FROM unfinished")]

    def mark_gone(self, folder: int, names: list[bytes]) -> None:
        """These are not at the source any more."""
        with self._lock:
            self._writing().executemany(
                "UPDATE files SET gone = ? WHERE folder = ? AND name = ? AND gone IS NULL",
                [(self.run, folder, name) for name in names],
            )

    def mark_folder_gone(self, path: bytes) -> int:
        """This folder, and what is below it, is not at the source any more; answers how many files that are."""
        below = path + b"/"
        with self._lock:
            writer = self._writing()
            found = writer.execute(
                "SELECT id FROM folders WHERE (path = ? OR (path >= ? AND path < ?)) AND gone IS NULL",
                (path, below, below + b"\xff"),
            ).fetchall()
            count = 0
            for (folder,) in found:
                count += writer.execute(
                    "UPDATE files SET gone = ? WHERE folder = ? AND gone IS NULL", (self.run, folder)
                ).rowcount
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

    def gone_files(self) -> Iterator[tuple[bytes, int, FileRecord]]:
        """Folder path, folder and record of what is not at the source any more."""
        rows = self.reader.execute(
            f"SELECT (SELECT path FROM folders WHERE id = folder), folder, {_FILE} FROM files WHERE gone IS NOT NULL"
        ).fetchall()
        for row in rows:
            yield row[0], row[1], FileRecord(*row[2:])

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


def _file_record(_cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> FileRecord:
    return FileRecord._make(row)

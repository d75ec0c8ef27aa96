"""The store's file: its tables, whether it is one, and what SQLite's errors mean here.

Tables, in one SQLite file in WAL mode:

- ``journal``: small puts as they came, one row for each commit. They are in memory too, until they are folded.
- ``block`` and ``content``: up to some thousands of records side by side, in the order of their full keys. The first
  holds what is known of them (see `pynetwork.series.engine.zones`), the second their bytes, with a digest. A content
  that no row of ``block`` names is not there for anybody.
- ``gone``: which records of a block were replaced or have expired since it was written.
- ``unseen``: contents that no block names, either yet or any more. They are removed by and by.
- ``state``: single numbers, such as the time up to which acquisition times may have been given.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from handshakes.errors import ConfigurationError, PynetworkError

__all__ = ["FIGURES", "FORMAT", "PAGE", "StoreDamaged", "connect", "made_folder", "named", "prepare", "translated"]

FORMAT: Final = 1
"""Version of the layout on disk, in the file's ``user_version``."""

PAGE: Final = 16384
"""Bytes of a page: the larger, the faster the bulk, the smaller, the less a single put writes."""

_WORKING_FILES: Final = 64 << 10

_APPLICATION: Final = 0x70795453
_LOG: Final = 128 << 20

FIGURES: Final = (
    "id", "run", "count", "width", "bytes", "base",
    "cid_min", "cid_max", "mid_min", "mid_max", "moid_min", "moid_max", "cap_min", "cap_max", "acq_min", "acq_max",
)  # fmt: skip
"""What is known of a block, all integers: see `pynetwork.series.engine.zones`."""

_SCHEMA: Final = f"""
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (
    id INTEGER PRIMARY KEY, count INTEGER NOT NULL, width INTEGER NOT NULL, digest INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE TABLE block (id INTEGER PRIMARY KEY, {", ".join(f"{name} INTEGER NOT NULL" for name in FIGURES[1:])});
CREATE TABLE content (id INTEGER PRIMARY KEY, digest INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE gone (id INTEGER PRIMARY KEY, places BLOB NOT NULL);
CREATE TABLE unseen (id INTEGER PRIMARY KEY);
"""


class StoreDamaged(PynetworkError):
    """What stands in the store's file can't be read any more. Go back to a backup."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time; each commit is on the disk when it returns."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        # It is this process alone that checkpoints, and in a thread of its own.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        # What a very large put leaves of the log is given back when the log is used again.
        connection.execute(f"PRAGMA journal_size_limit={_LOG}")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, if need be. Raises `ConfigurationError` when this is no store, or one of a later version."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and application != _APPLICATION:
        raise ConfigurationError(f"{str(path)!r} is an SQLite file, but no store of pynetwork; take another folder")
    if version > FORMAT:
        raise ConfigurationError(
            f"the store {str(path.parent)!r} has format {version}, this version of pynetwork reads up to {FORMAT}; "
            "use the version that wrote it, or a later one"
        )
    if empty:
        connection.execute(f"PRAGMA page_size={PAGE}")
    if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise ConfigurationError(f"the file system of {str(path.parent)!r} can't hold a store; take a local one")
    if empty:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id={_APPLICATION}; PRAGMA user_version={FORMAT}; COMMIT;"
            )


def made_folder(folder: Path) -> None:
    """Make the folder of a store, if need be. Raises `ConfigurationError` for what is a file, and `OSError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"{str(folder)!r} is a file, or within one, and a store is a folder; take another name"
        ) from error


def named(error: StoreDamaged, what: str) -> StoreDamaged:
    """``error``, which says that it is about ``what``, and what to do."""
    return StoreDamaged(f"{what} is damaged: {error}; go back to a backup of it")


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite says as `OSError` (``errno`` ENOSPC or EIO) or `StoreDamaged`."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        folder = str(path.parent)
        if "full" in text or ("disk I/O" in text and _is_full(path.parent)):
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}: this was not done, and what was there stays; make room on that disk",
                folder,
            ) from error
        if type(error) is sqlite3.DatabaseError or "malformed" in text or "no such" in text:
            raise StoreDamaged(f"the store {folder!r} is damaged ({text}); go back to a backup of it") from error
        if isinstance(error, sqlite3.OperationalError):
            raise OSError(errno.EIO, f"SQLite says {text!r}", folder) from error
        raise


def _is_full(folder: Path) -> bool:
    """Whether there is no room even for what SQLite works with, of which it says no more than that something failed."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _WORKING_FILES
    return False

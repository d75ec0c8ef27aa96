"""The catalogue's file: its tables, whether it is one, and what becomes of one that is damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from pathlib import Path
from typing import Final

from handshakes.errors import PynetworkError

__all__ = ["VERSION", "CatalogueDamaged", "CatalogueTooNew", "is_damage", "prepare", "set_aside"]

VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE folders (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, facts BLOB NOT NULL, device INTEGER NOT NULL, gone INTEGER,
    place BLOB);
CREATE TABLE files (
    folder INTEGER NOT NULL, name BLOB NOT NULL, facts BLOB NOT NULL, state INTEGER NOT NULL, place BLOB,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
    digest BLOB, target BLOB, run INTEGER NOT NULL, gone INTEGER, PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE INDEX files_by_inode ON files (inode);
CREATE TABLE held (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
    folder INTEGER NOT NULL, name BLOB NOT NULL, kept INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE unfinished (
    place BLOB PRIMARY KEY, run INTEGER NOT NULL, folder INTEGER NOT NULL, name BLOB NOT NULL,
    device INTEGER NOT NULL, inode INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, began REAL NOT NULL, ended REAL, gateway TEXT NOT NULL, share TEXT NOT NULL,
    outcome TEXT NOT NULL, figures TEXT NOT NULL);
CREATE TABLE changes (
    run INTEGER NOT NULL, path BLOB NOT NULL, change TEXT NOT NULL, size INTEGER NOT NULL, digest BLOB);
CREATE INDEX changes_by_run ON changes (run);
"""


_TABLES: Final = ("about", "folders", "files", "held", "unfinished", "runs", "changes")
# What SQLite says of a file that is none of its own, besides its error for that, or that is somebody else's.
_DAMAGE: Final = ("malformed", "no such table", "no such column", "has no column", "already exists")


class CatalogueTooNew(PynetworkError):
    """The destination was written by a later version, which this one can't continue."""


class CatalogueDamaged(PynetworkError):
    """What the catalogue says can't be read any more. A backup begins a new one."""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, if need be, and see whether they can be relied on.

    Raises `CatalogueTooNew` and `sqlite3.Error`.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise CatalogueTooNew(f"{path} was written by a later version of pynetwork; use that one")
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
    for table in _TABLES:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1")
    last = connection.execute("SELECT outcome FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    if last is not None and last[0] == "running":
        # It did not end as it should.
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)


def is_damage(error: BaseException) -> bool:
    """Whether this is what SQLite says of a file that is no catalogue, or not any more."""
    if isinstance(error, sqlite3.OperationalError):
        return any(words in str(error) for words in _DAMAGE)
    return type(error) in (sqlite3.DatabaseError, sqlite3.InternalError)


def set_aside(path: Path) -> Path:
    """Let a damaged catalogue have another name, so that a new one can be begun; answers with it."""
    aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside

"""SQLite: a row for each record, in the order of the full key."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from handshakes.records import Key, KeyRange
from tools.bench.peers.rows import array_of, conditions
from tools.bench.sensors import Array
from tools.bench.workloads.series_store import Store, StoreSides

__all__ = ["Rows"]

_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)"


class Rows(StoreSides):
    """Without a rowid, as its documentation has it for a primary key of several columns and small rows."""

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Store]:
        """With a write-ahead log, flushed at each commit, and memory for the whole table."""
        with contextlib.closing(sqlite3.connect(folder / "records.sqlite", isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA cache_size = -262144")
            database.execute(
                "CREATE TABLE IF NOT EXISTS records (cid INTEGER, mid INTEGER, moid INTEGER, cap INTEGER, "
                "acq INTEGER, payload BLOB, PRIMARY KEY (cid, mid, moid, cap, acq)) WITHOUT ROWID"
            )
            yield _Records(database)


class _Records(Store):
    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, rows: Array) -> None:
        """One transaction, in the order of the key."""
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(_INSERT, sorted(rows.tolist()))
        self._database.execute("COMMIT")

    def put_one(self, key: Key, payload: bytes) -> None:
        """A transaction of its own."""
        self._database.execute(_INSERT, (*key, payload))

    def get(self, box: KeyRange) -> Array:
        """Row by row."""
        where, values = conditions(box)
        return array_of(self._database.execute(f"SELECT * FROM records{where}", values))  # noqa: S608  names of fields alone

"""Blocks of records as rows of raw bytes in SQLite, with the least and the greatest of every field beside them.

Written straight, in one transaction, to a write-ahead log that is flushed. Nothing is replaced, nothing is sorted
unless it is asked for, and there is one caller.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy

from handshakes.records import FIELDS, GREATEST, LEAST, Key, KeyRange, row_type
from tools.bench.sensors import WIDTH, Array
from tools.bench.workloads.series_store import Store, StoreSides

__all__ = ["AsTheyCome", "BySeries"]

_TYPE: Final = row_type(WIDTH)
_RECORD: Final = struct.Struct(f"<iqiqq{WIDTH}s")
_BLOCK: Final = 8192
_SIZE: Final = _BLOCK * _TYPE.itemsize
_LIMITS: Final = [f"{name}_{which}" for name in FIELDS for which in ("min", "max")]
_SCHEMA: Final = f"""
    CREATE TABLE content (id INTEGER PRIMARY KEY, data BLOB);
    CREATE TABLE zone (id INTEGER PRIMARY KEY, {", ".join(f"{each} INTEGER" for each in _LIMITS)}, count INTEGER);
    CREATE TABLE single (id INTEGER PRIMARY KEY, data BLOB);
"""
_NEW_ZONE: Final = f"INSERT INTO zone VALUES (?{', ?' * (len(_LIMITS) + 1)})"  # noqa: S608  so many question marks


class _Sides(StoreSides):
    """``arranged`` answers the order in which records are to lie, or None."""

    def __init__(self, arranged: Callable[[Array], Array | None]) -> None:
        self._arranged = arranged

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Store]:
        """One file."""
        path = folder / "blocks.sqlite"
        new = not path.exists()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            if new:
                database.execute("PRAGMA page_size = 16384")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            if new:
                database.executescript(_SCHEMA)
            yield _Blocks(database, self._arranged)


class _Blocks(Store):
    """The zones of all blocks are in memory."""

    def __init__(self, database: sqlite3.Connection, arranged: Callable[[Array], Array | None]) -> None:
        self._database = database
        self._arranged = arranged
        self._log_holds_blocks = False
        found = database.execute("SELECT * FROM zone ORDER BY id").fetchall()
        self._zones = numpy.array(found, numpy.int64).reshape(-1, len(_LIMITS) + 2)
        self._singles = bytearray().join(data for (data,) in database.execute("SELECT data FROM single ORDER BY id"))

    def put(self, rows: Array) -> None:
        """One transaction."""
        self._database.execute("PRAGMA wal_autocheckpoint = 0")
        plain = rows.view(f"V{_TYPE.itemsize}")
        order = self._arranged(rows)
        if order is not None:
            plain = plain[order]
        starts = numpy.arange(0, len(rows), _BLOCK)
        zones = numpy.empty((len(starts), len(_LIMITS) + 2), numpy.int64)
        first = len(self._zones)
        zones[:, 0] = numpy.arange(first, first + len(starts))
        for place, name in enumerate(FIELDS):
            column = numpy.ascontiguousarray(plain.view(_TYPE)[name])
            zones[:, 1 + 2 * place] = numpy.minimum.reduceat(column, starts)
            zones[:, 2 + 2 * place] = numpy.maximum.reduceat(column, starts)
        zones[:, -1] = numpy.diff(starts, append=len(rows))
        data = plain.view(numpy.uint8).data
        blocks = ((first + place, data[at : at + _SIZE]) for place, at in enumerate(range(0, len(data), _SIZE)))
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("INSERT INTO content VALUES (?, ?)", blocks)
        self._database.executemany(_NEW_ZONE, zones.tolist())
        self._database.execute("COMMIT")
        self._zones = numpy.concatenate([self._zones, zones])
        self._log_holds_blocks = True

    def put_one(self, key: Key, payload: bytes) -> None:
        """One row. From the first one on the log is written over, which is flushed faster than one that grows."""
        if self._log_holds_blocks:
            self._database.execute("PRAGMA wal_checkpoint(RESTART)")
            self._database.execute("PRAGMA wal_autocheckpoint = 1000")
            self._log_holds_blocks = False
        data = _RECORD.pack(*key, payload)
        self._database.execute("INSERT INTO single (data) VALUES (?)", (data,))
        self._singles += data

    def get(self, box: KeyRange) -> Array:
        """Blocks that lie in the box are copied as they are; of others, what is in it."""
        bounds = [
            (place, name, least, most)
            for place, (name, least, most) in enumerate(zip(FIELDS, box.min, box.max, strict=True))
            if (least, most) != (getattr(LEAST, name), getattr(GREATEST, name))
        ]
        zones = self._zones
        touched, inside = numpy.ones((2, len(zones)), numpy.bool_)
        for place, _, least, most in bounds:
            low, high = zones[:, 1 + 2 * place], zones[:, 2 + 2 * place]
            touched &= (high >= least) & (low < most)
            inside &= (low >= least) & (high < most)
        singles = _cut(numpy.frombuffer(bytes(self._singles), _TYPE), bounds)
        found = numpy.empty(int(zones[touched, -1].sum()) + len(singles), singles.dtype)
        filled = 0
        for number, whole in zip(zones[touched, 0].tolist(), inside[touched].tolist(), strict=True):
            (data,) = self._database.execute("SELECT data FROM content WHERE id = ?", (number,)).fetchone()
            rows = numpy.frombuffer(data, found.dtype) if whole else _cut(numpy.frombuffer(data, _TYPE), bounds)
            found[filled : filled + len(rows)] = rows
            filled += len(rows)
        found[filled : filled + len(singles)] = singles
        return found[: filled + len(singles)].view(_TYPE)


def _cut(rows: Array, bounds: list[tuple[int, str, int, int]]) -> Array:
    """What is in the box, as plain bytes."""
    mask = numpy.ones(len(rows), numpy.bool_)
    for _, name, least, most in bounds:
        column = rows[name]
        mask &= (column >= least) & (column < most)
    return rows.view(f"V{_TYPE.itemsize}")[mask]


def _by_series(rows: Array) -> Array:
    return numpy.lexsort([numpy.ascontiguousarray(rows[name]) for name in ("cap", "moid", "mid", "cid")])


AsTheyCome = partial(_Sides, lambda _rows: None)
BySeries = partial(_Sides, _by_series)

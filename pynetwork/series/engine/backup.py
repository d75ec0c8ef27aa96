"""A copy of a store that is in use, as it was at one moment, read through before it gets its name."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from handshakes.errors import ConfigurationError
from pynetwork.series.engine.contents import decode, proved
from pynetwork.series.engine.database import FILE, Database
from pynetwork.series.engine.schema import FIGURES, StoreDamaged, made_folder, named, translated
from pynetwork.series.engine.zones import Figures, extents

__all__ = ["BackedUp", "back_up"]

_PAGES_AT_ONCE: Final = 1024


class BackedUp(NamedTuple):
    """Where the copy is, and the records and bytes of the file in it."""

    path: Path
    records: int
    bytes: int


def back_up(database: Database, folder: Path) -> BackedUp:
    """Copy the store to ``folder``, which becomes a store, while it is read and written; see that all can be read.

    Raises `ConfigurationError` when a store is there, or a file, `StoreDamaged` when the copy is not what it should be,
    and `OSError`.
    """
    place = folder / FILE
    if place.exists():
        raise ConfigurationError(f"there is a store in {str(folder)!r} already; take an empty folder for the backup")
    made_folder(folder)
    partial = folder / f"{FILE}.partial"
    partial.unlink(missing_ok=True)
    try:
        with translated(place):
            records = _copy(database, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, place)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush(folder)
    return BackedUp(folder, records, place.stat().st_size)


def _copy(database: Database, partial: Path) -> int:
    with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        with database.reading() as connection:
            # One transaction over all of it: a copy of what others change meanwhile would begin again and again.
            connection.execute("BEGIN")
            try:
                connection.execute("SELECT 1 FROM state").fetchall()
                connection.backup(copy, pages=_PAGES_AT_ONCE, sleep=0)
            finally:
                connection.execute("ROLLBACK")
        # A store's log would be left beside it.
        copy.execute("PRAGMA journal_mode=DELETE")
        return _check(copy, partial)


def _check(copy: sqlite3.Connection, partial: Path) -> int:
    """Read everything; how many records there are."""
    found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreDamaged(f"the copy {str(partial)!r} can't be read ({found}); the store itself may be damaged")
    records = copy.execute("SELECT TOTAL(count) FROM journal").fetchone()[0]
    for row in copy.execute("SELECT * FROM block").fetchall():
        figures = dict(zip(FIGURES, row, strict=True))
        try:
            _check_block(copy, figures)
        except StoreDamaged as error:
            what = f"block {figures['id']} of the store that was copied to {str(partial.parent)!r}"
            raise named(error, what) from error
        records += figures["count"]
    for (places,) in copy.execute("SELECT places FROM gone"):
        records -= len(places) // 4
    return int(records)


def _check_block(copy: sqlite3.Connection, figures: Figures) -> None:
    data = copy.execute("SELECT data, digest FROM content WHERE id = ?", (figures["id"],)).fetchone()
    if data is None:
        raise StoreDamaged("it is missing")
    block = decode(proved(*data), figures["count"], figures["width"], figures["base"])
    if not extents(block).items() <= figures.items():
        raise StoreDamaged("it is not what is known of it")


def _flush(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

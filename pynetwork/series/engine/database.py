"""The store's file, open: one connection that writes, some that read, and checkpoints of the log between them.

SQLite's own log, the file beside it, grows while it is written, and a file that grows takes longer to bring to the
disk than one that is written over. So it is not cut: once its content has been moved to the file, it is used again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from handshakes.errors import Closed
from handshakes.records import Block
from pynetwork.series.engine.contents import decode, proved
from pynetwork.series.engine.lock import StoreLock
from pynetwork.series.engine.schema import PAGE, StoreDamaged, connect, made_folder, named, prepare, translated
from pynetwork.series.engine.zones import Figures

__all__ = ["FILE", "Database"]

FILE: Final = "series.sqlite"

_CHECKPOINT_AFTER: Final = 16 << 20
_IDLE_READERS: Final = 8
_PATIENCE: Final = 100
_USUAL_PATIENCE: Final = 5000
"""Milliseconds."""


class Database:
    """The store in ``folder``, which is made if need be. ``undone``: the last transaction was, if it raised.

    Raises `StoreBusy`, `ConfigurationError`, `StoreDamaged` and `OSError`.
    """

    def __init__(self, folder: Path) -> None:
        made_folder(folder)
        self.path = folder / FILE
        self._lock = StoreLock(folder)
        self._process = os.getpid()
        self.writing = threading.RLock()
        self._readers: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._open = True
        self.unlogged = 0
        self.undone = True
        try:
            with translated(self.path), contextlib.ExitStack() as undo:
                self._writer = connect(self.path)
                undo.callback(self._writer.close)
                prepare(self._writer, self.path)
                undo.pop_all()
        except BaseException:
            self._lock.release()
            raise

    def check_open(self) -> None:
        """Raise `Closed` when it is closed, or this process was forked from the one that opened it."""
        if self._process != os.getpid():
            raise Closed(
                f"the store {str(self.path.parent)!r} was opened by process {self._process}, from which this one was "
                "forked; reach it through a SeriesServer there"
            )
        if not self._open:
            raise Closed(f"the store {str(self.path.parent)!r} is closed")

    # Writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done in here is on the disk when it is left, or not done at all. One at a time.

        Raises `OSError` when the disk is full or fails, and `Closed`. What the handler of a signal raises, as Ctrl-C
        does, may come when all is done: then it is not ``undone``.
        """
        with self.writing, translated(self.path):
            self.undone = True
            self.check_open()
            connection = self._writer
            before = connection.total_changes
            try:
                if connection.in_transaction:
                    # The last one was interrupted before it could be ended.
                    connection.execute("ROLLBACK")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                self.undone = False
                connection.execute("COMMIT")
            except BaseException as error:
                # A failed commit may have ended it already.
                self.undone |= connection.in_transaction or isinstance(error, sqlite3.Error)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self.unlogged += PAGE * (1 + connection.total_changes - before)

    @property
    def checkpoint_due(self) -> bool:
        """Whether the log has become so long that it should be moved to the file."""
        return self.unlogged > _CHECKPOINT_AFTER

    def checkpoint(self) -> None:
        """Move the log to the file: most of it while others write, then what they wrote meanwhile."""
        with self.reading() as connection, translated(self.path):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            with self.writing:
                # Readers that come now need the log no more; who still reads in it is waited for, but for a moment:
                # as long as one of them is left it can't be used again, and there is always another one.
                connection.execute(f"PRAGMA busy_timeout={_PATIENCE}").fetchall()
                try:
                    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
                finally:
                    connection.execute(f"PRAGMA busy_timeout={_USUAL_PATIENCE}").fetchall()
                self.unlogged = 0

    # Reading

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with, for a moment. Raises `Closed`."""
        with self._guard:
            self.check_open()
            connection = self._readers.pop() if self._readers else None
        if connection is None:
            with translated(self.path):
                connection = connect(self.path)
        try:
            yield connection
        finally:
            with self._guard:
                keep = self._open and len(self._readers) < _IDLE_READERS
                if keep:
                    self._readers.append(connection)
            if not keep:
                connection.close()

    def content(self, number: int) -> bytes:
        """The content of one block. Nothing of the file is held when it is there.

        Raises `StoreDamaged` where there is none, or its bytes are not those that were written, `OSError` and `Closed`.
        """
        with self.reading() as connection, translated(self.path):
            # All rows are fetched, though it is one: a statement before its end keeps the log from being used again.
            found = connection.execute("SELECT data, digest FROM content WHERE id = ?", (number,)).fetchall()
        if not found:
            raise StoreDamaged(f"{self._block_name(number)} is missing; go back to a backup of it")
        try:
            return proved(*found[0])
        except StoreDamaged as error:
            raise named(error, self._block_name(number)) from error

    def read(self, figures: Figures) -> Block:
        """The records of one block as they were written, also those that are gone."""
        data = self.content(figures["id"])
        try:
            return decode(data, figures["count"], figures["width"], figures["base"])
        except StoreDamaged as error:
            raise named(error, self._block_name(figures["id"])) from error

    def _block_name(self, number: int) -> str:
        return f"block {number} of the store {str(self.path.parent)!r}"

    def close(self) -> None:
        """Close the file. Reading and writing raise `Closed` from now on."""
        if self._process != os.getpid():
            # What SQLite has open is of no use in a fork, and others may have held any lock when it was made.
            self._lock.release()
            return
        with self.writing, self._guard:
            if not self._open:
                return
            self._open = False
            readers, self._readers = self._readers, []
        for connection in readers:
            connection.close()
        try:
            with translated(self.path):
                self._writer.close()
        finally:
            self._lock.release()

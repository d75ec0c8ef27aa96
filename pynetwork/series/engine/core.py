"""The store as its parts see it: the file, the current version of what is in it, and how one becomes the next."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy

from handshakes.errors import Closed
from handshakes.records import Array, Block, Ragged, Rows, joined, rows_of
from pynetwork.series.engine.contents import MOST_RECORDS, cuts, decode, digest, encode, proved
from pynetwork.series.engine.database import Database
from pynetwork.series.engine.horizon import Horizon
from pynetwork.series.engine.ordering import TILE, latest, order_of, tiled, where_equal
from pynetwork.series.engine.recent import Recent
from pynetwork.series.engine.schema import FIGURES, StoreDamaged, named
from pynetwork.series.engine.versions import Change, Version, Versions
from pynetwork.series.engine.zones import Figures, Zones, extents, figures_of

__all__ = ["Core", "without"]

_ADD_BLOCK: Final = f"INSERT INTO block VALUES ({', '.join('?' * len(FIGURES))})"  # noqa: S608 - question marks
_REMOVED_AT_ONCE: Final = 256
_FEW_WIDTHS: Final = 8


class Core:
    """The store in ``folder``. ``clock``: the time now, in nanoseconds since 2001. Safe in many threads."""

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        self.database = Database(folder)
        # Held by who replaces blocks by others of the same records, or removes old ones: one at a time.
        self.rearranging = threading.Lock()
        try:
            self._load(clock)
        except BaseException:
            self.database.close()
            raise

    def _load(self, clock: Callable[[], int]) -> None:
        with self.database.transaction() as connection:
            zones, gone, recent = self._what_is_there(connection)
            reserved = _reserved(connection)
            last = connection.execute("SELECT MAX(id) FROM content").fetchone()[0]
            unseen = [number for (number,) in connection.execute("SELECT id FROM unseen")]
        self.versions = Versions(zones, gone, recent, Horizon(clock, reserved))
        # What was staged when the store was last closed, or ended, and what was removed while it was being read.
        # It may be much, and the disk may be full: the store is opened all the same.
        self.versions.leave(unseen)
        self._last_number = last or 0
        self._last_run = int(zones.column("run").max()) if len(zones) else 0
        self._uncertain = False

    def _what_is_there(self, connection: sqlite3.Connection) -> tuple[Zones, dict[int, Array], Recent]:
        """What stands in the file: the blocks, what is gone of them, and the recent part."""
        zones = Zones(connection.execute("SELECT * FROM block ORDER BY id"))
        gone = {
            number: numpy.frombuffer(places, "<i4")
            for number, places in connection.execute("SELECT id, places FROM gone")
        }
        rows = connection.execute("SELECT data, digest, count, width FROM journal ORDER BY id").fetchall()
        recent = Recent()
        if rows:
            try:
                blocks = [decode(proved(data, known), *sizes) for data, known, *sizes in rows]
            except StoreDamaged as error:
                raise named(error, f"the journal of the store {str(self.database.path.parent)!r}") from error
            # A later put replaces what it repeats, here as when it came.
            recent.add(latest(joined(blocks)))
        return zones, gone, recent

    def _load_again(self) -> None:
        """Let memory hold what stands on the disk."""
        with self.database.transaction() as connection:
            there, reserved = self._what_is_there(connection), _reserved(connection)
        self.versions.renew(*there, reserved)
        self._uncertain = False

    # Changing

    @contextlib.contextmanager
    def changing(self) -> Iterator[tuple[sqlite3.Connection, Change]]:
        """A transaction, and the change that it makes, to be filled: both are there for all when it is left, or not at
        all. Raises `OSError` when the disk is full or fails.
        """
        change = Change()
        with self.database.writing:
            if self._uncertain:
                self._load_again()
            try:
                with self.database.transaction() as connection:
                    yield connection, change
                    reserved = self._note(connection, change)
                self.versions.publish(change, reserved)
            except BaseException:
                if self.database.undone:
                    self.versions.failed()
                else:
                    # A Ctrl-C, or the like, came when the change was on the disk, and not or in part in memory.
                    self._uncertain = True
                    self._load_again()
                raise

    def _note(self, connection: sqlite3.Connection, change: Change) -> int | None:
        """Write all of ``change`` but the contents; the new reservation, if any."""
        if change.added:
            connection.executemany(_ADD_BLOCK, ([figures[name] for name in FIGURES] for figures in change.added))
        for statement in (
            "DELETE FROM block WHERE id = ?",
            "DELETE FROM gone WHERE id = ?",
            "INSERT INTO unseen VALUES (?)",
        ):
            if change.removed:
                connection.executemany(statement, ((number,) for number in change.removed))
        if change.gone:
            connection.executemany(
                "INSERT OR REPLACE INTO gone VALUES (?, ?)",
                ((number, places.astype("<i4").tobytes()) for number, places in change.gone.items()),
            )
        if change.folded:
            connection.execute("DELETE FROM journal")
        if change.journalled:
            block = joined(change.journalled)
            change.journalled = [block]
            data = encode(block)
            connection.execute(
                "INSERT INTO journal (count, width, digest, data) VALUES (?, ?, ?, ?)",
                (len(block), block.width, digest(data), data),
            )
        with self.versions.lock:
            reserved = self.versions.horizon.wanted()
        if reserved is not None:
            _reserve(connection, reserved)
        return reserved

    def write(
        self, connection: sqlite3.Connection, block: Block, order: Array | None, first: int | None = None
    ) -> list[Figures]:
        """Write ``block`` in ``order``, or as it is, which is that of `tiled`, as contents that no block names yet; the
        figures of the blocks. With ``first``, its records get the acq from there on, as they are without ``order``.
        """
        written = []
        for begin in range(0, len(block), TILE):
            self._last_run += 1
            for part in _parts(block, begin, min(begin + TILE, len(block)), order, first):
                self._last_number += 1
                data = encode(part)
                connection.execute("INSERT INTO content VALUES (?, ?, ?)", (self._last_number, digest(data), data))
                self.database.unlogged += part.nbytes
                written.append(figures_of(part, self._last_number, self._last_run))
        return written

    def stage(self, block: Block, order: Array | None, first: int | None = None) -> list[Figures]:
        """As `write`, in a transaction of its own: the contents are on the disk when this returns, until they are
        named or removed.
        """
        with self.database.transaction() as connection:
            written = self.write(connection, block, order, first)
            connection.executemany("INSERT INTO unseen VALUES (?)", ((figures["id"],) for figures in written))
        return written

    def name(self, connection: sqlite3.Connection, change: Change, staged: Sequence[Figures]) -> None:
        """Let ``change`` add what was staged, but for what it removes of it again."""
        connection.executemany("DELETE FROM unseen WHERE id = ?", ((figures["id"],) for figures in staged))
        change.added += [figures for figures in staged if figures["id"] not in change.removed]

    def fold(self, connection: sqlite3.Connection, change: Change, replaced: Array | None = None) -> None:
        """Move the recent part, without what is ``replaced``, into blocks."""
        with self.versions.lock:
            whole = self.versions.recent.whole()
        if replaced is not None:
            whole = without(whole, where_equal(whole.keys(), replaced))
        if len(whole):
            for same in _by_width(whole):
                same = same.take(order_of(same))
                change.added += self.write(connection, same, tiled(same))
        change.folded = True

    def repeats(self, block: Block, zones: Zones, change: Change, order: Array | None = None) -> None:
        """Find what stands in the blocks of ``zones`` under the keys of ``block``, and note in ``change`` that it is
        gone. It is quick where the block is, or is put by ``order``, in the order of `tiled`, as blocks are.
        """
        for begin in range(0, len(block), MOST_RECORDS):
            which = slice(begin, begin + MOST_RECORDS)
            part = block.take(which if order is None else order[which])
            extent, keys = extents(part), part.keys()
            for index in zones.overlapping(extent).tolist():
                figures = zones.figures(index)
                if figures["id"] in change.removed:
                    continue
                stored = self.database.read(figures)
                acq = stored.column("acq")
                likely = numpy.flatnonzero((acq >= extent["acq_min"]) & (acq <= extent["acq_max"]))
                places = likely[where_equal(stored.take(likely).keys(), keys)]
                self.lose(change, figures, places)

    def lose(self, change: Change, figures: Figures, places: Array) -> None:
        """Note in ``change`` that the records at ``places`` of a block are gone."""
        number = figures["id"]
        old = change.gone.get(number, self.versions.gone.get(number))
        places = places if old is None else numpy.union1d(old, places)
        if len(places) == figures["count"]:
            change.removed.add(number)
            change.gone.pop(number, None)
        elif len(places) > (0 if old is None else len(old)):
            change.gone[number] = places

    # Reading

    def hold(self) -> Version:
        """The current version with the horizon of now, to be released. Raises `Closed`."""
        self.database.check_open()
        version = self.versions.hold()
        while version is None:
            version = self.versions.hold(self._reserve())
        return version

    def _reserve(self) -> int | None:
        """Let the horizon go on. Where that can't be written, the one to answer instead: it is low, but true."""
        try:
            with self.database.transaction() as connection:
                with self.versions.lock:
                    reserved = self.versions.horizon.ahead()
                _reserve(connection, reserved)
        except OSError:
            return self.versions.horizon.reserved
        with self.versions.lock:
            self.versions.horizon.reserved = max(reserved, self.versions.horizon.reserved)
        return None

    def read(self, figures: Figures, gone: Array | None) -> Block:
        """The records of a block, without those that are ``gone``."""
        return without(self.database.read(figures), gone)

    # Upkeep

    def remove_unneeded(self) -> int:
        """Remove the contents that no reader can see any more from the file; how many. Raises `OSError` when the disk
        is full or fails.
        """
        numbers = self.versions.unneeded()
        self.discard(numbers)
        return len(numbers)

    def discard(self, numbers: Sequence[int]) -> None:
        """Remove contents that nobody sees, in steps that others need not wait for. What can't be removed now is by
        and by, or when the store is opened again.
        """
        for begin in range(0, len(numbers), _REMOVED_AT_ONCE):
            few = [(number,) for number in numbers[begin : begin + _REMOVED_AT_ONCE]]
            try:
                with self.database.transaction() as connection:
                    # Whoever was interrupted may not know that a block names it.
                    connection.executemany("DELETE FROM content WHERE id = (SELECT id FROM unseen WHERE id = ?)", few)
                    connection.executemany("DELETE FROM unseen WHERE id = ?", few)
            except BaseException:
                self.versions.leave(numbers[begin:])
                raise

    def close(self) -> None:
        """Write what the next opening goes on from, and close the file."""
        try:
            # Where it can't be written, what was reserved before will do, and what is left behind is removed then.
            with contextlib.suppress(OSError, Closed):
                with self.database.transaction() as connection, self.versions.lock:
                    _reserve(connection, self.versions.horizon.exact())
                self.remove_unneeded()
        finally:
            self.database.close()


def without(block: Block, gone: Array | None) -> Block:
    """``block`` without the records at the indices ``gone``."""
    if gone is None:
        return block
    kept = numpy.ones(len(block), numpy.bool_)
    kept[gone] = False
    return block.take(kept)


def _reserved(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT value FROM state WHERE name = 'reserved'").fetchone()
    return int(found[0]) if found else 0


def _reserve(connection: sqlite3.Connection, reserved: int) -> None:
    connection.execute("INSERT OR REPLACE INTO state VALUES ('reserved', ?)", (reserved,))


def _parts(block: Block, begin: int, end: int, order: Array | None, first: int | None) -> Iterator[Block]:
    """One tile of ``block``, cut for the disk. A part is put together when it is asked for: what is in the processor's
    memory then is still there when it is written.
    """
    if order is None:
        tile = block.take(slice(begin, end))
        for low, high in cuts(tile):
            part = tile.take(slice(low, high))
            yield part if first is None else part.with_acq(first + numpy.arange(begin + low, begin + high))
        return
    which = order[begin:end]
    for low, high in cuts(block, which):
        part = block.take(which[low:high])
        yield part if first is None else part.with_acq(first + which[low:high])


def _by_width(block: Block) -> list[Block]:
    """``block`` as few blocks whose payloads have one size each, or as it is where they have too many sizes."""
    if isinstance(block, Rows):
        return [block]
    sizes = block.sizes()
    widths = numpy.unique(sizes)
    if len(widths) > _FEW_WIDTHS:
        return [block]
    assert isinstance(block, Ragged)
    found = [(block.take(numpy.flatnonzero(sizes == width)), int(width)) for width in widths]
    return [rows_of(same.head, same.data, width) for same, width in found]

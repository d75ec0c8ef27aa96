"""Puts: what is checked before, what becomes of each in the transaction of the group it is committed with.

Small puts go to the journal as they come. Large ones are put into the order of their keys, by the thread that puts
them, and written as blocks.
"""

from __future__ import annotations

import operator
from sqlite3 import Connection
from typing import Final, NamedTuple

import numpy

from handshakes.errors import ValueNotSupported
from handshakes.records import FIELDS, GREATEST, Array, Block, joined
from handshakes.tstorage import check_sizes
from pynetwork.series.engine.committing import Committer
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.ordering import distinct, tiled
from pynetwork.series.engine.versions import Change
from pynetwork.series.engine.zones import greatest_acq

__all__ = ["NOTHING", "Acquired", "Put", "Putter", "addressable"]

_FEW: Final = 4
_SMALL_RECORDS: Final = 4096
_SMALL_BYTES: Final = 512 << 10
FOLD_RECORDS: Final = 65536
FOLD_BYTES: Final = 8 << 20
_FOLD_NOW: Final = 4


class Acquired(NamedTuple):
    """What a put was given: the least and the greatest time of acquisition, both -1 when it was told them or nothing
    was kept; how many records were kept, and how many dropped since no box can hold them.
    """

    acq_min: int
    acq_max: int
    kept: int
    dropped: int


NOTHING: Final = Acquired(-1, -1, 0, 0)


class Put:
    """Records to put, and afterwards what came of it. ``with_acq``: they have their times of acquisition.

    Raises as `addressable`.
    """

    def __init__(self, block: Block, *, with_acq: bool) -> None:
        kept = addressable(block, with_acq=with_acq)
        self.with_acq = with_acq
        self.dropped = len(block) - len(kept)
        self.count = len(kept)
        self.small = len(kept) < _SMALL_RECORDS and kept.nbytes < _SMALL_BYTES
        self.order: Array | None = None
        if with_acq:
            kept = distinct(kept)
        if not self.small:
            self.order = tiled(kept)
        self.block = kept
        self.outcome: Acquired | Exception = NOTHING

    def result(self) -> Acquired:
        """What came of it; raises what went wrong."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class _Stretch(NamedTuple):
    """Puts of one kind that followed one another, as one block."""

    puts: list[Put]
    block: Block
    with_acq: bool
    small: bool
    order: Array | None


class Putter:
    """Commits puts in groups. ``fold_due`` says that the recent part should be folded."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._committer: Committer[Put] = Committer(self._work)

    @property
    def fold_due(self) -> bool:
        """Whether so much is in the journal that it should be folded into blocks."""
        return self._due(1)

    def _due(self, times: int) -> bool:
        recent = self._core.versions.recent
        return recent.count >= times * FOLD_RECORDS or recent.bytes >= times * FOLD_BYTES

    def put(self, puts: list[Put]) -> None:
        """Return when every one of ``puts`` is durable and can be read, or its outcome says why not."""
        if puts:
            self._committer.commit(puts, sum(put.block.nbytes for put in puts))

    def _work(self, puts: list[Put]) -> None:
        waiting = _stretches(puts)[::-1]
        while waiting:
            taken: list[_Stretch] = []
            firsts: list[int] = []
            try:
                with self._core.changing() as (connection, change):
                    if self._due(_FOLD_NOW):
                        self._core.fold(connection, change)
                    while waiting and (change.empty or not self._may_repeat(waiting[-1], change)):
                        taken.append(waiting.pop())
                        firsts.append(self._store(connection, change, taken[-1]))
            except Exception as error:
                for stretch in taken or [waiting.pop()]:
                    for put in stretch.puts:
                        put.outcome = error
            else:
                for stretch, first in zip(taken, firsts, strict=True):
                    _tell(stretch, first)

    def _may_repeat(self, stretch: _Stretch, change: Change) -> bool:
        """Whether a record of ``stretch`` may have the key of one that is there, or comes with ``change``."""
        if not len(stretch.block):
            return False
        versions = self._core.versions
        added = (figures["acq_max"] for figures in change.added)
        greatest = max([versions.greatest, *added, *map(greatest_acq, change.journalled)])
        if stretch.with_acq:
            return int(stretch.block.column("acq").min()) <= greatest
        with versions.lock:
            return versions.horizon.upcoming() <= greatest

    def _store(self, connection: Connection, change: Change, stretch: _Stretch) -> int:
        """Let ``change`` hold the records of ``stretch``; the first acq they were given."""
        core, block = self._core, stretch.block
        if not len(block):
            return -1
        # Where there is something in it already, this was looked at before it was taken.
        repeats = change.empty and self._may_repeat(stretch, change)
        first: int | None = None
        if not stretch.with_acq:
            with core.versions.lock:
                first = core.versions.horizon.give(len(block))
        if (stretch.small or repeats) and first is not None:
            block = block.with_acq(first if len(block) == 1 else first + numpy.arange(len(block)))
        if repeats:
            self._replace(connection, change, block, stretch)
        if stretch.small:
            change.journalled.append(block)
        else:
            change.added += core.write(connection, block, stretch.order, None if repeats else first)
        return -1 if first is None else first

    def _replace(self, connection: Connection, change: Change, block: Block, stretch: _Stretch) -> None:
        """Take out what stands under the keys of ``block``, which is that of ``stretch``."""
        core, keys = self._core, block.keys()
        core.repeats(block, core.versions.zones, change, stretch.order)
        with core.versions.lock:
            repeated = core.versions.recent.repeated(keys)
        if repeated and stretch.small:
            change.replaced = keys
        elif repeated and not change.folded:
            # The journal is read again at the next opening, and knows nothing of what blocks replaced.
            core.fold(connection, change, keys)


def _stretches(puts: list[Put]) -> list[_Stretch]:
    found: list[_Stretch] = []
    together: list[Put] = []
    for put in puts:
        if together and (not put.small or put.with_acq != together[0].with_acq):
            found.append(_stretch(together))
            together = []
        together.append(put)
        if not put.small:
            found.append(_stretch(together))
            together = []
    return [*found, _stretch(together)] if together else found


def _stretch(puts: list[Put]) -> _Stretch:
    first = puts[0]
    if len(puts) == 1:
        return _Stretch(puts, first.block, first.with_acq, first.small, first.order)
    block = joined([put.block for put in puts])
    return _Stretch(puts, distinct(block) if first.with_acq else block, first.with_acq, first.small, None)


def _tell(stretch: _Stretch, first: int) -> None:
    for put in stretch.puts:
        if put.with_acq or not put.count:
            put.outcome = Acquired(-1, -1, put.count, put.dropped)
        else:
            put.outcome = Acquired(first, first + put.count - 1, put.count, put.dropped)
            first += put.count


def addressable(block: Block, *, with_acq: bool) -> Block:
    """``block`` without the records that no half-open box can hold, as a field has its type's greatest value.

    Raises `ValueNotSupported` when a cid is negative, `ValueTooLarge` for a payload that could not be got from a server
    again.
    """
    if not len(block):
        return block
    check_sizes(block)
    if len(block) <= _FEW:
        # Python is faster with a few integers than NumPy with their arrays.
        return _addressable_few(block, with_acq=with_acq)
    cid = block.column("cid")
    if int(cid.min()) < 0:
        at = int(numpy.argmax(cid < 0))
        raise _negative(at, int(cid[at]))
    kept: Array | None = None
    for name in FIELDS if with_acq else FIELDS[:-1]:
        column, most = block.column(name), getattr(GREATEST, name)
        if int(column.max()) == most:
            fits = column != most
            kept = fits if kept is None else kept & fits
    return block if kept is None else block.take(kept)


def _addressable_few(block: Block, *, with_acq: bool) -> Block:
    fields = len(FIELDS) if with_acq else len(FIELDS) - 1
    lost = []
    for at, key in enumerate(block.keys().tolist()):
        if key[0] < 0:
            raise _negative(at, key[0])
        if any(map(operator.eq, key[:fields], GREATEST)):
            lost.append(at)
    return block.take(numpy.delete(numpy.arange(len(block)), lost)) if lost else block


def _negative(at: int, cid: int) -> ValueNotSupported:
    return ValueNotSupported(f"record {at} has the cid {cid}; a cid is 0 or greater")

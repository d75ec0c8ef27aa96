"""Puts that do not fit into memory: their blocks are written as they come, seen by nobody, and named all at once."""

from __future__ import annotations

import contextlib
import itertools
from types import TracebackType
from typing import Final

from handshakes.errors import Closed, LocalProtocolError
from handshakes.records import Block, joined
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.ordering import TILE, distinct, tiled
from pynetwork.series.engine.putting import Acquired, Put, Putter, addressable
from pynetwork.series.engine.versions import Change
from pynetwork.series.engine.zones import Figures

__all__ = ["Staging"]

_HELD_BYTES: Final = 4 << 20
_HELD_RECORDS: Final = TILE


class Staging:
    """A put that is given block by block; ``with_acq``: the records have their times of acquisition. A context
    manager, which aborts what was not committed.

    Nothing of it is there for anybody until `commit`, then all is. Memory: some MiB, however much is put.
    """

    def __init__(self, core: Core, putter: Putter, *, with_acq: bool) -> None:
        self._core = core
        self._putter = putter
        self._with_acq = with_acq
        self._held: list[Block] = []
        self._held_bytes = self._held_records = 0
        self._spilled: list[list[Figures]] = []
        self._count = self._dropped = 0
        self._over = False
        self._lacking = False

    def add(self, block: Block) -> None:
        """Put these too. ``block`` is not changed afterwards.

        Raises as `addressable`, and `OSError` when the disk is full; only `abort` is left then.
        """
        self._check_open()
        self._lacking = True
        kept = addressable(block, with_acq=self._with_acq)
        self._dropped += len(block) - len(kept)
        if len(kept):
            self._held.append(kept)
            self._held_bytes += kept.nbytes
            self._held_records += len(kept)
        if self._held_bytes >= _HELD_BYTES or self._held_records >= _HELD_RECORDS:
            self._spill()
        self._lacking = False

    def commit(self) -> Acquired:
        """Return when all of it is durable and can be read. Raises `OSError` when the disk is full or fails."""
        self._check_open()
        if not self._spilled:
            put = Put(joined(self._held), with_acq=self._with_acq)
            self._putter.put([put])
            acquired = put.result()
            self._over = True
            return acquired._replace(dropped=self._dropped)
        self._spill()
        core = self._core
        with core.database.writing:
            # The journal knows nothing of what blocks replace in it, so nothing is left in it.
            with core.changing() as (connection, change):
                core.fold(connection, change)
            with core.changing() as (connection, change):
                first = self._give(change)
                core.name(connection, change, self._staged)
        self._over = True
        last = -1 if self._with_acq else first + self._count - 1
        return Acquired(first, last, self._count, self._dropped)

    def abort(self) -> None:
        """Nothing was put. Does nothing after `commit`."""
        if not self._over:
            self._over = True
            self._held.clear()
            # What can't be removed now is when the store is opened again.
            with contextlib.suppress(OSError, Closed):
                self._core.discard([figures["id"] for figures in self._staged])

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    @property
    def _staged(self) -> list[Figures]:
        return list(itertools.chain.from_iterable(self._spilled))

    def _check_open(self) -> None:
        if self._over:
            raise LocalProtocolError("this put was committed or aborted; stage another")
        if self._lacking:
            raise LocalProtocolError("a part of this put could not be added; abort it, and stage another")

    def _spill(self) -> None:
        """Write what is held. Acquisition times are not known yet: they count from the put's first."""
        if not self._held:
            return
        block = joined(self._held)
        if self._with_acq:
            block = distinct(block)
        self._spilled.append(self._core.stage(block, tiled(block), None if self._with_acq else self._count))
        self._count += self._held_records
        self._held = []
        self._held_bytes = self._held_records = 0

    def _give(self, change: Change) -> int:
        """Give acquisition times to all that is staged, and take out what it replaces; the first of them."""
        core, first = self._core, -1
        if not self._with_acq:
            with core.versions.lock:
                first = core.versions.horizon.give(self._count)
            for figures in self._staged:
                # From where it stands: a commit that failed may be tried again.
                more = first - figures["base"]
                figures["base"] = first
                figures["acq_min"] += more
                figures["acq_max"] += more
        self._replace(change)
        return first

    def _replace(self, change: Change) -> None:
        """Let ``change`` take out what stands under the keys of what is staged, also earlier in this put."""
        core = self._core
        greatest, zones = core.versions.greatest, core.versions.zones
        for written in self._spilled:
            for figures in written:
                if figures["acq_min"] <= greatest and len(zones.overlapping(figures)):
                    core.repeats(core.database.read(figures), zones, change)
            if self._with_acq:
                # Those that were given just now are all different.
                greatest = max(greatest, *(figures["acq_max"] for figures in written))
                zones = zones.adding(written)

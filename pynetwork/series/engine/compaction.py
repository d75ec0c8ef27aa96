"""Merging short runs of blocks into whole tiles, and taking the room of what was replaced or has expired.

What is merged is written beside what is there, seen by nobody, and takes its place in one transaction. A crash before
leaves everything as it was.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy

from handshakes.errors import Closed
from handshakes.records import Array, Block, joined
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.ordering import TILE, order_of, tiled
from pynetwork.series.engine.versions import Version
from pynetwork.series.engine.zones import Figures, Zones

__all__ = ["Compaction"]

_SHORT_RECORDS: Final = TILE // 2
_SHORT_BYTES: Final = 2 << 20
_TOGETHER: Final = 8
_MOST_BYTES: Final = 16 << 20
"""Bytes that are merged at once, in memory, beside a run that is longer by itself."""

Run = list[Figures]


class Compaction:
    """Merges runs of the store. ``stopping``: whether to leave off."""

    def __init__(self, core: Core, stopping: Callable[[], bool]) -> None:
        self._core = core
        self._stopping = stopping
        self._looked_at: Zones | None = None
        self._due = False

    def due(self) -> bool:
        """Whether so many short runs have come together that merging them pays."""
        zones = self._core.versions.zones
        if zones is not self._looked_at:
            self._looked_at = zones
            self._due = any(len(runs) >= _TOGETHER for runs in _short(zones).values())
        return self._due

    def step(self) -> int:
        """Merge the short runs, if that is `due`; how many blocks there are less."""
        with self._core.rearranging, self._holding() as version:
            many = {width: runs for width, runs in _short(version.zones).items() if len(runs) >= _TOGETHER}
            return self._merge_all(version, many)

    def all(self) -> int:
        """Merge all short runs, and those that lost records; how many blocks there are less."""
        with self._core.rearranging, self._holding() as version:
            zones = version.zones
            lost = zones.column("run")[numpy.isin(zones.column("id"), list(version.gone))]
            return self._merge_all(version, _short(zones, set(lost.tolist())))

    @contextlib.contextmanager
    def _holding(self) -> Iterator[Version]:
        """A version whose blocks stay on the disk, whatever is replaced meanwhile."""
        version = self._core.hold()
        try:
            yield version
        finally:
            self._core.versions.release(version)

    def _merge_all(self, version: Version, chosen: Mapping[int, list[int]]) -> int:
        fewer = 0
        for runs in chosen.values():
            for group in _groups(version, runs):
                if self._stopping():
                    return fewer
                fewer += self._merge(group, version.gone)
        return fewer

    def _merge(self, old: Run, seen: Mapping[int, Array]) -> int:
        core, written = self._core, Run()
        try:
            block = joined([core.read(figures, seen.get(figures["id"])) for figures in old])
            block = block.take(order_of(block))
            written = core.stage(block, tiled(block))
            self._replace(old, written, seen)
        except BaseException:
            # What can't be removed now is when the store is opened again.
            with contextlib.suppress(OSError, Closed):
                core.discard([figures["id"] for figures in written])
            raise
        return len(old) - len(written)

    def _replace(self, old: Run, written: Run, seen: Mapping[int, Array]) -> None:
        """Let the blocks ``written`` take the place of the ``old`` ones, as they were read when ``seen`` were gone."""
        core = self._core
        with core.changing() as (connection, change):
            there = set(core.versions.zones.column("id").tolist())
            zones = Zones().adding(written)
            for figures in old:
                block = self._lost(figures, seen, there)
                if block is not None:
                    core.repeats(block, zones, change)
            change.removed.update(figures["id"] for figures in old if figures["id"] in there)
            core.name(connection, change, written)

    def _lost(self, figures: Figures, seen: Mapping[int, Array], there: set[int]) -> Block | None:
        """The records of an old block that were replaced since it was read."""
        number = figures["id"]
        then, now = seen.get(number), self._core.versions.gone.get(number)
        if number not in there:
            now = numpy.arange(figures["count"])
        if now is None or now is then:
            return None
        lost = now if then is None else numpy.setdiff1d(now, then)
        return self._core.database.read(figures).take(lost) if len(lost) else None


def _short(zones: Zones, others: frozenset[int] | set[int] = frozenset()) -> dict[int, list[int]]:
    """The numbers of the short runs, and of ``others``, by the bytes of their payloads; the oldest first."""
    found: dict[int, list[int]] = defaultdict(list)
    if not len(zones):
        return found
    runs, places, which = numpy.unique(zones.column("run"), return_index=True, return_inverse=True)
    counts, sizes = (numpy.bincount(which, zones.column(name)) for name in ("count", "bytes"))
    chosen = (counts < _SHORT_RECORDS) & (sizes < _SHORT_BYTES) | numpy.isin(runs, list(others))
    places = places[chosen]
    order = numpy.argsort(zones.column("cap_min")[places], kind="stable")
    widths = zones.column("width")[places][order].tolist()
    for run, width in zip(runs[chosen][order].tolist(), widths, strict=True):
        found[width].append(run)
    return found


def _groups(version: Version, runs: list[int]) -> Iterator[Run]:
    """The blocks of ``runs``, as many runs together as make up a tile. What would stay as it is is left out."""
    zones = version.zones
    blocks: dict[int, Run] = {run: [] for run in runs}
    for place in numpy.flatnonzero(numpy.isin(zones.column("run"), runs)).tolist():
        figures = zones.figures(place)
        blocks[figures["run"]].append(figures)
    group: Run = []
    records = size = merged = 0
    for run in blocks.values():
        more, larger = (sum(figures[name] for figures in run) for name in ("count", "bytes"))
        if group and (records + more > TILE or size + larger > _MOST_BYTES):
            if merged > 1 or _lost_some(version, group):
                yield group
            group, records, size, merged = [], 0, 0, 0
        group = group + run
        records, size, merged = records + more, size + larger, merged + 1
    if merged > 1 or _lost_some(version, group):
        yield group


def _lost_some(version: Version, blocks: Run) -> bool:
    return any(figures["id"] in version.gone for figures in blocks)

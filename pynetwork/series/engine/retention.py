"""Letting go of what is old: by its time of capture, or by how much there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy

from handshakes.records import Array
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.zones import Zones

__all__ = ["Retained", "expire", "held", "shrink"]

_AT_ONCE: Final = 64


class Retained(NamedTuple):
    """What was let go: records, and bytes of their keys and payloads; and what is left."""

    records: int
    bytes: int
    records_left: int
    bytes_left: int


def expire(core: Core, before: int) -> Retained:
    """Let go of all records whose cap is below ``before``."""
    with core.rearranging:
        records, size = held(core)
        with core.changing() as (connection, change):
            core.fold(connection, change)
        with core.changing() as (_, change):
            zones = core.versions.zones
            change.removed.update(zones.column("id")[zones.column("cap_max") < before].tolist())
        zones = core.versions.zones
        partly = zones.column("id")[zones.column("cap_min") < before].tolist()
        for begin in range(0, len(partly), _AT_ONCE):
            _expire_some(core, partly[begin : begin + _AT_ONCE], before)
        left = held(core)
    return Retained(records - left[0], size - left[1], *left)


def _expire_some(core: Core, numbers: list[int], before: int) -> None:
    with core.changing() as (_, change):
        zones = core.versions.zones
        for index in numpy.flatnonzero(numpy.isin(zones.column("id"), numbers)).tolist():
            figures = zones.figures(index)
            old = core.database.read(figures).column("cap") < before
            core.lose(change, figures, numpy.flatnonzero(old))


def shrink(core: Core, most: int) -> Retained:
    """Let go of the blocks that were captured first until all that is left takes ``most`` bytes or fewer."""
    with core.rearranging:
        records, size = held(core)
        if size > most:
            with core.changing() as (connection, change):
                core.fold(connection, change)
            with core.changing() as (_, change):
                zones = core.versions.zones
                oldest = numpy.argsort(zones.column("cap_max"), kind="stable")
                sizes = _live_bytes(zones, core.versions.gone)[oldest]
                # The first so many of them, until what is behind them is little enough.
                behind = sizes.sum() - numpy.cumsum(sizes)
                many = int(numpy.count_nonzero(behind > most)) + 1
                change.removed.update(zones.column("id")[oldest[:many]].tolist())
        left = held(core)
    return Retained(records - left[0], size - left[1], *left)


def held(core: Core) -> tuple[int, int]:
    """How many records the store holds, and the bytes of their keys and payloads."""
    with core.versions.lock:
        zones, gone = core.versions.zones, core.versions.gone
        recent = core.versions.recent
        records, size = recent.count, recent.bytes
    records += int(zones.column("count").sum()) - sum(map(len, gone.values()))
    return records, size + int(_live_bytes(zones, gone).sum())


def _live_bytes(zones: Zones, gone: Mapping[int, Array]) -> Array:
    """The bytes of what is left of each block; where payloads differ in size, by their mean."""
    lost = numpy.array([len(gone.get(number, ())) for number in zones.column("id").tolist()], numpy.int64)
    counts, sizes = zones.column("count"), zones.column("bytes")
    return sizes - sizes * lost // counts

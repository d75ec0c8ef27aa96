"""Stores of a million and more records of sensors, in this process: in, back, one in a hundred, and one by one.

What is put is durable when the call returns, and the folders are on a disk. The peers and the limits are given records
that are complete, ours has to give each its time of acquisition. Every answer is compared with what was put.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Final

from handshakes.records import LEAST, Key, KeyRange
from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.figures import quantile
from tools.bench.peers import LARGE_STORES, STORES
from tools.bench.sensors import SERIES, TOGETHER, Array, one_series, readings, slice_of_time, span, sum_of

__all__ = ["RECORDS", "SeriesBox", "SeriesStore", "Store", "StoreSides"]

RECORDS: Final = 1 << 20
_BOXES: Final[tuple[Callable[[Array, int, int], KeyRange], ...]] = (slice_of_time, one_series)
_LIMITS = (
    Contestant("raw blocks in SQLite, as they come", Role.LIMIT, "tools.bench.raw.series_store:AsTheyCome"),
    Contestant("raw blocks in SQLite, by series", Role.ORIENTATION, "tools.bench.raw.series_store:BySeries"),
)
_OURS = Contestant("pynetwork", Role.OURS, "tools.bench.ours.series:OurStore")


class Store(ABC):
    """An open store of what `tools.bench.sensors.readings` makes."""

    @abstractmethod
    def put(self, rows: Array) -> None:
        """Take records over; they are durable when this returns."""

    @abstractmethod
    def put_one(self, key: Key, payload: bytes) -> None:
        """Take one record over; it is durable when this returns."""

    @abstractmethod
    def get(self, box: KeyRange) -> Array:
        """The records in the box, in whatever order, as one structured array."""


class StoreSides(ABC):
    """What a contestant of stores gives."""

    @abstractmethod
    def opened(self, folder: Path) -> AbstractContextManager[Store]:
        """The store in this folder, which is there and empty at first."""


class _Embedded(Workload[StoreSides]):
    """All of it happens in the client's process."""

    on_disk: bool = True

    def serve(self, sides: StoreSides, task: Task) -> AbstractContextManager[Any]:
        """Nothing has to run."""
        del sides, task
        return nullcontext()


class SeriesStore(_Embedded):
    """A new store each round."""

    name = "series-store"
    title = f"store of {RECORDS:,} records of 48 bytes, on a disk"
    metrics = (
        Metric("put", "put as one array", "records/s", Bound(5e6, plain=True), digits=0),
        Metric("get", "back as one array", "records/s", Bound(10e6, plain=True), digits=0),
        Metric("slice", "1 %, all series", "ms", Bound(3, at_most=True, plain=True), digits=2, costs=True),
        Metric("one", "1 %, one series", "ms", Bound(3, at_most=True, plain=True), digits=2, costs=True),
        Metric("singles", "put one by one", "records/s", Bound(4000, plain=True), digits=0),
    )
    contestants = (*_LIMITS, _OURS, *STORES)
    _repeats = 9
    _singles = 5000
    _most_seconds = 5.0

    def measure(self, sides: StoreSides, address: Any, task: Task) -> dict[str, float]:
        """One after the other, beginning with a system that has nothing left to write."""
        del address
        rows = readings(0, TOGETHER if task.quick else RECORDS)
        folder = task.scratch / "store"
        folder.mkdir()
        os.sync()
        try:
            with sides.opened(folder) as store:
                put, _ = _timed(store.put, rows)
                get, back = _timed(store.get, KeyRange.everything())
                _compare(back, rows)
                del back
                chance = random.Random(0)
                slices, ones = ([_boxed(store, rows, make, chance) for _ in range(self._repeats)] for make in _BOXES)
                # A part of the sequence is left out, so that their times lie behind all others.
                more = readings(len(rows) + TOGETHER, TOGETHER)[: 200 if task.quick else self._singles]
                singles = self._one_by_one(store, more)
        finally:
            shutil.rmtree(folder)
        return {
            "put": len(rows) / put,
            "get": len(rows) / get,
            "slice": quantile(slices, 0.5),
            "one": quantile(ones, 0.5),
            "singles": singles,
        }

    def _one_by_one(self, store: Store, rows: Array) -> float:
        """Records a second, of as many as some seconds allow."""
        keys = [Key(*row[:5]) for row in rows.tolist()]
        payloads = [payload.tobytes() for payload in rows["payload"]]
        done, began = 0, time.perf_counter()
        now = began
        while done < len(rows) and now < began + self._most_seconds:
            store.put_one(keys[done], payloads[done])
            done += 1
            now = time.perf_counter()
        _compare(store.get(span(rows[:done])), rows[:done])
        return done / (now - began)


class SeriesBox(_Embedded):
    """Boxes with as many records in a store and in one that is ten times as large; both stay from round to round.

    The system has as much of the files in memory as it likes.
    """

    name = "series-box"
    title = "boxes of 10,485 records"
    metrics = tuple(
        Metric(f"{kind}_{key}", f"{said}, {title}", unit, bound, digits=2, costs=True, compared=bound is None)
        for kind, said in (("slice", "all series"), ("one", "one series"))
        for key, title, unit, bound in (
            ("small", "of 2 M (--large: 10 M)", "ms", None),
            ("large", "of 20 M (--large: 100 M)", "ms", None),
            ("growth", "the larger store's time to the smaller one's", "times", Bound(1.5, at_most=True, plain=True)),
        )
    )
    contestants = (*_LIMITS, _OURS, *LARGE_STORES)
    patience: ClassVar[float] = 900.0
    _repeats = 9
    _room = 250  # bytes of disk for a record, temporary ones included

    @staticmethod
    def sizes(task: Task) -> tuple[int, int]:
        """Records of the two stores."""
        if task.quick:
            return 4 * TOGETHER, 8 * TOGETHER
        small = (10_000_000 if task.large else 2_000_000) // TOGETHER * TOGETHER
        return small, 10 * small

    def measure(self, sides: StoreSides, address: Any, task: Task) -> dict[str, float]:
        """Both stores in turn, which are filled before the first round."""
        del address
        sizes = self.sizes(task)
        # As many are put at a time as a box is chosen from, but not the same ones as a rule.
        part = min(RECORDS, sizes[0])
        folders = [task.scratch / f"store of {size}" for size in sizes]
        for folder, size in zip(folders, sizes, strict=True):
            if not folder.exists():
                self._fill(sides, folder, size, part)
        times: dict[str, list[float]] = {}
        chance = random.Random(0)
        with ExitStack() as stack:
            stores = [stack.enter_context(sides.opened(folder)) for folder in folders]
            for _ in range(self._repeats):
                for name, store, size in zip(("small", "large"), stores, sizes, strict=True):
                    rows = readings(chance.randrange((size - part) // TOGETHER + 1) * TOGETHER, part)
                    for kind, make in zip(("slice", "one"), _BOXES, strict=True):
                        times.setdefault(f"{kind}_{name}", []).append(_boxed(store, rows, make, chance))
        figures = {name: quantile(taken, 0.5) for name, taken in times.items()}
        for kind in ("slice", "one"):
            figures[f"{kind}_growth"] = figures[f"{kind}_large"] / figures[f"{kind}_small"]
        return {metric.key: figures[metric.key] for metric in self.metrics}

    def _fill(self, sides: StoreSides, folder: Path, size: int, part: int) -> None:
        wanted, free = size * self._room, shutil.disk_usage(folder.parent).free
        if free < wanted:
            raise OSError(errno.ENOSPC, f"{wanted:,} bytes are wanted on the disk, {free:,} are free", str(folder))
        folder.mkdir()
        with sides.opened(folder) as store:
            for begin in range(0, size, part):
                store.put(readings(begin, min(part, size - begin)))


def _boxed(store: Store, rows: Array, make: Callable[[Array, int, int], KeyRange], chance: random.Random) -> float:
    """Milliseconds for a hundredth of a million records, or of ``rows`` where those are fewer."""
    count = min(len(rows), RECORDS) // 100
    places = len(rows) if make is slice_of_time else len(rows) // SERIES
    # Not at the edges: what lies beyond them may come among the first and the last.
    box = make(rows, chance.randrange(SERIES, places - count - SERIES), count)
    taken, found = _timed(store.get, box)
    _compare(found, rows[_within(rows, box)])
    return taken * 1000


def _within(rows: Array, box: KeyRange) -> Array:
    found = (rows["cap"] >= box.min.cap) & (rows["cap"] < box.max.cap)
    if box.min.mid > LEAST.mid:
        found &= (rows["mid"] == box.min.mid) & (rows["moid"] == box.min.moid)
    return found


def _timed(work: Callable[[Any], Any], argument: Any) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    result = work(argument)
    return time.perf_counter() - began, result


def _compare(found: Array, expected: Array) -> None:
    if sum_of(found) != sum_of(expected):
        raise ValueError(f"{len(found)} records came where {len(expected)} were due, or others than those")

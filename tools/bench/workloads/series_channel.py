"""Records of sensors over the loopback, to a store in another process and back: many at once, and one by one from
many callers. What is put is durable when it is confirmed, except at the limits and peers that say otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar

from handshakes.records import Key, KeyRange
from tools.bench.contract import Bound, Contestant, Metric, Placement, Role, Task, Workload
from tools.bench.peers import CHANNELS
from tools.bench.sensors import CID, TOGETHER, WIDTH, Array, readings, span, sum_of
from tools.bench.workloads.series_store import RECORDS

__all__ = ["AsyncPut", "ChannelSides", "Put", "PutterSides", "SeriesChannel", "SeriesPutters", "Session"]

Put = Callable[[Key, bytes], None]
AsyncPut = Callable[[Key, bytes], Awaitable[None]]


class Session(ABC):
    """A connection to a store of what `tools.bench.sensors.readings` makes."""

    @abstractmethod
    def put(self, rows: Array) -> None:
        """Send records, and wait until they are confirmed."""

    @abstractmethod
    def get(self, box: KeyRange) -> Array:
        """The records in the box, in whatever order, as one structured array."""


class ChannelSides(ABC):
    """What a contestant of channels gives."""

    @abstractmethod
    def serve(self, folder: Path) -> AbstractContextManager[Any]:
        """A store in a new folder; answers the address."""

    @abstractmethod
    def connect(self, address: Any) -> AbstractContextManager[Session]:
        """One connection."""


class SeriesChannel(Workload[ChannelSides]):
    """A million records there and back; each round puts others, and the store grows."""

    name = "series-channel"
    title = f"{RECORDS:,} records of 48 bytes over the loopback, a CPU each"
    metrics = (
        Metric("put", "put", "records/s", Bound(2e6, plain=True), digits=0),
        Metric("get", "get", "records/s", Bound(4e6, plain=True), digits=0),
    )
    contestants = (
        Contestant("raw socket, nothing stored", Role.LIMIT, "tools.bench.raw.series_channel:RawChannel"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.series:OurChannel"),
        *CHANNELS,
    )
    placement: ClassVar[Placement] = Placement.APART
    on_disk: bool = True

    def __init__(self) -> None:
        self._turns = 0

    def serve(self, sides: ChannelSides, task: Task) -> AbstractContextManager[Any]:
        """A store of the contestant's own."""
        return sides.serve(task.scratch / "store")

    def measure(self, sides: ChannelSides, address: Any, task: Task) -> dict[str, float]:
        """One after the other."""
        count = TOGETHER if task.quick else RECORDS
        rows = readings(self._turns * (count + TOGETHER), count)
        self._turns += 1
        with sides.connect(address) as session:
            began = time.perf_counter()
            session.put(rows)
            there = time.perf_counter()
            found = session.get(span(rows))
            back = time.perf_counter()
        if sum_of(found) != sum_of(rows):
            raise ValueError(f"{len(found)} records came where {len(rows)} were due, or others than those")
        return {"put": count / (there - began), "get": count / (back - there)}


class PutterSides(ABC):
    """What a contestant of single puts gives."""

    @abstractmethod
    def serve(self, folder: Path) -> AbstractContextManager[Any]:
        """A store in a new folder; answers the address."""

    @abstractmethod
    def connect(self, address: Any) -> AbstractContextManager[Put]:
        """A connection that puts one record, and waits until it is confirmed."""

    @abstractmethod
    def connect_async(self, address: Any) -> AbstractAsyncContextManager[AsyncPut]:
        """The same for a task."""

    @abstractmethod
    def count(self, address: Any) -> int:
        """How many records are stored."""


class SeriesPutters(Workload[PutterSides]):
    """64 callers, each with a connection of its own and one record after another: threads, then tasks, of one process.

    What is confirmed is counted.
    """

    name = "series-putters"
    title = "64 callers put one record at a time, on a disk, a CPU each"
    metrics = (
        Metric("threads", "threads", "records/s", Bound(15_000, plain=True), digits=0),
        Metric("tasks", "tasks of one loop", "records/s", Bound(15_000, plain=True), digits=0),
    )
    contestants = (
        Contestant("raw sockets, one flush for all that wait", Role.LIMIT, "tools.bench.raw.series_channel:RawPutters"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.series:OurPutters"),
    )
    placement: ClassVar[Placement] = Placement.APART
    on_disk: bool = True
    _callers = 64

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def serve(self, sides: PutterSides, task: Task) -> AbstractContextManager[Any]:
        """A store of the contestant's own."""
        return sides.serve(task.scratch / "store")

    def measure(self, sides: PutterSides, address: Any, task: Task) -> dict[str, float]:
        """Records a second, of all together."""
        stored = sides.count(address)
        by_threads, threads_took = self._by_threads(sides, address, task.seconds)
        by_tasks, tasks_took = asyncio.run(self._by_tasks(sides, address, task.seconds))
        stored = sides.count(address) - stored
        if stored != by_threads + by_tasks:
            raise ValueError(f"{by_threads + by_tasks} records were confirmed, {stored} are stored")
        return {"threads": by_threads / threads_took, "tasks": by_tasks / tasks_took}

    def _by_threads(self, sides: PutterSides, address: Any, seconds: float) -> tuple[int, float]:
        """How many records, in how many seconds."""
        ready = threading.Barrier(self._callers + 1)
        counts: list[int] = []
        errors: list[Exception] = []

        def work(series: Iterator[tuple[Key, bytes]]) -> None:
            try:
                with sides.connect(address) as put:
                    ready.wait()
                    end = time.perf_counter() + seconds
                    count = 0
                    while time.perf_counter() < end:
                        put(*next(series))
                        count += 1
                    counts.append(count)
            except Exception as error:
                errors.append(error)
                ready.abort()

        threads = [threading.Thread(target=work, args=(self._series(),)) for _ in range(self._callers)]
        for thread in threads:
            thread.start()
        with suppress(threading.BrokenBarrierError):
            ready.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        if errors:
            raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
        return sum(counts), took

    async def _by_tasks(self, sides: PutterSides, address: Any, seconds: float) -> tuple[int, float]:
        """As with threads."""

        async def work(put: AsyncPut, series: Iterator[tuple[Key, bytes]]) -> int:
            count = 0
            while time.perf_counter() < end:
                await put(*next(series))
                count += 1
            return count

        async with AsyncExitStack() as stack:
            puts = [await stack.enter_async_context(sides.connect_async(address)) for _ in range(self._callers)]
            began = time.perf_counter()
            end = began + seconds
            counts = await asyncio.gather(*(work(put, self._series()) for put in puts))
            return sum(counts), time.perf_counter() - began

    def _series(self) -> Iterator[tuple[Key, bytes]]:
        """The records of a series that nobody else has."""
        mid, begin = next(self._numbers), time.time_ns()
        return ((Key(CID, mid, 0, begin + number), bytes(WIDTH)) for number in itertools.count())

"""Latency of a stream of 100 items a second: from just before the yield to the consumer's loop."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from itertools import count, islice
from typing import Any

from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.figures import quantile
from tools.bench.peers import LATENCIES
from tools.bench.workloads.streams import AsyncStreamSides, StreamSides

__all__ = ["STAMP", "Latency", "async_source", "source"]

_RATE = 100
STAMP = struct.Struct("<q56x")
_WARM_UP = 20
_LONGER = 3


def source() -> Iterator[tuple[int, bytes]]:
    """Items of 64 bytes, one each 10 ms, that carry the machine's monotonic clock at their birth."""
    due = time.monotonic()
    for ident in count():
        due += 1 / _RATE
        time.sleep(max(0.0, due - time.monotonic()))
        yield ident, STAMP.pack(time.monotonic_ns())


async def async_source() -> AsyncIterator[tuple[int, bytes]]:
    """The same on asyncio."""
    due = time.monotonic()
    for ident in count():
        due += 1 / _RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield ident, STAMP.pack(time.monotonic_ns())


class Latency(Workload[StreamSides]):
    """Median and 99th percentile in microseconds; each round takes three times the usual seconds."""

    name = "latency"
    title = "latency of a 100 Hz stream"
    metrics = (
        Metric("p50", "p50", "µs", Bound(1.3, at_most=True), digits=0, costs=True),
        Metric("p99", "p99", "µs", Bound(1.3, at_most=True), digits=0, costs=True),
    )
    contestants = (
        Contestant("raw socket, one send an item", Role.LIMIT, "tools.bench.raw.small_items:RawSingles"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.stream:OurStream"),
        *LATENCIES,
    )

    def serve(self, sides: StreamSides, task: Task) -> AbstractContextManager[Any]:
        """The paced source."""
        del task
        return sides.serve_async(async_source) if isinstance(sides, AsyncStreamSides) else sides.serve(source)

    def measure(self, sides: StreamSides, address: Any, task: Task) -> dict[str, float]:
        """By the clock that both processes share."""
        number = max(20, int(task.seconds * _LONGER * _RATE))
        with sides.items(address) as items:
            for _ in islice(items, _WARM_UP):
                pass
            times = [time.monotonic_ns() - STAMP.unpack(payload)[0] for _ident, payload in islice(items, number)]
        return {"p50": quantile(times, 0.5) / 1000, "p99": quantile(times, 0.99) / 1000}

"""A stream of float64 arrays of 8 KiB: what a sampled signal or a small image yields."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy
from numpy.typing import NDArray

from tools.bench.contract import Bound, Contestant, Metric, Role, Task
from tools.bench.peers import streams
from tools.bench.workloads.streams import StreamSides, StreamWorkload

__all__ = ["LENGTH", "ArrayItems", "source"]

LENGTH = 1024
_SIZE = LENGTH * 8
_RING = 64


def source() -> Iterator[tuple[int, NDArray[numpy.float64]]]:
    """Items without end, from a ring of arrays that do not change."""
    ring = [numpy.arange(LENGTH, dtype=numpy.float64) + start for start in range(_RING)]
    for ident in count():
        yield ident, ring[ident % _RING]


class ArrayItems(StreamWorkload):
    """Megabytes (10^6) a second, each item delivered as ``(int, ndarray)``."""

    name = "array-items"
    title = "stream of 8 KiB float64 arrays, a CPU each"
    metrics = (Metric("rate", "", "MB/s", Bound(0.8), digits=0),)
    contestants = (
        Contestant("raw socket, sendmsg, recv_into", Role.LIMIT, "tools.bench.raw.array_items:RawArrays"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.stream:OurStream"),
        *streams("ArrayItems"),
    )
    source = staticmethod(source)

    def measure(self, sides: StreamSides, address: Any, task: Task) -> dict[str, float]:
        """Megabytes in place of items."""
        return {"rate": super().measure(sides, address, task)["rate"] * _SIZE / 1e6}

    def check(self, ident: int, payload: Any) -> None:
        """Type, shape, and the values at both ends."""
        if not isinstance(payload, numpy.ndarray) or payload.dtype != numpy.float64 or payload.shape != (LENGTH,):
            raise ValueError(f"item {ident!r} is {payload!r}")
        if payload[0] != ident % _RING or payload[-1] != ident % _RING + LENGTH - 1:
            raise ValueError(f"item {ident!r} holds the values of another")

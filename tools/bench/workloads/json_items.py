"""A stream of small JSON dicts: what most sensors yield."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from tools.bench.contract import Contestant, Metric, Role
from tools.bench.peers import streams
from tools.bench.workloads.streams import StreamWorkload

__all__ = ["JsonItems", "source"]


def source() -> Iterator[tuple[int, dict[str, Any]]]:
    """Items without end, each a new dict."""
    for ident in count():
        yield (
            ident,
            {"sensor": "imu", "seconds": ident * 0.01, "acceleration": [0.1, -0.2, 9.81], "valid": True},
        )


class JsonItems(StreamWorkload):
    """Items a second, each delivered as ``(int, dict)``."""

    name = "json-items"
    title = "stream of small JSON dicts, a CPU each"
    metrics = (Metric("rate", "", "items/s", digits=0),)
    contestants = (
        Contestant("raw socket, orjson of lists", Role.LIMIT, "tools.bench.raw.json_items:RawJson"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.stream:OurStream"),
        *streams("JsonItems"),
    )
    source = staticmethod(source)

    def check(self, ident: int, payload: Any) -> None:
        """The whole dict."""
        expected = {
            "sensor": "imu",
            "seconds": ident * 0.01,
            "acceleration": [0.1, -0.2, 9.81],
            "valid": True,
        }
        if payload != expected:
            raise ValueError(f"item {ident!r} is {payload!r}")

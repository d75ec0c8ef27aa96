"""A stream of 64-byte items: what a fast sensor yields."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from tools.bench.contract import Bound, Contestant, Metric, Placement, Role
from tools.bench.peers import streams
from tools.bench.workloads.streams import StreamWorkload

__all__ = ["SIZE", "SmallItems", "SmallItemsUnpinned", "source"]

SIZE = 64
_PAYLOAD = bytes(range(SIZE))


def source() -> Iterator[tuple[int, bytes]]:
    """Items without end."""
    for ident in count():
        yield ident, _PAYLOAD


class SmallItems(StreamWorkload):
    """Items a second, each delivered as ``(int, bytes)``.

    The limit is as general as we are: coalesced frames, from which items of any one size are cut by slicing. The
    orientation beside it knows that every item has 64 bytes, and packs and unpacks hundreds of them in one call.
    """

    name = "small-items"
    title = "stream of 64-byte items, a CPU each"
    metrics = (Metric("rate", "", "items/s", Bound(0.6), digits=0),)
    contestants = (
        Contestant("raw socket, one struct", Role.ORIENTATION, "tools.bench.raw.small_items:RawStruct"),
        Contestant("raw socket, slices", Role.LIMIT, "tools.bench.raw.small_items:RawSlices"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.stream:OurStream"),
        *streams("SmallItems"),
    )
    source = staticmethod(source)

    def check(self, ident: int, payload: Any) -> None:
        """Types and bytes."""
        if type(ident) is not int or payload != _PAYLOAD or type(payload) is not bytes:
            raise ValueError(f"item {ident!r} is {payload!r}")


class SmallItemsUnpinned(SmallItems):
    """The same where the scheduler chooses the CPUs."""

    name = "small-items-unpinned"
    title = "stream of 64-byte items, CPUs as they come"
    metrics = (Metric("rate", "", "items/s", digits=0),)
    placement = Placement.FREE

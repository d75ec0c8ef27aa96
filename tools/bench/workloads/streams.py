"""What the streams have in common: a contract, and a consumer that is the same for all contestants."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import Any, ClassVar

from tools.bench.contract import Metric, Placement, Task, Workload

__all__ = ["AsyncSource", "AsyncStreamSides", "Source", "StreamSides", "StreamWorkload", "consume"]

Source = Callable[[], Iterator[tuple[int, Any]]]
AsyncSource = Callable[[], AsyncIterator[tuple[int, Any]]]

_STRETCH = 256
_WARM_UP_PART = 0.1


class StreamSides(ABC):
    """What a contestant of streams gives."""

    @abstractmethod
    def serve(self, source: Source) -> AbstractContextManager[Any]:
        """Send each client the items of ``source()`` until it leaves; answers the address."""

    @abstractmethod
    def items(self, address: Any) -> AbstractContextManager[Iterator[tuple[int, Any]]]:
        """An iterator over the items. Each is handed out one by one, as ``(ident, payload)``, the payload
        as what it was when it was produced, and may be kept.
        """


class AsyncStreamSides(StreamSides):
    """A contestant whose servers live on asyncio, where a source that waits has to wait asynchronously."""

    def serve(self, source: Source) -> AbstractContextManager[Any]:
        """A source that never waits."""
        return self.serve_async(partial(_awaited, source))

    @abstractmethod
    def serve_async(self, source: AsyncSource) -> AbstractContextManager[Any]:
        """As `serve`."""


async def _awaited(source: Source) -> AsyncIterator[tuple[int, Any]]:
    for item in source():
        yield item


class StreamWorkload(Workload[StreamSides]):
    """Items a second from an endless source to a consumer that looks at each.

    The processes have a CPU each: left free, the scheduler puts them on the same one now and then, for
    seconds, which halves the figure of whoever has its turn then.
    """

    source: Source
    metrics: tuple[Metric, ...]
    placement: ClassVar[Placement] = Placement.APART

    def serve(self, sides: StreamSides, task: Task) -> AbstractContextManager[Any]:
        """The workload's source."""
        del task
        return sides.serve(self.source)

    def measure(self, sides: StreamSides, address: Any, task: Task) -> dict[str, float]:
        """Items a second."""
        with sides.items(address) as items:
            return {"rate": consume(items, task.seconds, self.check)}

    @abstractmethod
    def check(self, ident: int, payload: Any) -> None:
        """Raise ValueError when this is not what the source yields."""


def consume(items: Iterator[tuple[int, Any]], seconds: float, check: Callable[[int, Any], None]) -> float:
    """Items a second, counted after a warm-up of a tenth of the time. A few are checked; the order by the
    last ident.
    """
    clock = time.perf_counter
    count = _skip(items, clock() + seconds * _WARM_UP_PART)
    before, began = count, clock()
    end = began + seconds
    now = began
    while now < end:
        for _ident, _payload in islice(items, _STRETCH):
            pass
        count += _STRETCH
        now = clock()
    last = deque(islice(items, _STRETCH), 1).pop()
    if last[0] != count + _STRETCH - 1:
        raise ValueError(f"item {last[0]} came where {count + _STRETCH - 1} was due")
    check(*last)
    return (count - before) / (now - began)


def _skip(items: Iterator[tuple[int, Any]], until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        for _ident, _payload in islice(items, _STRETCH):
            pass
        count += _STRETCH
    return count

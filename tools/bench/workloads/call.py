"""Round trip of a call: name and arguments there, a result back, as JSON both ways.

Waking a thread on another CPU takes ten times as long as on the same, and the scheduler chooses, so the
figure that can be compared is the one with both processes pinned to one CPU; the other stands beside it.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar

from tools.bench.contract import Bound, Contestant, Metric, Placement, Role, Task, Workload
from tools.bench.figures import quantile
from tools.bench.peers import CALLS

__all__ = ["FUNCTIONS", "AsyncCallSides", "Call", "CallSides", "CallUnpinned", "Functions"]

_WARM_UP = 200


def read_pin(number: int, pull: str = "down") -> dict[str, Any]:
    """What a caller asks for: a small answer that takes no time to find."""
    return {"pin": number, "pull": pull, "value": True}


Functions = Mapping[str, Callable[..., Any]]

FUNCTIONS: Functions = {"read_pin": read_pin}


class CallSides(ABC):
    """What a contestant of calls gives."""

    @abstractmethod
    def serve(self, functions: Functions) -> AbstractContextManager[Any]:
        """Answer calls of these functions by name; the context answers the address."""

    @abstractmethod
    def connect(self, address: Any) -> AbstractContextManager[Callable[..., Any]]:
        """Answers ``call(name, *arguments, **keywords)``."""


class AsyncCallSides(ABC):
    """The same for a contestant whose callers live on asyncio: there its calls are timed."""

    @abstractmethod
    def serve(self, functions: Functions) -> AbstractContextManager[Any]:
        """Answer calls of these functions by name; the context answers the address."""

    @abstractmethod
    def connect(self, address: Any) -> AbstractAsyncContextManager[Callable[..., Awaitable[Any]]]:
        """Answers ``await call(name, *arguments, **keywords)``."""


class Call(Workload[CallSides | AsyncCallSides]):
    """The median of single round trips, in microseconds."""

    name = "call"
    title = "call, all on one CPU"
    metrics: tuple[Metric, ...] = (Metric("p50", "", "µs", Bound(1.6, at_most=True), costs=True),)
    contestants = (
        Contestant("raw socket, orjson", Role.LIMIT, "tools.bench.raw.call:RawCall"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.call:OurCall"),
        *CALLS,
    )
    placement: ClassVar[Placement] = Placement.TOGETHER

    def serve(self, sides: CallSides | AsyncCallSides, task: Task) -> AbstractContextManager[Any]:
        """The functions."""
        del task
        return sides.serve(FUNCTIONS)

    def measure(self, sides: CallSides | AsyncCallSides, address: Any, task: Task) -> dict[str, float]:
        """Warmed up, checked, timed."""
        if isinstance(sides, AsyncCallSides):
            times = asyncio.run(_measure_async(sides, address, task.seconds))
        else:
            times = _measure(sides, address, task.seconds)
        return {"p50": 1e6 * quantile(times, 0.5)}


class CallUnpinned(Call):
    """The same where the scheduler chooses the CPUs."""

    name = "call-unpinned"
    title = "call, CPUs as they come"
    metrics = (Metric("p50", "", "µs", costs=True),)
    placement = Placement.FREE


def _measure(sides: CallSides, address: Any, seconds: float) -> list[float]:
    with sides.connect(address) as call:
        _times(call, seconds, _WARM_UP)
        _check(call("read_pin", 17, pull="up"))
        return _times(call, seconds)


async def _measure_async(sides: AsyncCallSides, address: Any, seconds: float) -> list[float]:
    async with sides.connect(address) as call:
        await _times_async(call, seconds, _WARM_UP)
        _check(await call("read_pin", 17, pull="up"))
        return await _times_async(call, seconds)


def _check(answer: Any) -> None:
    if answer != read_pin(17, "up"):
        raise ValueError(f"the wrong answer: {answer!r}")


def _times(call: Callable[..., Any], seconds: float, most: float = math.inf) -> list[float]:
    """Of each call, until the time is up or there were ``most``."""
    clock = time.perf_counter
    times: list[float] = []
    now = clock()
    end = now + seconds
    while now < end and len(times) < most:
        began = clock()
        call("read_pin", 17, pull="up")
        now = clock()
        times.append(now - began)
    return times


async def _times_async(call: Callable[..., Awaitable[Any]], seconds: float, most: float = math.inf) -> list[float]:
    clock = time.perf_counter
    times: list[float] = []
    now = clock()
    end = now + seconds
    while now < end and len(times) < most:
        began = clock()
        await call("read_pin", 17, pull="up")
        now = clock()
        times.append(now - began)
    return times

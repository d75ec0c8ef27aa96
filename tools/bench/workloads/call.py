"""Round trip of a call: name and arguments there, a result back, as JSON both ways.

Waking a thread on another CPU takes ten times as long as on the same, and the scheduler chooses, so the
figure that can be compared is the one with both processes pinned to one CPU; the other stands beside it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from tools.bench.contract import Bound, Contestant, Metric, Placement, Role, Task, Workload
from tools.bench.figures import quantile

__all__ = ["FUNCTIONS", "Call", "CallSides"]

_WARM_UP = 200
_STRETCH = 64


def read_pin(number: int, pull: str = "down") -> dict[str, Any]:
    """What a caller asks for: a small answer that takes no time to find."""
    return {"pin": number, "pull": pull, "value": True}


FUNCTIONS: Mapping[str, Callable[..., Any]] = {"read_pin": read_pin}


class CallSides(ABC):
    """What a contestant of calls gives."""

    @abstractmethod
    def serve(self, functions: Mapping[str, Callable[..., Any]]) -> AbstractContextManager[Any]:
        """Answer calls of these functions by name; the context answers the address."""

    @abstractmethod
    def connect(self, address: Any) -> AbstractContextManager[Callable[..., Any]]:
        """Answers ``call(name, *arguments, **keywords)``."""


class Call(Workload[CallSides]):
    """The median of single round trips, in microseconds."""

    name = "call"
    title = "call, all on one CPU"
    metrics: tuple[Metric, ...] = (Metric("p50", "", "µs", Bound(2.2, at_most=True)),)
    contestants = (
        Contestant("raw socket, orjson", Role.LIMIT, "tools.bench.raw.call:RawCall"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.call:OurCall"),
    )
    placement: ClassVar[Placement] = Placement.TOGETHER

    def serve(self, sides: CallSides, task: Task) -> AbstractContextManager[Any]:
        """The functions."""
        del task
        return sides.serve(FUNCTIONS)

    def measure(self, sides: CallSides, address: Any, task: Task) -> dict[str, float]:
        """Warmed up, checked, timed."""
        with sides.connect(address) as call:
            for _ in range(_WARM_UP):
                answer = call("read_pin", 17, pull="up")
            if answer != read_pin(17, "up"):
                raise ValueError(f"the wrong answer: {answer!r}")
            return {"p50": 1e6 * quantile(_times(call, task.seconds), 0.5)}


class CallUnpinned(Call):
    """The same where the scheduler chooses the CPUs."""

    name = "call-unpinned"
    title = "call, CPUs as they come"
    metrics = (Metric("p50", "", "µs"),)
    placement = Placement.FREE


def _times(call: Callable[..., Any], seconds: float) -> list[float]:
    clock = time.perf_counter
    times: list[float] = []
    end = clock() + seconds
    while clock() < end:
        for _ in range(_STRETCH):
            began = clock()
            call("read_pin", 17, pull="up")
            times.append(clock() - began)
    return times

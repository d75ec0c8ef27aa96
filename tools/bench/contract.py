"""What a workload is, and what a contestant is.

To add a peer: write its *sides* in a module of `tools.bench.peers` (a class with ``serve`` and what the
workload's contract asks for; the contracts are the abstract classes in `tools.bench.workloads`), and name it
there, once for each contract.
"""

from __future__ import annotations

import enum
import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from tools.bench.needs import Need
from tools.bench.network import LOOPBACK, Shape

__all__ = ["Bound", "Contestant", "Metric", "Placement", "Role", "Task", "Workload"]

Sides = TypeVar("Sides")


class Role(enum.Enum):
    """Why a contestant has a row."""

    LIMIT = "limit"
    OURS = "ours"
    PEER = "peer"
    ORIENTATION = "orientation"


class Placement(enum.Enum):
    """On which CPUs the two processes of a contestant run."""

    FREE = "as the scheduler chooses"
    TOGETHER = "both on one"
    APART = "one each"

    def cpus(self) -> tuple[int | None, int | None]:
        """The server's and the client's; None where it is free, or the system can't be told."""
        if self is Placement.FREE or not hasattr(os, "sched_getaffinity"):
            return None, None
        usable = sorted(os.sched_getaffinity(0))
        # Not the first where there are others: most systems serve their interrupts there.
        return usable[-1] if self is Placement.TOGETHER else usable[-2:][0], usable[-1]


@dataclass(frozen=True)
class Contestant:
    """One row. ``sides`` is ``module:Class``, imported only in the processes that run it.

    ``needs`` is what it needs beside the core: where something is missing the row says how to get it.
    """

    name: str
    role: Role
    sides: str
    needs: tuple[Need, ...] = ()

    def load(self) -> Any:
        """An instance of its sides."""
        module, _, name = self.sides.partition(":")
        return getattr(importlib.import_module(module), name)()

    def missing(self) -> str:
        """The commands that install what it needs and is not there; empty when all is."""
        return ", ".join(f"`{need.hint}`" for need in self.needs if not need.version())


@dataclass(frozen=True)
class Bound:
    """What our ratio to the limit must be; where it is ``plain``, our figure itself."""

    value: float
    at_most: bool = False
    plain: bool = False

    def met_by(self, value: float) -> bool:
        """Whether it is."""
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


@dataclass(frozen=True)
class Metric:
    """One figure of a workload, one number a round. ``unit`` is for people; ``bound`` is on the ratio of
    medians. Of a figure that ``costs``, less is better; one that is not ``compared`` says nothing about who is better.
    ``times`` says, by the names of peers, how many times as
    good as each of them we must be.
    """

    key: str
    title: str
    unit: str
    bound: Bound | None = None
    digits: int = 1
    costs: bool = False
    compared: bool = True
    times: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What a contestant's process is told.

    ``folder`` is the workload's, on memory where there is a memory-backed place; ``scratch`` the
    contestant's own below it; ``seconds`` how long to measure; ``quick`` asks for small sizes, ``large`` for
    larger ones than usual; ``server`` is the process id of the contestant's server, and ``host`` the address on
    which it listens.
    """

    folder: Path
    scratch: Path
    seconds: float
    quick: bool
    large: bool = False
    server: int = 0
    host: str = LOOPBACK.host

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {**vars(self), "folder": str(self.folder), "scratch": str(self.scratch)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Task:
        """The other direction."""
        return cls(**{**fields, "folder": Path(fields["folder"]), "scratch": Path(fields["scratch"])})


class Workload(ABC, Generic[Sides]):
    """One thing to do, and how it is timed.

    ``placement`` says on which CPUs; ``fresh`` starts new processes each round, where memory is measured; ``on_disk``
    wants a folder that is not in memory; ``link`` is what lies between the two processes, if not the loopback;
    ``patience`` is how many seconds a measurement may take beyond what it was asked to.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    contestants: tuple[Contestant, ...]
    placement: ClassVar[Placement] = Placement.FREE
    fresh: ClassVar[bool] = False
    on_disk: bool = False
    link: Shape | None = None
    patience: ClassVar[float] = 120.0

    def asked(self, peers: bool) -> tuple[Contestant, ...]:
        """Who takes part, with or without the peers."""
        return tuple(each for each in self.contestants if peers or each.role is not Role.PEER)

    def prepare(self, task: Task) -> None:
        """Once, before anybody starts: make what they need in ``task.folder``."""

    @abstractmethod
    def serve(self, sides: Sides, task: Task) -> AbstractContextManager[Any]:
        """In the server's process: serve as long as the context lasts; it answers an address that JSON can
        carry.
        """

    @abstractmethod
    def measure(self, sides: Sides, address: Any, task: Task) -> dict[str, float]:
        """In the client's process: one round. Answers a number for each metric."""

"""Memory, descriptors and threads of a process over its life, and whether they grow."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

__all__ = ["FEWEST", "FIGURES", "Figure", "Growth", "Life", "Sample", "look"]

FEWEST = 60
"""Samples of a life below which nothing is said about growth."""
WARM_UP = 0.2
"""The part of a life at its beginning that does not count."""


class Sample(NamedTuple):
    """A process at a moment: seconds since the soak began, and its figures."""

    at: float
    memory: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Figure:
    """``name`` is the field of a `Sample`; ``allowed`` and the part ``share`` of what was there before may come on top
    of it.
    """

    name: str
    allowed: float
    share: float
    unit: float = 1.0


FIGURES = (
    Figure("memory", allowed=16 << 20, share=0.1, unit=1 << 20),
    Figure("descriptors", allowed=8, share=0.0),
    Figure("threads", allowed=8, share=0.0),
)


@dataclass(frozen=True)
class Growth:
    """Medians of the first and the last third of a life, once it has warmed up."""

    figure: Figure
    first: float
    last: float

    @property
    def too_much(self) -> bool:
        """Whether it grew by more than is allowed."""
        return self.last - self.first > self.figure.allowed + self.figure.share * self.first

    def __str__(self) -> str:
        unit = self.figure.unit
        return f"{self.first / unit:.0f} > {self.last / unit:.0f}"


@dataclass
class Life:
    """One process, from its start to its end."""

    name: str
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def growth(self) -> list[Growth]:
        """One for each of `FIGURES`; none when the life was too short to tell."""
        if len(self.samples) < FEWEST:
            return []
        warm = self.samples[int(len(self.samples) * WARM_UP) :]
        third = len(warm) // 3
        return [_grown(figure, warm[:third], warm[-third:]) for figure in FIGURES]


def _grown(figure: Figure, first: Sequence[Sample], last: Sequence[Sample]) -> Growth:
    first_values, last_values = ([getattr(sample, figure.name) for sample in part] for part in (first, last))
    return Growth(figure, statistics.median(first_values), statistics.median(last_values))


def look(process: psutil.Process, at: float) -> Sample | None:
    """The figures of a process now; None when it has gone."""
    try:
        with process.oneshot():
            # Windows has handles in place of descriptors.
            count: int = getattr(process, "num_fds" if hasattr(process, "num_fds") else "num_handles")()
            return Sample(round(at, 2), process.memory_info().rss, count, process.num_threads())
    except psutil.Error:
        return None

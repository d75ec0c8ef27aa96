"""Medians, spreads and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "Spread", "quantile"]


def quantile(values: Sequence[float], part: float) -> float:
    """The value that ``part`` (0 to 1) of the values do not exceed, between neighbours where it falls there.

    Raises ValueError when there are none.
    """
    if not values:
        raise ValueError("no values, no quantile")
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True)
class Spread:
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        """Raises `statistics.StatisticsError` when there are no rounds."""
        return cls(statistics.median(rounds), min(rounds), max(rounds))

    @property
    def wide(self) -> bool:
        """Whether the best and the worst round are more than a factor of 1.5 apart: worth a remark."""
        return self.most > 1.5 * self.least


@dataclass(frozen=True)
class Ratio:
    """A contestant beside another: ``of_medians``, and the median of the ratios of each round with its spread."""

    of_medians: float
    of_rounds: Spread

    @classmethod
    def of(cls, rounds: dict[int, float], others: dict[int, float]) -> Ratio | None:
        """Both by number of the round; None where they have no round in common or the other's figure is 0."""
        common = [number for number in rounds if others.get(number)]
        if not common:
            return None
        median = Spread.of(list(others.values())).median
        if not median:
            return None
        each = [rounds[number] / others[number] for number in common]
        return cls(Spread.of(list(rounds.values())).median / median, Spread.of(each))

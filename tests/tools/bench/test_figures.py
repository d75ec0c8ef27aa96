"""Medians, spreads and ratios."""

from __future__ import annotations

import pytest

from tools.bench.figures import Ratio, Spread, quantile


def test_quantile_falls_on_values_and_between_them():
    assert quantile([5, 1, 3], 0.5) == 3
    assert quantile([1, 2], 0.5) == 1.5
    assert quantile(range(101), 0.99) == 99
    assert quantile([7], 0.99) == 7


def test_quantile_of_nothing():
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_spread():
    spread = Spread.of([3.0, 1.0, 2.0])
    assert (spread.median, spread.least, spread.most) == (2.0, 1.0, 3.0)
    assert spread.wide
    assert not Spread.of([2.0, 2.5, 2.9]).wide


def test_ratio_of_medians_and_by_round():
    # One round was slow for both: the ratios of the rounds do not mind.
    ratio = Ratio.of({0: 50.0, 1: 5.0, 2: 60.0}, {0: 100.0, 1: 10.0, 2: 100.0})
    assert ratio is not None
    assert ratio.of_medians == pytest.approx(0.5)
    assert ratio.of_rounds == Spread(0.5, 0.5, 0.6)


def test_ratio_takes_only_rounds_in_common():
    ratio = Ratio.of({1: 4.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert ratio is not None
    assert ratio.of_rounds == Spread(2.0, 2.0, 2.0)
    assert Ratio.of({1: 4.0}, {0: 1.0}) is None
    assert Ratio.of({1: 4.0}, {0: 0.0, 1: 0.0}) is None

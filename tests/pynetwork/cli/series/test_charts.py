from __future__ import annotations

import sys
from typing import Any

import numpy
import pytest

from handshakes.errors import ConfigurationError
from pynetwork.cli.series import charts
from pynetwork.cli.series.charts import Envelope, chart, chart_width, require_plotext

MILLISECOND = 10**6


def envelope(values: Any, limit: int = 100, begin: int = 10**18, step: int = MILLISECOND, pieces: int = 1) -> Envelope:
    found = Envelope(limit)
    times = begin + numpy.arange(len(values)) * step
    for part in numpy.array_split(numpy.arange(len(values)), pieces):
        found.add(times[part], numpy.asarray(values)[part])
    return found


def test_peaks_stay_whatever_is_between_them() -> None:
    values = numpy.zeros(1_000_000)
    values[654_321], values[123_456] = 5.0, -3.0
    found = envelope(values, pieces=123)
    times, drawn = found.points()
    assert found.count == 1_000_000
    assert 100 <= len(drawn) <= 200
    assert (drawn.max(), drawn.min()) == (5.0, -3.0)
    # A bucket is at most twice as long as it has to be, and a peak is drawn within its own.
    length = 2 * 1_000_000 * MILLISECOND // 100
    assert abs(times[drawn.argmax()] - (10**18 + 654_321 * MILLISECOND)) <= length
    assert abs(times[drawn.argmin()] - (10**18 + 123_456 * MILLISECOND)) <= length
    assert (numpy.diff(times) >= 0).all()


def test_the_order_in_which_values_come_is_of_no_matter() -> None:
    values = numpy.sin(numpy.arange(5000) / 300)
    times = numpy.arange(5000) * MILLISECOND
    shuffled = Envelope(64)
    order = numpy.random.default_rng(5).permutation(5000)
    for part in numpy.array_split(order, 40):
        shuffled.add(times[part], values[part])
    straight = Envelope(64)
    straight.add(times, values)
    for one, other in zip(shuffled.points(), straight.points(), strict=True):
        assert one.tolist() == other.tolist()


def test_times_before_2001_and_at_the_ends_of_what_a_key_holds() -> None:
    found = Envelope(50)
    found.add(numpy.array([-(2**63), -5, 0, 2**63 - 1]), numpy.array([1.0, 2.0, 3.0, 4.0]))
    times, values = found.points()
    assert (numpy.diff(times.astype(float)) >= 0).all()
    assert times[0] < -(2**62)
    assert times[-1] > 2**62
    assert sorted(set(values.tolist())) == [1.0, 2.0, 3.0, 4.0]
    assert "UTC, 2.14e+05 d from 1708-" in chart({"x": found}, "x", 60)


def test_what_is_no_number_is_left_out() -> None:
    found = envelope([numpy.nan, 1.0, numpy.inf, 2.0])
    assert found.count == 2
    assert set(found.points()[1].tolist()) == {1.0, 2.0}
    assert envelope([numpy.nan]).count == 0
    assert set(envelope([True, False]).points()[1].tolist()) == {0.0, 1.0}


def test_a_chart_shows_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = chart({"1/4/7": envelope(numpy.arange(1000.0)), "none": Envelope(5)}, "watt", 80)
    lines = drawn.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].strip() == "watt"
    assert "1/4/7" in drawn
    assert "none" not in drawn
    assert "999.0" in drawn
    assert "\x1b" not in drawn
    assert "UTC, 0.999 s from 2032-09-09T01:46:40Z" in lines[-1]


def test_one_value_can_be_drawn() -> None:
    assert "7" in chart({"x": envelope([7.0])}, "x", 60)


class _Ascii:
    encoding = "ascii"

    def isatty(self) -> bool:
        return False


def test_a_terminal_without_unicode_gets_plain_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts.sys, "stdout", _Ascii())
    drawn = chart({"x": envelope(numpy.arange(100.0))}, "x", 60)
    assert drawn.isascii()
    assert "*" in drawn


def test_the_absent_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotext", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pynetwork\[plot\]'"):
        require_plotext()


@pytest.mark.parametrize(("columns", "wanted"), [(100, 99), (10, 40), (5000, 400)])
def test_a_chart_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, wanted: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert chart_width() == wanted

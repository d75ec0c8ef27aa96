"""Charts in the terminal: any number of values, down-sampled so that no peak is lost."""

from __future__ import annotations

import importlib
import shutil
import sys
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy
import numpy.typing

from handshakes.errors import ConfigurationError
from pynetwork.cli.series.moments import iso_column, span

__all__ = ["Envelope", "chart", "chart_width", "require_plotext"]

Array: TypeAlias = "numpy.typing.NDArray[Any]"

_HEIGHT = 20
# Of what frames a chart, in letters that every terminal has.
_PLAIN = str.maketrans("─│┌┐└┘├┤┬┴┼", "-|+++++++++")


@dataclass
class Envelope:
    """The least and the greatest value within each of at most ``limit`` equal spans of time.

    The spans are as many nanoseconds as a power of two, and grow with the time between the first and the last value:
    so memory is bounded by ``limit``, and values may come in any order.
    """

    limit: int
    shift: int = 0
    count: int = 0
    first: int = 2**63 - 1
    last: int = -(2**63)
    _places: Array = field(default_factory=lambda: numpy.empty(0, numpy.int64))
    _least: Array = field(default_factory=lambda: numpy.empty(0))
    _greatest: Array = field(default_factory=lambda: numpy.empty(0))

    def add(self, times: Array, values: Array) -> None:
        """Take ``values`` (numbers or truths; what is none is left out) at ``times`` (nanoseconds)."""
        numbers = values.astype(numpy.float64)
        finite = numpy.isfinite(numbers)
        numbers, times = numbers[finite], times[finite]
        if not len(numbers):
            return
        self.count += len(numbers)
        self.first = min(self.first, int(times.min()))
        self.last = max(self.last, int(times.max()))
        places = numpy.concatenate([self._places, times >> self.shift])
        least = numpy.concatenate([self._least, numbers])
        greatest = numpy.concatenate([self._greatest, numbers])
        first, last = int(places.min()), int(places.max())
        while last - first >= self.limit:
            first, last, places = first >> 1, last >> 1, places >> 1
            self.shift += 1
        order = numpy.argsort(places, kind="stable")
        places = places[order]
        begins = numpy.flatnonzero(numpy.diff(places, prepend=places[0] - 1))
        self._places = places[begins]
        self._least = numpy.minimum.reduceat(least[order], begins)
        self._greatest = numpy.maximum.reduceat(greatest[order], begins)

    def points(self) -> tuple[Array, Array]:
        """Times (nanoseconds) and values of a line that goes through the least and the greatest value of each span."""
        middles = (self._places << self.shift) + (1 << self.shift >> 1)
        times = numpy.repeat(middles.clip(self.first, self.last), 2)
        values = numpy.stack([self._least, self._greatest], axis=1)
        # Up in one span and down in the next, so that the line between two spans is short.
        values[1::2] = values[1::2, ::-1]
        return times, values.reshape(-1)


def require_plotext() -> Any:
    """The package that draws. Raises `ConfigurationError` where it is not installed."""
    try:
        # Only now: it is an extra, and it takes a while.
        return importlib.import_module("plotext")
    except ImportError:
        raise ConfigurationError("--plot needs the package plotext: pip install 'pynetwork[plot]'") from None


def chart_width() -> int:
    """Columns of a chart on this terminal."""
    return max(40, min(400, shutil.get_terminal_size((100, 30)).columns - 1))


def chart(envelopes: dict[str, Envelope], title: str, width: int) -> str:
    """The envelopes of several lines, by their names, as a chart of so many columns. Raises as `require_plotext`."""
    plotext = require_plotext()
    points = {name: each.points() for name, each in envelopes.items() if each.count}
    plain = not _is_unicode()
    begin = min(each.first for each in envelopes.values() if each.count)
    end = max(each.last for each in envelopes.values() if each.count)
    plotext.clear_figure()
    plotext.theme("pro" if _coloured() else "clear")
    plotext.limit_size(False, False)
    plotext.plot_size(width, _HEIGHT)
    plotext.title(title)
    for name, (times, values) in points.items():
        seconds = (times.astype(numpy.float64) - begin) / 1e9
        plotext.plot(seconds.tolist(), values.tolist(), label=name, marker="*" if plain else "braille")
    ticks = max(1, width // 30 - 1)
    places = [begin + (end - begin) * tick // ticks for tick in range(ticks + 1)]
    plotext.xticks([(place - begin) / 1e9 for place in places], _labels(numpy.array(places), end - begin))
    plotext.xlabel(f"UTC, {span(end - begin)} from {iso_column(numpy.array([begin]))[0][:19]}Z")
    text = plotext.build()
    plotext.clear_figure()
    if not _coloured():
        text = plotext.uncolorize(text)
    if plain:
        text = text.translate(_PLAIN)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _labels(places: Array, length: int) -> list[str]:
    begin, end = (0, 10) if length > 7 * 86400 * 10**9 else (5, 16) if length > 86400 * 10**9 else (11, 19)
    if length < 10 * 10**9:
        end = 23
    return [each[begin:end].replace("T", " ") for each in iso_column(places)]


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def _coloured() -> bool:
    return sys.stdout.isatty()

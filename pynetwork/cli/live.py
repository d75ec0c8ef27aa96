"""The live view of `pynetwork demo`: one block on a terminal, elsewhere a line a second."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any, TextIO

from pynetwork.cli.display import size, visible

__all__ = ["LiveView", "describe"]

_BAR = 20


def describe(reading: dict[str, Any]) -> str:
    """The values of one reading, as people read them."""
    values, unit = reading["values"], reading["unit"]
    if unit == "B/s":
        return "  ".join(f"{visible(name)} {size(each)}/s" for name, each in values.items())
    if reading["sensor"] == "cpu":
        cores = "1 core" if len(values) == 1 else f"{len(values)} cores"
        return f"{sum(values.values()) / len(values):.0f} % of {cores}, busiest {max(values.values()):.0f} %"
    return "  ".join(f"{visible(name)} {each:g} {unit}".rstrip() for name, each in list(values.items())[:4])


def _bar(reading: dict[str, Any]) -> str:
    if reading["unit"] != "%":
        return " " * (_BAR + 2)
    values = list(reading["values"].values())
    percent = sum(values) / len(values) if reading["sensor"] == "cpu" else values[0]
    filled = min(_BAR, max(0, round(percent / 100 * _BAR)))
    return f"[{'#' * filled}{'.' * (_BAR - filled)}]"


class LiveView:
    """Shows the last reading of each sensor on ``stream`` (default: stderr). ``quiet`` shows nothing."""

    def __init__(self, seconds: float, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet = quiet
        # Older consoles of Windows show escape sequences in place of obeying them.
        self._redraws = self._stream.isatty() and os.name != "nt" and os.environ.get("TERM") != "dumb"
        self._period = 0.1 if self._redraws else 1.0
        self._began = time.monotonic()
        self._seconds = seconds
        self._due = self._began + (0.0 if self._redraws else self._period)
        self._height = 0
        self._count = 0
        self.last: dict[str, dict[str, Any]] = {}

    def show(self, reading: dict[str, Any]) -> None:
        """Take one reading, and draw when it is time for that."""
        self.last[reading["sensor"]] = reading
        self._count += 1
        now = time.monotonic()
        if not self._quiet and now >= self._due:
            self._due = max(self._due + self._period, now)
            self._draw(now)

    def _draw(self, now: float) -> None:
        if not self._redraws:
            shown = " | ".join(f"{name}: {describe(reading)}" for name, reading in sorted(self.last.items()))
            self._stream.write(f"  {now - self._began:4.1f} s  {shown}\n")
            self._stream.flush()
            return
        lines = [f"  {name:12} {_bar(each)}  {describe(each)}" for name, each in sorted(self.last.items())]
        left = max(0.0, self._seconds - (now - self._began))
        lines.append(f"  {self._count} readings, {left:.1f} s to go")
        width = shutil.get_terminal_size().columns - 1
        block = "".join(f"{line[:width]}\n" for line in lines)
        self._stream.write(self._rewind() + block)
        self._stream.flush()
        self._height = len(lines)

    def _rewind(self) -> str:
        """Back to the first line of the block, and away with what stands below."""
        return f"\x1b[{self._height}F\x1b[J" if self._height else ""

    def close(self) -> None:
        """Take the block away: what it showed is in the summary."""
        if self._redraws and not self._quiet:
            self._stream.write(self._rewind())
            self._stream.flush()
            self._height = 0

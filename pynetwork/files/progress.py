"""How far a job is, shown while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from handshakes.chunks import ChunkPlan

__all__ = ["Display", "Progress"]

Progress = Callable[[int, int, int, int], object]
"""Called now and then with bytes done, bytes in all, files done and files in all."""

_REFRESH = 0.05


class Display:
    """Shows progress, at most every `_REFRESH` seconds: by tqdm on stderr or by a callable."""

    def __init__(self, progress: bool | Progress | None, name: str, plan: ChunkPlan) -> None:
        self._plan = plan
        self._call = progress if callable(progress) else None
        self._next = 0.0
        self._bar: tqdm[Any] | None = None
        wanted = sys.stderr is not None and sys.stderr.isatty() if progress is None else progress is True
        if wanted:
            # Only now: importing it takes half as long as numpy.
            from tqdm import tqdm  # noqa: PLC0415

            self._bar = tqdm(
                total=plan.bytes_total, desc=name, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr
            )

    def show(self, *, last: bool = False) -> None:
        """Show how far the plan is, unless that was done a moment ago."""
        now = time.monotonic()
        if now < self._next and not last:
            return
        self._next = now + _REFRESH
        plan = self._plan
        if self._call is not None:
            self._call(plan.bytes_done, plan.bytes_total, plan.files_done, plan.files_total)
        if self._bar is not None:
            self._bar.total = plan.bytes_total
            self._bar.set_postfix_str(f"{plan.files_done}/{plan.files_total} files", refresh=False)
            self._bar.update(plan.bytes_done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()

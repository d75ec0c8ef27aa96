"""Everything that is written while backups run, on one thread: logs, a ring, small files, a folder that is renamed."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tools.soak.torture.lines import LINE, Lines
from tools.soak.torture.logs import Log, Reference
from tools.soak.torture.scene import BATCH, LOGS, OLD, RING, RING_LINES, SMALL, STREAMS

__all__ = ["Writer"]

_TICK = 0.02
_MOST_LINES = 20_000
"""At once, when the machine has been busy with other things."""
_SMALL_EVERY = 0.5
_SMALL_LINES = 40
_RING_EVERY = 5.0
_RING_BURST = 300
_BATCH_EVERY = 7.0
_BATCH_LINES = 2000
_BATCH_FILES = 10


class Writer:
    """Writes into ``source``, and all lines of each stream into a file of its own in ``reference``.

    ``rate``: bytes per second of all logs together; every log is rotated each ``rotate`` seconds.
    """

    def __init__(self, source: Path, reference: Path, *, rate: float, rotate: float, seed: str) -> None:
        self._source = source
        self._rate = rate
        self._rotate = rotate
        self._chance = random.Random(f"{seed} writer")
        self._references = {name: Reference(Lines(name, seed), reference) for name in STREAMS}
        self._logs = [Log(plan, source, self._references[plan.name]) for plan in LOGS]
        for name in (SMALL, OLD, "empty"):
            (source / name).mkdir()
        self._small = 0
        self._batch = source / f"{BATCH}-0"
        self._batch.mkdir()
        self._batches = 0
        self._add_to_batch()
        self._slot = 0
        (source / RING).write_bytes(self._references[RING].take(RING_LINES))

    @property
    def written(self) -> dict[str, int]:
        """Lines of each stream."""
        return {name: reference.number for name, reference in self._references.items()}

    @property
    def rotations(self) -> dict[str, int]:
        """How often each log was rotated."""
        return {log.plan.name: log.rotations for log in self._logs}

    def write(self, stop: threading.Event) -> None:
        """Write until ``stop`` is set."""
        jobs = [
            _Job(_SMALL_EVERY, self._write_small),
            _Job(_RING_EVERY, self._write_ring),
            _Job(_BATCH_EVERY, self._rename_batch),
            # One after the other, so that they are not all rotated in one go.
            *(
                _Job(self._rotate, log.rotate, self._rotate * (1 + number / len(self._logs)))
                for number, log in enumerate(self._logs)
            ),
        ]
        began = time.monotonic()
        while not stop.wait(_TICK):
            now = time.monotonic() - began
            for log in self._logs:
                self._catch_up(log, now)
            for job in jobs:
                job.do_when_due(now)

    def _catch_up(self, log: Log, now: float) -> None:
        due = int(now * self._rate * log.plan.share / LINE) - self._references[log.plan.name].number
        if (count := min(due, _MOST_LINES)) > 0:
            log.write(count, self._chance.randrange(count * LINE))

    def _write_small(self) -> None:
        self._small += 1
        lines = self._references[SMALL].take(self._chance.randint(1, _SMALL_LINES))
        (self._source / SMALL / f"{self._small:06}").write_bytes(lines)

    def _write_ring(self) -> None:
        """Line by line, so that the ring is in order at each moment: lines of one round, then of the one before."""
        handle = os.open(self._source / RING, os.O_WRONLY)
        try:
            for _ in range(_RING_BURST):
                os.pwrite(handle, self._references[RING].take(1), self._slot * LINE)
                self._slot = (self._slot + 1) % RING_LINES
        finally:
            os.close(handle)

    def _rename_batch(self) -> None:
        self._batches += 1
        renamed = self._source / f"{BATCH}-{self._batches}"
        self._batch.rename(renamed)
        self._batch = renamed
        if self._batches < _BATCH_FILES:
            self._add_to_batch()

    def _add_to_batch(self) -> None:
        lines = self._references[BATCH].take(self._chance.randint(1, _BATCH_LINES))
        (self._batch / str(self._batches)).write_bytes(lines)

    def close(self) -> None:
        """Finish what is being compressed, and close all files."""
        with ExitStack() as stack:
            for reference in self._references.values():
                stack.callback(reference.close)
            for log in self._logs:
                stack.callback(log.close)


class _Job:
    """Something to do ``every`` so many seconds, for the first time at ``first``."""

    def __init__(self, every: float, do: Callable[[], None], first: float | None = None) -> None:
        self._every = every
        self._do = do
        self._next = every if first is None else first

    def do_when_due(self, now: float) -> None:
        if now >= self._next:
            self._next = max(self._next + self._every, now)
            self._do()

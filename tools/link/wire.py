"""One direction of a link: when a packet arrives that is offered now, if at all. No sockets, no clock of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

__all__ = ["LEAST_QUEUE", "TRAFFIC_SIZE", "Traffic", "Wire", "usual_queue"]

LEAST_QUEUE = 256 << 10
_NANOSECONDS = 1_000_000_000


def usual_queue(rate: float, delay: float) -> int:
    """Bytes that a router's queue usually holds: what is on the way in one round trip, at least `LEAST_QUEUE`."""
    return max(LEAST_QUEUE, round(rate * 2 * delay))


@dataclass(frozen=True)
class Traffic:
    """What one direction has carried and what not. Bytes are those of IP packets, headers included.

    ``full`` counts what found the queue full, ``lost`` what was lost by chance; neither is among ``carried``.
    ``most_queued`` is the fullest that the queue was.
    """

    carried: int = 0
    carried_packets: int = 0
    full: int = 0
    full_packets: int = 0
    lost: int = 0
    lost_packets: int = 0
    most_queued: int = 0

    @property
    def dropped(self) -> int:
        """Bytes that did not arrive, for either reason."""
        return self.full + self.lost


_FIELDS = len(fields(Traffic))
TRAFFIC_SIZE = 8 * _FIELDS
"""Bytes that `Wire.share` needs for its figures."""


class Wire:
    """A queue of ``queue`` bytes; packets leave it at ``rate`` bytes a second and arrive ``delay`` seconds later.

    A packet that the queue has no room for is dropped, and so is, by chance, a ``loss`` (0 to 1) of all others.
    Without a rate nothing ever waits. ``figures`` is where it counts: the fields of a `Traffic`, as integers.
    """

    __slots__ = ("_backlog_limit", "_chance", "_delay", "_free_at", "_loss", "_pace", "figures")

    def __init__(
        self, rate: float | None, delay: float, loss: float, queue: int, seed: int, figures: memoryview | None = None
    ) -> None:
        self._pace = _NANOSECONDS / rate if rate else 0.0
        self._delay = round(delay * _NANOSECONDS)
        self._loss = loss
        self._backlog_limit = queue * self._pace
        self._chance = random.Random(seed).random
        self._free_at = 0.0
        self.figures = memoryview(bytearray(TRAFFIC_SIZE)).cast("Q") if figures is None else figures

    def admit(self, now: int, size: int) -> int | None:
        """When a packet of ``size`` bytes arrives that comes ``now`` (nanoseconds); None when it is dropped."""
        figures, pace = self.figures, self._pace
        free_at = max(self._free_at, now) + size * pace
        if pace:
            backlog = free_at - now
            if backlog > self._backlog_limit:
                figures[2] += size
                figures[3] += 1
                return None
            queued = int(backlog / pace)
            figures[6] = max(figures[6], queued)
            self._free_at = free_at
        if self._loss and self._chance() < self._loss:
            figures[4] += size
            figures[5] += 1
            return None
        figures[0] += size
        figures[1] += 1
        return int(free_at) + self._delay

    @staticmethod
    def traffic(figures: memoryview) -> Traffic:
        """The figures of a wire as they are now."""
        return Traffic(*figures)

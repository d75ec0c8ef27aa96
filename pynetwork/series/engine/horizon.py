"""Times of acquisition: unique, rising, and never below a time up to which an answer was said to be complete.

The clock may be set back, and the process may end at any moment. So what was given or answered always lies below a
time that stands on the disk, the reservation, and a store that is opened goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Horizon"]

_AHEAD: Final = 1_000_000_000


class Horizon:
    """What the next acquisition time is, in nanoseconds since 2001. The caller guards it and writes the reservation.

    ``reserved`` is the reservation on the disk; ``clock`` answers the time now.
    """

    def __init__(self, clock: Callable[[], int], reserved: int) -> None:
        self._clock = clock
        self._next = reserved
        self.reserved = reserved
        self._flying: int | None = None

    def give(self, count: int) -> int:
        """Give ``count`` times to records; the first of them. Until `landed`, the horizon stays below the first that
        was given.
        """
        first = self.upcoming()
        self._next = first + count
        if self._flying is None:
            self._flying = first
        return first

    def upcoming(self) -> int:
        """The least time that may be given next; it stays so when the clock is set back."""
        self._next = max(self._clock(), self._next)
        return self._next

    def landed(self) -> None:
        """Whoever looks now sees the records to which times were given, or they will never be seen."""
        self._flying = None

    def look(self) -> int:
        """The time up to which all that will ever get a lower one can be seen. To be answered only up to ``reserved``,
        and after `answered`.
        """
        if self._flying is not None:
            return min(self._flying, self.reserved)
        return self.upcoming()

    def answered(self, horizon: int) -> None:
        """``horizon`` was answered: nothing below it is given any more."""
        if self._flying is None:
            self._next = max(self._next, horizon)

    def wanted(self) -> int | None:
        """The reservation to write, together with what was given; None when the one on the disk will do."""
        return None if self._next <= self.reserved else self._next + _AHEAD

    def ahead(self) -> int:
        """The reservation to write before a horizon beyond the old one is answered."""
        return self.look() + _AHEAD

    def exact(self) -> int:
        """The reservation to write at the end. Whoever still comes needs another one."""
        self.reserved = min(self.reserved, self._next)
        return self._next

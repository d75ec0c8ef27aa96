"""What a reader sees: blocks, records taken out of them, and the recent part, all as of one moment.

A block that was merged, replaced or expired leaves the current version at once. Its content is removed from the disk
when no version that a reader holds has it.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy

from handshakes.records import Array, Block
from pynetwork.series.engine.horizon import Horizon
from pynetwork.series.engine.recent import Recent
from pynetwork.series.engine.zones import Figures, Zones, greatest_acq

__all__ = ["Change", "Version", "Versions"]


class Version(NamedTuple):
    """What is there at one moment. ``gone``: by the number of a block, the indices of its records that are not."""

    number: int
    zones: Zones
    gone: Mapping[int, Array]
    recent: tuple[Block, ...]
    horizon: int


@dataclass
class Change:
    """What one transaction changes.

    - ``added``: figures of new blocks, whose contents are written.
    - ``removed``: numbers of blocks that are not there any more.
    - ``gone``: by the number of a block, all indices of its records that are not there any more.
    - ``journalled``: records that came to the recent part; ``replaced``: keys that leave it before.
    - ``folded``: the recent part is in ``added`` now.
    """

    added: list[Figures] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)
    gone: dict[int, Array] = field(default_factory=dict)
    journalled: list[Block] = field(default_factory=list)
    replaced: Array | None = None
    folded: bool = False

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.added or self.removed or self.gone or self.journalled or self.folded)


class Versions:
    """The current version, and those that readers hold. Safe in many threads.

    ``lock`` guards also ``horizon`` and ``recent``; nothing that takes long is done under it.
    """

    def __init__(self, zones: Zones, gone: Mapping[int, Array], recent: Recent, horizon: Horizon) -> None:
        self.lock = threading.Lock()
        self.zones = zones
        self.gone = gone
        self.recent = recent
        self.horizon = horizon
        self._number = 0
        self._held: Counter[int] = Counter()
        self._released: deque[int] = deque()
        self._leaving: list[tuple[int, Sequence[int]]] = []
        self.greatest = _greatest(zones, recent)

    def hold(self, horizon: int | None = None) -> Version | None:
        """The current version, to be released; its horizon is that of now, or at most ``horizon``. None when the
        horizon of now may not be answered before it is reserved.
        """
        with self.lock:
            now = self.horizon.look()
            if horizon is not None:
                now = min(now, horizon)
            if now > self.horizon.reserved:
                return None
            self.horizon.answered(now)
            self._settle()
            self._held[self._number] += 1
            return Version(self._number, self.zones, self.gone, self.recent.parts(), now)

    def release(self, version: Version) -> None:
        """Nobody reads ``version`` here any more."""
        # Without the lock: Python may collect a reader at any moment, in a thread that has it.
        self._released.append(version.number)

    def _settle(self) -> None:
        while self._released:
            number = self._released.popleft()
            self._held[number] -= 1
            if not self._held[number]:
                del self._held[number]

    def publish(self, change: Change, reserved: int | None = None) -> None:
        """What is committed is there for everybody who looks from now on; ``reserved``: so is a new reservation."""
        with self.lock:
            if reserved is not None:
                self.horizon.reserved = reserved
            if change.folded:
                self.recent.clear()
            if change.replaced is not None:
                self.recent.remove(change.replaced)
            for block in change.journalled:
                self.recent.add(block)
                self.greatest = max(self.greatest, greatest_acq(block))
            for figures in change.added:
                self.greatest = max(self.greatest, figures["acq_max"])
            if change.removed:
                self._number += 1
                self._leaving.append((self._number, list(change.removed)))
                self.zones = self.zones.removing(change.removed)
            self.zones = self.zones.adding(change.added)
            if change.gone or change.removed:
                merged = {**self.gone, **change.gone}
                for number in change.removed:
                    merged.pop(number, None)
                self.gone = MappingProxyType(merged)
            self.horizon.landed()

    def failed(self) -> None:
        """What was to be published could not be committed."""
        with self.lock:
            self.horizon.landed()

    def renew(self, zones: Zones, gone: Mapping[int, Array], recent: Recent, reserved: int) -> None:
        """This is what is there, whatever was published."""
        with self.lock:
            left = numpy.setdiff1d(self.zones.column("id"), zones.column("id")).tolist()
            if left:
                self._number += 1
                self._leaving.append((self._number, left))
            self.zones, self.gone, self.recent = zones, gone, recent
            self.greatest = max(self.greatest, _greatest(zones, recent))
            self.horizon.reserved = max(reserved, self.horizon.reserved)
            self.horizon.landed()

    def leave(self, numbers: Sequence[int]) -> None:
        """Contents of these numbers, which nobody sees, are to be removed."""
        if numbers:
            with self.lock:
                self._leaving.append((0, numbers))

    @property
    def leaving(self) -> bool:
        """Whether there are blocks that nobody can see any more, or that will be so."""
        return bool(self._leaving)

    def unneeded(self) -> list[int]:
        """The numbers of the blocks that nobody can see any more, each once."""
        with self.lock:
            self._settle()
            oldest = min(self._held, default=self._number)
            freed = [number for since, numbers in self._leaving if since <= oldest for number in numbers]
            self._leaving = [(since, numbers) for since, numbers in self._leaving if since > oldest]
            return freed


def _greatest(zones: Zones, recent: Recent) -> int:
    """The greatest time of acquisition of all."""
    greatest = int(zones.column("acq_max").max()) if len(zones) else -(1 << 63)
    return max([greatest, *map(greatest_acq, recent.parts())])

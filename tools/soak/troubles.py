"""What goes wrong on purpose: when, whom it befalls, and which errors it explains."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.soak.operations import ALONE
from tools.soak.turns import DIALLING, Failure

__all__ = ["Ill", "Trouble", "explained", "schedule"]

LINK_EVERY = 2.0
CONTROLLER_EVERY = 15.0
GATEWAY_EVERY = 120.0
GRACE = 1.0
"""Seconds that it may take until the end of a trouble is known everywhere."""
_OF_ONE_LINK = frozenset([DIALLING, *(operation.name for operation in ALONE)])


class Ill(enum.Enum):
    """What can go wrong."""

    RESET = "connections reset"
    END = "connections ended in order"
    BREAK = "one connection reset in the middle"
    HALF_CLOSE = "one direction ended"
    STALL = "one direction stalled"
    KILL_CONTROLLER = "controller killed"
    KILL_GATEWAY = "gateway killed"
    STOP_GATEWAY = "gateway stopped by SIGTERM"


_OF_LINKS = (Ill.RESET, Ill.END, Ill.BREAK, Ill.HALF_CLOSE, Ill.STALL)
_OF_GATEWAYS = (Ill.KILL_GATEWAY, Ill.STOP_GATEWAY)


@dataclass
class Trouble:
    """Something that goes wrong ``at`` so many seconds after the beginning. ``victim`` is the number of a controller,
    or of the one whose links suffer; all do when it is the gateway. ``began`` and ``ended`` are known when it has.
    """

    at: float
    ill: Ill
    victim: int
    began: float | None = None
    ended: float | None = None

    @property
    def of_gateway(self) -> bool:
        """Whether all controllers feel it."""
        return self.ill in _OF_GATEWAYS

    def explains(self, failure: Failure, victim: int) -> bool:
        """Whether this is why an operation of controller ``victim`` failed.

        A client loses its connection, a swarm only its gateway: it replaces lanes that are lost. A stall is shorter
        than every deadline, and who is killed has nothing to tell; neither explains anything.
        """
        if failure.kind != "ConnectionLost" or self.began is None or failure.ended < self.began:
            return False
        if self.ended is not None and failure.since > self.ended + GRACE:
            return False
        if self.of_gateway:
            return True
        of_links = self.ill in _OF_LINKS and self.ill is not Ill.STALL
        return of_links and self.victim == victim and failure.operation in _OF_ONE_LINK


def explained(failure: Failure, victim: int, troubles: Iterable[Trouble]) -> bool:
    """Whether any of these troubles is why."""
    return any(trouble.explains(failure, victim) for trouble in troubles)


def schedule(seconds: float, controllers: int, mortal: Sequence[int], chance: random.Random) -> list[Trouble]:
    """All troubles of a soak, in order.

    Of the controllers only the ``mortal`` ones are killed, and the gateway in the first half only, so that there are
    long lives to be judged; the end is quiet.
    """
    end = 0.9 * seconds
    troubles = [
        Trouble(at, ill, chance.randrange(controllers))
        for at, ill in zip(*_spread(chance, _OF_LINKS, end, LINK_EVERY), strict=True)
    ]
    for at, ill in zip(*_spread(chance, (Ill.KILL_CONTROLLER,), end, CONTROLLER_EVERY), strict=True):
        troubles.append(Trouble(at, ill, chance.choice(mortal)))
    for at, ill in zip(*_spread(chance, _OF_GATEWAYS, seconds / 2, GATEWAY_EVERY), strict=True):
        troubles.append(Trouble(at, ill, 0))
    return sorted(troubles, key=lambda trouble: trouble.at)


def _spread(chance: random.Random, ills: Sequence[Ill], end: float, every: float) -> tuple[list[float], list[Ill]]:
    """Moments before ``end``, and what happens then: each of ``ills`` once at least."""
    count = max(len(ills), round(end / every))
    found = [*ills, *chance.choices(ills, k=count - len(ills))]
    chance.shuffle(found)
    return sorted(chance.uniform(0.1 * end, end) for _ in found), found

"""What goes wrong on purpose in a torture run, and which errors it explains."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable
from dataclasses import dataclass

from tools.soak.turns import Failure

__all__ = ["KILLS", "Ill", "Trouble", "explained", "schedule"]

_ABSENCE_EVERY = 50
_GRACE = 1.0
"""Seconds that it may take until a controller feels what happened."""


class Ill(enum.Enum):
    """What can go wrong."""

    KILL_GATEWAY = "gateway killed"
    KILL_CONTROLLER = "controller killed"
    CUT = "all links cut"
    ABSENCE = "controller killed, and away while logs are rotated"
    FLIP = "a bit flipped on the wire"


KILLS = (Ill.KILL_GATEWAY, Ill.KILL_CONTROLLER, Ill.CUT)


@dataclass
class Trouble:
    """Something that goes wrong ``at`` so many seconds after the beginning; ``began`` and ``ended``, on the clock of
    `time.monotonic`, are known when it has.
    """

    at: float
    ill: Ill
    began: float | None = None
    ended: float | None = None

    def explains(self, failure: Failure) -> bool:
        """Whether this is why a backup failed. Who is killed has nothing to tell, and a flipped bit can be read as
        anything.
        """
        kinds = {Ill.KILL_GATEWAY: "ConnectionLost", Ill.CUT: "ConnectionLost", Ill.FLIP: failure.kind}
        if self.began is None or failure.kind != kinds.get(self.ill) or failure.ended < self.began:
            return False
        return self.ended is None or failure.since <= self.ended + _GRACE


def explained(failure: Failure, troubles: Iterable[Trouble]) -> bool:
    """Whether any of these troubles is why."""
    return any(trouble.explains(failure) for trouble in troubles)


def schedule(kills: int, flips: int, seconds: float, chance: random.Random) -> list[Trouble]:
    """All troubles of a run, in order: ``kills`` of the gateway, the controller and the links, as many of each but for
    one, of which one in fifty (and one at least) is an absence; and ``flips``.
    """
    ills = [KILLS[number % len(KILLS)] for number in range(kills)]
    chance.shuffle(ills)
    moments = sorted(chance.uniform(0, seconds) for _ in range(kills))
    troubles = [Trouble(at, ill) for at, ill in zip(moments, ills, strict=True)]
    # Not at the very end, where it would not be an absence.
    killed = [each for each in troubles if each.ill is Ill.KILL_CONTROLLER and each.at < 0.8 * seconds]
    for trouble in chance.sample(killed, min(len(killed), -(-kills // _ABSENCE_EVERY))):
        trouble.ill = Ill.ABSENCE
    troubles += [Trouble(chance.uniform(0, seconds), Ill.FLIP) for _ in range(flips)]
    return sorted(troubles, key=lambda trouble: trouble.at)

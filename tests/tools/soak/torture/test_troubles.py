from __future__ import annotations

import random
from collections import Counter

import pytest

from tools.soak.torture.troubles import KILLS, Ill, Trouble, explained, schedule
from tools.soak.turns import Failure


def failure(kind: str, since: float, ended: float) -> Failure:
    return Failure("backup", kind, "", since, ended)


@pytest.mark.parametrize("kills", [1, 3, 20, 200])
def test_all_kinds_of_kills_by_chance(kills: int) -> None:
    troubles = schedule(kills, 5, 100.0, random.Random(1))
    counts = Counter(trouble.ill for trouble in troubles)
    assert counts.pop(Ill.FLIP) == 5
    assert counts.total() == kills
    if kills >= 20:
        assert counts[Ill.ABSENCE] == -(-kills // 50)
        counts[Ill.KILL_CONTROLLER] += counts[Ill.ABSENCE]
        assert max(counts[ill] for ill in KILLS) - min(counts[ill] for ill in KILLS) <= 1
        assert all(trouble.at < 80 for trouble in troubles if trouble.ill is Ill.ABSENCE)
    assert [trouble.at for trouble in troubles] == sorted(trouble.at for trouble in troubles)
    assert all(0 <= trouble.at <= 100 for trouble in troubles)
    assert troubles == schedule(kills, 5, 100.0, random.Random(1))
    assert troubles != schedule(kills, 5, 100.0, random.Random(2))


@pytest.mark.parametrize(
    ("ill", "kind", "explains"),
    [
        (Ill.KILL_GATEWAY, "ConnectionLost", True),
        (Ill.CUT, "ConnectionLost", True),
        (Ill.CUT, "RemoteProtocolError", False),
        (Ill.KILL_CONTROLLER, "ConnectionLost", False),
        (Ill.ABSENCE, "ConnectionLost", False),
        (Ill.FLIP, "RemoteProtocolError", True),
    ],
)
def test_what_explains_a_failure(ill: Ill, kind: str, explains: bool) -> None:
    trouble = Trouble(0, ill, began=10, ended=11)
    assert explained(failure(kind, 9, 10.5), [trouble]) == explains
    assert not explained(failure(kind, 8, 9), [trouble])
    assert explained(failure(kind, 11.5, 12), [trouble]) == explains
    assert not explained(failure(kind, 12.5, 13), [trouble])
    trouble.ended = None
    assert explained(failure(kind, 50, 51), [trouble]) == explains
    trouble.began = None
    assert not explained(failure(kind, 50, 51), [trouble])

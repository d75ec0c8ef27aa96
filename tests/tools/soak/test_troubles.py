from __future__ import annotations

import random

import pytest

from tools.soak.operations import ALONE, TOGETHER
from tools.soak.troubles import GRACE, Ill, Trouble, explained, schedule
from tools.soak.turns import CLOSING, DIALLING, Failure

MORTAL = (2, 3)


@pytest.mark.parametrize("seconds", [5.0, 60.0, 3600.0])
def test_everything_happens_when_it_may(seconds: float) -> None:
    troubles = schedule(seconds, 4, MORTAL, random.Random(7))
    assert {trouble.ill for trouble in troubles} == set(Ill)
    assert [trouble.at for trouble in troubles] == sorted(trouble.at for trouble in troubles)
    for trouble in troubles:
        assert 0 < trouble.at < 0.9 * seconds
        assert 0 <= trouble.victim < 4
        if trouble.ill is Ill.KILL_CONTROLLER:
            assert trouble.victim in MORTAL
        if trouble.of_gateway:
            assert trouble.at < seconds / 2


def test_chance_is_what_its_seed_makes_it() -> None:
    made = [schedule(100, 4, MORTAL, random.Random(seed)) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def failure(operation: str, since: float, ended: float, kind: str = "ConnectionLost") -> Failure:
    return Failure(operation, kind, "", since, ended)


ONES = [DIALLING, *(operation.name for operation in ALONE)]
MANY = [operation.name for operation in TOGETHER]


@pytest.mark.parametrize("ill", Ill)
@pytest.mark.parametrize("operation", [*ONES, *MANY, CLOSING])
def test_what_explains_what(ill: Ill, operation: str) -> None:
    trouble = Trouble(0, ill, 2, began=10, ended=11)
    of_gateway = ill in (Ill.KILL_GATEWAY, Ill.STOP_GATEWAY)
    of_link = ill in (Ill.RESET, Ill.END, Ill.BREAK, Ill.HALF_CLOSE)
    lost = failure(operation, 9, 12)
    assert explained(lost, 2, [trouble]) == (of_gateway or (of_link and operation in ONES))
    # The links of one controller are no matter to others; the gateway is.
    assert explained(lost, 1, [trouble]) == of_gateway
    for kind in ("wrong", "hung", "DeadlineExceeded", "RemoteProtocolError", "PoolFull", "ZeroDivisionError"):
        assert not explained(failure(operation, 9, 12, kind), 2, [trouble])


@pytest.mark.parametrize(
    ("since", "ended", "explains"),
    [(9, 9.9, False), (9, 10, True), (10.5, 10.6, True), (11 + GRACE / 2, 20, True), (11.1 + GRACE, 20, False)],
)
def test_only_what_happened_then_explains(since: float, ended: float, explains: bool) -> None:
    assert explained(failure("call", since, ended), 2, [Trouble(0, Ill.RESET, 2, began=10, ended=11)]) == explains


def test_a_fault_that_lies_in_wait_explains_until_it_has_happened() -> None:
    assert explained(failure("call", 500, 501), 2, [Trouble(0, Ill.BREAK, 2, began=10)])
    assert not explained(failure("call", 500, 501), 2, [Trouble(0, Ill.BREAK, 2)])

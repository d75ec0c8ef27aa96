from __future__ import annotations

from pynetwork.series.engine.horizon import Horizon
from tests.pynetwork.series.engine.small import Clock


def test_what_is_given_is_unique_and_follows_the_clock() -> None:
    clock = Clock(100)
    horizon = Horizon(clock, 0)
    assert (horizon.give(3), horizon.give(2)) == (100, 103)
    clock.now = 50
    assert horizon.give(1) == 105
    clock.now = 1000
    assert horizon.give(1) == 1000


def test_nothing_given_is_below_what_was_reserved_or_answered() -> None:
    clock = Clock(10)
    horizon = Horizon(clock, 500)
    assert horizon.look() == 500
    clock.now = 700
    seen = horizon.look()
    horizon.answered(seen)
    clock.now = 0
    assert horizon.give(1) == seen == 700


def test_until_it_has_landed_the_horizon_stays_below_what_was_given() -> None:
    clock = Clock(100)
    horizon = Horizon(clock, 10_000)
    first = horizon.give(5)
    horizon.give(5)
    assert horizon.look() == first == 10_000
    horizon.landed()
    assert horizon.look() == 10_010


def test_a_reservation_is_wanted_when_more_was_given_than_is_reserved() -> None:
    horizon = Horizon(Clock(100), 0)
    assert horizon.wanted() is None
    horizon.give(5)
    assert horizon.look() == 0
    wanted = horizon.wanted()
    assert wanted is not None
    assert wanted > 105
    horizon.reserved = wanted
    horizon.landed()
    assert horizon.wanted() is None
    assert horizon.exact() == 105
    assert horizon.ahead() > horizon.look()


def test_what_was_looked_at_stays_when_the_clock_is_set_back() -> None:
    now = [100]
    horizon = Horizon(lambda: now[0], 0)
    assert horizon.upcoming() == 100
    now[0] = 50
    assert horizon.give(1) == 100


def test_after_the_last_reservation_another_one_is_wanted() -> None:
    horizon = Horizon(Clock(100), 0)
    horizon.reserved = 1000
    horizon.give(1)
    assert horizon.exact() == horizon.reserved == 101
    horizon.give(1)
    assert horizon.wanted() is not None

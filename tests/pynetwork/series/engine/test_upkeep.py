"""What a store does by itself: due or not, urgent or not, failing, stopped in the middle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pynetwork.series.engine.upkeep import Chore, Upkeep
from tests.waiting import wait_until

NEVER = 3600.0
Start = Callable[..., Upkeep]


class Work:
    """A chore that is due as often as it is told to be. ``asked``: how often somebody wanted to know whether it is."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.left = 0
        self.done = 0
        self.asked = 0
        self.failure = failure

    def due(self) -> bool:
        self.asked += 1
        return self.left > 0

    def do(self) -> None:
        # Who sees that nothing is left may let the next one fail in another way.
        failure = self.failure
        self.left -= 1
        if failure is not None:
            raise failure
        self.done += 1


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Upkeep] = []

    def start(*chores: Chore, every: float = NEVER) -> Upkeep:
        started.append(Upkeep(chores, every))
        return started[-1]

    yield start
    for upkeep in started:
        upkeep.stop()


def test_what_is_due_is_done_when_somebody_looks(start: Start) -> None:
    work = Work()
    upkeep = start(Chore(work.due, work.do))
    for done in range(1, 4):
        work.left = 1
        upkeep.look()
        wait_until(lambda done=done: work.done == done)  # type: ignore[misc]
        # It waits for the next one, and does not look again and again: once each, as did who called.
        wait_until(lambda: not upkeep._wanted.is_set())
        assert work.asked == 2 * done


def test_what_is_not_due_is_not_done(start: Start) -> None:
    work, other = Work(), Work()
    upkeep = start(Chore(work.due, work.do), Chore(other.due, other.do))
    other.left = 1
    upkeep.look()
    wait_until(lambda: other.done == 1)
    upkeep.stop()
    assert work.done == 0
    assert work.left == 0


def test_by_and_by_it_looks_by_itself(start: Start) -> None:
    work = Work()
    start(Chore(work.due, work.do, urgent=False), every=0.001)
    work.left = 3
    wait_until(lambda: work.done == 3)
    asked = work.asked
    wait_until(lambda: work.asked > asked)
    assert (work.done, work.left) == (3, 0)


def test_what_is_not_urgent_wakes_nobody_but_is_done_with_what_is(start: Start) -> None:
    calm, urgent = Work(), Work()
    upkeep = start(Chore(urgent.due, urgent.do), Chore(calm.due, calm.do, urgent=False))
    calm.left = 1
    upkeep.look()
    assert not upkeep._wanted.is_set()
    assert (urgent.asked, calm.asked) == (1, 0)
    urgent.left = 1
    upkeep.look()
    wait_until(lambda: calm.done == 1)
    assert (urgent.done, urgent.left, calm.left) == (1, 0, 0)


def test_what_fails_is_told_once_until_it_is_done(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    failing, other = Work(), Work()
    upkeep = start(Chore(failing.due, failing.do), Chore(other.due, other.do), every=0.001)
    for failure in (OSError("full"), None, OSError("full"), OSError("gone")):
        failing.failure = failure
        failing.left = other.left = 3
        wait_until(lambda: failing.left == other.left == 0)
    upkeep.stop()
    assert upkeep.failure is failing.failure
    assert [record.getMessage() for record in caplog.records] == [
        f"the store can't be kept in order, and tries again: {reason}" for reason in ("full", "full", "gone")
    ]


def test_what_fails_is_kept_and_tried_again_and_the_others_are_done(start: Start) -> None:
    failing, other = Work(OSError("full")), Work()
    upkeep = start(Chore(failing.due, failing.do), Chore(other.due, other.do), every=0.001)
    failing.left, other.left = 3, 1
    wait_until(lambda: failing.left == 0 and other.done == 1)
    wait_until(lambda: upkeep.failure is failing.failure)
    assert (failing.done, failing.left, other.left) == (0, 0, 0)
    failed, failing.failure = failing.failure, None
    failing.left = 1
    upkeep.look()
    wait_until(lambda: failing.done == 1)
    assert upkeep.failure is failed


def test_a_chore_that_can_not_say_whether_it_is_due_does_not_end_it(start: Start) -> None:
    failure = ValueError("unknown")

    def due() -> bool:
        raise failure

    work = Work()
    upkeep = start(Chore(due, work.do, urgent=False), Chore(work.due, work.do), every=0.001)
    work.left = 1
    wait_until(lambda: work.done == 1)
    assert upkeep.failure is failure


def test_stopping_waits_for_what_is_being_done_and_leaves_off_the_rest(start: Start) -> None:
    begun, told = threading.Event(), threading.Event()
    after = Work()
    after.left = 1
    ended: list[bool] = []

    def do() -> None:
        begun.set()
        wait_until(lambda: upkeep.stopping)
        assert told.wait(10)
        ended.append(True)

    upkeep = start(Chore(lambda: not ended, do), Chore(after.due, after.do))
    assert not upkeep.stopping
    upkeep.look()
    assert begun.wait(10)
    stopper = threading.Thread(target=upkeep.stop)
    stopper.start()
    wait_until(lambda: upkeep.stopping)
    assert stopper.is_alive()
    told.set()
    stopper.join(10)
    assert (ended, after.done) == ([True], 0)


def test_nothing_is_done_any_more_when_it_has_stopped(start: Start) -> None:
    work = Work()
    upkeep = start(Chore(work.due, work.do), every=0.001)
    upkeep.stop()
    upkeep.stop()
    assert not upkeep._thread.is_alive()
    work.left = 1
    upkeep.look()
    assert work.done == 0

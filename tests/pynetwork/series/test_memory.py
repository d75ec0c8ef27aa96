from __future__ import annotations

import pytest

from handshakes.errors import Closed, DeadlineExceeded
from pynetwork.series import memory as memory_module
from pynetwork.series.memory import Budget, Memory, Share
from pynetwork.transport import MemoryStream
from tests.serving import Background
from tests.waiting import wait_until


def shares(memory: Memory, count: int) -> list[Share]:
    return [Share(memory, MemoryStream.pair()[0]) for _ in range(count)]


def test_what_is_held_is_left_no_more_and_given_back() -> None:
    memory = Memory(100)
    one, other = shares(memory, 2)
    one.hold(60)
    other.hold(40)
    assert memory.in_use == 100
    one.release()
    assert memory.in_use == 40
    other.hold(30)  # it holds more already
    assert memory.in_use == 40
    other.hold(100)
    assert (memory.in_use, other.size) == (100, 100)
    other.release()
    other.release()
    assert memory.in_use == 0


def test_nobody_gets_more_than_there_is() -> None:
    memory = Memory(100)
    (one,) = shares(memory, 1)
    one.hold(1000)
    assert one.size == 100


def test_who_wants_more_than_is_left_waits_in_turn() -> None:
    memory = Memory(100)
    one, large, small = shares(memory, 3)
    one.hold(50)
    waiting = Background(large.hold, 90)
    wait_until(lambda: len(memory._queue) == 1)
    second = Background(small.hold, 10)
    wait_until(lambda: len(memory._queue) == 2)
    assert not second.done  # or those who want little would keep others waiting for ever
    one.release()
    waiting.result()
    second.result()
    assert memory.in_use == 100


def test_two_that_hold_and_want_more_do_not_wait_for_each_other() -> None:
    memory = Memory(100)
    one, other = shares(memory, 2)
    one.hold(50)
    other.hold(50)
    first = Background(one.hold, 100)
    wait_until(lambda: one.size == 0)
    second = Background(other.hold, 100)
    first.result()
    one.release()
    second.result()
    assert (one.size, other.size) == (0, 100)


def test_who_stands_still_is_dropped_when_others_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory_module, "HURRIED_TIMEOUT", 0.0)
    monkeypatch.setattr(memory_module, "_LOOK", 0.01)
    memory = Memory(100)
    near, far = MemoryStream.pair()
    still, busy, wanting = Share(memory, near), *shares(memory, 2)
    still.hold(50)
    busy.hold(50)
    still.waiting_since = 0.0
    waiting = Background(wanting.hold, 50)
    assert far.receive_into(memoryview(bytearray(1)), 20.0) == 0
    still.release()
    waiting.result()
    assert "stood still while others waited for its memory" in caplog.text
    assert busy.size == 50


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "PATIENCE", 0.0)
    memory = Memory(100)
    one, other = shares(memory, 2)
    one.hold(100)
    with pytest.raises(DeadlineExceeded, match="raise memory="):
        other.hold(1)
    one.release()
    other.hold(100)


def test_the_parts_of_a_budget_are_apart_and_end_together() -> None:
    budget = Budget(48 << 20, 256)
    assert budget.small * 256 + budget.shares.size + budget.bulk.size * (6 << 20) < 48 << 20
    assert (budget.bulk.size, budget.large.size) == (2, 1)
    stream, _ = MemoryStream.pair()
    one, other = Share(budget.large, stream), Share(budget.large, stream)
    one.hold(1)
    assert budget.shares.in_use == 0
    waiting = Background(other.hold, 1)
    wait_until(lambda: budget.large._queue)
    budget.close()
    with pytest.raises(Closed):
        waiting.result()


def test_who_waits_when_it_is_closed_learns_it() -> None:
    memory = Memory(100)
    one, other = shares(memory, 2)
    one.hold(100)
    waiting = Background(other.hold, 1)
    wait_until(lambda: memory._queue)
    memory.close()
    with pytest.raises(Closed, match="the server has stopped"):
        waiting.result()
    one.release()

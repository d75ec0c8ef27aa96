from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost, ItemFailed
from tests.serving import PATIENCE
from tests.waiting import wait_until
from tools.soak.operations import Operation, Scene, Wrong
from tools.soak.turns import CLOSING, DIALLING, Failure, Turns

SCENE = Scene(Path(), Path(), Path(), "somebody")


class Caller:
    closed = False

    def close(self) -> None:
        self.closed = True


class Told:
    """Turns with one operation, and what they tell."""

    def __init__(self, run: Callable[[Any], None], dial: Callable[[], Any] | None = None, lasting: bool = True) -> None:
        self.callers: list[Caller] = []
        self.failures: list[Failure] = []
        operation = Operation("it", lambda caller, _chance, _scene: run(caller))
        self.turns = Turns(
            dial or self.dial, [operation], SCENE, random.Random(1), self.failures.append, lasting=lasting
        )

    def dial(self) -> Caller:
        self.callers.append(Caller())
        return self.callers[-1]

    def __enter__(self) -> Told:
        self.turns.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.turns.stop()
        self.turns.thread.join(PATIENCE)


def test_it_dials_works_closes_and_dials_again() -> None:
    with Told(lambda _caller: None) as told:
        wait_until(lambda: len(told.callers) > 3, PATIENCE)
    assert all(caller.closed for caller in told.callers)
    assert not told.failures
    counts = told.turns.counts()
    assert counts[DIALLING].right == counts[CLOSING].right == len(told.callers)
    assert counts["it"].right >= len(told.callers) - 1
    assert told.turns.counts() == {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionLost("gone"), "ConnectionLost"),
        (Wrong("other"), "wrong"),
        (ItemFailed(3, "item", ConnectionLost("gone")), "ConnectionLost"),
        (ZeroDivisionError("oops"), "ZeroDivisionError"),
    ],
)
def test_what_fails_is_told_and_dialled_anew(error: Exception, kind: str) -> None:
    def fail(_caller: Any) -> None:
        raise error

    with Told(fail) as told:
        wait_until(lambda: len(told.failures) > 2, PATIENCE)
    assert {(failure.operation, failure.kind) for failure in told.failures} == {("it", kind)}
    # Of an error that nobody expects one wants to know where it was.
    assert ("Traceback" in told.failures[0].text) == (kind == "ZeroDivisionError")
    assert len(told.callers) >= 3
    assert Failure.from_json(told.failures[0].to_json()) == told.failures[0]


def test_a_dial_that_fails_is_told() -> None:
    def dial() -> Any:
        raise ConnectionLost("nobody there")

    with Told(lambda _caller: None, dial) as told:
        wait_until(lambda: len(told.failures) > 1, PATIENCE)
    assert {failure.operation for failure in told.failures} == {DIALLING}


@pytest.mark.parametrize("lasting", [True, False])
def test_since_when_a_failure_can_be_explained(lasting: bool) -> None:
    """A client's loss may have come before the operation that noticed it; its last success was before that."""
    first, second = threading.Event(), threading.Event()
    calls: list[float] = []

    def run(_caller: Any) -> None:
        calls.append(0)
        if len(calls) == 1:
            assert first.wait(PATIENCE)
        elif len(calls) == 2:
            assert second.wait(PATIENCE)
            raise ConnectionLost("gone")

    with Told(run, lasting=lasting) as told:
        wait_until(lambda: told.turns.hanging(0.02), PATIENCE)
        first.set()
        wait_until(lambda: len(calls) == 2 and told.turns.hanging(0), PATIENCE)
        hanging = told.turns.hanging(0)
        assert hanging is not None
        name, began = hanging
        second.set()
        wait_until(lambda: told.failures, PATIENCE)
    assert name == "it"
    failure = told.failures[0]
    assert (failure.since < began) == lasting
    assert began <= failure.ended
    assert told.turns.hanging(0) is None

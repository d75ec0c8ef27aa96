"""Sans I/O: what becomes of an operation with each event and error, for a pair that only notes what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from handshakes.connection import Connection, Phase, Role
from handshakes.errors import (
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    NotFound,
    OperationAborted,
    RemoteFault,
    RemoteProtocolError,
    ValueNotSupported,
)
from handshakes.messages import Event, Fault, Goodbye, Items, Message, Result
from pynetwork.operation import OperationState, message_of, raise_fault

MESSAGE = Message(1, memoryview(b"head"), memoryview(b"body"))
ITEMS = Items(0, [7], [b"seven"])


class NotingPair:
    peer = "nowhere:1"

    def __init__(self) -> None:
        self.closed = False
        self.connection = Connection(Role.CLIENT, nonce=b"c" * 32)
        self.released = 0
        self.lost: BaseException | None = None

    def release(self) -> None:
        self.released += 1

    def lose(self, error: BaseException) -> None:
        self.lost = error


class Operation(OperationState):
    def __init__(self, pair: NotingPair) -> None:
        super().__init__(pair)
        self.aborted = 0

    def abort(self) -> None:
        self.aborted += 1

    @property
    def value(self) -> Any:
        return self._value


@pytest.fixture
def pair() -> NotingPair:
    return NotingPair()


@pytest.fixture
def operation(pair: NotingPair) -> Operation:
    return Operation(pair)


@pytest.mark.parametrize("event", [MESSAGE, ITEMS], ids=["message", "items"])
def test_what_belongs_to_it_is_passed_on(pair: NotingPair, operation: Operation, event: Event) -> None:
    assert operation._take(event) is event
    assert (operation.ended, pair.released) == (False, 0)


def test_its_result_ends_it(pair: NotingPair, operation: Operation) -> None:
    assert operation._take(Result({"the": "end"})) is None
    assert operation.value == {"the": "end"}
    assert (operation.ended, pair.released, pair.lost) == (True, 1, None)


def test_a_fault_ends_it_and_leaves_the_pair(pair: NotingPair, operation: Operation) -> None:
    with pytest.raises(RemoteFault, match="ValueError: no"):
        operation._take(Fault(0, "ValueError", "no", "trace"))
    assert (operation.ended, pair.released, pair.lost) == (True, 1, None)


def test_the_end_of_the_pair_is_a_loss(pair: NotingPair, operation: Operation) -> None:
    with pytest.raises(ConnectionLost, match="nowhere:1 ended the pair in the middle") as caught:
        operation._take(Goodbye())
    assert (operation.ended, pair.released, pair.lost) == (True, 1, caught.value)


def test_a_deadline_ends_nothing(pair: NotingPair, operation: Operation) -> None:
    operation._fail(DeadlineExceeded("too late"))
    assert (operation.ended, pair.released, pair.lost) == (False, 0, None)


@pytest.mark.parametrize("error", [ConnectionLost("gone"), RemoteProtocolError("odd"), KeyboardInterrupt()])
def test_whatever_breaks_the_pair_ends_it(pair: NotingPair, operation: Operation, error: BaseException) -> None:
    operation._fail(error)
    assert (operation.ended, pair.released, pair.lost) == (True, 1, error)


def test_a_loss_after_closing_is_said_to_be_that(pair: NotingPair, operation: Operation) -> None:
    pair.closed = True
    lost = ConnectionLost("gone")
    with pytest.raises(Closed, match="in the middle of an operation") as caught:
        operation._fail(lost)
    assert caught.value.__cause__ is lost
    assert operation.ended


@pytest.mark.parametrize(("phase", "aborted"), [(Phase.RUNNING, 1), (Phase.IDLE, 0)], ids=["item", "result"])
def test_a_class_that_is_unknown_here_leaves_the_pair(
    pair: NotingPair, operation: Operation, phase: Phase, aborted: int
) -> None:
    """In the middle the rest is no longer wanted; when it was in the result, nothing more comes anyway."""
    pair.connection.phase = phase
    operation._fail(ValueNotSupported("no such class"))
    assert (operation.aborted, operation.ended, pair.lost) == (aborted, not aborted, None)


def test_messages_only() -> None:
    assert message_of(MESSAGE) is MESSAGE
    assert message_of(None) is None
    with pytest.raises(RemoteProtocolError, match="Items is no part"):
        message_of(ITEMS)


def test_faults_come_out_as_what_they_are() -> None:
    with pytest.raises(RemoteFault) as caught:
        raise_fault(Fault(0, "m.Type", "text", "trace"))
    assert (caught.value.type_name, caught.value.message, caught.value.traceback) == ("m.Type", "text", "trace")
    with pytest.raises(NotFound, match="what"):
        raise_fault(Fault(404, "NotFound", "what", ""))
    with pytest.raises(OperationAborted):
        raise_fault(Fault(499, "OperationAborted", "left", ""))

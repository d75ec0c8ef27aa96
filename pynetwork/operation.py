"""What becomes of an operation on its caller's side, whichever driver brings its events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

from handshakes.connection import Connection, Phase
from handshakes.errors import (
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    OperationAborted,
    PynetworkError,
    RemoteFault,
    RemoteProtocolError,
    ValueNotSupported,
    refusal,
)
from handshakes.messages import Event, Fault, Items, Message, Result

__all__ = ["OperationState", "Pair", "message_of", "raise_fault"]


def raise_fault(fault: Fault) -> None:
    """Raise what ended an operation."""
    if fault.status == 0:
        raise RemoteFault(fault.type_name, fault.message, fault.traceback)
    if fault.status == 499:
        raise OperationAborted(fault.message)
    raise refusal(fault.status, fault.message)


class Pair(Protocol):
    """What an operation needs of the client it runs on, whichever driver that has."""

    @property
    def peer(self) -> str:
        """The gateway's address."""

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""

    @property
    def connection(self) -> Connection:
        """The state machine."""

    def release(self) -> None:
        """The operation has ended; the next may begin."""

    def lose(self, error: BaseException) -> None:
        """The pair can't be used any more, because of ``error``."""


class OperationState(ABC):
    """What becomes of an operation with each event and error, whichever driver brings them."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._value: Any = None
        self.ended = False

    @abstractmethod
    def abort(self) -> None:
        """Tell the gateway to stop. The client may begin another operation at once."""

    def _take(self, event: Event) -> Event | None:
        """The event, if the operation goes on; None when this was its result. Raises what ended it otherwise."""
        if type(event) is Result:
            self._end()
            self._value = event.value
            return None
        if type(event) is Fault:
            self._end()
            raise_fault(event)
        if type(event) not in (Items, Message):
            self._end()
            lost = ConnectionLost(f"{self._pair.peer} ended the pair in the middle of an operation")
            self._pair.lose(lost)
            raise lost
        return event

    def _fail(self, error: BaseException) -> None:
        """Waiting for an event has ended with this error, which is raised again unless another explains it better."""
        if isinstance(error, DeadlineExceeded):
            return
        if isinstance(error, ValueNotSupported):
            # A value whose class is not registered here: the pair is as good as before.
            if self._pair.connection.phase is Phase.RUNNING:
                self.abort()
            else:
                self._end()
            return
        self._end()
        self._pair.lose(error)
        if self._pair.closed and isinstance(error, PynetworkError):
            raise Closed("this client was closed in the middle of an operation") from error

    def _end(self) -> None:
        self.ended = True
        self._pair.release()


def message_of(event: Event | None) -> Message | None:
    """The message that an event is. Raises `RemoteProtocolError` for anything else, except the end."""
    if event is None or type(event) is Message:
        return event
    raise RemoteProtocolError(f"{type(event).__name__} is no part of this operation")

"""What is said to a gateway before a job begins, written once for both drivers.

A conversation is a generator: it yields the steps below one by one and is sent what comes of each. It says nothing to
the gateway itself: `converse` follows it over a blocking client, `pynetwork.aio.files` over one of an event loop.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from handshakes.errors import ConnectionLost, DeadlineExceeded, LocalProtocolError, RemoteProtocolError
from handshakes.messages import Message
from pynetwork.client import CallerOperation, Client

__all__ = [
    "SILENCE_TIMEOUT",
    "Begin",
    "Conversation",
    "End",
    "Hear",
    "Request",
    "Say",
    "await_end",
    "converse",
    "next_answer",
]

SILENCE_TIMEOUT = 60.0
"""Seconds that a gateway may say nothing at all while it owes an answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """An operation without messages of its own; its result comes back."""

    verb: str
    parameters: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin an operation with messages."""

    verb: str
    parameters: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message within it."""

    code: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait for its next message, which comes back; None when it has ended with its result."""


@dataclass(frozen=True, slots=True)
class End:
    """Wait for its result."""


Step = Request | Begin | Say | Hear | End
Conversation = Generator[Step, Any, None]


def converse(client: Client, conversation: Conversation) -> None:
    """Follow a conversation to its end. Raises what the operations raise, and what the conversation raises."""
    speaker = _Speaker(client)
    answer: Any = None
    try:
        while True:
            try:
                step = conversation.send(answer)
            except StopIteration:
                return
            answer = speaker.follow(step)
    finally:
        conversation.close()
        speaker.leave()


def next_answer(operation: CallerOperation) -> Message | None:
    """The next message of a gateway that owes one; None when it has ended the operation.

    Raises as ``operation.receive``, and `ConnectionLost` when nothing at all comes for so long that it looks as if
    nothing ever would.
    """
    while True:
        before = operation.received
        try:
            return operation.receive(SILENCE_TIMEOUT)
        except DeadlineExceeded as error:
            if operation.received == before:
                raise ConnectionLost(
                    f"{operation.peer} owes an answer and has said nothing for {SILENCE_TIMEOUT:g} s"
                ) from error


def await_end(operation: CallerOperation) -> None:
    """Wait for the end of an operation to which nothing more will be said. Raises as `next_answer`."""
    if next_answer(operation) is not None:
        raise RemoteProtocolError("a message arrived in place of a result")


class _Speaker:
    """Does what the steps say."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._operation: CallerOperation | None = None

    def follow(self, step: Step) -> Any:
        if isinstance(step, Request):
            return self._client.request(step.verb, *step.parameters)
        if isinstance(step, Begin):
            self._operation = self._client.open(step.verb, *step.parameters)
            return None
        if self._operation is None:
            raise LocalProtocolError("nothing has begun in which this could be said")
        if isinstance(step, Say):
            self._operation.send(step.code, b"", step.body)
            return None
        return next_answer(self._operation) if isinstance(step, Hear) else await_end(self._operation)

    def leave(self) -> None:
        if self._operation is not None:
            self._operation.abort()

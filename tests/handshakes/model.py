"""What each side of a pair may say and must hear, written down once more in the plainest way.

It stands beside two connections that run (`test_connection_machine`), and knows nothing of how they do it.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from handshakes.connection import Phase, Role
from handshakes.errors import ValueNotSupported
from handshakes.messages import (
    Abort,
    Credit,
    Event,
    Fault,
    Goodbye,
    Items,
    Kind,
    Message,
    Open,
    Result,
    Welcome,
)
from tests.handshakes.pair import frame

__all__ = ["ALLOWED", "KINDS", "NEVER", "NONSENSE", "OVER", "Said", "Side", "plain"]

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY
AT_WORK = {Phase.IDLE, Phase.RUNNING}
OVER = {Phase.CLOSED, Phase.BROKEN}

ALLOWED: dict[str, dict[Role, set[Phase]]] = {
    "start": {CLIENT: {Phase.START}},
    "open": {CLIENT: {Phase.IDLE}},
    "withdraw": {CLIENT: {Phase.RUNNING}},
    "credit": {CLIENT: {Phase.RUNNING}},
    "abort": {CLIENT: {Phase.RUNNING}},
    "message": {CLIENT: {Phase.RUNNING}, GATEWAY: {Phase.RUNNING}},
    "goodbye": {CLIENT: AT_WORK, GATEWAY: AT_WORK},
    "welcome": {GATEWAY: {Phase.VERDICT}},
    "refuse": {GATEWAY: {Phase.HELLO, Phase.PROOF, Phase.VERDICT}},
    "items": {GATEWAY: {Phase.RUNNING}},
    "result": {GATEWAY: {Phase.RUNNING}},
    "fault": {GATEWAY: {Phase.RUNNING}},
}
"""Who may say what, and when."""

NEVER = {
    CLIENT: [frame(kind) for kind in (Kind.PROOF, Kind.OPEN, Kind.CREDIT, Kind.ABORT)],
    GATEWAY: [frame(kind) for kind in (Kind.WELCOME, Kind.REFUSAL, Kind.ITEMS, Kind.RESULT, Kind.FAULT)],
}
"""What that side may never hear."""
NONSENSE = [frame(0), frame(13), frame(255), struct.pack("<BBHII", 7, 0, 1, 0, 1 << 31), b"GET / HTTP/1.1"]


@dataclass
class Said:
    """A frame on its way: what it is, the operation that it belongs to, its length, and what can be seen of it."""

    kind: Kind | None
    operation: int
    size: int
    seen: Any = None


@dataclass
class Side:
    """The model of one side. ``coming`` is on its way here, of which ``arrived`` bytes have come; ``owes`` is what the
    connection has to say by itself.
    """

    phase: Phase
    operation: int = 0
    items: int = 0
    size: int = 0
    aborting: bool = False
    left: set[int] = field(default_factory=set)
    owes: deque[Kind] = field(default_factory=deque)
    coming: deque[Said] = field(default_factory=deque)
    wire: bytearray = field(default_factory=bytearray)
    arrived: int = 0

    def next_whole(self) -> Said | None:
        """The next frame that has arrived as a whole."""
        if self.aborting or not self.coming or self.arrived < self.coming[0].size:
            return None
        said = self.coming.popleft()
        self.arrived -= said.size
        return said

    def end_operation(self) -> None:
        self.phase, self.items, self.size, self.aborting = Phase.IDLE, 0, 0, False

    def read_at_gateway(self, said: Said) -> Any:
        """What a gateway at work sees of a frame."""
        if said.kind is Kind.OPEN:
            self.phase, self.operation = Phase.RUNNING, said.operation
            return Open, said.seen
        if self.phase is not Phase.RUNNING:
            # It crossed the end of its operation on the way.
            assert said.operation == self.operation
            return None
        if said.kind is Kind.CREDIT:
            self.items, self.size = self.items + said.seen[0], self.size + said.seen[1]
        self.aborting = said.kind is Kind.ABORT
        assert said.kind is not None
        return KINDS[said.kind], said.seen

    def read_at_client(self, said: Said) -> Any:
        """What a client at work sees of a frame."""
        assert said.kind is not None
        if said.operation in self.left:
            if said.kind in (Kind.RESULT, Kind.FAULT):
                self.left.discard(said.operation)
            return None
        if said.kind is Kind.ITEMS:
            self.items -= len(said.seen[0])
            self.size -= sum(map(len, said.seen[1]))
        if said.kind in (Kind.RESULT, Kind.FAULT):
            self.phase = Phase.IDLE
        return said.seen if said.seen is ValueNotSupported else (KINDS[said.kind], said.seen)


def plain(event: Event) -> Any:
    """What can be seen of an event, as plain values."""
    if type(event) is Open:
        return (event.verb, event.parameters) if event.problem is None else "unknown class"
    if type(event) is Message:
        return event.code, bytes(event.head), bytes(event.body)
    if type(event) is Items:
        return list(event.idents), [bytes(payload) for payload in event.payloads]
    if type(event) is Credit:
        return event.items, event.size
    if type(event) is Result:
        return bytes(event.value) if isinstance(event.value, memoryview) else event.value
    if type(event) is Fault:
        return event.status, event.type_name, event.message, event.traceback
    return None


KINDS: dict[Kind, type[Any]] = {
    Kind.WELCOME: Welcome,
    Kind.GOODBYE: Goodbye,
    Kind.OPEN: Open,
    Kind.MESSAGE: Message,
    Kind.ITEMS: Items,
    Kind.CREDIT: Credit,
    Kind.ABORT: Abort,
    Kind.RESULT: Result,
    Kind.FAULT: Fault,
}

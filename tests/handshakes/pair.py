"""Bytes for the parsers, whole and in pieces, and two cores that are joined in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from handshakes.auth import derive_key, prove
from handshakes.connection import Connection, Phase, Role
from handshakes.errors import RemoteProtocolError, ValueNotSupported
from handshakes.frames import FrameParser
from handshakes.messages import Bytes, Event, Kind, Rights

KEY = derive_key(b"a key of the tests")
OTHER_KEY = derive_key(b"another key of the tests")
STEPS = (None, 1, 7)
"""How bytes are fed: as many as fit, one by one, and in pieces that fit no boundary."""


def frame(kind: int, flags: int = 0, operation: int = 0, head: bytes = b"", body: bytes = b"") -> bytes:
    """A frame, written with nothing of the code under test."""
    return struct.pack("<BBHII", kind, flags, operation, len(head), len(body)) + head + body


def hello(**changes: Any) -> bytes:
    """A client's hello, written with nothing of the code under test."""
    fields = {
        "versions": [3, 3],
        "limit": 67108864,
        "nonce": "63" * 32,
        "keyed": False,
        "bound": False,
        "agent": "",
    }
    body = json.dumps({**fields, **changes}, separators=(",", ":"))
    return frame(Kind.HELLO, head=b"pynetwork", body=body.encode())


def nested(depth: int) -> bytes:
    """JSON that no parser should follow to its end."""
    return b"[" * depth + b"]" * depth


def feed(parser: FrameParser, data: bytes, step: int | None = None) -> list[tuple[int, int, int, bytes, bytes]]:
    """The frames that come out of a parser: kind, flags, operation, head, body."""
    found: list[tuple[int, int, int, bytes, bytes]] = []
    rest = memoryview(data)
    while True:
        each = parser.next_frame()
        if each is not None:
            found.append((each.kind, each.flags, each.operation, each.head, bytes(each.body)))
        elif not rest:
            return found
        else:
            space = parser.buffer()
            assert space, "a driver would take an empty buffer for the end of the stream"
            count = min(len(space), len(rest), step or len(rest))
            space[:count] = rest[:count]
            parser.advance(count)
            rest = rest[count:]


def deliver(connection: Connection, data: bytes, step: int | None = None) -> list[Event]:
    """The events that come out of a connection; raises what it raises."""
    events: list[Event] = []
    rest = memoryview(data)
    while True:
        event = connection.next_event()
        if event is not None:
            events.append(event)
        elif not rest:
            return events
        else:
            count = min(len(connection.buffer()), len(rest), step or len(rest))
            assert count, "a driver would take an empty buffer for the end of the stream"
            connection.receive_data(rest[:count])
            rest = rest[count:]


def joined(buffers: Sequence[Bytes]) -> bytes:
    """What goes over the wire."""
    return b"".join(buffers)


class ConnectionPair:
    """A client and a gateway; what one says reaches the other, in pieces of `step` bytes if that is given."""

    def __init__(
        self,
        *,
        client: dict[str, Any] | None = None,
        gateway: dict[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        self.step = step
        self.client = Connection(Role.CLIENT, nonce=b"c" * 32, **(client or {}))
        self.gateway = Connection(Role.GATEWAY, nonce=b"g" * 32, **(gateway or {}))
        self.wire: list[tuple[str, bytes]] = []

    def to_gateway(self, buffers: Sequence[Bytes]) -> list[Event]:
        """The client says this; the events that the gateway sees."""
        self.wire.append(("client", joined(buffers)))
        return deliver(self.gateway, joined(buffers), self.step)

    def to_client(self, buffers: Sequence[Bytes]) -> list[Event]:
        """The gateway says this; the events that the client sees."""
        self.wire.append(("gateway", joined(buffers)))
        return deliver(self.client, joined(buffers), self.step)

    def greet(self) -> list[Event]:
        """The handshake up to the gateway's verdict; the gateway's events."""
        events = self.to_gateway(self.client.start())
        self.to_client(self.gateway.data_to_send())
        return events + self.to_gateway(self.client.data_to_send())

    def connect(self) -> ConnectionPair:
        """The whole handshake."""
        self.greet()
        self.to_client(self.gateway.welcome())
        assert (self.client.phase, self.gateway.phase) == (Phase.IDLE, Phase.IDLE)
        return self

    def run(self, verb: str = "verb", *parameters: Any) -> ConnectionPair:
        """Open an operation on a connected pair."""
        self.to_gateway(self.client.open(verb, list(parameters)))
        assert (self.client.phase, self.gateway.phase) == (Phase.RUNNING, Phase.RUNNING)
        return self


def keyed_pair(**options: Any) -> ConnectionPair:
    """A pair that shares a key."""
    return ConnectionPair(client={"key": KEY}, gateway={"keys": {KEY: Rights.DEFAULT}}, **options)


def state(connection: Connection) -> tuple[Any, ...]:
    """Everything that a refused call must leave as it was."""
    return (
        connection.phase,
        connection.operation,
        connection.credit_items,
        connection.credit_size,
        connection.rights,
        connection.send_limit,
        connection.peer_agent,
        connection.mid_frame,
        connection.wants_data,
        len(connection._outbox),
        frozenset(connection._left),
    )


def connection_in(role: Role, phase: Phase) -> Connection:
    """One side of a pair that has come to this phase."""
    pair = keyed_pair() if phase in (Phase.PROOF, Phase.WELCOME) else ConnectionPair()
    side = pair.client if role is Role.CLIENT else pair.gateway
    if phase in (Phase.START, Phase.HELLO):
        if (role, phase) == (Role.CLIENT, Phase.HELLO):
            side.start()
    elif phase is Phase.PROOF:
        pair.to_gateway(pair.client.start())
        side.data_to_send()
    elif phase in (Phase.VERDICT, Phase.WELCOME):
        pair.greet()
    else:
        pair.connect()
        if phase is Phase.RUNNING:
            pair.run()
        elif phase is Phase.CLOSED:
            side.goodbye()
        elif phase is Phase.BROKEN:
            break_it(side)
    assert side.phase is phase
    return side


def break_it(connection: Connection) -> None:
    """Let the other side break the protocol, and throw the last word away."""
    try:
        deliver(connection, frame(Kind.PROOF))
    except RemoteProtocolError:
        connection.data_to_send()
        return
    raise AssertionError("a proof was accepted out of turn")


def good_frame(connection: Connection, kind: Kind, operation: int) -> bytes:
    """A frame of this kind with which nothing else is wrong."""
    transcript = connection._handshake._hellos
    welcome = b'[1,"%s"]' % prove(KEY, "gateway", transcript + struct.pack("<Q", 1)).hex().encode()
    contents: dict[Kind, tuple[int, bytes, bytes]] = {
        Kind.PROOF: (0, b"", prove(KEY, "client", transcript)),
        Kind.WELCOME: (0, b"", welcome),
        Kind.REFUSAL: (0, b"", b'[503,"full"]'),
        Kind.GOODBYE: (0, b"", b""),
        Kind.OPEN: (1, b"", b'["verb"]'),
        Kind.MESSAGE: (1, b"head", b"body"),
        Kind.ITEMS: (0, struct.pack("<IBBqI", 1, 0, 0, 5, 1), b"x"),
        Kind.CREDIT: (0, struct.pack("<IQ", 1, 1), b""),
        Kind.ABORT: (0, b"", b""),
        Kind.RESULT: (1, b"", b"1"),
        Kind.FAULT: (0, b"", b'[0,"E","m","t"]'),
    }
    if kind is Kind.HELLO:
        return hello()
    flags, head, body = contents[kind]
    return frame(kind, flags, operation, head, body)


PLACES = [
    (Role.GATEWAY, Phase.HELLO),
    (Role.GATEWAY, Phase.PROOF),
    (Role.GATEWAY, Phase.VERDICT),
    (Role.GATEWAY, Phase.IDLE),
    (Role.GATEWAY, Phase.RUNNING),
    (Role.GATEWAY, Phase.CLOSED),
    (Role.GATEWAY, Phase.BROKEN),
    (Role.CLIENT, Phase.START),
    (Role.CLIENT, Phase.HELLO),
    (Role.CLIENT, Phase.WELCOME),
    (Role.CLIENT, Phase.IDLE),
    (Role.CLIENT, Phase.RUNNING),
    (Role.CLIENT, Phase.CLOSED),
    (Role.CLIENT, Phase.BROKEN),
]
"""Every phase that each side can be in."""

ALL_KINDS = list(Kind)
DOCUMENTED = (RemoteProtocolError, ValueNotSupported)
"""What reading a value may raise, whatever its bytes are."""

NOT_A_HELLO: list[Any] = [
    *[
        {"versions": each}
        for each in (None, 3, "33", [], [3], [3, 3, 3], ["3", "3"], [3.0, 3], [True, 3], {"a": 3, "b": 3})
    ],
    *[{"limit": each} for each in (None, "9999", 9999.5, True, -1, 0, 4095, [])],
    *[{"nonce": each} for each in (None, 5, "", "zz" * 32, "63" * 31, "63" * 33, "6", ["63"], "é" * 64)],
    *[{"keyed": each} for each in (None, 0, 1, "true", [])],
    *[{"bound": each} for each in (None, 0, 1, "true", {})],
    *[{"agent": each} for each in (None, 5, ["a"], {})],
]

"""Changes to the fields of a hello that make it none."""

"""A client and a gateway against each other: steps in any order, allowed or not, over wires that cut bytes anywhere.

Beside the two runs a model of what each of them may say and must hear (`tests.handshakes.model`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from handshakes.connection import Connection, Phase, Role
from handshakes.errors import (
    AuthenticationFailed,
    Closed,
    LocalProtocolError,
    Refused,
    RemoteProtocolError,
    ValueNotSupported,
)
from handshakes.messages import (
    Bytes,
    Event,
    Goodbye,
    Hello,
    Kind,
    Message,
    Registry,
    Rights,
    Welcome,
)
from handshakes.values import Form
from tests.handshakes.model import ALLOWED, NEVER, NONSENSE, OVER, Said, Side, plain
from tests.handshakes.pair import KEY, OTHER_KEY, joined, state

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY


class OfClient:
    """A class that only the client has registered."""


class OfGateway:
    """A class that only the gateway has registered."""


def registry(known: type) -> Registry:
    made = Registry()
    made.register(known)
    return made


BODIES = st.one_of(st.binary(max_size=40), st.sampled_from([bytes(4095), bytes(4096), b"x" * 70_000]))
VALUES = st.one_of(st.none(), st.integers(-9, 9), st.binary(max_size=9), st.text(max_size=5))


class Pair(RuleBasedStateMachine):
    """Two connections, two wires, and the model of both sides."""

    # The handshake

    @initialize(
        keyed=st.booleans(),
        right=st.sampled_from([True, True, True, False]),
        far=st.sampled_from([True, True, False]),
        lives=st.integers(0, 5),
    )
    def begin(self, keyed: bool, right: bool, far: bool, lives: int) -> None:
        """``far``: the handshake is over already. The pair is ended after so many operations as it ``lives``."""
        self.lives = lives
        self.keyed, self.right_key = keyed, right or not keyed
        key = (KEY if right else OTHER_KEY) if keyed else None
        self.connections = {
            CLIENT: Connection(CLIENT, nonce=b"c" * 32, key=key, registry=registry(OfClient)),
            GATEWAY: Connection(
                GATEWAY,
                nonce=b"g" * 32,
                keys={KEY: Rights.DEFAULT} if keyed else None,
                rights=Rights.DEFAULT,
                registry=registry(OfGateway),
            ),
        }
        self.sides = {CLIENT: Side(Phase.START), GATEWAY: Side(Phase.HELLO)}
        self.kept: list[tuple[Event, Any]] = []
        if far and self.right_key:
            self.say(CLIENT, "start", b"", 1, 1, None)
            for side in (GATEWAY, CLIENT, GATEWAY):
                self.deliver(side, 1 << 20, False)
            self.say(GATEWAY, "welcome", b"", 1, 1, None)
            self.deliver(CLIENT, 1 << 20, False)
            assert self.sides[CLIENT].phase is self.sides[GATEWAY].phase is Phase.IDLE

    def _put(self, sender: Role, kind: Kind | None, data: bytes, seen: Any = None) -> None:
        """Something is on its way."""
        other = self.sides[GATEWAY if sender is CLIENT else CLIENT]
        other.coming.append(Said(kind, self.sides[sender].operation, len(data), seen))
        other.wire += data

    # Saying something, whether that is allowed or not

    def _allowed(self, who: Role, what: str) -> bool:
        return self.sides[who].phase in ALLOWED[what].get(who, set())

    @property
    def _may_end(self) -> bool:
        return self.sides[CLIENT].operation >= self.lives

    @precondition(lambda self: any(self._allowed(who, what) for who in Role for what in ALLOWED))
    @rule(data=st.data(), body=BODIES, items=st.integers(0, 4), size=st.integers(0, 200), value=VALUES)
    def say_what_is_allowed(self, data: st.DataObject, body: bytes, items: int, size: int, value: Any) -> None:
        allowed = [(who, what) for who in Role for what in ALLOWED if self._allowed(who, what)]
        lasting = [each for each in allowed if self._may_end or each[1] not in {"goodbye", "refuse"}]
        self.say(*data.draw(st.sampled_from(lasting or allowed)), body, items, size, value)

    @rule(
        who=st.sampled_from(Role),
        what=st.sampled_from([*ALLOWED]),
        body=BODIES,
        items=st.integers(0, 4),
        size=st.integers(0, 200),
        value=VALUES,
    )
    def say_anything(self, who: Role, what: str, body: bytes, items: int, size: int, value: Any) -> None:
        if self._may_end or not self._allowed(who, what):
            self.say(who, what, body, items, size, value)

    def say(self, who: Role, what: str, body: bytes, items: int, size: int, value: Any) -> None:
        side, connection = self.sides[who], self.connections[who]
        calls: dict[str, Callable[[], Sequence[Bytes] | None]] = {
            "start": connection.start,
            "open": lambda: connection.open("verb", [value]),
            "withdraw": connection.withdraw,
            "credit": lambda: connection.credit(items, size),
            "abort": connection.abort,
            "message": lambda: connection.message(items, b"head", [body, b"more"]),
            "goodbye": connection.goodbye,
            "welcome": connection.welcome,
            "refuse": lambda: connection.refuse(503, "full"),
            "items": lambda: connection.items(Form.RAW, b"", range(items), [body] * items),
            "result": lambda: connection.result(value),
            "fault": lambda: connection.fault(0, "Type", "text", "trace"),
        }
        allowed = self._allowed(who, what)
        if what == "items":
            allowed = allowed and 0 < items <= side.items and side.size > 0
        if not allowed:
            before = state(connection)
            with pytest.raises((LocalProtocolError, Closed)):
                calls[what]()
            assert state(connection) == before
        elif what == "withdraw":
            # Only before anything of it was sent; see `think_again`.
            pass
        else:
            data = joined(calls[what]() or [])
            getattr(self, f"_said_{what}")(who, data, (body, items, size, value))

    def _said_start(self, who: Role, data: bytes, _what: Any) -> None:
        self.sides[who].phase = Phase.HELLO
        self._put(who, Kind.HELLO, data)

    def _said_open(self, who: Role, data: bytes, what: Any) -> None:
        side = self.sides[who]
        side.operation, side.phase, side.items, side.size = side.operation + 1, Phase.RUNNING, 0, 0
        self._put(who, Kind.OPEN, data, ("verb", [what[3]]))

    def _said_credit(self, who: Role, data: bytes, what: Any) -> None:
        side = self.sides[who]
        side.items, side.size = side.items + what[1], side.size + what[2]
        self._put(who, Kind.CREDIT, data, (what[1], what[2]))

    def _said_abort(self, who: Role, data: bytes, _what: Any) -> None:
        side = self.sides[who]
        self._put(who, Kind.ABORT, data)
        side.left.add(side.operation)
        side.phase = Phase.IDLE

    def _said_message(self, who: Role, data: bytes, what: Any) -> None:
        self._put(who, Kind.MESSAGE, data, (what[1], b"head", what[0] + b"more"))

    def _said_goodbye(self, who: Role, data: bytes, _what: Any) -> None:
        self._put(who, Kind.GOODBYE, data)
        self.sides[who].phase = Phase.CLOSED

    def _said_welcome(self, who: Role, data: bytes, _what: Any) -> None:
        self._put(who, Kind.WELCOME, data)
        self.sides[who].phase = Phase.IDLE

    def _said_refuse(self, who: Role, data: bytes, _what: Any) -> None:
        self._put(who, Kind.REFUSAL, data)
        self.sides[who].phase = Phase.CLOSED

    def _said_items(self, who: Role, data: bytes, what: Any) -> None:
        body, items = what[:2]
        side = self.sides[who]
        side.items -= items
        # What it is, on both sides: the bytes of the frame's body.
        side.size -= len(body) * items
        self._put(who, Kind.ITEMS, data, (list(range(items)), [body] * items))

    def _said_result(self, who: Role, data: bytes, what: Any) -> None:
        self._put(who, Kind.RESULT, data, what[3])
        self._end(who)

    def _said_fault(self, who: Role, data: bytes, _what: Any) -> None:
        self._put(who, Kind.FAULT, data, (0, "Type", "text", "trace"))
        self._end(who)

    def _end(self, who: Role) -> None:
        """What had arrived behind an abort can be read now."""
        self.sides[who].end_operation()
        self._hear(who, recycling=False)

    @precondition(lambda self: self._allowed(CLIENT, "credit") and self._allowed(GATEWAY, "items"))
    @rule(items=st.integers(1, 4), body=BODIES, leaving=st.booleans())
    def stream(self, items: int, body: bytes, leaving: bool) -> None:
        self.say(CLIENT, "credit", b"", 9, 300, None)
        self.deliver(GATEWAY, 1 << 20, recycling=True)
        self.say(GATEWAY, "items", body, items, 0, None)
        if leaving and self._allowed(CLIENT, "abort"):
            self.say(CLIENT, "abort", b"", 0, 0, None)

    @precondition(lambda self: self.sides[CLIENT].phase is Phase.IDLE)
    @rule()
    def think_again(self) -> None:
        client = self.connections[CLIENT]
        before = state(client)
        client.open("verb", [])
        client.withdraw()
        # Credit belongs to the operation that runs, and none does.
        assert (client.phase, client.operation, client.leaving) == (before[0], before[1], bool(before[10]))
        self.sides[CLIENT].items = self.sides[CLIENT].size = 0

    @precondition(lambda self: self.sides[CLIENT].phase is Phase.IDLE)
    @rule()
    def open_with_a_class_that_only_the_client_knows(self) -> None:
        data = joined(self.connections[CLIENT].open("verb", [OfClient()]))
        self._said_open(CLIENT, data, (b"", 0, 0, None))
        self.sides[GATEWAY].coming[-1].seen = "unknown class"

    @precondition(lambda self: self.sides[GATEWAY].phase is Phase.RUNNING)
    @rule()
    def answer_with_a_class_that_only_the_gateway_knows(self) -> None:
        data = joined(self.connections[GATEWAY].result(OfGateway()))
        self._put(GATEWAY, Kind.RESULT, data, ValueNotSupported)
        self._end(GATEWAY)

    @precondition(lambda self: self._may_end)
    @rule(who=st.sampled_from(Role), data=st.data())
    def say_what_may_never_be_said(self, who: Role, data: st.DataObject) -> None:
        other = GATEWAY if who is CLIENT else CLIENT
        self._put(who, None, data.draw(st.sampled_from([*NEVER[other], *NONSENSE])))

    @precondition(lambda self: self._may_end)
    @rule(who=st.sampled_from(Role))
    def break_off(self, who: Role) -> None:
        """A service found that the other side broke the protocol within a message."""
        self.connections[who].break_off(RemoteProtocolError("nonsense"))
        self._break(who)

    def _break(self, who: Role) -> None:
        side = self.sides[who]
        if who is GATEWAY and side.phase not in OVER:
            side.owes.append(Kind.REFUSAL)
        if side.phase is not Phase.CLOSED:
            side.phase = Phase.BROKEN
        self._flush(who)

    def _flush(self, who: Role) -> None:
        """What a connection says by itself is what it owes, and nothing else."""
        said, owes = joined(self.connections[who].data_to_send()), self.sides[who].owes
        while said:
            head, body = struct.unpack_from("<II", said, 4)
            size = 12 + head + body
            kind = owes.popleft()
            assert said[0] == kind
            self._put(who, kind, said[:size])
            said = said[size:]
        assert not owes

    # Hearing it

    @rule(recycling=st.booleans())
    def deliver_everything(self, recycling: bool) -> None:
        for who in (GATEWAY, CLIENT):
            self.deliver(who, 1 << 20, recycling)

    @rule(who=st.sampled_from(Role), count=st.one_of(st.integers(1, 40), st.just(1 << 20)), recycling=st.booleans())
    def deliver(self, who: Role, count: int, recycling: bool) -> None:
        """Some bytes of what is on its way arrive, unless a driver would not read now."""
        side, connection = self.sides[who], self.connections[who]
        while count and side.wire and side.phase not in {*OVER, Phase.START} and connection.wants_data:
            space = len(connection.buffer())
            assert space, "a driver would take an empty buffer for the end of the stream"
            piece = bytes(side.wire[: min(count, space)])
            del side.wire[: len(piece)]
            count -= len(piece)
            side.arrived += len(piece)
            connection.receive_data(piece)
            self._hear(who, recycling)

    def _hear(self, who: Role, recycling: bool) -> None:
        """Both read what has arrived as a whole: what they see must be the same."""
        side, connection = self.sides[who], self.connections[who]
        while side.phase not in OVER:
            said = side.next_whole()
            if said is None:
                # A frame of a bad kind or size is noticed before it is complete.
                if side.coming and side.coming[0].kind is None and side.arrived and not side.aborting:
                    self._hear_early(who)
                    return
                assert connection.next_event() is None
                self._flush(who)
                return
            expected = self._read(who, said)
            if expected is None:
                # It leaves no trace; whatever comes next is compared with what is next.
                continue
            if isinstance(expected, type):
                with pytest.raises(expected):
                    connection.next_event()
                self._note_error(who, expected)
                continue
            event = connection.next_event()
            assert event is not None
            self._flush(who)
            self._compare(event, *expected)
            if recycling and type(event) is Message:
                connection.recycle(event.body)
            else:
                self.kept.append((event, expected[1]))

    def _hear_early(self, who: Role) -> None:
        try:
            assert self.connections[who].next_event() is None
        except RemoteProtocolError:
            self._break(who)
        else:
            self._flush(who)

    def _note_error(self, who: Role, error: type[Exception]) -> None:
        if error in (RemoteProtocolError, AuthenticationFailed):
            self._break(who)
        elif error is Refused:
            self.sides[who].phase = Phase.CLOSED

    @staticmethod
    def _compare(event: Event, kind: type, seen: Any) -> None:
        assert type(event) is kind
        assert plain(event) == seen

    def _read(self, who: Role, said: Said) -> Any:
        """What the model sees: (class of the event, plain values), an error, or None when it is dropped."""
        if said.kind is None:
            return RemoteProtocolError
        if said.kind in (Kind.HELLO, Kind.PROOF, Kind.WELCOME, Kind.REFUSAL):
            return self._read_handshake(who, said.kind)
        side = self.sides[who]
        if said.kind is Kind.GOODBYE:
            side.phase = Phase.CLOSED
            return Goodbye, None
        return side.read_at_gateway(said) if who is GATEWAY else side.read_at_client(said)

    def _read_handshake(self, who: Role, kind: Kind) -> Any:
        side = self.sides[who]
        if kind is Kind.REFUSAL:
            return Refused
        if kind is Kind.WELCOME:
            side.phase = Phase.IDLE
            return Welcome, None
        if kind is Kind.PROOF:
            side.phase = Phase.VERDICT if self.right_key else side.phase
            return (Hello, None) if self.right_key else AuthenticationFailed
        if who is CLIENT:
            side.phase = Phase.WELCOME
            side.owes.extend([Kind.PROOF] * self.keyed)
            return None
        side.phase = Phase.PROOF if self.keyed else Phase.VERDICT
        side.owes.append(Kind.HELLO)
        return None if self.keyed else (Hello, None)

    # What holds at any time

    @invariant()
    def both_stand_where_the_model_says(self) -> None:
        for role, connection in getattr(self, "connections", {}).items():
            side = self.sides[role]
            assert connection.phase is side.phase
            assert connection.operation == side.operation
            assert connection.leaving == bool(side.left)
            assert connection.wants_data != side.aborting
            if side.phase is Phase.RUNNING:
                assert (connection.credit_items, connection.credit_size) == (side.items, side.size)

    def teardown(self) -> None:
        """Nothing that arrived later has changed what was seen before."""
        for event, seen in getattr(self, "kept", []):
            assert plain(event) == seen


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

from handshakes.connection import LIMIT, Connection, Phase, Role
from handshakes.errors import (
    Busy,
    Closed,
    ConfigurationError,
    LocalProtocolError,
    PoolFull,
    PynetworkError,
    Refused,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
)
from handshakes.messages import Abort, Fault, Hello, Kind, Message, Open, Registry, Result, Rights
from handshakes.values import Form
from tests.handshakes.pair import (
    ALL_KINDS,
    KEY,
    PLACES,
    STEPS,
    ConnectionPair,
    break_it,
    connection_in,
    deliver,
    frame,
    good_frame,
    joined,
    state,
)

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY


# The transition table


ACCEPTED: dict[tuple[Role, Phase], set[Kind]] = {
    (GATEWAY, Phase.HELLO): {Kind.HELLO},
    (GATEWAY, Phase.PROOF): {Kind.PROOF},
    (GATEWAY, Phase.IDLE): {Kind.OPEN, Kind.GOODBYE},
    (GATEWAY, Phase.RUNNING): {Kind.MESSAGE, Kind.CREDIT, Kind.ABORT, Kind.GOODBYE},
    (CLIENT, Phase.HELLO): {Kind.HELLO, Kind.REFUSAL},
    (CLIENT, Phase.WELCOME): {Kind.WELCOME, Kind.REFUSAL},
    (CLIENT, Phase.IDLE): {Kind.GOODBYE, Kind.REFUSAL},
    (CLIENT, Phase.RUNNING): {Kind.MESSAGE, Kind.ITEMS, Kind.RESULT, Kind.FAULT, Kind.GOODBYE, Kind.REFUSAL},
}


@pytest.mark.parametrize("step", STEPS[:2])
@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_what_may_arrive_when(place: tuple[Role, Phase], kind: Kind, step: int | None) -> None:
    connection = connection_in(*place)
    running = place[1] is Phase.RUNNING
    if place == (CLIENT, Phase.RUNNING):
        connection.credit(1, 1)
    said = good_frame(connection, kind, connection.operation if running else 77)
    if kind not in ACCEPTED.get(place, set()):
        with pytest.raises(RemoteProtocolError, match=f"{kind.name} arrived while {place[1].text}"):
            deliver(connection, said, step)
        assert connection.phase is (Phase.CLOSED if place[1] is Phase.CLOSED else Phase.BROKEN)
    elif kind is Kind.REFUSAL:
        with pytest.raises(PoolFull, match="full"):
            deliver(connection, said, step)
        assert connection.phase is Phase.CLOSED
        assert connection.data_to_send() == []
    else:
        deliver(connection, said, step)
        assert connection.phase not in (Phase.BROKEN, place[1]) or running


@pytest.mark.parametrize("place", [place for place in PLACES if place[1] is Phase.RUNNING])
@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind > Kind.OPEN])
def test_what_belongs_to_no_operation(place: tuple[Role, Phase], kind: Kind) -> None:
    connection = connection_in(*place)
    with pytest.raises(RemoteProtocolError):
        deliver(connection, good_frame(connection, kind, connection.operation + 1))
    assert connection.phase is Phase.BROKEN


CALLS: dict[str, Callable[[Connection], Any]] = {
    "start": lambda connection: connection.start(),
    "welcome": lambda connection: connection.welcome(),
    "refuse": lambda connection: connection.refuse(503, "full"),
    "open": lambda connection: connection.open("verb", []),
    "credit": lambda connection: connection.credit(1, 1),
    "abort": lambda connection: connection.abort(),
    "goodbye": lambda connection: connection.goodbye(),
    "message": lambda connection: connection.message(1, b"", []),
    "items": lambda connection: connection.items(Form.RAW, b"", [0], [b"x"]),
    "result": lambda connection: connection.result(1),
    "fault": lambda connection: connection.fault(0, "E", "m"),
}


ALLOWED: dict[tuple[Role, Phase], set[str]] = {
    (GATEWAY, Phase.HELLO): {"refuse"},
    (GATEWAY, Phase.PROOF): {"refuse"},
    (GATEWAY, Phase.VERDICT): {"refuse", "welcome"},
    (GATEWAY, Phase.IDLE): {"goodbye"},
    (GATEWAY, Phase.RUNNING): {"message", "items", "result", "fault", "goodbye"},
    (CLIENT, Phase.START): {"start"},
    (CLIENT, Phase.IDLE): {"open", "goodbye"},
    (CLIENT, Phase.RUNNING): {"message", "credit", "abort", "goodbye"},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("place", PLACES)
def test_what_may_be_said_when(place: tuple[Role, Phase], call: str) -> None:
    connection = connection_in(*place)
    if place == (GATEWAY, Phase.RUNNING):
        deliver(connection, good_frame(connection, Kind.CREDIT, connection.operation))
    before = state(connection)
    if call in ALLOWED.get(place, set()):
        assert joined(CALLS[call](connection))
        assert call == "message" or state(connection) != before
        return
    with pytest.raises((LocalProtocolError, Closed)) as caught:
        CALLS[call](connection)
    assert state(connection) == before
    says_closed = place[1] is Phase.CLOSED and call not in ("refuse", "goodbye")
    busy = place[1] is Phase.RUNNING and call == "open"
    assert type(caught.value) is (Closed if says_closed else Busy if busy else LocalProtocolError)


@pytest.mark.parametrize("place", PLACES)
def test_nonsense_ends_the_connection_once(place: tuple[Role, Phase]) -> None:
    connection = connection_in(*place)
    connection.data_to_send()
    with pytest.raises(RemoteProtocolError, match="an unknown kind"):
        deliver(connection, b"\xff" * 12)
    last_word = connection.data_to_send()
    told = place[0] is GATEWAY and place[1] not in (Phase.CLOSED, Phase.BROKEN)
    assert [each[0] for each in last_word] == [Kind.REFUSAL] * told
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            connection.next_event()
    assert connection.data_to_send() == []
    assert connection.phase is (Phase.CLOSED if place[1] is Phase.CLOSED else Phase.BROKEN)


def test_the_client_learns_what_it_did_wrong() -> None:
    pair = ConnectionPair().connect().run()
    with pytest.raises(RemoteProtocolError):
        pair.to_gateway([frame(Kind.PROOF)])
    with pytest.raises(Refused, match="PROOF arrived while running an operation") as caught:
        pair.to_client(pair.gateway.data_to_send())
    assert caught.value.status == 400
    assert pair.client.phase is Phase.CLOSED


def test_the_root_catches_all() -> None:
    connection = connection_in(GATEWAY, Phase.IDLE)
    break_it(connection)
    with pytest.raises(PynetworkError, match="this gateway's connection is broken; only that of a gateway"):
        connection.result(1)


# The driver's side


def test_mid_frame_says_whether_something_is_missing() -> None:
    pair = ConnectionPair().connect()
    said = joined(pair.client.open("verb", []))
    assert not pair.gateway.mid_frame
    assert pair.to_gateway([said[:5]]) == []
    assert pair.gateway.mid_frame
    assert pair.to_gateway([said[5:]]) == [Open(1, "verb", [])]
    assert not pair.gateway.mid_frame


def test_a_driver_receives_into_the_buffer() -> None:
    pair = ConnectionPair()
    said = joined(pair.client.start())
    pair.gateway.buffer()[: len(said)] = said
    pair.gateway.received(len(said))
    assert isinstance(pair.gateway.next_event(), Hello)
    assert pair.gateway.next_event() is None


# Leaving an operation


def test_abort_and_at_once_the_next() -> None:
    pair = ConnectionPair().connect().run()
    pair.client.credit(5, 1000)
    abort = pair.client.abort()
    following = pair.client.open("next", [])
    assert pair.to_gateway(abort + following) == [Abort()]
    assert not pair.gateway.wants_data
    assert pair.gateway.next_event() is None
    said = joined([*pair.gateway.message(1, b"", [b"late"]), *pair.gateway.result("late")])
    assert pair.gateway.wants_data
    assert pair.to_client([said]) == []
    assert pair.gateway.next_event() == Open(2, "next", [])
    assert pair.to_client(pair.gateway.result("mine")) == [Result("mine")]


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("end", [Kind.RESULT, Kind.FAULT])
def test_what_is_late_is_dropped_up_to_its_end(end: Kind, idle: bool) -> None:
    pair = ConnectionPair().connect().run()
    client, left = pair.client, pair.client.operation
    client.abort()
    if not idle:
        client.open("next", [])
        client.credit(1, 10)
    for kind in (Kind.MESSAGE, Kind.ITEMS, Kind.MESSAGE, end):
        assert deliver(client, good_frame(client, kind, left)) == []
    assert client.credit_items == (0 if idle else 1)
    with pytest.raises(RemoteProtocolError, match="MESSAGE arrived while"):
        deliver(client, good_frame(client, Kind.MESSAGE, left))


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.CREDIT, Kind.ABORT, Kind.PROOF])
def test_a_late_frame_that_no_gateway_says(kind: Kind) -> None:
    pair = ConnectionPair().connect().run()
    pair.client.abort()
    with pytest.raises(RemoteProtocolError):
        deliver(pair.client, good_frame(pair.client, kind, pair.client.operation))


def test_late_words_of_the_client_are_dropped() -> None:
    pair = ConnectionPair().connect().run()
    late = pair.client.credit(1, 1) + pair.client.message(1, b"", []) + pair.client.abort()
    pair.gateway.result(None)
    assert pair.to_gateway(late) == []
    assert pair.gateway.credit_items == 0
    assert pair.to_gateway(pair.client.open("next", [])) == [Open(2, "next", [])]
    with pytest.raises(RemoteProtocolError, match="a credit arrived that belongs to no operation"):
        pair.to_gateway([good_frame(pair.gateway, Kind.CREDIT, 1)])


@pytest.mark.parametrize(
    "kind",
    [kind for kind in ALL_KINDS if kind not in (Kind.MESSAGE, Kind.CREDIT, Kind.ABORT, Kind.OPEN, Kind.GOODBYE)],
)
def test_what_is_never_late(kind: Kind) -> None:
    pair = ConnectionPair().connect().run()
    pair.gateway.result(None)
    with pytest.raises(RemoteProtocolError, match=f"{kind.name} arrived while idle"):
        pair.to_gateway([good_frame(pair.gateway, kind, 1)])


def test_the_numbers_of_operations_count_round() -> None:
    pair = ConnectionPair().connect()
    pair.client.operation = 65534
    for expected in (65535, 0, 1):
        assert pair.to_gateway(pair.client.open("verb", [])) == [Open(expected, "verb", [])]
        assert pair.to_client(pair.gateway.result(expected)) == [Result(expected)]
    pair.client.operation = 65535
    pair.run()
    pair.to_gateway(pair.client.abort())
    assert pair.to_client(pair.gateway.result(1)) == []
    pair.run()
    assert pair.gateway.operation == 1


def test_a_number_is_not_used_again_before_its_operation_ended() -> None:
    pair = ConnectionPair().connect().run()
    pair.to_gateway(pair.client.abort())
    for _ in range(65535):
        pair.client.open("verb", [])
        pair.client.abort()
    before = state(pair.client)
    with pytest.raises(Busy, match="left so many operations"):
        pair.client.open("verb", [])
    assert state(pair.client) == before
    pair.to_client(pair.gateway.result(1))
    pair.client.open("verb", [])
    assert pair.client.operation == 1


# Credit


def test_credit_is_spent_by_items_and_bytes() -> None:
    pair = ConnectionPair().connect().run()
    pair.to_gateway(pair.client.credit(3, 5))
    pair.to_client(pair.gateway.items(Form.RAW, b"", [0, 1], [b"ab", b"cd"]))
    assert (pair.client.credit_items, pair.client.credit_size) == (1, 1)
    pair.to_client(pair.gateway.items(Form.RAW, b"", [2], [b"much more"]))
    assert (pair.gateway.credit_items, pair.gateway.credit_size) == (0, -8)
    assert (pair.client.credit_items, pair.client.credit_size) == (0, -8)
    pair.to_gateway(pair.client.credit(1, 8))
    with pytest.raises(LocalProtocolError, match="can't carry 1"):
        pair.gateway.items(Form.RAW, b"", [3], [b"x"])
    pair.to_gateway(pair.client.credit(0, 1))
    assert len(pair.to_client(pair.gateway.items(Form.RAW, b"", [3], [b"x"]))) == 1


@pytest.mark.parametrize(("items", "size"), [(0, 0), (0, 9), (1, 9), (2, 0)])
def test_no_more_items_than_credit(items: int, size: int) -> None:
    pair = ConnectionPair().connect().run()
    pair.to_gateway(pair.client.credit(items, size))
    before = state(pair.gateway)
    with pytest.raises(LocalProtocolError, match=f"credit for {items} items can't carry 2"):
        pair.gateway.items(Form.RAW, b"", [0, 1], [b"a", b"b"])
    assert state(pair.gateway) == before
    with pytest.raises(RemoteProtocolError, match="more items arrived than credit was given for"):
        pair.to_client([frame(8, 0, 1, struct.pack("<IBBqI", 2, 0, 0, 0, 1), b"ab")])


def test_a_new_operation_starts_without_credit() -> None:
    pair = ConnectionPair().connect().run()
    pair.to_gateway(pair.client.credit(5, 5))
    pair.to_client(pair.gateway.result(1))
    pair.run()
    assert (pair.client.credit_items, pair.client.credit_size) == (0, 0)
    assert (pair.gateway.credit_items, pair.gateway.credit_size) == (0, 0)


@pytest.mark.parametrize(("items", "size"), [(-1, 1), (1, -1), (2**32, 1), (1, 2**64), (1.5, 1)])
def test_what_is_no_credit(items: Any, size: Any) -> None:
    pair = ConnectionPair().connect().run()
    before = state(pair.client)
    with pytest.raises(LocalProtocolError, match="are no credit"):
        pair.client.credit(items, size)
    assert state(pair.client) == before


@pytest.mark.parametrize("head", [b"", bytes(11), bytes(13)])
def test_a_malformed_credit(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="credit"):
        deliver(connection_in(GATEWAY, Phase.RUNNING), frame(Kind.CREDIT, 0, 1, head))


@pytest.mark.parametrize("ident", [0, 7, -3, 2**63 - 1])
@pytest.mark.parametrize(
    ("form", "head", "payload"),
    [
        (Form.RAW, b"", b"data"),
        (Form.RAW, b"", b""),
        (Form.JSON, b"", b'{"a":1}'),
        (Form.ARRAY, b'["<u2",[1],"C"]', b"ab"),
    ],
)
def test_a_lone_item_is_the_same_frame_by_the_short_way(form: Form, head: bytes, payload: bytes, ident: int) -> None:
    short, long = ConnectionPair().connect().run(), ConnectionPair().connect().run()
    for pair in (short, long):
        pair.to_gateway(pair.client.credit(2, 100))
    said = short.gateway.lone_item(form, head, ident, payload)
    assert said == b"".join(long.gateway.items(form, head, [ident], [payload]))
    assert state(short.gateway) == state(long.gateway)
    assert len(short.to_client([said])) == 1


@pytest.mark.parametrize(("items", "size"), [(0, 0), (0, 9), (1, 0)])
def test_a_lone_item_waits_for_credit(items: int, size: int) -> None:
    pair = ConnectionPair().connect().run()
    pair.to_gateway(pair.client.credit(items, size))
    assert pair.gateway.lone_item(Form.RAW, b"", 0, b"x") is None
    pair.to_gateway(pair.client.credit(1, 1))
    before = state(pair.gateway)
    with pytest.raises(struct.error):
        pair.gateway.lone_item(Form.RAW, b"", 2**63, b"x")
    assert state(pair.gateway) == before
    assert pair.gateway.lone_item(Form.RAW, b"", 0, b"x") is not None


def test_there_is_no_lone_item_without_an_operation() -> None:
    assert ConnectionPair().connect().gateway.lone_item(Form.RAW, b"", 0, b"x") is None


def test_items_that_make_no_frame_leave_the_credit() -> None:
    pair = ConnectionPair().connect().run()
    pair.to_gateway(pair.client.credit(10, 10))
    before = state(pair.gateway)
    for idents, payloads, error in (([], [], LocalProtocolError), ([2**63], [b""], ValueNotSupported)):
        with pytest.raises(error):
            pair.gateway.items(Form.RAW, b"", idents, payloads)
    with pytest.raises(ValueTooLarge):
        pair.gateway.items(Form.RAW, b"", [0], [bytes(LIMIT + 1)])
    assert state(pair.gateway) == before


# Options


@pytest.mark.parametrize("limit", [0, 4095, 2**32, 10**30])
def test_a_limit_that_no_peer_accepts(limit: int) -> None:
    with pytest.raises(ConfigurationError, match=f"limit={limit} is not between 4096 and 4294967295"):
        Connection(CLIENT, nonce=bytes(32), limit=limit)


def test_a_key_on_the_wrong_side() -> None:
    with pytest.raises(LocalProtocolError, match="a client has one key=, a gateway has keys="):
        Connection(GATEWAY, nonce=bytes(32), key=KEY)
    with pytest.raises(LocalProtocolError, match="a client has one key=, a gateway has keys="):
        Connection(CLIENT, nonce=bytes(32), keys={KEY: Rights.ALL})


# Messages


def test_the_head_of_a_message_has_64_kib() -> None:
    pair = ConnectionPair().connect().run()
    assert pair.to_gateway(pair.client.message(1, bytes(65536), [])) == [Message(1, bytes(65536), b"")]
    with pytest.raises(ValueTooLarge, match="at most 65536 bytes, not 65537"):
        pair.client.message(1, bytes(65537), [])
    with pytest.raises(ValueTooLarge):
        pair.client.message(1, b"", [bytes(LIMIT), b"x"])


@pytest.mark.parametrize("code", [-1, 256])
def test_the_code_of_a_message_is_a_byte(code: int) -> None:
    pair = ConnectionPair().connect().run()
    with pytest.raises(LocalProtocolError, match=f"0 to 255, not {code}"):
        pair.client.message(code, b"", [])


def test_the_size_of_a_view_is_that_of_its_bytes() -> None:
    pair = ConnectionPair().connect().run()
    numbers = memoryview(numpy.array([[1.0, 2.0], [3.0, 4.0]]))
    assert pair.to_gateway(pair.client.message(1, b"", [numbers, b"end"])) == [
        Message(1, b"", numbers.tobytes() + b"end")
    ]


def test_a_large_body_is_writable_and_its_memory_can_be_given_back() -> None:
    pair = ConnectionPair().connect().run()
    (first,) = pair.to_client(pair.gateway.message(1, b"", [b"1" * 100_000]))
    assert isinstance(first, Message)
    first.body[0] = 5  # type: ignore[index]
    pair.client.recycle(first.body)
    (second,) = pair.to_client(pair.gateway.message(1, b"", [b"2" * 100_000]))
    assert isinstance(second, Message)
    assert bytes(first.body) == bytes(second.body) == b"2" * 100_000


def test_a_small_body_outlives_what_comes_next() -> None:
    pair = ConnectionPair().connect().run()
    (first,) = pair.to_client(pair.gateway.message(1, b"", [b"first"]))
    pair.to_client(pair.gateway.message(1, b"", [b"other"]))
    assert first == Message(1, b"", b"first")


# Values


@dataclass
class Pose:
    x: int


def test_a_class_that_the_gateway_does_not_know() -> None:
    classes = Registry()
    classes.register(Pose)
    pair = ConnectionPair(client={"registry": classes}, gateway={"registry": Registry()}).connect()
    (opened,) = pair.to_gateway(pair.client.open("verb", [Pose(1)]))
    assert isinstance(opened, Open)
    assert (opened.verb, opened.parameters, type(opened.problem)) == ("", [], ValueNotSupported)
    assert pair.to_client(pair.gateway.fault(400, "E", "m")) == [Fault(400, "E", "m", "")]


def test_a_class_that_the_client_does_not_know() -> None:
    classes = Registry()
    classes.register(Pose)
    pair = ConnectionPair(client={"registry": Registry()}, gateway={"registry": classes}).connect().run()
    with pytest.raises(ValueNotSupported, match="'Pose' arrived"):
        pair.to_client(pair.gateway.result(Pose(1)))
    pair.run()
    assert pair.to_client(pair.gateway.result(2)) == [Result(2)]


def test_what_cannot_be_encoded_leaves_the_pair_as_it_was() -> None:
    pair = ConnectionPair().connect()
    before = state(pair.client)
    with pytest.raises(ValueNotSupported):
        pair.client.open("verb", [object()])
    assert state(pair.client) == before
    pair.run()
    with pytest.raises(ValueNotSupported):
        pair.gateway.result(object())
    assert pair.gateway.phase is Phase.RUNNING
    assert pair.to_client(pair.gateway.fault(0, "E", "m")) == [Fault(0, "E", "m", "")]


@pytest.mark.parametrize(
    ("flags", "body"),
    [(0, b"verb"), (1, b"[]"), (1, b"{}"), (1, b'"verb"'), (1, b"[5]"), (1, b"["), (3, b"[]"), (9, b"[]")],
)
def test_an_operation_without_a_verb(flags: int, body: bytes) -> None:
    gateway = connection_in(GATEWAY, Phase.IDLE)
    with pytest.raises(RemoteProtocolError):
        deliver(gateway, frame(Kind.OPEN, flags, 1, b"", body))
    assert gateway.phase is Phase.BROKEN


def test_the_description_of_a_value_has_64_kib() -> None:
    pair = ConnectionPair().connect().run()
    with pytest.raises(ValueTooLarge):
        pair.gateway.result([b""] * 10_000)
    assert pair.gateway.phase is Phase.RUNNING


def test_an_opening_that_was_not_sent_is_taken_back() -> None:
    pair = ConnectionPair().connect()
    before = state(pair.client)
    pair.client.open("verb", [])
    pair.client.withdraw()
    assert state(pair.client) == before
    with pytest.raises(LocalProtocolError):
        pair.client.withdraw()


def test_what_was_left_is_known_until_its_end() -> None:
    pair = ConnectionPair().connect().run()
    assert not pair.client.leaving
    pair.to_gateway(pair.client.abort())
    assert pair.client.leaving
    pair.to_client(pair.gateway.fault(499, "OperationAborted", "left"))
    assert not pair.client.leaving

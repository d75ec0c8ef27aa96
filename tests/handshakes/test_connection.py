from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.auth import prove
from handshakes.connection import LIMIT, Connection, Phase, Role
from handshakes.errors import (
    AuthenticationFailed,
    Busy,
    Closed,
    ConfigurationError,
    Forbidden,
    LocalProtocolError,
    PoolFull,
    PynetworkError,
    Refused,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
    VersionMismatch,
)
from handshakes.messages import (
    Abort,
    Credit,
    Fault,
    Goodbye,
    Hello,
    Items,
    Kind,
    Message,
    Open,
    Registry,
    Result,
    Rights,
    Welcome,
)
from handshakes.values import Form
from tests.handshakes.pair import (
    ALL_KINDS,
    KEY,
    OTHER_KEY,
    PLACES,
    STEPS,
    ConnectionPair,
    break_it,
    connection_in,
    deliver,
    frame,
    joined,
    keyed_pair,
    state,
)

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY


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


# Golden bytes of a whole conversation


def test_the_first_bytes_of_a_client() -> None:
    said = joined(Connection(CLIENT, nonce=b"c" * 32).start())
    assert said[:12] == b"\x01\0\0\0\x09\0\0\0" + struct.pack("<I", len(said) - 21)
    assert said == hello()


def test_the_bytes_of_a_conversation() -> None:
    pair = ConnectionPair(client={"agent": "me"}, gateway={"rights": Rights.ALL, "agent": "you"}).connect()
    pair.to_gateway(pair.client.open("add", [1, 2]))
    pair.to_gateway(pair.client.credit(3, 4))
    pair.to_gateway(pair.client.message(9, b"h", [b"bo", b"dy"]))
    pair.to_client(pair.gateway.items(Form.RAW, b"", [5], [b"x"]))
    pair.to_client(pair.gateway.result(3))
    pair.to_gateway(pair.client.open("sub", []))
    pair.to_gateway(pair.client.abort())
    pair.to_client(pair.gateway.fault(404, "E", "m", "t"))
    pair.to_gateway(pair.client.goodbye())
    assert [each for each in pair.wire if each[1]] == [
        ("client", hello(agent="me")),
        ("gateway", hello(agent="you", nonce="67" * 32)),
        ("gateway", frame(3, body=b'[63,""]')),
        ("client", frame(6, 1, 1, body=b'["add",1,2]')),
        ("client", frame(9, 0, 1, head=b"\x03\0\0\0\x04\0\0\0\0\0\0\0")),
        ("client", frame(7, 9, 1, b"h", b"body")),
        ("gateway", frame(8, 0, 1, struct.pack("<IBBqI", 1, 0, 0, 5, 1), b"x")),
        ("gateway", frame(11, 1, 1, body=b"3")),
        ("client", frame(6, 1, 2, body=b'["sub"]')),
        ("client", frame(10, 0, 2)),
        ("gateway", frame(12, 0, 2, body=b'[404,"E","m","t"]')),
        ("client", frame(5)),
    ]


def test_the_proofs_of_both_sides() -> None:
    pair = keyed_pair().connect()
    said = {data[0]: data for _, data in pair.wire if data}
    both = joined([data for _, data in pair.wire if data and data[0] == Kind.HELLO])
    assert both == hello(keyed=True) + hello(keyed=True, nonce="67" * 32)
    assert said[Kind.PROOF] == frame(2, body=prove(KEY, "client", both))
    assert said[Kind.WELCOME] == frame(3, body=b'[31,"%s"]' % prove(KEY, "gateway", both).hex().encode())


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("keyed", [False, True])
def test_a_conversation_in_pieces(step: int | None, keyed: bool) -> None:
    open_to_all = ConnectionPair(gateway={"rights": Rights.DEFAULT}, step=step)
    pair = keyed_pair(step=step) if keyed else open_to_all
    (greeting,) = pair.greet()
    assert isinstance(greeting, Hello)
    assert (greeting.nonce, greeting.keyed) == (b"c" * 32, keyed)
    (welcome,) = pair.to_client(pair.gateway.welcome())
    assert isinstance(welcome, Welcome)
    assert welcome.rights == pair.client.rights == pair.gateway.rights == Rights.DEFAULT
    array = numpy.arange(9_000)
    assert pair.to_gateway(pair.client.open("verb", [1, b"raw"])) == [Open(1, "verb", [1, b"raw"])]
    up = b"up" * 33_000
    assert pair.to_gateway(pair.client.message(255, b"head", [up])) == [Message(255, b"head", up)]
    assert pair.to_client(pair.gateway.message(0, b"", [b"down"])) == [Message(0, b"", b"down")]
    assert pair.to_gateway(pair.client.credit(2, 100)) == [Credit(2, 100)]
    (items,) = pair.to_client(pair.gateway.items(Form.JSON, b"", [4, 2], [b"1", b'"x"']))
    assert isinstance(items, Items)
    assert (list(items.idents), items.payloads) == ([4, 2], [1, "x"])
    (result,) = pair.to_client(pair.gateway.result({"array": array}))
    assert isinstance(result, Result)
    assert (result.value["array"] == array).all()
    assert pair.to_gateway(pair.client.open("fail", [])) == [Open(2, "fail", [])]
    assert pair.to_client(pair.gateway.fault(0, "E", "m")) == [Fault(0, "E", "m", "")]
    assert pair.to_client(pair.gateway.goodbye()) == [Goodbye()]
    assert (pair.client.phase, pair.gateway.phase) == (Phase.CLOSED, Phase.CLOSED)


def test_frames_that_arrive_together_are_told_apart() -> None:
    pair = ConnectionPair().connect()
    said = joined(
        pair.client.open("verb", []) + pair.client.credit(1, 2) + pair.client.message(1, b"", [b"x"])
    )
    assert pair.to_gateway([said]) == [Open(1, "verb", []), Credit(1, 2), Message(1, b"", b"x")]


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


def good_frame(connection: Connection, kind: Kind, operation: int) -> bytes:
    """A frame of this kind with which nothing else is wrong."""
    transcript = connection._transcript
    welcome = b'[1,"%s"]' % prove(KEY, "gateway", transcript).hex().encode()
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
    [
        kind
        for kind in ALL_KINDS
        if kind not in (Kind.MESSAGE, Kind.CREDIT, Kind.ABORT, Kind.OPEN, Kind.GOODBYE)
    ],
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


# Limits


def test_the_limit_of_the_peer_is_respected() -> None:
    pair = ConnectionPair(client={"limit": 5000}, gateway={"limit": 6000}).connect()
    assert (pair.client.send_limit, pair.gateway.send_limit) == (6000, 5000)
    with pytest.raises(
        ValueTooLarge, match=r"6011 bytes are more than the other side accepts at once \(6000\)"
    ):
        pair.client.open("verb", ["x" * 6000])
    assert (pair.client.phase, pair.client.operation) == (Phase.IDLE, 0)
    pair.run()
    pair.to_gateway(pair.client.credit(5, 99999))
    before = state(pair.gateway)
    for call in (
        lambda: pair.gateway.result(b"x" * 5001),
        lambda: pair.gateway.message(1, b"", [b"x" * 5000, b"x"]),
        lambda: pair.gateway.items(Form.RAW, b"", [0], [b"x" * 5001]),
    ):
        with pytest.raises(ValueTooLarge):
            call()
    assert state(pair.gateway) == before
    assert pair.to_client(pair.gateway.message(1, b"", [b"x" * 5000])) == [Message(1, b"", b"x" * 5000)]
    assert pair.to_client(pair.gateway.result(b"x" * 5000)) == [Result(b"x" * 5000)]


def test_a_frame_beyond_the_limit_breaks_the_protocol() -> None:
    pair = ConnectionPair(client={"limit": 5000}).connect().run()
    with pytest.raises(RemoteProtocolError, match="of 5001 bytes was announced; at most 5000 are accepted"):
        pair.to_client([frame(Kind.MESSAGE, 0, 1, body=bytes(5001))])


def test_the_head_of_a_message_has_64_kib() -> None:
    pair = ConnectionPair().connect().run()
    assert pair.to_gateway(pair.client.message(1, bytes(65536), [])) == [Message(1, bytes(65536), b"")]
    with pytest.raises(ValueTooLarge, match="at most 65536 bytes, not 65537"):
        pair.client.message(1, bytes(65537), [])
    with pytest.raises(ValueTooLarge):
        pair.client.message(1, b"", [bytes(LIMIT), b"x"])


def test_the_description_of_a_value_has_64_kib() -> None:
    pair = ConnectionPair().connect().run()
    with pytest.raises(ValueTooLarge):
        pair.gateway.result([b""] * 10_000)
    assert pair.gateway.phase is Phase.RUNNING


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


@pytest.mark.parametrize("limit", [0, 4095, 2**32, 10**30])
def test_a_limit_that_no_peer_accepts(limit: int) -> None:
    with pytest.raises(ConfigurationError, match=f"limit={limit} is not between 4096 and 4294967295"):
        Connection(CLIENT, nonce=bytes(32), limit=limit)


def test_a_limit_beyond_what_a_header_can_say() -> None:
    gateway = Connection(GATEWAY, nonce=bytes(32))
    deliver(gateway, hello(limit=2**64 - 1))
    assert gateway.send_limit == 2**32 - 1


@pytest.mark.parametrize(
    "place", [place for place in PLACES if place[1] in (Phase.HELLO, Phase.PROOF, Phase.WELCOME)]
)
@pytest.mark.parametrize(("head", "body"), [(0, 4097), (4097, 0), (0, 2**32 - 1), (2**32 - 1, 0)])
def test_before_the_proof_only_little_is_accepted(place: tuple[Role, Phase], head: int, body: int) -> None:
    connection = connection_in(*place)
    with pytest.raises(RemoteProtocolError, match="at most 4096 are accepted"):
        deliver(connection, struct.pack("<BBHII", Kind.HELLO, 0, 0, head, body) + bytes(100))


def test_before_the_proof_only_little_memory_is_taken() -> None:
    gateway = Connection(GATEWAY, nonce=bytes(32))
    data = frame(Kind.HELLO, head=b"h" * 4096, body=b"b" * 4096) * 100
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            deliver(gateway, data, 1000)
        assert tracemalloc.get_traced_memory()[1] < 60_000
    finally:
        tracemalloc.stop()
    assert len(gateway.buffer()) <= 12 + 4096


def test_what_arrived_early_is_not_lost() -> None:
    pair = ConnectionPair()
    pair.greet()
    welcome = pair.gateway.welcome()
    assert pair.to_client([joined(welcome) + joined(pair.gateway.goodbye())]) != []
    assert pair.client.phase is Phase.CLOSED


# Keys


def refused(pair: ConnectionPair) -> AuthenticationFailed:
    """The gateway finds out, and the client hears it."""
    with pytest.raises(AuthenticationFailed):
        pair.greet()
    assert pair.gateway.phase is Phase.BROKEN
    with pytest.raises(AuthenticationFailed) as caught:
        pair.to_client(pair.gateway.data_to_send())
    assert pair.client.phase is Phase.CLOSED
    return caught.value


def test_a_wrong_key() -> None:
    pair = ConnectionPair(client={"key": OTHER_KEY}, gateway={"keys": {KEY: Rights.ALL}})
    assert str(refused(pair)) == "wrong key"
    assert pair.gateway.rights == Rights.NONE


def test_no_key() -> None:
    pair = ConnectionPair(gateway={"keys": {KEY: Rights.ALL}})
    assert "this gateway asks for a key" in str(refused(pair))


def test_each_key_has_its_rights() -> None:
    for key, rights in ((KEY, Rights.READ), (OTHER_KEY, Rights.ALL)):
        pair = ConnectionPair(
            client={"key": key}, gateway={"keys": {KEY: Rights.READ, OTHER_KEY: Rights.ALL}}
        ).connect()
        assert pair.client.rights == pair.gateway.rights == rights


def test_a_gateway_that_does_not_ask_is_not_believed() -> None:
    pair = ConnectionPair(client={"key": KEY})
    with pytest.raises(AuthenticationFailed, match="the gateway does not ask for one"):
        pair.greet()
    assert pair.client.phase is Phase.BROKEN
    assert pair.client.data_to_send() == []


def test_a_key_on_the_wrong_side() -> None:
    with pytest.raises(LocalProtocolError, match="a client has one key=, a gateway has keys="):
        Connection(GATEWAY, nonce=bytes(32), key=KEY)
    with pytest.raises(LocalProtocolError, match="a client has one key=, a gateway has keys="):
        Connection(CLIENT, nonce=bytes(32), keys={KEY: Rights.ALL})


def test_a_gateway_that_does_not_know_the_key() -> None:
    for proof in (b"", bytes(32)):
        client = connection_in(CLIENT, Phase.WELCOME)
        with pytest.raises(AuthenticationFailed, match="the gateway did not prove that it knows the key"):
            deliver(client, frame(3, body=b'[31,"%s"]' % proof.hex().encode()))
        assert (client.phase, client.rights) == (Phase.BROKEN, Rights.NONE)


def test_the_proof_of_the_client_is_none_of_the_gateway() -> None:
    pair = keyed_pair()
    pair.to_gateway(pair.client.start())
    pair.to_client(pair.gateway.data_to_send())
    (proof,) = pair.client.data_to_send()
    with pytest.raises(AuthenticationFailed):
        pair.to_client([frame(3, body=b'[31,"%s"]' % bytes(proof[12:]).hex().encode())])


def test_a_client_that_talks_to_its_mirror() -> None:
    pair = keyed_pair()
    pair.to_client(pair.client.start())
    (proof,) = pair.client.data_to_send()
    with pytest.raises(RemoteProtocolError, match="PROOF arrived while waiting for a welcome"):
        pair.to_client([proof])


def test_a_recorded_proof_is_good_for_nothing() -> None:
    recorded = keyed_pair().connect()
    client_said = joined([data for side, data in recorded.wire if side == "client"])
    again = Connection(GATEWAY, nonce=b"n" * 32, keys={KEY: Rights.ALL})
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        deliver(again, client_said)
    gateway_said = joined([data for side, data in recorded.wire if side == "gateway"])
    client = Connection(CLIENT, nonce=b"n" * 32, key=KEY)
    client.start()
    with pytest.raises(AuthenticationFailed, match="did not prove"):
        deliver(client, gateway_said)


@pytest.mark.parametrize(
    ("old", "new"), [(b"67108864", b"67108863"), (b'"bound":false', b'"bound":true '), (b'"me"', b'"ME"')]
)
@pytest.mark.parametrize("victim", [CLIENT, GATEWAY])
def test_a_tampered_hello(old: bytes, new: bytes, victim: Role) -> None:
    pair = ConnectionPair(
        client={"key": KEY, "agent": "me"}, gateway={"keys": {KEY: Rights.ALL}, "agent": "me"}
    )
    said = joined(pair.client.start())
    length = struct.pack("<I", len(said) - 21 + len(new) - len(old))
    tampered = said[:8] + length + said[12:].replace(old, new)
    assert tampered != said
    pair.to_gateway([tampered if victim is GATEWAY else said])
    answer = joined(pair.gateway.data_to_send())
    length = struct.pack("<I", len(answer) - 21 + len(new) - len(old))
    pair.to_client([answer[:8] + length + answer[12:].replace(old, new) if victim is CLIENT else answer])
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        pair.to_gateway(pair.client.data_to_send())


def with_certificates(client: bytes, gateway: bytes) -> ConnectionPair:
    return ConnectionPair(
        client={"key": KEY, "certificate": client},
        gateway={"keys": {KEY: Rights.ALL}, "certificate": gateway},
    )


@pytest.mark.parametrize(
    ("client", "gateway"), [(b"c" * 32, b"c" * 32), (b"", b"c" * 32), (b"c" * 32, b""), (b"", b"")]
)
def test_a_certificate_is_bound_where_both_know_it(client: bytes, gateway: bytes) -> None:
    pair = with_certificates(client, gateway).connect()
    both = joined([data for _, data in pair.wire if data and data[0] == Kind.HELLO])
    proof = next(data for _, data in pair.wire if data and data[0] == Kind.PROOF)
    bound = client if client and gateway else b""
    assert proof[12:] == prove(KEY, "client", both + bound)


def test_somebody_in_the_middle_of_tls() -> None:
    assert str(refused(with_certificates(b"m" * 32, b"c" * 32))) == "wrong key"


@pytest.mark.parametrize("body", [b"", bytes(31), bytes(32), bytes(33), bytes(4096)])
def test_what_is_no_proof(body: bytes) -> None:
    gateway = connection_in(GATEWAY, Phase.PROOF)
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        deliver(gateway, frame(Kind.PROOF, body=body))
    assert gateway.phase is Phase.BROKEN
    with pytest.raises(RemoteProtocolError, match="PROOF arrived while broken"):
        deliver(gateway, frame(Kind.PROOF, body=prove(KEY, "client", gateway._transcript)))


def test_a_nonce_has_32_bytes() -> None:
    with pytest.raises(LocalProtocolError, match="a nonce has 32 bytes, not 31"):
        Connection(CLIENT, nonce=bytes(31))


# Versions, refusals, and hellos that are none


@pytest.mark.parametrize("versions", [[1, 2], [4, 9], [0, 0], [5, 1], [-1, 2], [2**63, 2**64 - 1]])
def test_no_version_in_common(versions: list[int]) -> None:
    gateway = Connection(GATEWAY, nonce=bytes(32))
    with pytest.raises(VersionMismatch, match=rf"version 3 .* {versions[0]} to {versions[1]}; install"):
        deliver(gateway, hello(versions=versions))
    client = connection_in(CLIENT, Phase.HELLO)
    with pytest.raises(VersionMismatch, match="install the same major version"):
        deliver(client, joined(gateway.data_to_send()))
    assert client.phase is Phase.CLOSED
    with pytest.raises(VersionMismatch):
        deliver(connection_in(CLIENT, Phase.HELLO), hello(versions=versions))


@pytest.mark.parametrize("versions", [[1, 3], [3, 9], [0, 2**63]])
def test_a_version_in_common(versions: list[int]) -> None:
    assert (
        len(deliver(Connection(GATEWAY, nonce=bytes(32)), hello(versions=versions, more="of the future")))
        == 1
    )


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


@pytest.mark.parametrize("changes", NOT_A_HELLO, ids=repr)
@pytest.mark.parametrize("role", [CLIENT, GATEWAY])
def test_a_malformed_hello(changes: dict[str, Any], role: Role) -> None:
    with pytest.raises(RemoteProtocolError, match=r"a hello arrived|is not hexadecimal"):
        deliver(connection_in(role, Phase.HELLO), hello(**changes))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"5", b"null", b'"x"', b"[" * 4000, b"[" * 2000 + b"]" * 2000, b"\xff"]
)
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ((GATEWAY, Phase.HELLO), Kind.HELLO),
        ((CLIENT, Phase.HELLO), Kind.HELLO),
        ((CLIENT, Phase.HELLO), Kind.REFUSAL),
        ((CLIENT, Phase.WELCOME), Kind.WELCOME),
        ((CLIENT, Phase.WELCOME), Kind.REFUSAL),
        ((CLIENT, Phase.RUNNING), Kind.FAULT),
        ((CLIENT, Phase.IDLE), Kind.REFUSAL),
    ],
)
def test_a_body_that_is_none(place: tuple[Role, Phase], kind: Kind, body: bytes) -> None:
    connection = connection_in(*place)
    head = b"pynetwork" if kind is Kind.HELLO else b""
    with pytest.raises(RemoteProtocolError):
        deliver(connection, frame(kind, 0, connection.operation, head, body))
    assert connection.phase is Phase.BROKEN


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("deep", [nested(900), b'{"a":' * 500 + b"1" + b"}" * 500])
def test_texts_nested_without_end(deep: bytes) -> None:
    agent = hello(agent="X")[21:].replace(b'"X"', deep)
    with pytest.raises(RemoteProtocolError, match="a hello arrived that is malformed"):
        deliver(Connection(GATEWAY, nonce=bytes(32)), frame(1, head=b"pynetwork", body=agent))
    with pytest.raises(RemoteProtocolError, match="a REFUSAL arrived that is malformed"):
        deliver(connection_in(CLIENT, Phase.HELLO), frame(4, body=b"[400,%s]" % deep))
    with pytest.raises(RemoteProtocolError, match="a FAULT arrived that is malformed"):
        deliver(connection_in(CLIENT, Phase.RUNNING), frame(12, 0, 1, body=b'[0,"E",%s,""]' % deep))


@pytest.mark.parametrize("head", [b"", b"pynetwor", b"pynetwork4", b"PYNETWORK"])
def test_another_magic(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="does not speak pynetwork 3"):
        deliver(Connection(GATEWAY, nonce=bytes(32)), frame(1, head=head, body=hello()[21:]))


@pytest.mark.parametrize(
    "body",
    [
        b"[31]",
        b"[31,5]",
        b"[31,null]",
        b'[31,"zz"]',
        b'["31",""]',
        b"[null,null]",
        b'[1.5,""]',
        b'[31,"",1]',
        b'[true,""]',
    ],
)
def test_a_malformed_welcome(body: bytes) -> None:
    pair = ConnectionPair()
    pair.greet()
    with pytest.raises(RemoteProtocolError):
        pair.to_client([frame(3, body=body)])
    assert pair.client.rights == Rights.NONE


@pytest.mark.parametrize(
    ("bits", "rights"),
    [
        (0, Rights.NONE),
        (5, Rights.CALL | Rights.READ),
        (64, Rights.NONE),
        (2**63, Rights.NONE),
        (-1, Rights.ALL),
    ],
)
def test_rights_of_the_future_are_passed_over(bits: int, rights: Rights) -> None:
    pair = ConnectionPair()
    pair.greet()
    assert pair.to_client([frame(3, body=b'[%d,""]' % bits)]) == [Welcome(rights, b"")]
    assert pair.client.rights == rights


@pytest.mark.parametrize(
    "body",
    [
        b'["503","x"]',
        b"[503]",
        b"[503,5]",
        b'[503,"x",1]',
        b'[null,"x"]',
        b'[1e300,"x"]',
        b'{"503":"x","1":2}',
    ],
)
def test_a_malformed_refusal(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a REFUSAL arrived that is malformed"):
        deliver(connection_in(CLIENT, Phase.WELCOME), frame(4, body=body))


@pytest.mark.parametrize(
    "body",
    [b'[0,"E","m"]', b'[0,"E","m","t",1]', b'["0","E","m","t"]', b'[0,null,"m","t"]', b'[0,"E","m",[]]'],
)
def test_a_malformed_fault(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a FAULT arrived that is malformed"):
        deliver(connection_in(CLIENT, Phase.RUNNING), frame(12, 0, 1, body=body))


@pytest.mark.parametrize("phase", [Phase.HELLO, Phase.PROOF, Phase.VERDICT])
@pytest.mark.parametrize("message", ["full", "\0" * 5000, "é" * 5000, "\ud800 is no text"])
def test_a_gateway_refuses_in_words_that_fit(phase: Phase, message: str) -> None:
    gateway = connection_in(GATEWAY, phase)
    gateway.data_to_send()
    said = gateway.refuse(403, message)
    assert gateway.phase is Phase.CLOSED
    with pytest.raises(Forbidden) as caught:
        deliver(connection_in(CLIENT, Phase.WELCOME), joined(said))
    assert message.replace("\ud800", "?").startswith(str(caught.value))
    assert len(str(caught.value)) == min(500, len(message))


def test_names_for_people_are_cut() -> None:
    pair = ConnectionPair(client={"agent": "\0" * 300}, gateway={"agent": "g\udcff"}).connect()
    assert pair.gateway.peer_agent == "\0" * 200
    assert pair.client.peer_agent == "g?"
    gateway = Connection(GATEWAY, nonce=bytes(32))
    deliver(gateway, hello(agent="a" * 300))
    assert gateway.peer_agent == "a" * 200


# Values in operations


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


@pytest.mark.parametrize("limit", [4096, 5000, LIMIT])
@pytest.mark.parametrize("text", ["short", "\0" * 20_000, "é\ud800" * 10_000])
def test_a_fault_always_fits(limit: int, text: str) -> None:
    pair = ConnectionPair(client={"limit": limit}).connect().run()
    (fault,) = pair.to_client(pair.gateway.fault(0, text, text, text + " the end"))
    assert isinstance(fault, Fault)
    shown = text.replace("\ud800", "?")
    assert shown.startswith(fault.type_name)
    assert shown.startswith(fault.message)
    assert fault.traceback.endswith(" the end")
    assert min(map(len, (fault.type_name, fault.message, fault.traceback))) >= min(len(text), 60)
    assert (pair.client.phase, pair.gateway.phase) == (Phase.IDLE, Phase.IDLE)


# Fuzz

HEADS = st.one_of(
    st.just(b""),
    st.just(b"pynetwork"),
    st.binary(max_size=20),
    st.builds(struct.Struct("<IQ").pack, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)),
    st.builds(
        struct.Struct("<IBBqI").pack,
        st.integers(0, 5),
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(-9, 9),
        st.integers(0, 9),
    ),
    st.sampled_from(
        [b'["$",2,[]]', b'["$",2,[[2,null]]]', b'["<f4",[1],"C"]', b'["<f4",[0,9223372036854775807],"F"]']
    ),
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b'["verb"]',
            b"[]",
            b"{}ab",
            b'{"$":"nan"}',
            b'[31,""]',
            b'[503,"x"]',
            b'[0,"E","m","t"]',
            bytes(32),
            nested(900),
        ]
    ),
    st.sampled_from(NOT_A_HELLO).map(lambda changes: hello(**changes)[21:]),
    st.just(hello()[21:]),
)
SEGMENTS = st.one_of(
    st.binary(max_size=30),
    st.builds(frame, st.integers(0, 14), st.integers(0, 5), st.integers(0, 3), HEADS, BODIES),
    st.builds(frame, st.sampled_from(Kind), st.integers(0, 5), st.just(1), HEADS, BODIES),
    st.builds(
        struct.Struct("<BBHII").pack,
        st.integers(0, 14),
        st.integers(0, 5),
        st.integers(0, 3),
        *[st.integers(0, 2**32 - 1)] * 2,
    ),
)


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=50)
@given(
    data=st.lists(SEGMENTS, min_size=1, max_size=5).map(b"".join),
    step=st.integers(1, 40),
    credit=st.booleans(),
)
def test_whatever_arrives_is_an_event_or_an_error(
    place: tuple[Role, Phase], data: bytes, step: int, credit: bool
) -> None:
    connection = connection_in(*place)
    if place == (CLIENT, Phase.RUNNING) and credit:
        connection.credit(3, 100)
    small = place[1] in (Phase.START, Phase.HELLO, Phase.PROOF, Phase.VERDICT, Phase.WELCOME)
    for start in range(0, len(data), step):
        try:
            deliver(connection, data[start : start + step])
        except ValueNotSupported:
            continue
        except (RemoteProtocolError, Refused):
            assert connection.phase in (Phase.BROKEN, Phase.CLOSED)
            break
        if not connection.wants_data:
            break
    assert not small or connection.phase in (Phase.IDLE, Phase.RUNNING) or len(connection.buffer()) <= 8300
    for each in connection.data_to_send():
        assert len(each) <= 12 + 4096


@settings(max_examples=60)
@given(st.integers(0, 10**9), st.integers(0, 255), st.sampled_from(STEPS[1:]))
def test_one_wrong_byte_lets_nobody_in(where: int, value: int, step: int) -> None:
    """Whatever is changed in a handshake with a key: both get in unharmed, or somebody notices."""
    pair = keyed_pair(step=step)
    said = bytearray(joined(pair.client.start()))
    unchanged = said[where % len(said)] == value
    said[where % len(said)] = value
    try:
        pair.to_gateway([bytes(said)])
        pair.to_client(pair.gateway.data_to_send())
        pair.to_gateway(pair.client.data_to_send())
    except (RemoteProtocolError, Refused):
        assert not unchanged
    else:
        assert unchanged or pair.gateway.phase is not Phase.VERDICT


def test_the_root_catches_all() -> None:
    connection = connection_in(GATEWAY, Phase.IDLE)
    break_it(connection)
    with pytest.raises(PynetworkError, match="this gateway's connection is broken; only that of a gateway"):
        connection.result(1)

from __future__ import annotations

import struct

import numpy
import pytest

from handshakes.auth import prove
from handshakes.connection import Connection, Phase, Role
from handshakes.messages import (
    Credit,
    Fault,
    Goodbye,
    Hello,
    Items,
    Kind,
    Message,
    Open,
    Result,
    Rights,
    Welcome,
)
from handshakes.values import Form
from tests.handshakes.pair import KEY, STEPS, ConnectionPair, frame, hello, joined, keyed_pair

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY


# Golden bytes


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
        ("gateway", frame(3, body=b'[127,""]')),
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
    proof = prove(KEY, "gateway", both + b"\x1f\0\0\0\0\0\0\0")
    assert said[Kind.WELCOME] == frame(3, body=b'[31,"%s"]' % proof.hex().encode())


# In whole and in pieces


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
    said = joined(pair.client.open("verb", []) + pair.client.credit(1, 2) + pair.client.message(1, b"", [b"x"]))
    assert pair.to_gateway([said]) == [Open(1, "verb", []), Credit(1, 2), Message(1, b"", b"x")]


def test_what_arrived_early_is_not_lost() -> None:
    pair = ConnectionPair()
    pair.greet()
    welcome = pair.gateway.welcome()
    assert pair.to_client([joined(welcome) + joined(pair.gateway.goodbye())]) != []
    assert pair.client.phase is Phase.CLOSED

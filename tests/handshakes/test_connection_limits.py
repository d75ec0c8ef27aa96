from __future__ import annotations

import struct
import tracemalloc

import pytest

from handshakes.connection import LIMIT, Connection, Phase, Role
from handshakes.errors import RemoteProtocolError, ValueTooLarge
from handshakes.messages import Fault, Kind, Message, Result
from handshakes.values import Form
from tests.handshakes.pair import PLACES, ConnectionPair, connection_in, deliver, frame, hello, state

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY


# The limits that the sides agree on


def test_the_limit_of_the_peer_is_respected() -> None:
    pair = ConnectionPair(client={"limit": 5000}, gateway={"limit": 6000}).connect()
    assert (pair.client.send_limit, pair.gateway.send_limit) == (6000, 5000)
    with pytest.raises(ValueTooLarge, match=r"6011 bytes are more than the other side accepts at once \(6000\)"):
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


def test_a_limit_beyond_what_a_header_can_say() -> None:
    gateway = Connection(GATEWAY, nonce=bytes(32))
    deliver(gateway, hello(limit=2**64 - 1))
    assert gateway.send_limit == 2**32 - 1


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


# Before the proof


@pytest.mark.parametrize("place", [place for place in PLACES if place[1] in (Phase.HELLO, Phase.PROOF, Phase.WELCOME)])
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

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.connection import Phase, Role
from handshakes.errors import Refused, RemoteProtocolError, ValueNotSupported
from handshakes.messages import Kind
from tests.handshakes.pair import (
    NOT_A_HELLO,
    PLACES,
    STEPS,
    connection_in,
    deliver,
    frame,
    hello,
    joined,
    keyed_pair,
    nested,
)

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY


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
    st.sampled_from([b'["$",2,[]]', b'["$",2,[[2,null]]]', b'["<f4",[1],"C"]', b'["<f4",[0,9223372036854775807],"F"]']),
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

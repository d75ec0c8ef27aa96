"""Both channels: what is said and heard, with servers that play what was written by hand from the protocol."""

from __future__ import annotations

import struct
import threading
from typing import Any

import numpy
import pytest

from handshakes.errors import (
    BadRequest,
    ConnectionLost,
    Refused,
    ValueTooLarge,
)
from handshakes.records import FIELDS, KEY, Key, Rows
from handshakes.tstorage import Status
from pynetwork.series.payloads import StructPayloadType, TuplePayloadType
from pynetwork.series.record import Record
from pynetwork.series.response import ResponseAcq
from tests.conformance.channels import (
    BOX,
    FAILURE,
    FLOATS,
    PUT_OK,
    TWO,
    TWO_BYTES,
    A,
    Channels,
    asked,
    assert_failed,
    many,
    many_bytes,
)
from tests.playing import (
    GET,
    GET_ACQ,
    PUT,
    PUTA,
    Heard,
    answered,
    batch,
    full_key,
    header,
    record,
    request,
)
from tests.serving import PATIENCE

# What is said and heard


def test_a_put(channels: Channels) -> None:
    wanted = (
        header(PUT, 0)
        + batch(1, struct.pack("<qiq", 2, 3, 4) + b"one", struct.pack("<qiq", 2, 3, 5) + b"second")
        + struct.pack("<i", -1)
    )
    with channels.talking(lambda heard: heard.answer(PUT_OK, len(wanted))) as (server, channel):
        response = channel.put(TWO)
        assert response
        assert (response.acq_min, response.acq_max) == (10, 11)
        assert channel.connected
    assert server.heard[0].data == wanted


def test_a_put_with_its_times(channels: Channels) -> None:
    wanted = (
        header(PUTA, 0)
        + batch(1, struct.pack("<qiqq", 2, 3, 4, 5) + b"one", struct.pack("<qiqq", 2, 3, 5, 6) + b"second")
        + struct.pack("<i", -1)
    )
    none = header(0, 16) + struct.pack("<qq", -1, -1)
    with channels.talking(lambda heard: heard.answer(none, len(wanted))) as (server, channel):
        assert channel.puta(TWO)
    assert server.heard[0].data == wanted


def test_a_put_of_nothing(channels: Channels) -> None:
    wanted = header(PUT, 0) + struct.pack("<i", -1)
    with channels.talking(lambda heard: heard.answer(PUT_OK, len(wanted))) as (server, channel):
        assert channel.put([])
    assert server.heard[0].data == wanted


def test_a_put_in_small_batches(channels: Channels) -> None:
    records = [Record(Key(cid, 0, 0, cap), b"x" * 30) for cid in (1, 2) for cap in range(4)]

    def play(heard: Heard) -> None:
        heard.hear(12)
        sizes: list[tuple[int, int]] = []
        while (cid := struct.unpack("<i", heard.hear(4))[0]) != -1:
            (size,) = struct.unpack("<i", heard.hear(4))
            heard.hear(size)
            sizes.append((cid, size))
        heard.say(PUT_OK)
        found.append(sizes)

    found: list[list[tuple[int, int]]] = []
    with channels.talking(play, play) as (_, channel):
        assert channel.put(records, max_batch_size=150)
        channel.close()
        assert channel.connect()
        assert channel.put(records, max_batch_size=1)
    first, second = found
    assert first == [(1, 108), (1, 108), (2, 108), (2, 108)]
    assert second == [(cid, 54) for cid in (1, 1, 1, 1, 2, 2, 2, 2)]


def test_a_put_of_many_clients(channels: Channels) -> None:
    rows = many(5000)
    rows["cid"] = numpy.arange(5000)
    size = 12 + 5000 * (8 + 4 + 20 + 8) + 4
    with channels.talking(lambda heard: heard.answer(PUT_OK, size), payload_type=FLOATS) as (_, channel):
        assert channel.put(rows)


def test_the_time_of_acquisition(channels: Channels) -> None:
    answer = header(0, 8) + struct.pack("<q", 2**62)
    with channels.talking(lambda heard: heard.answer(answer)) as (server, channel):
        assert channel.get_acq(*BOX) == ResponseAcq(Status.OK, 2**62)
    assert server.heard[0].data == request(GET_ACQ, full_key(0, 0, 0), full_key(9, 9, 9, 9, 9))


def test_a_get(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.answer(TWO_BYTES)) as (server, channel):
        response = channel.get(*BOX)
        assert response
        assert (response.acq, list(response.data)) == (7, TWO)
    assert server.heard[0].data == request(GET, full_key(0, 0, 0), full_key(9, 9, 9, 9, 9))


def test_a_get_of_nothing(channels: Channels) -> None:
    with channels.talking(lambda heard: [heard.answer(answered(acq=3)) for _ in range(2)]) as (_, channel):
        response = channel.get(*BOX)
        assert (response.status, response.acq, len(response.data)) == (Status.OK, 3, 0)
        assert list(channel.get_iter(*BOX)) == [ResponseAcq(Status.OK, 3)]


def test_a_get_of_nothing_as_an_array(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.answer(answered()), payload_type=FLOATS) as (_, channel):
        found = channel.get(*BOX).data
        assert (len(found), found.dtype.names) == (0, (*FIELDS, "value"))
        assert channel.payload_type is FLOATS


def test_a_get_in_dribbles(channels: Channels) -> None:
    def play(heard: Heard) -> None:
        heard.hear(76)
        heard.dribble(TWO_BYTES)

    with channels.talking(play) as (_, channel):
        response = channel.get(*BOX)
        assert (response.status, list(response.data)) == (Status.OK, TWO)


def test_requests_follow_each_other(channels: Channels) -> None:
    def play(heard: Heard) -> None:
        for answer in (TWO_BYTES, header(0, 8) + struct.pack("<q", 1), TWO_BYTES):
            heard.answer(answer)
        heard.answer(PUT_OK, 12 + 8 + 2 * 24 + 9 + 4)
        heard.answer(TWO_BYTES)

    with channels.talking(play) as (_, channel):
        assert list(channel.get(*BOX).data) == TWO
        assert channel.get_acq(*BOX).acq == 1
        assert list(channel.get_iter(*BOX).records()) == TWO
        assert channel.put(TWO)
        assert [block.key(0) for block in channel.blocks(*BOX)] == [A]


def test_values_of_a_payload_type(channels: Channels) -> None:
    value = struct.pack("<if?", 10, 24.0, True)
    with channels.talking(
        lambda heard: heard.answer(answered(record(full_key(*A), value))), payload_type=TuplePayloadType("if?")
    ) as (_, channel):
        assert list(channel.get(*BOX).data) == [Record(A, (10, 24.0, True))]


def test_a_large_array_and_back(channels: Channels) -> None:
    rows = many(300_000)
    size = 12 + 2 * 8 + 300_000 * (4 + 20 + 8) + 4

    def play(heard: Heard) -> None:
        heard.hear(size)
        heard.say(PUT_OK)
        heard.answer(answered(many_bytes(rows), acq=1))

    with channels.talking(play, payload_type=FLOATS) as (_, channel):
        assert channel.put(rows, max_batch_size=9_000_000)
        response = channel.get(*BOX)
        assert response
        assert response.data.tobytes() == rows.tobytes()


# Batches


def test_batches_are_as_large_as_the_limit_allows(channels: Channels) -> None:
    rows = many(10_000)
    batches: list[list[Any]] = []
    with channels.talking(
        lambda heard: heard.answer(answered(many_bytes(rows))),
        payload_type=FLOATS,
        memory_limit=1000 * 40 + 7,
    ) as (_, channel):
        assert channel.get_stream(*BOX, batches.append)
    assert [sum(map(len, arrays)) for arrays in batches] == [1000] * 10
    assert numpy.concatenate([array for arrays in batches for array in arrays]).tobytes() == rows.tobytes()


def test_batches_of_records_of_differing_sizes(channels: Channels) -> None:
    given = [Record(Key(1, 2, 3, cap), bytes(cap % 50)) for cap in range(500)]
    answer = answered(*(record(full_key(*each.key), each.value) for each in given))
    batches: list[Any] = []
    with channels.talking(lambda heard: heard.answer(answer), memory_limit=2000) as (_, channel):
        assert channel.get_stream(*BOX, batches.append)
    assert [each for batch in batches for each in batch] == given
    sizes = [sum(32 + len(each.value) for each in batch) for batch in batches]
    assert max(sizes) <= 2000
    assert min(sizes[:-1]) > 2000 - 32 - 50


def test_what_a_callback_raises_closes_the_channel(channels: Channels) -> None:
    def callback(_batch: Any) -> None:
        raise ZeroDivisionError("in a callback")

    with channels.talking(lambda heard: heard.answer(TWO_BYTES).rest()) as (_, channel):
        with pytest.raises(ZeroDivisionError, match="in a callback"):
            channel.get_stream(*BOX, callback)
        assert not channel.connected


def test_records_one_by_one_and_then_how_it_ended(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.answer(TWO_BYTES)) as (_, channel):
        items = channel.get_iter(*BOX)
        assert [next(items), next(items)] == TWO
        assert items.response is None
        assert next(items) == ResponseAcq(Status.OK, 7) == items.response
        assert list(items) == []
        assert channel.connected


def test_records_arrive_before_the_answer_ends(channels: Channels) -> None:
    def play(heard: Heard) -> None:
        heard.answer(TWO_BYTES[:-24])
        assert leave.wait(PATIENCE)
        heard.say(TWO_BYTES[-24:])

    leave = threading.Event()
    with channels.talking(play) as (_, channel):
        items = channel.get_iter(*BOX).records()
        assert [next(items), next(items)] == TWO
        leave.set()
        assert list(items) == []


def test_an_iteration_that_fails_raises_after_its_records(channels: Channels) -> None:
    failed = answered(record(full_key(*A), b"one"), status=-1)
    with channels.talking(*[lambda heard: heard.answer(failed)] * 2) as (_, channel):
        first, last = channel.get_iter(*BOX)
        assert first == Record(A, b"one")
        assert_failed(last, Status.ERROR, Refused)
        assert channel.connect()
        found = channel.get_iter(*BOX).records()
        assert next(found) == Record(A, b"one")
        with pytest.raises(Refused):
            next(found)


@pytest.mark.parametrize("items", ["get_iter", "blocks"])
def test_an_iteration_that_is_left_closes_the_channel(channels: Channels, items: str) -> None:
    with channels.talking(lambda heard: heard.answer(TWO_BYTES[:-24]).rest()) as (_, channel):
        left = getattr(channel, items)(*BOX)
        next(left)
        left.close()
        assert not channel.connected
        assert_failed(channel.get_acq(*BOX), Status.DISCONNECTED, ConnectionLost, r"call connect\(\)")


def test_an_iteration_that_never_began_does_nothing(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.answer(header(0, 8) + bytes(8))) as (_, channel):
        channel.get_iter(*BOX).close()
        assert channel.get_acq(*BOX)


def test_blocks_raise_why_they_end(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.answer(answered(record(full_key(*A)), status=-1))) as (_, channel):
        blocks = channel.blocks(*BOX)
        assert isinstance(next(blocks), Rows)
        with pytest.raises(Refused):
            next(blocks)


# Limits


def test_a_get_of_more_than_the_limit(channels: Channels) -> None:
    rows = many(10_000)

    def play(heard: Heard) -> None:
        heard.answer(header(0, 0) + many_bytes(rows))
        heard.rest()

    with channels.talking(play, payload_type=FLOATS, memory_limit=399_999) as (_, channel):
        assert_failed(channel.get(*BOX), Status.NO_MEMORY, ValueTooLarge, r"memory_limit=399999; use get_stream\(\)")
        assert not channel.connected


def test_a_get_of_just_the_limit(channels: Channels) -> None:
    rows = many(10_000)
    with channels.talking(
        lambda heard: heard.answer(answered(many_bytes(rows))), payload_type=FLOATS, memory_limit=400_000
    ) as (_, channel):
        assert len(channel.get(*BOX).data) == 10_000


@pytest.mark.parametrize("name", ["get", "get_stream", "get_iter"])
def test_one_record_that_is_larger_than_the_limit(channels: Channels, name: str) -> None:
    answer = header(0, 0) + record(full_key(*A), bytes(1000))
    with channels.talking(lambda heard: heard.answer(answer).rest(), memory_limit=1000) as (_, channel):
        assert_failed(asked(channel, name), Status.NO_MEMORY, ValueTooLarge, "memory_limit=1000")


# Requests that can't be sent


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get", (Key(-1, 0, 0), BOX[1])),
        ("get", (BOX[0], Key(1, 2**63, 0))),
        ("get_acq", (BOX[0], Key(1, 0, "x"))),  # type: ignore[arg-type]
        ("get_stream", (BOX[0], None, print)),
        ("put", ([Record(Key(-1, 0, 0), b"")],)),
        ("put", ([Record(Key(1, 2**63, 0), b"")],)),
        ("puta", ([Record(Key(1, 0, 0, 0, 2**63), b"")],)),
        ("put", ([Record(A, 5)],)),
        ("put", (5,)),
        ("put", ([A],)),
        ("put", (Rows(numpy.full(2, -1, KEY)),)),
        ("put", (TWO, 0)),
        ("put", (TWO, 1.5)),
    ],
)
def test_what_can_not_be_sent(channels: Channels, method: str, arguments: tuple[Any, ...]) -> None:
    with channels.talking(lambda heard: heard.answer(header(0, 8) + bytes(8))) as (server, channel):
        assert_failed(getattr(channel, method)(*arguments), Status.BAD_REQUEST, BadRequest)
        assert channel.connected
        assert channel.get_acq(*BOX)
    assert server.heard[0].data == request(GET_ACQ, full_key(0, 0, 0), full_key(9, 9, 9, 9, 9))


def test_invalid_records_are_left_out_if_that_is_wanted(channels: Channels) -> None:
    wanted = header(PUT, 0) + batch(1, struct.pack("<qiqd", 2, 3, 4, 0.5)) + struct.pack("<i", -1)
    records = [
        Record(Key(-1, 0, 0), 1.0),
        Record(A, 0.5),
        Record(A, "no float"),
        Record(Key(1, 2**70, 0), 1.0),
    ]
    with channels.talking(lambda heard: heard.answer(PUT_OK, len(wanted)), payload_type=StructPayloadType("<d")) as (
        server,
        channel,
    ):
        assert channel.put(records, skip_invalid=True)
    assert server.heard[0].data == wanted


def test_an_invalid_block_is_left_out_if_that_is_wanted(channels: Channels) -> None:
    keys = numpy.zeros(2, KEY)
    keys["cid"] = [-1, 4]
    wanted = header(PUT, 0) + batch(4, bytes(20)) + struct.pack("<i", -1)
    with channels.talking(lambda heard: heard.answer(PUT_OK, len(wanted))) as (server, channel):
        assert channel.put(Rows(keys), skip_invalid=True)
    assert server.heard[0].data == wanted


def test_an_empty_box_is_the_servers_to_refuse(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.answer(FAILURE)) as (_, channel):
        assert_failed(channel.get(BOX[1], BOX[0]), Status.ERROR, Refused, "its box is empty")

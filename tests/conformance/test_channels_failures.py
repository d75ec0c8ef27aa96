"""Both channels against servers that fail, each in its own way."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from handshakes.errors import (
    ConnectionLost,
    DeadlineExceeded,
    Refused,
    RemoteProtocolError,
    ValueNotSupported,
)
from handshakes.tstorage import Status
from pynetwork.series.payloads import StructPayloadType
from tests.conformance.channels import (
    BOX,
    FAILURE,
    FLOATS,
    LARGE,
    PUT_OK,
    REQUESTS,
    TWO,
    TWO_BYTES,
    A,
    Channels,
    asked,
    assert_failed,
    many,
)
from tests.playing import (
    PUT,
    Heard,
    answered,
    full_key,
    header,
    record,
)
from tests.serving import PATIENCE

# Servers that fail


@pytest.mark.parametrize("name", REQUESTS)
def test_a_server_that_refuses(channels: Channels, name: str) -> None:
    def play(heard: Heard) -> None:
        heard.answer(FAILURE, 12)
        heard.rest()

    with channels.talking(play) as (_, channel):
        assert_failed(asked(channel, name), Status.ERROR, Refused, r"status -1")
        assert not channel.connected
        assert_failed(asked(channel, name), Status.DISCONNECTED, ConnectionLost, r"call connect\(\)")


@pytest.mark.parametrize("name", ["get", "get_stream", "get_iter"])
def test_a_get_that_fails_half_way(channels: Channels, name: str) -> None:
    answer = answered(record(full_key(*A), b"one"), status=5)
    with channels.talking(lambda heard: heard.answer(answer)) as (_, channel):
        assert_failed(asked(channel, name), Status.ERROR, Refused, r"status 5")
        assert not channel.connected


@pytest.mark.parametrize("name", ["get", "get_stream", "get_iter"])
def test_an_answer_that_is_cut_short_anywhere(channels: Channels, name: str) -> None:
    cuts = range(0, len(TWO_BYTES), 1 if name == "get" else 7)
    plays = [lambda heard, cut=cut: heard.answer(TWO_BYTES[:cut]) for cut in cuts]
    with channels.playing(*plays) as server:
        channel = channels.to(server.port)
        for cut in cuts:
            assert channel.connect(), cut
            assert_failed(asked(channel, name), Status.DISCONNECTED, ConnectionLost, "ended the connection")
            assert not channel.connected


@pytest.mark.parametrize("name", ["put", "puta", "get_acq"])
def test_a_short_answer_that_is_cut_short(channels: Channels, name: str) -> None:
    answer = (PUT_OK if name != "get_acq" else header(0, 8) + bytes(8))[:-1]

    def play(heard: Heard) -> None:
        # Everything is heard, lest the connection is reset.
        heard.answer(answer, 76 if name == "get_acq" else 12 + 8 + 2 * (24 if name == "put" else 32) + 9 + 4)

    with channels.talking(play) as (_, channel):
        assert_failed(asked(channel, name), Status.DISCONNECTED, ConnectionLost)


def test_a_server_that_hangs_up_without_a_word(channels: Channels) -> None:
    with channels.talking(lambda heard: heard.hear(76)) as (_, channel):
        assert_failed(channel.get(*BOX), Status.DISCONNECTED, ConnectionLost, "without a word; if that server has key=")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        header(0, 2**40),
        header(0, 0) + struct.pack("<i", 5),
        header(0, 0) + struct.pack("<i", -1),
        header(0, 0) + struct.pack("<i", 2**31 - 1),
        header(0, 0) + record(full_key(*A)) + struct.pack("<i", 31),
        header(0, 0) + struct.pack("<i", 0) + header(0, 0),
    ],
)
@pytest.mark.parametrize("name", ["get", "get_stream", "get_iter"])
def test_what_is_no_answer(channels: Channels, name: str, answer: bytes) -> None:
    with channels.talking(lambda heard: heard.answer(answer).rest()) as (_, channel):
        assert_failed(asked(channel, name), Status.UNPARSEABLE_ENTITY, RemoteProtocolError)
        assert not channel.connected


def test_more_than_was_asked_for(channels: Channels) -> None:
    def play(heard: Heard) -> None:
        heard.answer(header(0, 8) + bytes(8) + b"more")
        heard.rest()

    with channels.talking(play) as (_, channel):
        assert channel.get_acq(*BOX)
        assert_failed(channel.get_acq(*BOX), Status.UNPARSEABLE_ENTITY, RemoteProtocolError)


@pytest.mark.parametrize("name", ["get", "get_stream", "get_iter"])
def test_payloads_of_another_type(channels: Channels, name: str) -> None:
    with channels.talking(lambda heard: heard.answer(TWO_BYTES).rest(), payload_type=StructPayloadType("<d")) as (
        _,
        channel,
    ):
        assert_failed(asked(channel, name), Status.UNPARSEABLE_ENTITY, ValueNotSupported, "has 3 bytes")
        assert not channel.connected


# Servers that answer too early


def answered_early(channels: Channels, say: Callable[[Heard], object]) -> Any:
    """What comes of a large put when the server hears its header, says this, and takes nothing more."""

    def play(heard: Heard) -> None:
        heard.hear(12)
        say(heard)
        assert done.wait(PATIENCE)

    done = threading.Event()
    with channels.talking(play, payload_type=FLOATS, timeout=None) as (_, channel):
        response = channel.put(many(LARGE))
        done.set()
        assert not channel.connected
        return response


def test_a_failure_while_nothing_more_is_taken(channels: Channels) -> None:
    assert_failed(answered_early(channels, lambda heard: heard.say(FAILURE)), Status.ERROR, Refused)


def test_a_failure_of_one_who_hangs_up(channels: Channels) -> None:
    def play(heard: Heard) -> None:
        heard.answer(FAILURE, 12)
        # With bytes that nobody has read, this resets the connection.
        heard.sock.close()

    with channels.talking(play, payload_type=FLOATS, timeout=None) as (_, channel):
        response = channel.put(many(LARGE))
        assert response.status in (Status.ERROR, Status.DISCONNECTED)
        if channels.stream == "tcp":
            assert_failed(response, Status.ERROR, Refused)


def test_a_put_that_is_confirmed_before_its_end(channels: Channels) -> None:
    response = answered_early(channels, lambda heard: heard.say(PUT_OK))
    assert_failed(response, Status.UNPARSEABLE_ENTITY, RemoteProtocolError, "before it was complete")


def test_an_answer_that_comes_piece_by_piece_while_a_put_is_held_up(channels: Channels) -> None:
    assert_failed(answered_early(channels, lambda heard: heard.dribble(FAILURE)), Status.ERROR, Refused)


def test_a_put_that_is_held_up_again_and_again_arrives_whole(channels: Channels) -> None:
    rows = many(LARGE)
    wire = numpy.empty(LARGE, [("size", "<i4"), ("key", "V20"), ("value", "<f8")])
    wire["size"], wire["value"] = 28, rows["value"]
    wire["key"] = rows.view("V40").view([("cid", "V4"), ("key", "V20"), ("rest", "V16")])["key"]
    wanted = header(PUT, 0) + struct.pack("<ii", 1, wire.nbytes) + wire.tobytes() + struct.pack("<i", -1)

    def play(heard: Heard) -> None:
        for _ in range(4):
            # Longer than the channel sends without looking whether an answer has come.
            pause.wait(0.4)
            heard.hear(len(wanted) // 4)
        heard.answer(PUT_OK, len(wanted) % 4)

    pause = threading.Event()
    with channels.talking(play, payload_type=FLOATS) as (server, channel):
        assert channel.put(rows, max_batch_size=1 << 30)
    assert server.heard[0].data == wanted


# Servers that do nothing


@pytest.mark.parametrize("name", REQUESTS)
def test_a_server_that_never_answers(channels: Channels, name: str) -> None:
    with channels.talking(lambda heard: heard.rest(), timeout=0.5) as (_, channel):
        assert_failed(asked(channel, name), Status.DISCONNECTED, DeadlineExceeded, "in time")
        assert not channel.connected


def test_a_server_that_never_reads(channels: Channels) -> None:
    done = threading.Event()
    with channels.talking(lambda _heard: done.wait(PATIENCE), payload_type=FLOATS, timeout=0.4) as (_, channel):
        response = channel.put(many(LARGE))
        done.set()
        assert_failed(response, Status.DISCONNECTED, DeadlineExceeded, "in time")


def test_a_server_that_is_slow_but_goes_on(channels: Channels) -> None:
    def play(heard: Heard) -> None:
        heard.hear(76)
        # Each pause is far below the time-out, all of them together are above it.
        for at in range(0, len(TWO_BYTES), 10):
            heard.say(TWO_BYTES[at : at + 10])
            pause.wait(0.15)

    pause = threading.Event()
    with channels.talking(play, timeout=1.2) as (_, channel):
        began = time.monotonic()
        assert list(channel.get(*BOX).data) == TWO
        assert time.monotonic() - began > 1.2

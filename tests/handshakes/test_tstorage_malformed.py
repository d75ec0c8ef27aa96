"""What nobody may say to the readers of TStorage's wire."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.errors import RemoteProtocolError
from handshakes.records import Key
from handshakes.tstorage import (
    LARGEST_PAYLOAD,
    Command,
    PutBegin,
    RequestReader,
    ResponseReader,
)
from tests.handshakes.tstorage_bytes import (
    CUTS,
    ENOUGH,
    OK,
    PUT_BEGIN,
    PUTA_BEGIN,
    RAW_ALIKE,
    RAW_BOX,
    RAW_FOUND,
    REQUESTS,
    Record,
    expecting,
    header,
    number,
    put_of,
    receive,
)

# What nobody may say


def batch(size: int, *sizes: int, cid: int = 7) -> bytes:
    """A put whose batch has ``size`` bytes, with records of these sizes in it."""
    return PUT_BEGIN + struct.pack("<ii", cid, size) + b"".join(number(each) + bytes(max(0, each)) for each in sizes)


MALFORMED_REQUESTS: dict[str, tuple[bytes, str]] = {
    "no command": (header(0, 64) + RAW_BOX, "command 0 is unknown"),
    "an unknown command": (header(2, 0), "command 2 is unknown"),
    "a negative command": (header(-1, 0), "command -1 is unknown"),
    "a get without keys": (header(1, 0), "a request of 0 bytes came, which can't hold two keys"),
    "a get with one byte less": (header(1, 63) + RAW_BOX, "a request of 63 bytes came"),
    "a getacq with one byte less": (header(7, 63) + RAW_BOX, "a request of 63 bytes came"),
    "a negative cid": (PUT_BEGIN + number(-2) + number(0), "the cid -2, which is negative"),
    "the least cid": (PUT_BEGIN + number(-(2**31)), "the cid -2147483648, which is negative"),
    "a negative cid after records": (PUT_BEGIN + RAW_ALIKE + number(-7), "the cid -7, which is negative"),
    "a negative batch": (batch(-1), "a batch of -1 bytes came"),
    "the least batch": (batch(-(2**31)), "a batch of -2147483648 bytes came"),
    "a batch of one byte": (batch(1), "a batch has 1 bytes left where its next record needs 24"),
    "a batch that holds no record": (batch(23, 20), "a batch has 23 bytes left where its next record needs 24"),
    "a batch with a rest": (batch(27, 20) + bytes(3), "a batch has 3 bytes left where its next record needs 24"),
    # What would be the record's size is beyond the batch, and must not be believed.
    "a rest before a negative number": (batch(26, 20) + b"\xff" * 8, "a batch has 2 bytes left"),
    "a rest of a size": (batch(28, 20) + number(20) + bytes(20), "a batch has 4 bytes left"),
    "a record beyond its batch": (batch(30, 30), "a batch has 30 bytes left where its next record needs 34"),
    "a second record beyond its batch": (batch(50, 20, 30), "a batch has 26 bytes left where its next record needs 34"),
    "alike records beyond their batch": (batch(100, 20, 20, 20, 20, 20), "a batch has 4 bytes left"),
    "a record without keys": (batch(1000, 0), "a record of 0 bytes came; it has at least 20"),
    "a record with one byte less": (batch(1000, 19), "a record of 19 bytes came; it has at least 20"),
    "a negative record": (batch(1000, -1), "a record of -1 bytes came; it has at least 20"),
    "the least record": (batch(1000, -(2**31)), "a record of -2147483648 bytes came"),
    "a bad record after alike ones": (batch(5000, *[20] * 80, 19), "a record of 19 bytes came"),
    "a bad record after others": (batch(1000, 20, 21, 19), "a record of 19 bytes came"),
    "a record of puta with one byte less": (
        PUTA_BEGIN + struct.pack("<iii", 7, 1000, 27),
        "a record of 27 bytes came; it has at least 28",
    ),
    "a payload beyond the limit": (
        batch(2**31 - 1) + number(20 + LARGEST_PAYLOAD + 1),
        "a payload of 33554433 bytes came; at most 33554432 are taken",
    ),
    "the largest record": (batch(2**31 - 1) + number(2**31 - 1), "a payload of 2147483627 bytes came"),
}

MALFORMED_ANSWERS: dict[str, tuple[Command, bytes, str]] = {
    "put without times": (Command.PUT, header(0, 0), "an answer came with 0 bytes where 16 are due"),
    "put with one time": (Command.PUT, header(0, 8) + bytes(8), "an answer came with 8 bytes where 16 are due"),
    "puta with a byte less": (Command.PUTA, header(0, 15) + bytes(15), "15 bytes where 16 are due"),
    "getacq without a time": (Command.GETACQ, header(0, 0), "an answer came with 0 bytes where 8 are due"),
    "getacq with a byte less": (Command.GETACQ, header(0, 7) + bytes(7), "7 bytes where 8 are due"),
    "get without a time": (Command.GET, OK + number(0) + header(0, 0), "0 bytes where 8 are due"),
    "much after a header": (Command.PUT, header(0, 1025), "an answer came with 1025 bytes after its header"),
    "most after a header": (Command.GET, header(0, 2**64 - 1), "with 18446744073709551615 bytes after its header"),
    "much after a failure": (Command.GETACQ, header(-1, 2**63), "bytes after its header"),
    "much at the end": (Command.GET, OK + number(0) + header(0, 5000), "with 5000 bytes after its header"),
    "a record without a key": (Command.GET, OK + number(31) + bytes(31), "a record of 31 bytes came; .* at least 32"),
    "a negative record": (Command.GET, OK + number(-5), "a record of -5 bytes came; it has at least 32"),
    "a bad record after others": (
        Command.GET,
        OK + number(32) + bytes(32) + number(33) + bytes(33) + number(1),
        "a record of 1 bytes came",
    ),
    "a payload beyond the limit": (
        Command.GET,
        OK + number(32 + LARGEST_PAYLOAD + 1),
        "a payload of 33554433 bytes came",
    ),
    "the largest record": (Command.GET, OK + number(2**31 - 1), "a payload of 2147483615 bytes came"),
}


def refused(
    reader: RequestReader | ResponseReader, raw: bytes, words: str, pieces: list[int] | None = None
) -> list[Any]:
    """What comes before the refusal; what is refused takes no memory."""
    found: list[Any] = []
    with pytest.raises(RemoteProtocolError, match=words):
        receive(reader, raw, pieces, found)
    assert reader.held == ENOUGH
    return found


@pytest.mark.parametrize("pieces", [None, [1], [7]])
@pytest.mark.parametrize("name", MALFORMED_REQUESTS)
def test_a_malformed_request(name: str, pieces: list[int] | None) -> None:
    raw, words = MALFORMED_REQUESTS[name]
    refused(RequestReader(), raw, words, pieces)
    reader = RequestReader()
    assert receive(reader, REQUESTS["put"][0]) == REQUESTS["put"][1]
    refused(reader, raw, words, pieces)


@pytest.mark.parametrize("pieces", [None, [1], [7]])
@pytest.mark.parametrize("name", MALFORMED_ANSWERS)
def test_a_malformed_answer(name: str, pieces: list[int] | None) -> None:
    command, raw, words = MALFORMED_ANSWERS[name]
    refused(expecting(command), raw, words, pieces)


@pytest.mark.parametrize("name", MALFORMED_REQUESTS)
def test_what_came_before_the_malformed_is_the_same_however_it_is_cut(name: str) -> None:
    raw, words = MALFORMED_REQUESTS[name]
    found = refused(RequestReader(), raw, words)
    for cut in range(1, min(len(raw), 100)):
        assert refused(RequestReader(), raw, words, [cut]) == found


@pytest.mark.parametrize("name", MALFORMED_ANSWERS)
def test_what_came_before_a_malformed_answer_is_the_same_however_it_is_cut(name: str) -> None:
    command, raw, words = MALFORMED_ANSWERS[name]
    found = refused(expecting(command), raw, words)
    for cut in range(1, min(len(raw), 100)):
        assert refused(expecting(command), raw, words, [cut]) == found


def outcome(reader: RequestReader | ResponseReader, data: bytes, pieces: list[int] | None) -> list[Any]:
    found: list[Any] = []
    try:
        receive(reader, data, pieces, found)
    except RemoteProtocolError:
        found.append("refused")
    assert reader.held <= max(100, 4 * len(data))
    return found


BEFORE = [b"", PUT_BEGIN, PUTA_BEGIN, PUT_BEGIN + RAW_ALIKE, PUT_BEGIN + struct.pack("<ii", 7, 200)]


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from(BEFORE), CUTS)
def test_whatever_comes_is_requests_or_an_error(data: bytes, before: bytes, cuts: list[int]) -> None:
    whole = outcome(RequestReader(100), before + data, None)
    assert outcome(RequestReader(100), before + data, cuts) == whole


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([b"", OK, OK + RAW_FOUND]), st.sampled_from(Command), CUTS)
def test_whatever_comes_is_an_answer_or_an_error(data: bytes, before: bytes, command: Command, cuts: list[int]) -> None:
    whole = outcome(expecting(command, 100), before + data, None)
    assert outcome(expecting(command, 100), before + data, cuts) == whole


def test_a_payload_beyond_the_limit_that_has_come_as_a_whole() -> None:
    records: list[Record] = [(Key(7, 1, 1), b""), (Key(7, 2, 2), b"ab"), (Key(7, 3, 3), bytes(LARGEST_PAYLOAD + 1))]
    reader = RequestReader()
    reader.feed(put_of(records))
    found: list[Any] = []
    with pytest.raises(RemoteProtocolError, match="a payload of 33554433 bytes came"):
        receive(reader, b"", None, found)
    assert found == [PutBegin(False), *records[:2]]

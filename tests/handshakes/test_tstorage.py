"""The two readers of TStorage's wire: every exchange by hand, any blocks in any pieces, and whatever else may come."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.errors import LocalProtocolError, RemoteProtocolError
from handshakes.records import Block, Key, Ragged, Rows
from handshakes.tstorage import (
    PUT_END,
    AcqAnswer,
    Command,
    Get,
    GetAcq,
    GetEnd,
    PutAnswer,
    PutBegin,
    PutEnd,
    PutRecords,
    RequestReader,
    ResponseReader,
    Status,
    batches,
    get_answer_begin,
    get_answer_end,
    put_request,
    records,
)
from tests.handshakes.series_blocks import ALIKE, BLOCKS, DIFFERING
from tests.handshakes.tstorage_bytes import (
    ACQ_ANSWER,
    ANSWERS,
    CUTS,
    EMPTY_BATCH,
    END,
    ENOUGH,
    GET,
    GET_END,
    OK,
    PUT_ANSWER,
    PUT_BEGIN,
    RAW_ALIKE,
    REQUESTS,
    Record,
    expecting,
    listed,
    put_of,
    raw_batch,
    raw_found,
    receive,
    said,
)

PIECES = {"whole": None, "byte by byte": [1], "in sevens": [7], "in pieces of two sizes": [3, 19]}
CAPACITIES = st.integers(0, 300) | st.sampled_from([1 << 16])


# As they were written by hand


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request(name: str, pieces: list[int] | None) -> None:
    raw, expected = REQUESTS[name]
    for capacity in (0, 100, ENOUGH):
        reader = RequestReader(capacity)
        assert receive(reader, raw, pieces) == expected
        assert not reader.mid_request


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer(name: str, pieces: list[int] | None) -> None:
    command, raw, expected = ANSWERS[name]
    for capacity in (0, 100, ENOUGH):
        reader = expecting(command, capacity)
        assert receive(reader, raw, pieces) == expected
        assert not reader.mid_answer


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_cut_short_at_every_byte(name: str) -> None:
    raw, expected = REQUESTS[name]
    for cut in range(len(raw)):
        reader = RequestReader()
        found = receive(reader, raw[:cut])
        assert found == expected[: len(found)]
        assert found != expected
        assert reader.mid_request == (cut > 0)
        assert found + receive(reader, raw[cut:]) == expected
        assert not reader.mid_request


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_cut_short_at_every_byte(name: str) -> None:
    command, raw, expected = ANSWERS[name]
    for cut in range(len(raw)):
        reader = expecting(command)
        found = receive(reader, raw[:cut])
        assert found == expected[: len(found)]
        assert found != expected
        assert reader.mid_answer == (cut > 0)
        assert found + receive(reader, raw[cut:]) == expected
        assert not reader.mid_answer


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_and_the_next(name: str, pieces: list[int] | None) -> None:
    raw, expected = REQUESTS[name]
    for after, events_after in REQUESTS.values():
        assert receive(RequestReader(100), raw + after, pieces) == expected + events_after


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_and_the_next(name: str) -> None:
    command, raw, expected = ANSWERS[name]
    reader = expecting(command, 100)
    assert receive(reader, raw, [11]) == expected
    for command, after, events_after in ANSWERS.values():
        reader.expect(command)
        assert receive(reader, after, [11]) == events_after


@settings(max_examples=150)
@given(st.lists(st.sampled_from([*REQUESTS.values()]), max_size=5), CUTS, CAPACITIES)
def test_requests_in_any_pieces(requests: list[tuple[bytes, list[Any]]], cuts: list[int], capacity: int) -> None:
    raw = b"".join(each for each, _ in requests)
    assert receive(RequestReader(capacity), raw, cuts) == [event for _, found in requests for event in found]


def test_what_comes_is_of_the_right_kind() -> None:
    reader = RequestReader()
    reader.feed(GET + PUT_BEGIN + RAW_ALIKE + END)
    kinds = []
    while (event := reader.next_event()) is not None:
        kinds.append(type(event))
    assert kinds == [Get, PutBegin, PutRecords, PutEnd]
    reader.feed(REQUESTS["getacq"][0])
    assert type(reader.next_event()) is GetAcq
    ended = expecting(Command.GET)
    ended.feed(OK + GET_END)
    assert type(ended.next_event()) is GetEnd
    for command, kind in ((Command.PUT, PutAnswer), (Command.PUTA, PutAnswer), (Command.GETACQ, AcqAnswer)):
        ended.expect(command)
        ended.feed(PUT_ANSWER)
        assert type(ended.next_event()) is kind


# Any blocks, in any pieces, through a buffer of any size


MIXED = st.lists(st.tuples(st.integers(0, 2**31 - 1) | st.integers(0, 2), ALIKE | DIFFERING), max_size=4)


@settings(max_examples=200)
@given(MIXED, st.booleans(), st.binary(max_size=300), CUTS, CAPACITIES)
def test_a_put_as_anybody_may_write_it(
    found: list[tuple[int, list[Record]]], with_acq: bool, between: bytes, cuts: list[int], capacity: int
) -> None:
    raw = struct.pack("<iQ", 6 if with_acq else 5, len(between)) + between
    expected: list[Any] = [PutBegin(with_acq)]
    for cid, each in found:
        raw += raw_batch(cid, each, with_acq)
        expected += [
            (key._replace(cid=cid) if with_acq else key._replace(cid=cid, acq=0), payload) for key, payload in each
        ]
    reader = RequestReader(capacity)
    assert receive(reader, raw + END, cuts) == [*expected, PutEnd()]
    assert reader.held <= max(capacity, 64) or found


@settings(max_examples=200)
@given(st.lists(ALIKE | DIFFERING, max_size=4), CUTS, CAPACITIES)
def test_records_as_anybody_may_answer_them(found: list[list[Record]], cuts: list[int], capacity: int) -> None:
    everything = [record for each in found for record in each]
    raw = OK + raw_found(everything) + GET_END
    assert receive(expecting(Command.GET, capacity), raw, cuts) == [*everything, GetEnd(0, 77)]


@settings(max_examples=100)
@given(st.lists(BLOCKS, max_size=3), st.booleans(), st.integers(0, 3000), CUTS, CAPACITIES)
def test_blocks_come_out_of_a_put_as_they_went_in(
    blocks: list[Block], with_acq: bool, largest: int, cuts: list[int], capacity: int
) -> None:
    pieces = [put_request(with_acq), *(each for block in blocks for each in batches(block, with_acq, largest)), PUT_END]
    begin, *found, end = receive(RequestReader(capacity), b"".join(pieces), cuts)
    assert (begin, end) == (PutBegin(with_acq), PutEnd())
    sent = [record for block in blocks for record in listed(block if with_acq else block.with_acq(0))]
    for cid in {key.cid for key, _ in sent}:
        assert [each for each in found if each[0].cid == cid] == [each for each in sent if each[0].cid == cid]
    assert len(found) == len(sent)


@settings(max_examples=100)
@given(st.lists(BLOCKS, max_size=3), CUTS, CAPACITIES)
def test_blocks_come_out_of_an_answer_as_they_went_in(blocks: list[Block], cuts: list[int], capacity: int) -> None:
    raw = b"".join([get_answer_begin(), *map(records, blocks), get_answer_end(Status.OK, 77)])
    found = receive(expecting(Command.GET, capacity), raw, cuts)
    assert found == [*(record for block in blocks for record in listed(block)), GetEnd(0, 77)]


def blocks_of(raw: bytes) -> list[Block]:
    reader, found = RequestReader(1 << 20), []
    reader.feed(raw)
    while (event := reader.next_event()) is not None:
        found += [event.block] if isinstance(event, PutRecords) else []
    return found


def test_records_of_one_size_come_as_rows() -> None:
    alike: list[Record] = [(Key(7, number, 0), b"four") for number in range(500)]
    (block,) = blocks_of(put_of(alike))
    assert isinstance(block, Rows)
    assert (len(block), block.width) == (500, 4)
    assert block.rows.dtype.names == ("cid", "mid", "moid", "cap", "acq", "payload")


def test_many_records_of_one_size_come_apart_from_others() -> None:
    alike: list[Record] = [(Key(7, number, 0), b"four") for number in range(64)]
    other: list[Record] = [(Key(7, 0, 0), b"three")]
    first, second = blocks_of(put_of(alike + other * 2 + alike[:63] + other))
    assert isinstance(first, Rows)
    assert listed(first) == alike
    assert isinstance(second, Ragged)
    assert listed(second) == other * 2 + alike[:63] + other
    (third,) = blocks_of(put_of(alike[1:] + other))
    assert isinstance(third, Ragged)
    assert listed(third) == alike[1:] + other


def test_the_next_batch_is_no_record_of_the_one_before() -> None:
    found: list[Record] = [(Key(20, 8, 0), b"")]
    raw = PUT_BEGIN + raw_batch(20, found, False) * 100 + END
    for pieces in PIECES.values():
        assert receive(RequestReader(), raw, pieces) == [PutBegin(False), *(found * 100), PutEnd()]


def test_one_record_of_another_size_does_not_take_the_others_with_it() -> None:
    alike: list[Record] = [(Key(7, number, 0), b"four") for number in range(500)]
    other: list[Record] = [(Key(7, 0, 0), b"three")]
    first, second = blocks_of(put_of(other + alike))
    assert isinstance(first, Ragged)
    assert isinstance(second, Rows)
    assert len(first) < 100
    assert listed(first) + listed(second) == other + alike


def test_blocks_of_differing_sizes_are_bounded() -> None:
    found: list[Record] = [(Key(7, number, 0), bytes(number % 2)) for number in range(40_000)]
    blocks = blocks_of(put_of(found))
    assert [len(block) for block in blocks] == [16384, 16384, 40_000 - 2 * 16384]
    assert [record for block in blocks for record in listed(block)] == found


def test_blocks_have_memory_of_their_own() -> None:
    reader, kept = RequestReader(200), []
    for number in range(50):
        alike: list[Record] = [(Key(7, number, 0), bytes([number])), (Key(7, number, 1), bytes([number]))]
        differing: list[Record] = [(Key(7, number, 2), b""), (Key(7, number, 3), bytes([number] * 3))]
        reader.feed(put_of(alike + differing))
        kept += [event for event in iter(reader.next_event, None) if isinstance(event, PutRecords)]
    found = [record for event in kept for record in said(event)]
    assert [key.mid for key, _ in found] == [number for number in range(50) for _ in range(4)]
    assert all(payload == bytes([key.mid] * len(payload)) for key, payload in found)


def test_any_number_of_empty_batches() -> None:
    reader = RequestReader()
    assert receive(reader, PUT_BEGIN + EMPTY_BATCH * 20_000 + END, [4096]) == [PutBegin(False), PutEnd()]
    assert reader.held == ENOUGH


# What comes for its own reasons


def test_one_answer_at_a_time() -> None:
    reader = expecting(Command.GET)
    reader.expect(Command.GETACQ)
    assert receive(reader, ACQ_ANSWER[:1]) == []
    with pytest.raises(LocalProtocolError, match="the request before is not complete"):
        reader.expect(Command.GET)
    assert receive(reader, ACQ_ANSWER[1:15]) == []
    with pytest.raises(LocalProtocolError, match="the request before is not complete"):
        reader.expect(Command.GET)
    assert receive(reader, ACQ_ANSWER[15:]) == [AcqAnswer(0, -3)]
    reader.expect(Command.GET)
    assert receive(reader, OK) == []
    with pytest.raises(LocalProtocolError, match="the request before is not complete"):
        reader.expect(Command.PUT)
    assert receive(reader, GET_END) == [GetEnd(0, 77)]


@pytest.mark.parametrize("name", ANSWERS)
def test_bytes_that_nobody_asked_for(name: str) -> None:
    command, raw, expected = ANSWERS[name]
    fresh = ResponseReader()
    assert fresh.next_event() is None
    for unasked in (raw, b"\0"):
        with pytest.raises(RemoteProtocolError, match=f"{len(unasked)} bytes came that nobody asked for"):
            receive(ResponseReader(), unasked)
        reader = expecting(command)
        assert receive(reader, raw) == expected
        assert reader.next_event() is None
        with pytest.raises(RemoteProtocolError, match="nobody asked for"):
            receive(reader, unasked)
        assert reader.mid_answer
        with pytest.raises(RemoteProtocolError, match="nobody asked for"):
            reader.expect(Command.GET)


def test_a_whole_answer_comes_out_before_what_follows_is_refused() -> None:
    reader = expecting(Command.PUT)
    reader.feed(PUT_ANSWER + b"\0")
    assert reader.next_event() == PutAnswer(0, 5, 9)
    with pytest.raises(RemoteProtocolError, match="1 bytes came that nobody asked for"):
        reader.next_event()

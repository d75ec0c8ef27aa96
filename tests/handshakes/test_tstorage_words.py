"""Requests and answers of TStorage as bytes: each as it was written by hand, and batches of whatever blocks."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.errors import LocalProtocolError, ValueTooLarge
from handshakes.records import KEY, Block, Key, KeyRange, Ragged, Rows, block_of, row_type
from handshakes.tstorage_words import (
    LARGEST_PAYLOAD,
    PUT_END,
    AcqAnswer,
    Command,
    Get,
    GetAcq,
    GetEnd,
    PutEnd,
    Status,
    acq_answer,
    batches,
    failure,
    get_acq_request,
    get_answer_begin,
    get_answer_end,
    get_request,
    put_answer,
    put_request,
    record_head,
    records,
    small_put,
)
from tests.handshakes import tstorage_bytes as golden
from tests.handshakes.series_blocks import BLOCKS, KEYS, ragged, rows
from tests.handshakes.tstorage_bytes import Record, listed, raw_batch, raw_found, read_batch

LARGEST = 1 << 20


def batched(block: Block, with_acq: bool, largest: int = LARGEST) -> bytes:
    return b"".join(batches(block, with_acq, largest))


# As they were written by hand


def test_requests() -> None:
    assert get_request(golden.BOX) == golden.GET
    assert get_acq_request(golden.BOX) == golden.GETACQ
    assert put_request(False) == golden.PUT_BEGIN
    assert put_request(True) == golden.PUTA_BEGIN
    assert PUT_END == golden.END


def test_answers() -> None:
    assert put_answer(0, 5, 9) == golden.PUT_ANSWER
    assert put_answer(Status.OK, -1, -1) == golden.PUTA_ANSWER
    assert acq_answer(0, -3) == golden.ACQ_ANSWER
    assert get_answer_begin() == golden.OK
    assert get_answer_end(0, 77) == golden.GET_END
    assert get_answer_end(Status.ERROR, -1) == golden.GET_FAILED
    assert failure() == golden.FAILURE


@pytest.mark.parametrize(
    ("found", "with_acq", "raw"),
    [
        (golden.ALIKE, False, golden.RAW_ALIKE),
        (golden.DIFFERING, False, golden.RAW_DIFFERING),
        (golden.ALIKE + golden.DIFFERING, False, golden.RAW_ALIKE + golden.RAW_DIFFERING),
        (golden.ALIKE_WITH_ACQ, True, golden.RAW_ALIKE_WITH_ACQ),
        (golden.ALIKE_WITH_ACQ, False, golden.RAW_ALIKE),
        (golden.DIFFERING_WITH_ACQ, True, golden.RAW_DIFFERING_WITH_ACQ),
        (
            golden.DIFFERING_WITH_ACQ + golden.ALIKE_WITH_ACQ,
            True,
            golden.RAW_DIFFERING_WITH_ACQ + golden.RAW_ALIKE_WITH_ACQ,
        ),
    ],
)
def test_batches_by_hand(found: list[Record], with_acq: bool, raw: bytes) -> None:
    assert batched(ragged(found), with_acq) == raw
    if len({len(payload) for _, payload in found}) == 1:
        assert batched(rows(found), with_acq) == raw


def test_records_without_payload_by_hand() -> None:
    bare: list[Record] = [(Key(3, 1, 2, 4, 5), b"")]
    put = bytes.fromhex("03000000 18000000 14000000 0100000000000000 02000000 0400000000000000")
    puta = bytes.fromhex("03000000 20000000 1c000000 0100000000000000 02000000 0400000000000000 0500000000000000")
    found = bytes.fromhex("20000000 03000000 0100000000000000 02000000 0400000000000000 0500000000000000")
    for block in (rows(bare), ragged(bare)):
        assert batched(block, False) == put
        assert batched(block, True) == puta
        assert bytes(records(block)) == found


def test_records_of_an_answer_by_hand() -> None:
    assert bytes(records(rows(golden.FOUND))) == golden.RAW_FOUND
    assert bytes(records(ragged(golden.FOUND))) == golden.RAW_FOUND
    assert bytes(records(ragged(golden.FOUND_DIFFERING))) == golden.RAW_FOUND_DIFFERING


@pytest.mark.parametrize("block", [Rows(numpy.empty(0, KEY)), ragged([])])
def test_no_records_are_no_bytes(block: Block) -> None:
    assert list(batches(block, True, LARGEST)) == []
    assert bytes(records(block)) == b""


def test_codes() -> None:
    assert {command.name: command.value for command in Command} == {"GET": 1, "PUT": 5, "PUTA": 6, "GETACQ": 7}
    assert {status.name: status.value for status in Status} == {
        "OK": 0,
        "ERROR": -1,
        "DISCONNECTED": 128,
        "BAD_REQUEST": 129,
        "UNPARSEABLE_ENTITY": 130,
        "NO_MEMORY": 131,
    }
    assert [status for status in Status if status] == [Status.OK]
    assert LARGEST_PAYLOAD == 32 * 2**20


def test_events_of_different_kinds_are_not_the_same() -> None:
    assert Get(golden.BOX) == Get(golden.BOX) != GetAcq(golden.BOX)
    assert AcqAnswer(0, 5) == AcqAnswer(0, 5) != GetEnd(0, 5)
    assert PutEnd()


# Any blocks


@settings(max_examples=150)
@given(BLOCKS, st.booleans(), st.integers(0, 3000))
def test_batches_hold_the_records_and_no_more_than_they_may(block: Block, with_acq: bool, largest: int) -> None:
    expected: dict[int, list[Record]] = defaultdict(list)
    for key, payload in listed(block):
        expected[key.cid].append((key if with_acq else key._replace(acq=0), payload))
    found: dict[int, list[Record]] = defaultdict(list)
    pieces = [bytes(each) for each in batches(block, with_acq, largest)]
    for raw in pieces:
        batch = read_batch(raw, with_acq)
        assert len(raw) <= largest or len(batch.records) == 1
        assert raw == raw_batch(batch.cid, batch.records, with_acq)
        found[batch.cid] += batch.records
    assert found == expected


@settings(max_examples=100)
@given(BLOCKS)
def test_records_of_an_answer(block: Block) -> None:
    assert bytes(records(block)) == raw_found(listed(block))


@pytest.mark.parametrize("make", [rows, ragged])
@pytest.mark.parametrize("with_acq", [False, True])
def test_batches_are_as_full_as_they_may_be(make: type, with_acq: bool) -> None:
    block = make([(Key(1, number, 0), b"four") for number in range(10)])
    size = 4 + (28 if with_acq else 20) + 4
    for count in range(1, 12):
        for largest in (8 + count * size, 8 + count * size + size - 1):
            found = [len(read_batch(bytes(each), with_acq).records) for each in batches(block, with_acq, largest)]
            assert found == [min(count, 10 - begin) for begin in range(0, 10, count)]


def test_one_record_larger_than_a_batch_goes_alone() -> None:
    block = ragged([(Key(1, 1, 0), b"a"), (Key(1, 2, 0), bytes(500)), (Key(1, 3, 0), b"c"), (Key(1, 4, 0), b"d")])
    found = [[key.mid for key, _ in read_batch(bytes(each), False).records] for each in batches(block, False, 100)]
    assert found == [[1], [2], [3, 4]]


@pytest.mark.parametrize("make", [rows, ragged])
def test_cids_that_alternate_are_brought_together(make: type) -> None:
    found: list[Record] = [(Key(number % 3, number, 0), b"p") for number in range(300)]
    block = make(found)
    together = [read_batch(bytes(each), False) for each in batches(block, False, LARGEST)]
    assert [batch.cid for batch in together] == [0, 1, 2]
    for batch in together:
        assert [key.mid for key, _ in batch.records] == list(range(batch.cid, 300, 3))


def test_cids_that_seldom_change_stay_where_they_are() -> None:
    block = rows([(Key(number // 10 % 2, number, 0), b"") for number in range(60)])
    apart = [read_batch(bytes(each), False) for each in batches(block, False, LARGEST)]
    assert [batch.cid for batch in apart] == [0, 1, 0, 1, 0, 1]
    mids = [key.mid for batch in apart for key, _ in batch.records]
    assert all(first + 1 == second for first, second in pairwise(mids))


# What can't be asked for


@pytest.mark.parametrize(
    "key",
    [
        Key(2**31, 0, 0),
        Key(0, 2**63, 0),
        Key(0, 0, -(2**31) - 1),
        Key(0, 0, 0, 0, 2**64),
        Key(0, 0, 0.5),  # type: ignore[arg-type]
    ],
)
def test_a_box_beyond_the_types(key: Key) -> None:
    for ask in (get_request, get_acq_request):
        with pytest.raises(LocalProtocolError, match=r"min=Key\(cid="):
            ask(KeyRange(key, Key.max()))


def test_a_negative_cid_can_be_asked_about_but_not_put() -> None:
    box = KeyRange(Key(-2, 0, 0), Key.max())
    assert get_request(box)[12:16] == b"\xfe\xff\xff\xff"
    good: list[Record] = [(Key(1, 1, 1), b"")]
    for block in (rows([*good, (Key(-2, 5, 0), b"")]), ragged([*good, (Key(-2, 5, 0), b"")])):
        with pytest.raises(LocalProtocolError, match=r"Key\(cid=-2, mid=5.* is negative"):
            next(batches(block, False, LARGEST))


def huge(size: int) -> list[Block]:
    """A record of so many bytes, after another."""
    alike = numpy.zeros(1, row_type(size))
    alike["mid"] = 5
    heads = numpy.zeros(2, KEY)
    heads["mid"] = [4, 5]
    return [Rows(alike), Ragged(heads, numpy.zeros(size + 3, numpy.uint8), numpy.array([3, size + 3]))]


def test_a_payload_that_is_too_large() -> None:
    for block in huge(LARGEST_PAYLOAD + 1):
        with pytest.raises(ValueTooLarge, match=r"mid=5.* has 33554433 bytes; at most 33554432"):
            next(batches(block, True, LARGEST))
        with pytest.raises(ValueTooLarge, match="mid=5"):
            records(block)


def test_the_largest_payload() -> None:
    alike, _ = huge(LARGEST_PAYLOAD)
    (batch,) = batches(alike, True, LARGEST)
    assert bytes(batch[:12]) == bytes.fromhex("00000000 20000002 1c000002")
    assert len(batch) == 8 + 4 + 28 + LARGEST_PAYLOAD
    assert bytes(records(alike)[:4]) == bytes.fromhex("20000002")


def test_a_large_record_can_be_sent_from_where_it_lies() -> None:
    keys = numpy.array([(1, -2, 3, -4, 5)], KEY)
    for payload in (b"", b"payload"):
        block = block_of(keys, [payload])
        assert record_head(block) + bytes(block.payload(0)) == bytes(records(block))


# A few records, without blocks


@given(st.lists(st.tuples(KEYS, st.binary(max_size=30)), max_size=8), st.booleans())
def test_a_small_put_says_what_batches_say(found: list[Record], with_acq: bool) -> None:
    put = small_put([key for key, _ in found], [payload for _, payload in found], with_acq)
    assert put.startswith(put_request(with_acq))
    assert put.endswith(PUT_END)
    rest = put[len(put_request(with_acq)) : -len(PUT_END)]
    said: list[Record] = []
    while rest:
        size = 8 + int.from_bytes(rest[4:8], "little")
        cid, records_there = read_batch(rest[:size], with_acq)
        said += ((key._replace(cid=cid), payload) for key, payload in records_there)
        rest = rest[size:]
    given_keys = [key if with_acq else key._replace(acq=0) for key, _ in found]
    # Of each cid in order, the cids in the order in which they came.
    order = list(dict.fromkeys(key.cid for key, _ in found))
    expected = sorted(
        zip(given_keys, (payload for _, payload in found), strict=True), key=lambda each: order.index(each[0].cid)
    )
    assert said == expected


def test_a_small_put_as_it_was_written_by_hand() -> None:
    assert small_put([Key(7, 1, 2, 3, 4)], [b"ab"], True) == bytes.fromhex(
        "06000000 0000000000000000"  # PUTA
        "07000000 22000000"  # a batch of cid 7, 34 bytes
        "1e000000 0100000000000000 02000000 0300000000000000 0400000000000000 6162"
        "ffffffff"
    )


@pytest.mark.parametrize(
    "key", [Key(-1, 0, 0), Key(2**31, 0, 0), Key(0, 2**63, 0), Key(0, 0, -(2**31) - 1), Key(0, 0, 0, 2**63, 0)]
)
def test_a_small_put_of_a_key_that_is_none(key: Key) -> None:
    with pytest.raises(LocalProtocolError, match=r"is no valid key|cid -1 is negative"):
        small_put([Key(1, 2, 3), key], [b"", b""], False)


def test_a_small_put_of_too_large_a_payload() -> None:
    with pytest.raises(ValueTooLarge, match="at most 33554432"):
        small_put([Key(1, 2, 3)], [bytes(LARGEST_PAYLOAD + 1)], False)

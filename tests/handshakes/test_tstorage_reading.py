"""The memory that readers of TStorage's wire take: for what has come, not for what was announced."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from handshakes.connection import Connection, Role
from handshakes.errors import RemoteProtocolError
from handshakes.records import Key
from handshakes.tstorage import (
    LARGEST_PAYLOAD,
    Command,
    GetEnd,
    GetRecords,
    PutAnswer,
    PutBegin,
    PutEnd,
    PutRecords,
    RequestReader,
)
from tests.handshakes.tstorage_bytes import (
    END,
    ENOUGH,
    FAILURE,
    GET_END,
    OK,
    PUT_BEGIN,
    Record,
    expecting,
    header,
    number,
    put_of,
    raw_batch,
    raw_found,
    receive,
)


def test_nothing_is_taken_for_what_was_only_announced() -> None:
    announced = number(20 + LARGEST_PAYLOAD)
    tracemalloc.start()
    try:
        request = RequestReader()
        receive(request, PUT_BEGIN + struct.pack("<ii", 7, 2**31 - 1) + announced + bytes(1000))
        answer = expecting(Command.GET)
        receive(answer, OK + number(32 + LARGEST_PAYLOAD) + bytes(1000))
        assert request.held == answer.held == ENOUGH
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_room_is_made_as_bytes_come_and_given_back() -> None:
    payload = bytes(range(256)) * 4000
    reader = RequestReader(4096)
    raw, sent = put_of([(Key(7, 1, 1), payload), (Key(7, 2, 2), b"after")]), 0
    found = []
    for at in range(0, len(raw), 1000):
        found += receive(reader, raw[at : at + 1000])
        sent += 1000
        assert reader.held <= max(4096, 4 * sent)
    assert found == [PutBegin(False), (Key(7, 1, 1), payload), (Key(7, 2, 2), b"after"), PutEnd()]
    assert len(reader.buffer()) == reader.held == 4096


def test_another_capacity() -> None:
    reader = RequestReader(4096)
    small = raw_batch(7, [(Key(7, 2, 2), b"x" * 20)], False)
    receive(reader, PUT_BEGIN + small[:10])
    for capacity, held in ((100_000, 100_000), (200, 200), (0, 64), (4096, 4096)):
        reader.capacity = capacity
        assert reader.capacity == held
        assert receive(reader, small[10:] + small[:10], [5]) == [(Key(7, 2, 2), b"x" * 20)]
        assert reader.held == held


def test_what_is_held_stays_when_the_capacity_shrinks() -> None:
    reader = RequestReader(4096)
    record: Record = (Key(7, 2, 2), b"x" * 2000)
    raw = put_of([record])
    receive(reader, raw[:1500])
    reader.capacity = 500
    assert reader.held == 4096
    assert receive(reader, raw[1500:], [300]) == [record, PutEnd()]
    assert len(reader.buffer()) == reader.held == 500


def test_room_is_given_back_even_if_the_buffer_is_never_empty() -> None:
    reader = RequestReader(4096)
    following = raw_batch(7, [(Key(7, 2, 2), b"x" * 20)], False)
    large = raw_batch(7, [(Key(7, 1, 1), bytes(100_000))], False)
    receive(reader, PUT_BEGIN + large[:-1])
    assert reader.held >= 100_000
    receive(reader, large[-1:] + following[:10])
    for _ in range(3):
        assert receive(reader, following[10:] + following[:10]) == [(Key(7, 2, 2, 0, 0), b"x" * 20)]
    assert reader.held == 4096


def test_a_small_buffer_does_not_grow_while_records_are_small() -> None:
    reader = RequestReader(128)
    small = raw_batch(7, [(Key(7, 2, 2), b"x" * 20)], False)
    receive(reader, PUT_BEGIN + small[:10])
    for _ in range(100):
        assert receive(reader, small[10:] + small[:10]) == [(Key(7, 2, 2), b"x" * 20)]
        assert reader.held == 128


def test_the_largest_payload() -> None:
    payload = bytes(LARGEST_PAYLOAD)
    reader = RequestReader()
    reader.feed(put_of([(Key(7, 1, 1), payload)]))
    assert type(reader.next_event()) is PutBegin
    event = reader.next_event()
    assert isinstance(event, PutRecords)
    assert bytes(event.block.payload(0)) == payload
    assert reader.next_event() == PutEnd()
    answer = expecting(Command.GET)
    answer.feed(OK + raw_found([(Key(7, 1, 1), payload)]) + GET_END)
    found = answer.next_event()
    assert isinstance(found, GetRecords)
    assert bytes(found.block.payload(0)) == payload
    assert answer.next_event() == GetEnd(0, 77)


def test_how_much_a_record_that_has_begun_wants() -> None:
    found: list[Record] = [(Key(7, 1, 1), b"a"), (Key(7, 2, 2), bytes(5000))]
    raw = put_of(found)
    second = raw.index(number(5020))
    begun = {5: 0, 15: 0, 30: 25, second: 0, second + 3: 0, second + 4: 5024, len(raw) - 5: 5024}
    for end, wanted in begun.items():
        reader = RequestReader()
        receive(reader, raw[:end])
        assert reader.wanted == wanted
    receive(reader, raw[len(raw) - 5 :])
    assert reader.wanted == 0


def test_what_is_skipped_takes_no_memory() -> None:
    reader = RequestReader()
    assert receive(reader, header(1, 2**64 - 1)) == []
    for _ in range(50):
        assert receive(reader, bytes(100_000)) == []
        assert reader.held == ENOUGH
    assert reader.mid_request
    put = RequestReader()
    assert receive(put, header(5, 1_000_000) + bytes(999_999)) == [PutBegin(False)]
    assert put.mid_request
    assert receive(put, b"\0" + END) == [PutEnd()]
    assert put.held == ENOUGH


def test_a_failure_is_read_from_a_buffer_that_is_no_larger_than_its_tail() -> None:
    reader = expecting(Command.PUT, 0)
    assert receive(reader, header(-1, 1024) + bytes(1024), [100]) == [PutAnswer(-1, -1, -1)]
    reader.expect(Command.PUT)
    assert receive(reader, FAILURE) == [PutAnswer(-1, -1, -1)]
    assert reader.held == 64


@pytest.mark.parametrize("pieces", [None, [1], [12], [20]])
def test_the_hello_of_another_protocol_is_refused_at_once(pieces: list[int] | None) -> None:
    """As a get it would be one with gigabytes to pass over, of which nothing comes."""
    (hello,) = Connection(Role.CLIENT, nonce=bytes(32), key=bytes(32)).start()
    with pytest.raises(RemoteProtocolError, match="a hello came, as of a client that has a key"):
        receive(RequestReader(), hello, pieces)


def test_what_only_begins_like_a_hello_is_passed_over() -> None:
    reader = RequestReader()
    assert receive(reader, header(1, 1 << 32) + b"pynetwor", [5]) == []
    assert receive(reader, b"!" + bytes((1 << 16) - 9)) == []
    assert reader.mid_request

"""What is asked by those who hold a part of the data already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handshakes.deltas import (
    MOST_BEGINNINGS,
    MOST_RANGES,
    SUMS_LIMIT,
    Beginning,
    GrownRow,
    PieceWant,
    Range,
    RemoveHead,
    decode_grown,
    decode_grown_rows,
    decode_held,
    decode_offer,
    decode_ranges,
    decode_sums,
    encode_grown,
    encode_grown_rows,
    encode_ranges,
)
from handshakes.errors import RemoteProtocolError
from handshakes.manifest import (
    CHUNK_LIMIT,
    CHUNK_SIZE,
    PACK_FILES,
    PACK_SIZE,
    PACK_TABLE,
    Entry,
    Skipped,
    encode_file,
    encode_folder,
    encode_skipped,
)
from handshakes.transfer import PutHead, Status, Want

ENTRY = Entry("logs/a.log", 3 * CHUNK_SIZE + 10, 1_500_000_000_000_000_001, 0o640, 77)
SMALL = ENTRY._replace(size=100)
RAW_SMALL = bytes.fromhex("00 a001 0a00 6400000000000000 0100167b0d12d114 4d000000") + b"logs/a.log"
DIGEST = bytes(range(16))
WANT = Want(ENTRY, CHUNK_SIZE, 1, 1)
PIECE = PieceWant(WANT, 1000)

digests = st.binary(min_size=16, max_size=16)
paths = st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
identities = st.integers(0, (1 << 32) - 1)


def entries(most: int) -> st.SearchStrategy[Entry]:
    return st.builds(Entry, paths, st.integers(0, most), numbers, st.integers(0, 0o777), identities)


def refused(decode: Callable[..., Any], *arguments: Any, words: str = ".") -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        decode(*arguments)


# Pieces


def test_a_piece_by_hand() -> None:
    raw = bytes.fromhex("e8030000 0a00300000000000 0100167b0d12d114 a001 4d000000 00001000 01000000 01000000")
    assert PIECE.encode() == raw + b"logs/a.log"
    assert PieceWant.decode(raw + b"logs/a.log") == PIECE


@given(entries(1 << 40).filter(lambda entry: entry.size > 1), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_piece_comes_back(entry: Entry, chunk: int, skip: int) -> None:
    index = chunk % -(-entry.size // CHUNK_SIZE)
    length = min(CHUNK_SIZE, entry.size - index * CHUNK_SIZE)
    piece = PieceWant(Want(entry, CHUNK_SIZE, index, 1), 1 + skip % max(1, length - 1))
    if length > 1:
        assert PieceWant.decode(piece.encode()) == piece
    else:
        refused(PieceWant.decode, piece.encode())


@pytest.mark.parametrize(
    "piece",
    [
        PIECE._replace(skip=0),
        PIECE._replace(skip=CHUNK_SIZE),
        PIECE._replace(skip=(1 << 32) - 1),
        PieceWant(WANT._replace(chunks=0), 1),
        PieceWant(WANT._replace(chunks=2), 1),
        PieceWant(WANT._replace(first=3), 10),
        PieceWant(WANT._replace(first=4), 1),
        PieceWant(WANT._replace(chunk=0), 1),
        PieceWant(WANT._replace(chunk=CHUNK_LIMIT + 1), 1),
        PieceWant(WANT._replace(entry=ENTRY._replace(size=-1)), 1),
    ],
)
def test_what_is_no_piece_of_a_chunk_is_refused(piece: PieceWant) -> None:
    refused(PieceWant.decode, piece.encode())


def test_the_last_byte_of_a_chunk_can_be_asked_for() -> None:
    for piece in (PIECE._replace(skip=CHUNK_SIZE - 1), PieceWant(WANT._replace(first=3), 9)):
        assert PieceWant.decode(piece.encode()) == piece


def test_a_piece_cut_anywhere_is_refused() -> None:
    for size in range(38):
        refused(PieceWant.decode, PIECE.encode()[:size], words="needs")
    assert PieceWant.decode(PIECE.encode()[:38]).want.entry.path == ""


# Ranges and their digests


def test_ranges_by_hand() -> None:
    raw = bytes.fromhex("0500000000000000 0a000000 0f00000000000000 01000000")
    ranges = [Range(5, 10), Range(15, 1)]
    assert encode_ranges(ranges) == raw
    assert decode_ranges(raw, 16) == decode_ranges(memoryview(raw), 16) == ranges


@given(st.lists(st.builds(Range, st.integers(0, 1 << 40), st.integers(1, 100_000)), min_size=1, max_size=30))
def test_ranges_come_back(ranges: list[Range]) -> None:
    end = max(offset + length for offset, length in ranges)
    assert decode_ranges(encode_ranges(ranges), end) == ranges
    refused(decode_ranges, encode_ranges(ranges), end - 1, words="does not have")


def test_ranges_cut_anywhere_are_refused() -> None:
    body = encode_ranges([Range(0, 1), Range(1, 1)])
    for size in (*range(12), *range(13, 24)):
        refused(decode_ranges, body[:size], 100)
    assert decode_ranges(body[:12], 100) == [Range(0, 1)]


@pytest.mark.parametrize(
    "wrong", [Range(0, 0), Range(0, 101), Range(100, 1), Range((1 << 64) - 1, 1), Range(0, (1 << 32) - 1)]
)
def test_ranges_beyond_the_file_are_refused(wrong: Range) -> None:
    refused(decode_ranges, encode_ranges([Range(0, 100), wrong]), 100, words="a file of 100 bytes does not have")


def test_not_too_much_is_digested_at_once() -> None:
    most = [Range(0, CHUNK_LIMIT)] * (SUMS_LIMIT // CHUNK_LIMIT)
    assert decode_ranges(encode_ranges(most), 1 << 40) == most
    refused(decode_ranges, encode_ranges([*most, Range(0, 1)]), 1 << 40, words="too much")
    refused(decode_ranges, encode_ranges([Range(0, CHUNK_LIMIT + 1)]), 1 << 40)
    refused(decode_ranges, b"", 1 << 40, words="nothing")
    many = [Range(0, 1)] * MOST_RANGES
    assert decode_ranges(encode_ranges(many), 1) == many
    refused(decode_ranges, encode_ranges([*many, Range(0, 1)]), 1, words="has 49164 bytes")


@given(st.lists(digests, max_size=20))
def test_digests_come_back(found: list[bytes]) -> None:
    body = b"".join(found)
    assert decode_sums(body, len(found)) == decode_sums(memoryview(body), len(found)) == found
    refused(decode_sums, body, len(found) + 1)
    refused(decode_sums, body + b"x", len(found))


# Small files that have grown


def test_grown_files_by_hand() -> None:
    files = [(SMALL, [Beginning(50, DIGEST), Beginning(7, DIGEST[::-1])]), (SMALL, [])]
    raw = b"\x23\x00" + RAW_SMALL + b"\x02"
    raw += b"\x32" + bytes(7) + DIGEST + b"\x07" + bytes(7) + DIGEST[::-1]
    raw += b"\x23\x00" + RAW_SMALL + b"\x00"
    assert encode_grown(files) == raw
    assert decode_grown(raw) == decode_grown(memoryview(raw)) == files


beginnings = st.lists(st.builds(Beginning, st.integers(0, (1 << 64) - 1), digests), max_size=MOST_BEGINNINGS)
grown = st.lists(st.tuples(entries(PACK_SIZE // 10), beginnings), min_size=1, max_size=10)


@given(grown)
def test_grown_files_come_back(files: list[tuple[Entry, list[Beginning]]]) -> None:
    assert decode_grown(encode_grown(files)) == files


def test_grown_files_cut_anywhere_are_refused() -> None:
    one = encode_grown([(SMALL, [Beginning(50, DIGEST), Beginning(7, DIGEST)])])
    for size in range(len(one)):
        refused(decode_grown, one[:size])
        if size:
            refused(decode_grown, one + one[:size])
    assert len(decode_grown(one + one)) == 2


def test_no_more_beginnings_than_anybody_needs() -> None:
    many = [Beginning(1, DIGEST)] * MOST_BEGINNINGS
    assert decode_grown(encode_grown([(SMALL, many)])) == [(SMALL, many)]
    refused(decode_grown, encode_grown([(SMALL, [*many, Beginning(1, DIGEST)])]), words="malformed")


def test_as_many_grown_files_as_fit_a_pack() -> None:
    empty = encode_grown([(SMALL._replace(size=0), [])])
    assert len(decode_grown(empty * PACK_FILES)) == PACK_FILES
    refused(decode_grown, empty * (PACK_FILES + 1), words="129 grown files")
    refused(decode_grown, b"", words="no grown files")
    half = encode_grown([(SMALL._replace(size=PACK_SIZE // 2), [])])
    assert len(decode_grown(half * 2)) == 2
    refused(decode_grown, half * 2 + encode_grown([(SMALL._replace(size=1), [])]), words="1048577 bytes")
    refused(decode_grown, encode_grown([(SMALL._replace(size=1 << 62), [])]))


def test_too_many_grown_files_are_not_even_looked_at() -> None:
    """The rest of a long message is not read, so it takes no memory either."""
    refused(decode_grown, encode_grown([(SMALL, [])]) * 5000 + b"torn", words="129 grown files")


@pytest.mark.parametrize(
    "page",
    [
        b"",
        RAW_SMALL * 2,
        encode_folder(SMALL),
        encode_skipped(Skipped("a", "no")),
        RAW_SMALL + encode_folder(SMALL),
        RAW_SMALL + encode_skipped(Skipped("a", "no")),
        encode_file(SMALL._replace(size=-1)),
        RAW_SMALL[:-1],
    ],
)
def test_what_is_no_file_has_not_grown(page: bytes) -> None:
    refused(decode_grown, len(page).to_bytes(2, "little") + page + b"\0")
    refused(RemoveHead.decode, DIGEST + page)


# The answer


def test_rows_of_grown_files_by_hand() -> None:
    rows = [
        GrownRow(Status.OK, 0o640, 2, 5, 1_500_000_000_000_000_001, DIGEST),
        GrownRow(Status.FAILED, 0, 0, 2, 0, bytes(16)),
    ]
    raw = bytes.fromhex("00 a001 02 05000000 0100167b0d12d114") + DIGEST
    raw += bytes.fromhex("03 0000 00 02000000") + bytes(8) + bytes(16)
    assert encode_grown_rows(rows) == raw
    found, data = decode_grown_rows(raw + b"ABCDEno", 2)
    assert (found, bytes(data)) == (rows, b"ABCDEno")
    assert found[0].status is Status.OK


grown_rows = st.builds(
    GrownRow, st.sampled_from(Status), st.integers(0, 0o777), st.integers(0, 255), st.integers(0, 99), numbers, digests
)


@given(st.lists(grown_rows, max_size=20))
def test_rows_of_grown_files_come_back(rows: list[GrownRow]) -> None:
    contents = (bytes(range(256)) * 8)[: sum(row.length for row in rows)]
    found, data = decode_grown_rows(encode_grown_rows(rows) + contents, len(rows))
    assert (found, data) == (rows, contents)


def test_rows_of_grown_files_cut_anywhere_are_refused() -> None:
    rows = [GrownRow(Status.OK, 0, 0, 3, 0, DIGEST), GrownRow(Status.OK, 0, 0, 2, 0, DIGEST)]
    body = encode_grown_rows(rows) + b"abcde"
    for size in range(len(body)):
        refused(decode_grown_rows, body[:size], 2)
    refused(decode_grown_rows, body + b"x", 2, words="not as long as their rows say")


def test_rows_of_grown_files_that_make_no_sense_are_refused() -> None:
    row = GrownRow(Status.OK, 0, 0, 0, 0, DIGEST)
    refused(decode_grown_rows, b"\x63" + encode_grown_rows([row])[1:], 1, words="unknown status 99")
    refused(decode_grown_rows, encode_grown_rows([row._replace(mode=0o1000)]), 1)
    refused(decode_grown_rows, encode_grown_rows([row._replace(length=(1 << 32) - 1)] * 2), 2)
    refused(decode_grown_rows, b"", 1)


# What is offered to be stored; for the rest see `test_deltas_storing.py`


def test_no_more_digests_than_anybody_needs() -> None:
    head = PutHead(Status.OK, 0, ENTRY._replace(size=1 << 20), 100, 0, DIGEST)
    assert len(decode_offer(head, DIGEST * MOST_RANGES)) == MOST_RANGES
    refused(decode_offer, head, DIGEST * (MOST_RANGES + 1), words="4097 digests")
    table = encode_file(Entry("a" * (PACK_TABLE - 25), 0, 0, 0))
    assert len(decode_held(len(table).to_bytes(4, "little"), table + DIGEST)) == 1
    table = encode_file(Entry("a" * (PACK_TABLE - 24), 0, 0, 0))
    refused(decode_held, len(table).to_bytes(4, "little"), table + DIGEST)
    refused(decode_held, b"\xff" * 100, RAW_SMALL + DIGEST)


# Removing


def test_a_removal_by_hand() -> None:
    head = RemoveHead(SMALL, DIGEST)
    assert head.encode() == DIGEST + RAW_SMALL
    assert RemoveHead.decode(DIGEST + RAW_SMALL) == head


@given(entries((1 << 63) - 1), digests)
def test_a_removal_comes_back(entry: Entry, digest: bytes) -> None:
    assert RemoveHead.decode(RemoveHead(entry, digest).encode()) == RemoveHead(entry, digest)


def test_a_removal_cut_anywhere_is_refused() -> None:
    raw = RemoveHead(SMALL, DIGEST).encode()
    for size in range(len(raw)):
        refused(RemoveHead.decode, raw[:size])
    refused(RemoveHead.decode, raw + b"x")


# Whatever comes


def answer_of(rows: list[GrownRow], data: memoryview) -> bytes:
    return encode_grown_rows(rows) + data


@given(st.binary(max_size=200), st.integers(0, 5))
@example(bytes(100), 3)
@example(PIECE.encode(), 0)
@example(encode_ranges([Range(5, 10), Range(15, 1)]), 0)
@example(DIGEST + DIGEST[::-1], 2)
@example(encode_grown([(SMALL, [Beginning(50, DIGEST)])]), 0)
@example(encode_grown_rows([GrownRow(Status.OK, 0o640, 2, 5, 0, DIGEST)]) + b"ABCDE", 1)
@example(DIGEST + RAW_SMALL, 1)
def test_garbage_is_refused_or_read(data: bytes, count: int) -> None:
    """What is read is all that came: said again, it is the same bytes."""
    again: list[Callable[[], bytes]] = [
        lambda: PieceWant.decode(data).encode(),
        lambda: encode_ranges(decode_ranges(data, 1 << 40)),
        lambda: b"".join(decode_sums(data, count)),
        lambda: encode_grown(decode_grown(data)),
        lambda: answer_of(*decode_grown_rows(data, count)),
        lambda: RemoveHead.decode(data).encode(),
    ]
    for said in again:
        try:
            found = said()
        except RemoteProtocolError:
            continue
        assert found == data


@given(grown, st.integers(0, 10**6), st.integers(1, 255))
# One more beginning is announced than comes.
@example([(SMALL, [Beginning(50, DIGEST)])], 2 + len(RAW_SMALL), 1 ^ 2)
def test_damaged_requests_are_refused_or_read(
    files: list[tuple[Entry, list[Beginning]]], where: int, change: int
) -> None:
    body = bytearray(encode_grown(files))
    body[where % len(body)] ^= change
    try:
        found = decode_grown(body)
    except RemoteProtocolError:
        return
    assert all(len(each) <= MOST_BEGINNINGS for _, each in found)
    assert encode_grown(found) == body

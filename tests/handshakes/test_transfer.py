"""The words of the file service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.errors import RemoteProtocolError
from handshakes.manifest import CHUNK_LIMIT, CHUNK_SIZE, PACK_FILES, PACK_SIZE, PACK_TABLE, Entry
from handshakes.transfer import (
    REASON_LIMIT,
    ChunkHead,
    Compressed,
    PutHead,
    Receipt,
    Row,
    Status,
    Want,
    decode_names,
    decode_receipt,
    decode_rows,
    encode_names,
    encode_receipt,
    encode_rows,
    reason_text,
)

paths = st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
identities = st.integers(0, 2**32 - 1)
entries = st.builds(
    Entry, paths, st.integers(0, 1 << 40), st.integers(-(2**63), 2**63 - 1), st.integers(0, 0o777), identities
)
digests = st.binary(min_size=16, max_size=16)
statuses = st.sampled_from(Status)

ENTRY = Entry("logs/a.log", 3 * CHUNK_SIZE + 1, 1234567890123456789, 0o640, 77)
WANT = Want(ENTRY, CHUNK_SIZE, 1, 3)
CHUNK = ChunkHead(Status.OK, 3, b"d" * 16, 1, 2, 0o600, 3)
PUT = PutHead(Status.HOLE, 2, ENTRY._replace(identity=0), CHUNK_SIZE, 3, b"d" * 16)
FIXED = {"want": 34, "chunk": 43, "put": 45}


def expect_refusal(decode: Callable[..., Any], *arguments: Any, words: str = ".") -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        decode(*arguments)


@given(entries, st.integers(1, 8).map(lambda power: CHUNK_SIZE * min(power, 8)))
def test_a_request_comes_back(entry: Entry, chunk: int) -> None:
    count = -(-entry.size // chunk)
    for want in (Want(entry, chunk), Want(entry, chunk, count // 2, count - count // 2)):
        assert Want.decode(want.encode()) == want


@pytest.mark.parametrize(
    "want",
    [
        WANT._replace(first=2),
        WANT._replace(chunks=4),
        WANT._replace(first=2**32 - 1, chunks=2**32 - 1),
        WANT._replace(chunk=0),
        WANT._replace(chunk=CHUNK_LIMIT + 1),
        WANT._replace(chunk=1, entry=ENTRY._replace(size=1 << 40)),
        WANT._replace(entry=ENTRY._replace(size=-1)),
    ],
)
def test_a_request_beyond_the_file_is_refused(want: Want) -> None:
    expect_refusal(Want.decode, want.encode())


@given(
    st.builds(
        ChunkHead,
        statuses,
        identities,
        digests,
        st.integers(0, 2**63 - 1),
        st.integers(0, 9),
        st.integers(0, 0o777),
        identities,
    )
)
def test_the_head_of_a_chunk_comes_back(head: ChunkHead) -> None:
    assert ChunkHead.decode(head.encode()) == head


@given(entries.filter(lambda entry: entry.size > 0), st.integers(0, 9), statuses, digests)
def test_the_head_of_a_chunk_to_store_comes_back(entry: Entry, generation: int, status: Status, digest: bytes) -> None:
    last = -(-entry.size // CHUNK_SIZE) - 1
    for number in (0, last):
        head = PutHead(status, generation, entry._replace(identity=0), CHUNK_SIZE, number, digest)
        assert PutHead.decode(head.encode()) == head


def test_a_head_tells_whether_the_file_is_still_the_same() -> None:
    head = ChunkHead(Status.OK, 0, b"d" * 16, *ENTRY[1:])
    assert head.entry(ENTRY.path) == ENTRY
    assert head.shows(ENTRY)
    assert head.shows(ENTRY._replace(mode=0))
    for change in ({"size": 1}, {"mtime_ns": 1}, {"identity": 1}):
        assert not head.shows(ENTRY._replace(**change))


def test_an_empty_file_can_be_sealed() -> None:
    head = PUT._replace(entry=ENTRY._replace(size=0, identity=0), number=0)
    assert PutHead.decode(head.encode()) == head


@pytest.mark.parametrize(
    "head",
    [
        PUT._replace(number=4),
        PUT._replace(entry=ENTRY._replace(size=0), number=1),
        PUT._replace(entry=ENTRY._replace(size=-5)),
        PUT._replace(entry=ENTRY._replace(mode=0o4755)),
        PUT._replace(chunk=0),
    ],
)
def test_a_chunk_to_store_beyond_its_file_is_refused(head: PutHead) -> None:
    expect_refusal(PutHead.decode, head.encode())


def test_heads_cut_anywhere_are_refused() -> None:
    for size in range(FIXED["want"]):
        expect_refusal(Want.decode, WANT.encode()[:size], words="request for chunks")
    for size in [*range(FIXED["chunk"]), 44]:
        expect_refusal(ChunkHead.decode, (CHUNK.encode() + b"x")[:size], words="a chunk")
    for size in range(FIXED["put"]):
        expect_refusal(PutHead.decode, PUT.encode()[:size], words="a chunk to store")
    assert Want.decode(WANT.encode()[: FIXED["want"]]).entry.path == ""
    assert PutHead.decode(PUT.encode()[: FIXED["put"]]).entry.path == ""


def test_unknown_statuses_and_odd_files_are_refused() -> None:
    expect_refusal(ChunkHead.decode, b"\x09" + CHUNK.encode()[1:], words="unknown status 9")
    expect_refusal(PutHead.decode, bytes([len(Status)]) + PUT.encode()[1:], words="unknown status")
    expect_refusal(ChunkHead.decode, CHUNK._replace(size=-1).encode(), words="-1 bytes")
    expect_refusal(ChunkHead.decode, CHUNK._replace(mode=0o1000).encode(), words="mode 1000")


rows = st.builds(Row, statuses, st.integers(0, 0o777), st.integers(0, 99), st.integers(-(2**63), 2**63 - 1), digests)


@given(st.lists(rows, min_size=1, max_size=20))
def test_a_pack_comes_back(table: list[Row]) -> None:
    data = bytes(range(256)) * 20
    data = data[: sum(row.length for row in table)]
    found, rest = decode_rows(encode_rows(table) + data, len(table))
    assert found == table
    assert all(isinstance(row, Row) for row in found)
    assert rest == data


def test_a_pack_cut_anywhere_is_refused() -> None:
    body = encode_rows([Row(Status.OK, 0, 3, 0, b"d" * 16), Row(Status.FAILED, 0, 2, 0, b"d" * 16)]) + b"abcno"
    assert bytes(decode_rows(body, 2)[1]) == b"abcno"
    for size in range(len(body)):
        expect_refusal(decode_rows, body[:size], 2)
    expect_refusal(decode_rows, body + b"x", 2, words="6 came with it")


def test_packs_that_make_no_sense_are_refused() -> None:
    row = Row(Status.OK, 0, 0, 0, b"d" * 16)
    expect_refusal(decode_rows, b"", 0, words="pack of 0 files")
    expect_refusal(decode_rows, encode_rows([row] * (PACK_FILES + 1)), PACK_FILES + 1, words="pack of")
    expect_refusal(decode_rows, encode_rows([row._replace(mode=0o2755)]), 1, words="mode 2755")
    expect_refusal(decode_rows, b"\x07" + encode_rows([row])[1:], 1, words="unknown status 7")
    large = PACK_SIZE + PACK_TABLE + PACK_FILES * REASON_LIMIT + 1
    expect_refusal(decode_rows, encode_rows([row._replace(length=large)]) + bytes(large), 1)


@given(st.integers(0, 5000), st.integers(0, PACK_SIZE))
def test_the_head_of_a_compressed_pack_comes_back(table: int, size: int) -> None:
    head = Compressed(table, size)
    assert head.encode() == table.to_bytes(4, "little") + size.to_bytes(4, "little")
    assert Compressed.decode(head.encode(), bytes(table)) == head
    if table:
        expect_refusal(Compressed.decode, head.encode(), bytes(table - 1), words="came with")


def test_a_compressed_pack_is_not_believed_to_be_huge() -> None:
    most = PACK_SIZE + PACK_TABLE + PACK_FILES * REASON_LIMIT
    assert Compressed.decode(Compressed(0, most).encode(), b"").size == most
    for size in (most + 1, 2**32 - 1):
        expect_refusal(Compressed.decode, Compressed(0, size).encode(), b"", words=f"pack of {size} bytes")
    for size in range(8):
        expect_refusal(Compressed.decode, bytes(size), b"", words="it needs 8")


@given(st.lists(st.builds(Receipt, statuses, st.text(st.characters(codec="utf-8"), max_size=60)), max_size=30))
def test_receipts_come_back(receipts: list[Receipt]) -> None:
    expected = [receipt if receipt.status else Receipt(Status.OK) for receipt in receipts]
    body = encode_receipt(receipts)
    assert decode_receipt(body, len(receipts)) == expected
    assert decode_receipt(memoryview(body), len(receipts)) == expected


def test_a_receipt_cut_anywhere_is_refused() -> None:
    body = encode_receipt([Receipt(Status.FAILED, "no"), Receipt(Status.OK), Receipt(Status.DAMAGED, "torn")])
    for size in range(len(body)):
        expect_refusal(decode_receipt, body[:size], 3)
    expect_refusal(decode_receipt, body + b"x", 3, words="1 bytes too many")
    expect_refusal(decode_receipt, b"\x63", 1, words="unknown status 99")


def test_receipts_with_many_reasons_stay_small() -> None:
    receipts = [Receipt(Status.FAILED, "because " * 100)] * PACK_FILES
    body = encode_receipt(receipts)
    assert len(body) <= 3 * PACK_FILES + (8 << 10)
    found = decode_receipt(body, PACK_FILES)
    assert len(found[0].reason) == REASON_LIMIT
    assert found[-1] == Receipt(Status.FAILED, "")


@given(st.lists(paths, max_size=30))
def test_names_come_back(names: list[str]) -> None:
    assert decode_names(encode_names(names)) == names


def test_names_cut_anywhere_within_one_are_refused() -> None:
    body = encode_names(["one", "zwei"])
    for size in [*range(1, 5), *range(6, len(body))]:
        expect_refusal(decode_names, body[:size], words="ends within a name")
    assert decode_names(body[:5]) == ["one"]


def test_too_many_names_at_once_are_refused() -> None:
    assert len(decode_names(bytes(2 * 1024))) == 1024
    expect_refusal(decode_names, bytes(2 * 1025), words="more than 1024 names")


def test_reasons_are_text_whatever_comes() -> None:
    assert reason_text(b"permission denied") == "permission denied"
    assert reason_text(memoryview(b"\xff" * 1000)) == "\N{REPLACEMENT CHARACTER}" * REASON_LIMIT

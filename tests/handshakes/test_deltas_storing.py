"""What is asked before anything is stored: what of it is there already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.deltas import SUMS_LIMIT, decode_held, decode_offer
from handshakes.errors import RemoteProtocolError
from handshakes.manifest import (
    CHUNK_SIZE,
    PACK_FILES,
    PACK_SIZE,
    Entry,
    Skipped,
    encode_file,
    encode_folder,
    encode_skipped,
)
from handshakes.transfer import PutHead, Status

ENTRY = Entry("logs/a.log", 3 * CHUNK_SIZE + 10, 1_500_000_000_000_000_001, 0o640)
SMALL = ENTRY._replace(size=100)
OFFER = PutHead(Status.OK, 0, ENTRY, CHUNK_SIZE, 1, bytes(16))

digests = st.binary(min_size=16, max_size=16)
smalls = st.builds(
    Entry,
    st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.integers(0, PACK_SIZE // PACK_FILES),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, 0o777),
    st.integers(0, (1 << 32) - 1),
)


def sums(count: int) -> bytes:
    return bytes(range(16)) * count


def held(files: list[tuple[Entry, bytes]]) -> tuple[bytes, bytes]:
    table = b"".join(encode_file(entry) for entry, _ in files)
    return len(table).to_bytes(4, "little"), table + b"".join(each for _, each in files)


# Chunks


@given(st.lists(digests, min_size=1, max_size=3))
def test_offered_chunks_come_back(offered: list[bytes]) -> None:
    assert decode_offer(OFFER, b"".join(offered)) == offered


@pytest.mark.parametrize("size", [0, 1, 15, 17, 47, 4 * 16])
def test_what_the_file_has_no_chunks_for_is_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_offer(OFFER, sums(4)[:size])


def test_not_too_much_is_compared_at_once() -> None:
    count = SUMS_LIMIT // CHUNK_SIZE
    head = OFFER._replace(entry=ENTRY._replace(size=1 << 40), number=0)
    assert len(decode_offer(head, sums(count))) == count
    with pytest.raises(RemoteProtocolError, match=f"{count + 1} digests"):
        decode_offer(head, sums(count + 1))


# Small files


@given(st.lists(st.tuples(smalls, digests), min_size=1, max_size=PACK_FILES))
def test_small_files_come_back(files: list[tuple[Entry, bytes]]) -> None:
    assert decode_held(*held(files)) == files


def test_small_files_cut_anywhere_are_refused() -> None:
    head, body = held([(SMALL, sums(1)), (SMALL._replace(path="b"), sums(1))])
    for size in range(len(body)):
        with pytest.raises(RemoteProtocolError):
            decode_held(head, body[:size])
    for size in (0, 1, len(body) - 1, len(body) + 1, 1 << 40):
        with pytest.raises(RemoteProtocolError):
            decode_held(size.to_bytes(8, "little"), body)


@pytest.mark.parametrize("other", [encode_folder(SMALL), encode_skipped(Skipped("x", "y"))])
def test_what_is_no_file_is_refused(other: bytes) -> None:
    table = encode_file(SMALL) + other
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_held(len(table).to_bytes(4, "little"), table + sums(2))


def test_more_than_fits_a_pack_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_held(*held([(SMALL, sums(1))] * (PACK_FILES + 1)))
    whole = SMALL._replace(size=PACK_SIZE)
    assert decode_held(*held([(whole, sums(1))])) == [(whole, sums(1))]
    with pytest.raises(RemoteProtocolError, match="2 small files are too large"):
        decode_held(*held([(whole, sums(1)), (SMALL, sums(1))]))

"""Entries, pages, packs and digests."""

from __future__ import annotations

import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import (
    CHUNK_LIMIT,
    CHUNK_SIZE,
    DIGEST_SIZE,
    PACK_FILES,
    PACK_SIZE,
    PACK_TABLE,
    Entry,
    Page,
    Skipped,
    chunk_count,
    chunk_size_for,
    decode_page,
    digest,
    encode_file,
    encode_folder,
    encode_skipped,
    hole_digest,
    packs,
)

paths = st.binary(min_size=1, max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
entries = st.builds(
    Entry,
    paths,
    st.integers(0, 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 0o777),
    st.integers(0, 2**32 - 1),
)
skips = st.builds(
    Skipped, paths.filter(lambda path: "\0" not in path), st.text(st.characters(codec="utf-8"), max_size=50)
)


@given(st.lists(entries), st.lists(entries), st.lists(skips))
def test_a_page_comes_back_as_it_was(files: list[Entry], folders: list[Entry], skipped: list[Skipped]) -> None:
    folders = [folder._replace(size=0, identity=0) for folder in folders]
    body = b"".join([*map(encode_file, files), *map(encode_folder, folders), *map(encode_skipped, skipped)])
    assert decode_page(body) == Page(files, folders, skipped)
    assert decode_page(memoryview(bytearray(body))) == Page(files, folders, skipped)


def test_a_page_cut_anywhere_within_an_entry_is_refused() -> None:
    first = encode_file(Entry("a/b", 5, 7, 0o644))
    body = first + encode_skipped(Skipped("link", "symbolic link"))
    for size in range(1, len(body)):
        if size == len(first):
            continue
        with pytest.raises(RemoteProtocolError, match="ends within"):
            decode_page(body[:size])
    assert decode_page(b"") == Page([], [], [])


@pytest.mark.parametrize(
    ("kind", "mode", "size", "words"),
    [(3, 0, 0, "unknown kind 3"), (0, 0o1000, 0, "mode 1000"), (0, 0o4755, 1, "mode 4755"), (0, 0, -1, "-1 bytes")],
)
def test_an_entry_that_makes_no_sense_is_refused(kind: int, mode: int, size: int, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        decode_page(struct.pack("<BHHqqI", kind, mode, 1, size, 0, 0) + b"x")


@pytest.mark.parametrize("body", [1 << 40, "text", [1], None])
def test_a_page_that_is_no_bytes_is_refused(body: object) -> None:
    with pytest.raises(RemoteProtocolError, match="no bytes"):
        decode_page(body)  # type: ignore[arg-type]


def test_the_wire_form_of_an_entry_is_this() -> None:
    assert encode_file(Entry("é", 258, -1, 0o100640, 0xABCDEF)).hex(" ") == (
        "00 a0 01 02 00 02 01 00 00 00 00 00 00 ff ff ff ff ff ff ff ff ef cd ab 00 c3 a9"
    )


def test_a_path_without_bytes_has_no_entry() -> None:
    with pytest.raises(UnsafePath):
        encode_file(Entry("\ud800", 1, 1, 0))


def test_what_is_skipped_can_always_be_told() -> None:
    odd = Skipped("nul\0 and \ud800 and \udcff", "because " * 100)
    (told,) = decode_page(encode_skipped(odd)).skipped
    assert told.path == "nul? and ? and ?"
    assert len(told.reason) == 300
    (told,) = decode_page(encode_skipped(Skipped("x" * 20000, "too long"))).skipped
    assert (len(told.path), told.reason) == (8192, "too long")


def test_digests_are_xxh3_128() -> None:
    assert digest(b"pynetwork") == xxhash.xxh3_128(b"pynetwork").digest()
    assert len(digest(b"")) == DIGEST_SIZE
    assert digest(memoryview(b"abc")) == digest(bytearray(b"abc"))


def test_the_digest_of_a_hole_is_that_of_zeros() -> None:
    for length in (1, 4096, 4096, CHUNK_SIZE, *range(100, 200)):
        assert hole_digest(length) == digest(bytes(length))


@pytest.mark.parametrize(
    ("size", "chunk"),
    [
        (0, CHUNK_SIZE),
        (1 << 30, CHUNK_SIZE),
        (1 << 36, CHUNK_SIZE),
        ((1 << 36) + 1, 2 * CHUNK_SIZE),
        (1 << 38, 4 * CHUNK_SIZE),
        (1 << 44, CHUNK_LIMIT),
    ],
)
def test_chunks_grow_with_enormous_files(size: int, chunk: int) -> None:
    assert chunk_size_for(size) == chunk


def test_how_many_chunks() -> None:
    assert [chunk_count(size, 10) for size in (0, 1, 10, 11, 20)] == [0, 1, 1, 2, 2]
    for size, chunk in ((1, 0), (1, -1), (1, CHUNK_LIMIT + 1), (-1000, 10), (1 << 62, CHUNK_LIMIT), (1 << 30, 1)):
        with pytest.raises(RemoteProtocolError):
            chunk_count(size, chunk)


@given(st.lists(st.builds(Entry, paths, st.integers(0, PACK_SIZE), st.just(0), st.just(0), st.just(0)), max_size=60))
def test_packs_keep_order_and_bounds(files: list[Entry]) -> None:
    groups = list(packs(files))
    assert [entry for group in groups for entry in group] == files
    for group in groups:
        assert group
        assert sum(entry.size for entry in group) <= PACK_SIZE


def test_packs_are_bounded_in_every_way() -> None:
    assert [len(group) for group in packs(Entry(f"f{n}", 0, 0, 0) for n in range(PACK_FILES + 1))] == [PACK_FILES, 1]
    assert [len(group) for group in packs([Entry("a", PACK_SIZE, 0, 0), Entry("b", 1, 0, 0)])] == [1, 1]
    for name in ("n" * 4000, "é" * 2000):
        tables = [b"".join(map(encode_file, group)) for group in packs([Entry(name, 1, 0, 0)] * 20)]
        assert len(tables) > 1
        assert max(map(len, tables)) <= PACK_TABLE
    assert list(packs([])) == []

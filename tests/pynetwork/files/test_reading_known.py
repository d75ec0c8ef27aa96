"""Reading for those who hold a part of the data already."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.deltas import Beginning, GrownRow, Range
from handshakes.manifest import CHUNK_SIZE, PACK_SIZE, Entry, decode_page, digest
from handshakes.transfer import ChunkHead, Status
from pynetwork.files.folders import Folder
from pynetwork.files.reading import DigestCache, Reader
from tests.pynetwork.files.readings import CHUNK, OLD, Tap, listed, write


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with Folder(tmp_path) as folder:
        # A minute after the files were made.
        opened = Reader(folder, DigestCache(), "share", clock=lambda: time.time_ns() + 60_000_000_000)
        yield opened
        opened.close()


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    return Tap(monkeypatch)


def beginning(data: bytes) -> Beginning:
    return Beginning(len(data), digest(data))


def parts(rows: list[GrownRow], data: memoryview) -> list[bytes]:
    """The data of each row."""
    assert sum(row.length for row in rows) == len(data)
    found = []
    at = 0
    for row in rows:
        found.append(bytes(data[at : at + row.length]))
        at += row.length
    return found


# Small files that have grown


def test_of_a_file_that_has_grown_the_rest_is_read(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "log", b"begin and more")
    rows, data = reader.read_grown([(entry, [beginning(b"begin")])])
    assert rows == [GrownRow(Status.OK, entry.mode, 1, 9, OLD, digest(b"begin and more"))]
    assert bytes(data) == b" and more"


@pytest.mark.parametrize(
    ("held", "known"),
    [
        ([], 0),
        ([b"another"], 0),
        ([b"begin and more and more"], 0),
        ([b"be", b"begin and", b"begin"], 2),
        ([b"begin AND", b"begin", b"be"], 2),
        ([b"begin and more"], 1),
        ([b"", b"x"], 1),
    ],
)
def test_the_longest_beginning_that_it_really_has_counts(
    tmp_path: Path, reader: Reader, held: list[bytes], known: int
) -> None:
    entry = write(tmp_path / "log", b"begin and more")
    (row,), data = reader.read_grown([(entry, list(map(beginning, held)))])
    assert row.known == known
    assert (held[known - 1] if known else b"") + bytes(data) == b"begin and more"


def test_a_length_that_no_file_has_is_no_beginning(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "log", b"begin")
    (row,), data = reader.read_grown([(entry, [Beginning((1 << 64) - 1, digest(b"begin"))])])
    assert (row.known, bytes(data)) == (0, b"begin")


def test_grown_files_come_one_behind_the_other(tmp_path: Path, reader: Reader) -> None:
    """Of each only a part stays in the buffer, which the next is read into."""
    contents = {name: os.urandom(size) for name, size in (("a", 400_000), ("b", 0), ("c", 300_000), ("d", 348_576))}
    assert sum(map(len, contents.values())) == PACK_SIZE
    files = [(write(tmp_path / name, data), [beginning(data[: len(data) * 2 // 3])]) for name, data in contents.items()]
    rows, data = reader.read_grown(files)
    assert parts(rows, data) == [whole[len(whole) * 2 // 3 :] for whole in contents.values()]
    assert [row.digest for row in rows] == list(map(digest, contents.values()))
    assert [row.known for row in rows] == [1] * 4


def test_what_cannot_be_read_of_grown_files_has_its_reason(tmp_path: Path, reader: Reader) -> None:
    good = write(tmp_path / "good", b"begin and more")
    (tmp_path / "folder").mkdir()
    bad = [(Entry(path, 4, 0, 0), [beginning(b"")]) for path in ("none", "folder", "../up")]
    rows, data = reader.read_grown([*bad, (good, [beginning(b"begin")])])
    assert [(row.status, row.known) for row in rows] == [(Status.FAILED, 0)] * 3 + [(Status.OK, 1)]
    found = parts(rows, data)
    assert found[:2] == [b"it is not there", b"folder"]
    assert found[3] == b" and more"


def test_of_another_file_in_place_of_a_grown_one_there_is_the_entry(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "log", b"begin")
    (tmp_path / "log").rename(tmp_path / "log.1")
    write(tmp_path / "log", b"begin and more")
    (row,), data = reader.read_grown([(entry, [beginning(b"begin")])])
    assert (row.status, row.known) == (Status.CHANGED, 0)
    assert decode_page(data).files == [listed(tmp_path / "log")]


def test_a_grown_file_that_has_shrunk_is_read_as_it_is(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "log", b"begin and more")
    write(tmp_path / "log", b"beg", OLD + 1)
    (row,), data = reader.read_grown([(entry, [beginning(b"begin"), beginning(b"be")])])
    assert row == GrownRow(Status.OK, entry.mode, 2, 1, OLD + 1, digest(b"beg"))
    assert bytes(data) == b"g"


# Pieces


def test_a_piece_is_the_end_of_a_chunk(tmp_path: Path, reader: Reader) -> None:
    contents = os.urandom(2 * CHUNK + 10)
    entry = write(tmp_path / "a", contents)
    for index, skip, end in ((0, 1, CHUNK), (1, CHUNK - 1, 2 * CHUNK), (2, 4, 2 * CHUNK + 10)):
        head, data = reader.read_piece(entry, CHUNK, index, skip)
        expected = contents[index * CHUNK + skip : end]
        assert bytes(data) == expected
        assert head == ChunkHead(Status.OK, index, digest(expected), *entry[1:])


def test_a_piece_of_a_hole_is_zeros(tmp_path: Path, reader: Reader) -> None:
    chunk = 1 << 16
    reader.read_chunk(write(tmp_path / "other", b"x" * chunk), chunk, 0)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2 * chunk + 100)
    for index, skip, length in ((0, 5, chunk - 5), (2, 10, 90)):
        head, data = reader.read_piece(listed(tmp_path / "sparse"), chunk, index, skip)
        assert (head.status, head.digest, bytes(data)) == (Status.OK, digest(bytes(length)), bytes(length))


def test_a_piece_of_a_file_that_has_shrunk_or_is_another(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "a", b"x" * 2 * CHUNK)
    os.truncate(tmp_path / "a", CHUNK + 5)
    head, data = reader.read_piece(entry, CHUNK, 1, 3)
    assert (head.status, head.size, len(data)) == (Status.CHANGED, CHUNK + 5, 0)
    head, data = reader.read_piece(entry._replace(identity=entry.identity ^ 1), CHUNK, 0, 3)
    assert (head.status, len(data)) == (Status.CHANGED, 0)


# Digests of ranges


def test_ranges_have_their_digests(tmp_path: Path, reader: Reader) -> None:
    contents = os.urandom(3 * CHUNK_SIZE + 5)
    entry = write(tmp_path / "a", contents)
    ranges = [
        Range(0, CHUNK_SIZE),
        Range(CHUNK_SIZE, 10),
        Range(CHUNK_SIZE, CHUNK_SIZE),
        Range(5, CHUNK_SIZE),
        Range(3 * CHUNK_SIZE, 5),
        Range(3 * CHUNK_SIZE + 4, 1),
    ]
    head, found = reader.sums(entry, ranges)
    assert head == ChunkHead(Status.OK, 0, bytes(16), *entry[1:])
    assert found == [digest(contents[offset : offset + length]) for offset, length in ranges]


def test_holes_have_digests(tmp_path: Path, reader: Reader) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(CHUNK_SIZE + 9)
    head, found = reader.sums(listed(tmp_path / "sparse"), [Range(0, CHUNK_SIZE), Range(CHUNK_SIZE, 9), Range(5, 7)])
    assert head.status is Status.OK
    assert found == [digest(bytes(length)) for length in (CHUNK_SIZE, 9, 7)]


def test_what_was_read_before_is_not_read_for_its_digest(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    entry = write(tmp_path / "a", b"x" * 2 * CHUNK_SIZE)
    reader.read_chunk(entry, CHUNK_SIZE, 0)
    tap.offsets.clear()
    whole = [Range(0, CHUNK_SIZE), Range(CHUNK_SIZE, CHUNK_SIZE)]
    first = reader.sums(entry, whole)
    assert tap.offsets == [CHUNK_SIZE]
    assert reader.sums(entry, whole) == first
    assert tap.offsets == [CHUNK_SIZE]
    reader.seal(entry, CHUNK_SIZE)
    assert tap.offsets == [CHUNK_SIZE]


def test_what_may_have_changed_is_read_for_its_digest(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    """It is not the surveyed file any more, though it still has as many bytes."""
    entry = write(tmp_path / "a", b"x" * CHUNK_SIZE)
    reader.read_chunk(entry, CHUNK_SIZE, 0)
    write(tmp_path / "a", b"y" * CHUNK_SIZE + b"more", OLD + 1)
    head, found = reader.sums(entry, [Range(0, CHUNK_SIZE)])
    assert (head.status, head.size, head.mtime_ns) == (Status.OK, CHUNK_SIZE + 4, OLD + 1)
    assert found == [digest(b"y" * CHUNK_SIZE)]


@pytest.mark.parametrize("asked", [Range(CHUNK_SIZE, CHUNK_SIZE), Range(CHUNK_SIZE, 5), Range(0, 5)])
def test_digests_of_a_file_that_has_shrunk(tmp_path: Path, reader: Reader, asked: Range) -> None:
    entry = write(tmp_path / "a", b"x" * 2 * CHUNK_SIZE)
    os.truncate(tmp_path / "a", 100)
    head, found = reader.sums(entry, [asked])
    assert (head.status, head.size, found) == (Status.CHANGED, 100, [])


def test_digests_of_another_file(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "a", b"x" * CHUNK_SIZE)
    write(tmp_path / "new", b"y" * CHUNK_SIZE)
    os.replace(tmp_path / "new", tmp_path / "a")
    for asked in (Range(0, CHUNK_SIZE), Range(1, 5)):
        head, found = reader.sums(entry, [asked])
        assert (head.status, head.entry("a"), found) == (Status.CHANGED, listed(tmp_path / "a"), [])


def test_digests_are_those_of_one_file_even_if_it_is_cut_meanwhile(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    entry = write(tmp_path / "a", b"x" * 2 * CHUNK_SIZE)
    tap.after = lambda: os.truncate(tmp_path / "a", CHUNK_SIZE + 10)
    head, found = reader.sums(entry, [Range(0, 10)])
    assert (head.status, head.size, found) == (Status.CHANGED, CHUNK_SIZE + 10, [])


def test_what_was_short_for_a_moment_has_no_digest(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    entry = write(tmp_path / "a", b"x" * 2 * CHUNK_SIZE)
    reader.read_chunk(entry, CHUNK_SIZE, 0)
    os.truncate(tmp_path / "a", CHUNK_SIZE)
    tap.after = lambda: os.truncate(tmp_path / "a", 2 * CHUNK_SIZE)
    head, found = reader.sums(entry, [Range(CHUNK_SIZE + 5, 10)])
    assert (head.status, found) == (Status.CHANGED, [])


def test_digests_of_what_is_no_file(tmp_path: Path, reader: Reader) -> None:
    (tmp_path / "folder").mkdir()
    for path in ("folder", "none"):
        with pytest.raises(OSError, match="Errno"):
            reader.sums(Entry(path, 100, 0, 0), [Range(0, 100)])


# Times


def test_files_of_a_time_beyond_all_times_are_read(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "a"
    write(path, b"data", 14 * 10**18)
    if path.stat().st_mtime_ns < 1 << 63:
        pytest.skip("this file system has no such times")
    entry = listed(path)
    assert entry.mtime_ns == (1 << 63) - 1
    rows, data = reader.read_pack([entry])
    assert (rows[0][0], rows[0][3], bytes(data)) == (Status.OK, entry.mtime_ns, b"data")
    head, data = reader.read_chunk(entry, CHUNK, 0)
    assert ChunkHead.decode(head.encode()).shows(entry)
    assert bytes(data) == b"data"

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.manifest import PACK_SIZE, Entry, decode_page, digest, hole_digest
from handshakes.transfer import ChunkHead, Status
from pynetwork.files import descriptors, reading
from pynetwork.files.folders import Folder, NotAFile
from pynetwork.files.reading import DigestCache, Reader
from tests.pynetwork.files.readings import CHUNK, OLD, Tap, listed, write
from tests.waiting import wait_until


@pytest.fixture
def digests() -> DigestCache:
    return DigestCache()


@pytest.fixture
def reader(tmp_path: Path, digests: DigestCache) -> Iterator[Reader]:
    with Folder(tmp_path) as folder:
        opened = Reader(folder, digests, "share")
        yield opened
        opened.close()


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    return Tap(monkeypatch)


# Small files


def test_small_files_are_read_one_behind_the_other(tmp_path: Path, reader: Reader) -> None:
    entries = [write(tmp_path / name, data) for name, data in (("a", b"one"), ("b", b""), ("c", b"three"))]
    rows, data = reader.read_pack(entries)
    assert bytes(data) == b"onethree"
    assert rows == [
        (Status.OK, entry.mode, entry.size, OLD, digest(part))
        for entry, part in zip(entries, (b"one", b"", b"three"), strict=True)
    ]


def test_what_cannot_be_read_has_a_reason_in_place_of_data(tmp_path: Path, reader: Reader) -> None:
    good = write(tmp_path / "good", b"good")
    (tmp_path / "link").symlink_to("good")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    bad = [Entry(path, 4, 0, 0) for path in ("none", "link", "folder", "pipe", "../up")]
    bad += [Entry("pipe", 0, 0, 0)]
    rows, data = reader.read_pack([*bad, good])
    reasons = []
    at = 0
    for row in rows:
        reasons.append(bytes(data[at : at + row[2]]).decode())
        at += row[2]
    assert [row[0] for row in rows] == [Status.FAILED] * 6 + [Status.OK]
    assert reasons[:3] == ["it is not there", "symbolic link", "folder"]
    assert reasons[3] == "no regular file"
    assert "component '..'" in reasons[4]
    assert reasons[5:] == ["named pipe", "good"]


def test_a_full_pack_fits_with_the_reasons_of_others(tmp_path: Path, reader: Reader) -> None:
    big = write(tmp_path / "big", b"x" * PACK_SIZE)
    rows, data = reader.read_pack([Entry("none", 0, 0, 0), big, Entry("none", 0, 0, 0)])
    assert rows[1][2] == PACK_SIZE
    assert len(data) == PACK_SIZE + 2 * len("it is not there")


def test_short_readings_are_continued(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    tap.most = 3
    _, data = reader.read_pack([write(tmp_path / "a", b"0123456789")])
    assert bytes(data) == b"0123456789"
    assert tap.offsets == [0, 3, 6, 9]


def test_a_file_that_has_shrunk_is_read_as_it_is(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "a", b"0123456789")
    write(tmp_path / "a", b"0123", OLD + 5)
    rows, data = reader.read_pack([entry])
    assert bytes(data) == b"0123"
    assert rows[0] == (Status.OK, entry.mode, 4, OLD + 5, digest(b"0123"))


def test_of_a_file_that_has_grown_the_listed_size_is_read(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "a", b"0123")
    write(tmp_path / "a", b"0123456789", OLD + 5)
    rows, data = reader.read_pack([entry, entry._replace(size=0)])
    assert bytes(data) == b"0123"
    assert [row[2] for row in rows] == [4, 0]


def test_of_a_larger_file_that_has_taken_the_name_there_is_the_entry(tmp_path: Path, reader: Reader) -> None:
    entry = write(tmp_path / "log", b"0123")
    (tmp_path / "log").rename(tmp_path / "log.1")
    write(tmp_path / "log", b"0123456789")
    rows, data = reader.read_pack([entry])
    assert rows[0][0] == Status.CHANGED
    assert decode_page(data).files == [listed(tmp_path / "log")]
    (tmp_path / "log").unlink()
    write(tmp_path / "log", b"abc")
    rows, data = reader.read_pack([entry])
    assert (rows[0][0], bytes(data)) == (Status.OK, b"abc")


def test_a_log_that_grows_at_every_look_is_read_all_the_same(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    path = tmp_path / "log"
    entry = write(path, b"begin")

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")
        os.utime(path, ns=(0, OLD + len(tap.offsets)))

    tap.after = grow
    rows, data = reader.read_pack([entry])
    assert (rows[0][0], bytes(data)) == (Status.OK, b"begin")


def test_a_file_that_is_written_over_at_every_look_is_given_up(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    path = tmp_path / "state"
    entry = write(path, b"0")
    tap.after = lambda: write(path, str(len(tap.offsets)).encode(), OLD + len(tap.offsets))
    rows, data = reader.read_pack([entry])
    assert (rows[0][0], bytes(data)) == (Status.FAILED, b"it changed while it was read")


# Chunks of large files


def test_chunks_are_read_where_they_lie(tmp_path: Path, reader: Reader) -> None:
    contents = os.urandom(2 * CHUNK + 1)
    entry = write(tmp_path / "a", contents)
    for number in (2, 0, 1):
        head, data = reader.read_chunk(entry, CHUNK, number)
        expected = contents[number * CHUNK : (number + 1) * CHUNK]
        assert bytes(data) == expected
        assert head == ChunkHead(Status.OK, number, digest(expected), *entry[1:])


def test_the_files_read_last_are_held_open(tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_file = Folder.open_file

    def counting(self: Folder, path: str) -> int:
        opened.append(path)
        return open_file(self, path)

    monkeypatch.setattr(Folder, "open_file", counting)
    entries = [write(tmp_path / name, b"x" * 3 * CHUNK) for name in "abcdef"]
    for number in range(3):
        for entry in entries[:3]:
            reader.read_chunk(entry, CHUNK, number)
    assert opened == ["a", "b", "c"]
    for entry in entries:
        reader.read_chunk(entry, CHUNK, 0)
    reader.read_chunk(entries[0], CHUNK, 1)
    assert opened == ["a", "b", "c", "d", "e", "f", "a"]


def test_a_hole_is_told_without_data(tmp_path: Path, reader: Reader) -> None:
    chunk = 1 << 16
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(8 * chunk)
        file.seek(3 * chunk)
        file.write(b"island")
    os.utime(path, ns=(OLD, OLD))
    entry = listed(path)
    heads = [reader.read_chunk(entry, chunk, number) for number in range(8)]
    holes = [head.status is Status.HOLE for head, _ in heads]
    if not any(holes):
        pytest.skip("this file system knows no holes")
    assert holes == [True] * 3 + [False] + [True] * 4
    assert all(len(data) == 0 and head.digest == hole_digest(chunk) for head, data in heads if head.status)
    sealed = reader.seal(entry, chunk)
    contents = path.read_bytes()
    parts = b"".join(digest(contents[at : at + chunk]) for at in range(0, len(contents), chunk))
    assert sealed.digest == digest(parts)


def test_trouble_with_holes_is_an_error(tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 20)

    def fail(*_: Any) -> int:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(reading.os, "lseek", fail)
    with pytest.raises(OSError, match="broken disk"):
        reader.read_chunk(listed(tmp_path / "sparse"), 1 << 16, 0)


def test_a_file_that_is_cut_is_reported_as_it_is_now(tmp_path: Path, reader: Reader) -> None:
    """With a mapped file this would kill the process."""
    path = tmp_path / "log"
    entry = write(path, b"x" * 5 * CHUNK)
    reader.read_chunk(entry, CHUNK, 0)
    os.truncate(path, 1500)
    os.utime(path, ns=(OLD, OLD + 1))
    head, data = reader.read_chunk(entry, CHUNK, 4)
    assert (head.status, head.size, head.mtime_ns, len(data)) == (Status.CHANGED, 1500, OLD + 1, 0)
    assert reader.read_chunk(entry, CHUNK, 0)[0].status is Status.CHANGED
    assert reader.seal(entry, CHUNK).status is Status.CHANGED


def test_a_file_that_was_replaced_is_opened_again(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "a"
    entry = write(path, b"a" * 2 * CHUNK)
    reader.read_chunk(entry, CHUNK, 0)
    write(tmp_path / "new", b"b" * 2 * CHUNK)
    os.replace(tmp_path / "new", path)
    assert bytes(reader.read_chunk(entry, CHUNK, 1)[1]) == b"a" * CHUNK
    assert bytes(reader.read_chunk(listed(path), CHUNK, 1)[1]) == b"b" * CHUNK
    head, data = reader.read_chunk(entry, CHUNK, 1)
    assert (head.status, head.entry("a"), len(data)) == (Status.CHANGED, listed(path), 0)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "none"])
def test_what_is_no_file_is_an_error(tmp_path: Path, reader: Reader, kind: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(OSError, match="Errno") as caught:
        reader.read_chunk(Entry(kind, 5000, 0, 0), CHUNK, 0)
    assert isinstance(caught.value, NotAFile) == (kind in {"folder", "pipe"})


# Seals


def test_a_seal_is_the_digest_of_the_digests(tmp_path: Path, reader: Reader) -> None:
    contents = os.urandom(2 * CHUNK + 1)
    entry = write(tmp_path / "a", contents)
    parts = [contents[:CHUNK], contents[CHUNK : 2 * CHUNK], contents[2 * CHUNK :]]
    head = reader.seal(entry, CHUNK)
    assert head == ChunkHead(Status.OK, 0, digest(b"".join(map(digest, parts))), *entry[1:])
    single = write(tmp_path / "b", b"single")
    assert reader.seal(single, CHUNK).digest == digest(b"single")
    assert reader.seal(write(tmp_path / "c", b""), CHUNK).digest == digest(b"")


def test_what_was_read_is_not_read_again_for_the_seal(tmp_path: Path, digests: DigestCache, tap: Tap) -> None:
    entry = write(tmp_path / "a", b"x" * 3 * CHUNK)
    with Folder(tmp_path) as folder:
        # A minute after the file was made.
        reader = Reader(folder, digests, clock=lambda: time.time_ns() + 60_000_000_000)
        for number in (0, 2):
            reader.read_chunk(entry, CHUNK, number)
        tap.offsets.clear()
        reader.seal(entry, CHUNK)
        assert tap.offsets == [CHUNK]
        # Nobody can set back the time at which this happens, once the clock has moved on.
        before = (tmp_path / "a").stat().st_ctime_ns
        wait_until(lambda: write(tmp_path / "a", b"y" * 3 * CHUNK) and (tmp_path / "a").stat().st_ctime_ns != before)
        assert reader.seal(entry, CHUNK).digest == digest(digest(b"y" * CHUNK) * 3)
        reader.close()


@pytest.mark.parametrize(("age", "again"), [(10_000_000, True), (30_000_000, False)])
def test_a_file_that_was_changed_just_now_is_read_again(
    tmp_path: Path, digests: DigestCache, tap: Tap, age: int, again: bool
) -> None:
    """Another change within the same tick of the clock would not show in its time."""
    entry = write(tmp_path / "a", b"x" * 2 * CHUNK)
    with Folder(tmp_path) as folder:
        reader = Reader(folder, digests, clock=lambda: OLD + age)
        reader.read_chunk(entry, CHUNK, 0)
        reader.read_chunk(entry, CHUNK, 1)
        tap.offsets.clear()
        reader.seal(entry, CHUNK)
        reader.close()
    assert tap.offsets == ([0, CHUNK] if again else [])


def test_where_times_are_whole_seconds_the_tick_is_longer(tmp_path: Path, digests: DigestCache, tap: Tap) -> None:
    whole = OLD // 10**9 * 10**9
    entry = write(tmp_path / "a", b"x" * CHUNK, whole)
    with Folder(tmp_path) as folder:
        reader = Reader(folder, digests, clock=lambda: whole + 2_000_000_000)
        reader.read_chunk(entry, CHUNK, 0)
        reader.seal(entry, CHUNK)
        reader.close()
    assert len(tap.offsets) == 2


def test_of_a_file_that_has_changed_the_seal_is_made_afresh(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "log"
    entry = write(path, b"a" * 2 * CHUNK)
    reader.read_chunk(entry, CHUNK, 0)
    write(path, b"a" * 2 * CHUNK + b"grown", OLD + 1)
    grown = reader.seal(entry, CHUNK)
    assert (grown.status, grown.size) == (Status.OK, 2 * CHUNK + 5)
    assert grown.digest == digest(digest(b"a" * CHUNK) * 2)
    write(path, b"b" * 2 * CHUNK, OLD + 2)
    assert reader.seal(entry, CHUNK).digest == digest(digest(b"b" * CHUNK) * 2)


def test_another_file_under_the_name_has_a_seal_of_its_own(tmp_path: Path, reader: Reader) -> None:
    """Same size, same time: only the file itself tells them apart."""
    entry = write(tmp_path / "a", b"a" * 2 * CHUNK)
    for number in (0, 1):
        reader.read_chunk(entry, CHUNK, number)
    write(tmp_path / "new", b"b" * 2 * CHUNK)
    os.replace(tmp_path / "new", tmp_path / "a")
    assert reader.seal(entry, CHUNK).status is Status.CHANGED
    assert reader.seal(listed(tmp_path / "a"), CHUNK).digest == digest(digest(b"b" * CHUNK) * 2)


def test_a_seal_is_made_of_one_file_even_if_it_is_replaced_meanwhile(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    entry = write(tmp_path / "a", b"a" * 3 * CHUNK)
    write(tmp_path / "a", b"b" * 3 * CHUNK, OLD + 1)

    def replace() -> None:
        write(tmp_path / "new", b"c" * 4 * CHUNK, OLD + 2)
        os.replace(tmp_path / "new", tmp_path / "a")

    tap.after = replace
    head = reader.seal(entry, CHUNK)
    assert (head.size, head.mtime_ns) == (3 * CHUNK, OLD + 1)
    assert head.digest == digest(digest(b"b" * CHUNK) * 3)


# The cache of digests


def version(number: int) -> reading.Version:
    return ("share", f"file{number}", 0, number, 0, 0, CHUNK)


def test_the_cache_forgets_the_oldest_files() -> None:
    cache = DigestCache(limit=17 * 10)
    for number in range(3):
        cache.put(version(number), 4, 1, bytes([number]) * 16)
    assert cache.get(version(0), 1) is None
    assert cache.get(version(1), 1) == b"\1" * 16
    assert cache.get(version(2), 0) is None
    cache.put(version(1), 4, 0, b"x" * 16)
    cache.put(version(3), 4, 0, b"x" * 16)
    assert cache.get(version(2), 1) is None
    assert cache.get(version(1), 0) == b"x" * 16


def test_a_file_too_large_for_the_cache_is_not_held() -> None:
    cache = DigestCache(limit=17 * 10)
    cache.put(version(1), 10, 0, b"x" * 16)
    cache.put(version(2), 11, 0, b"x" * 16)
    assert cache.get(version(1), 0) is not None
    assert cache.get(version(2), 0) is None


# Elsewhere


def test_systems_without_positional_reads_holes_and_advice(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "_preadv", descriptors._seek_and_read)
    monkeypatch.delattr(os, "SEEK_DATA")
    monkeypatch.delattr(os, "posix_fadvise")
    entry = write(tmp_path / "a", b"x" * CHUNK + b"y" * 10)
    assert bytes(reader.read_chunk(entry, CHUNK, 1)[1]) == b"y" * 10
    assert bytes(reader.read_pack([entry._replace(size=3)])[1]) == b"xxx"


def test_a_file_system_without_advice(tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EINVAL, "no advice")

    monkeypatch.setattr(os, "posix_fadvise", fail)
    entry = write(tmp_path / "a", b"x" * CHUNK)
    assert reader.read_chunk(entry, CHUNK, 0)[0].status is Status.OK


def test_the_clock_is_the_real_one(tmp_path: Path, reader: Reader, tap: Tap) -> None:
    entry = write(tmp_path / "a", b"x" * CHUNK, time.time_ns() + 10**10)
    reader.read_chunk(entry, CHUNK, 0)
    reader.seal(entry, CHUNK)
    assert len(tap.offsets) == 2
    assert stat.S_ISREG((tmp_path / "a").stat().st_mode)

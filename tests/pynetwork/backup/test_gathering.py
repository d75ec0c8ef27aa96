"""What is known of a large file while it is gathered from what is here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.chunks import LargeFile
from handshakes.manifest import CHUNK_SIZE, Entry, digest
from pynetwork.backup.finding import Wanted
from pynetwork.backup.gathering import Gathering, gathering_of, holds
from pynetwork.backup.mirror import Base, Mirror
from pynetwork.files.folders import Folder
from tests.pynetwork.backup.mirroring import LARGE, facts, new, write

DIGEST = digest(b"")


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


@pytest.fixture
def folder(mirror: Mirror) -> Iterator[Folder]:
    with mirror.open() as opened:
        yield opened


def gathering(*bases: Base, name: str = "own", size: int = LARGE) -> Gathering:
    of = facts(size)
    entry = Entry(name, size, of.mtime_ns, of.mode, 1)
    return Gathering(Wanted(entry, name, 1, os.fsencode(name), None, of, 1, True, None, list(bases)))


def large(made: Gathering) -> LargeFile:
    return LargeFile(made.wanted.entry, CHUNK_SIZE, made)


def test_what_is_here_is_opened_where_it_is(mirror: Mirror, folder: Folder) -> None:
    data = new(500)
    for name in ("own", "other"):
        write(mirror.root / name, data)
    os.mkfifo(mirror.root / "pipe")
    made = gathering(*(Base(place, 400, None) for place in ("other", "own", "none", "pipe", "")))
    assert gathering_of(large(made)) is made
    assert made.own_handle is None
    for _ in range(2):
        made.open(mirror, folder)
    assert [(base.place, base.size) for base, _ in made.bases] == [("other", 500), ("own", 500)]
    assert made.own_size == 500
    assert made.own_handle == made.bases[1][1]
    made.close()
    assert (made.bases, made.own_size, made.own_handle) == ([], 0, None)
    made.open(mirror, folder)
    made.close()


@pytest.mark.parametrize(
    ("own_size", "chunks", "in_place", "appended"),
    [
        (LARGE, [CHUNK_SIZE, CHUNK_SIZE, CHUNK_SIZE, LARGE - 3 * CHUNK_SIZE], True, False),
        (LARGE, [CHUNK_SIZE, CHUNK_SIZE, CHUNK_SIZE], False, False),
        (2 * CHUNK_SIZE, [CHUNK_SIZE, CHUNK_SIZE], False, True),
        (2 * CHUNK_SIZE + 5, [CHUNK_SIZE, CHUNK_SIZE, 5], False, True),
        (2 * CHUNK_SIZE + 5, [CHUNK_SIZE, CHUNK_SIZE], False, False),
        (2 * CHUNK_SIZE + 5, [CHUNK_SIZE, 5], False, False),
        (2 * CHUNK_SIZE + 5, [CHUNK_SIZE, CHUNK_SIZE, 4], False, False),
        (5, [5], False, True),
        (0, [], False, False),
        (LARGE + 5, [CHUNK_SIZE, CHUNK_SIZE, CHUNK_SIZE, LARGE - 3 * CHUNK_SIZE], False, False),
    ],
)
def test_what_the_file_as_it_stands_is_good_for(
    own_size: int, chunks: list[int], in_place: bool, appended: bool
) -> None:
    made = gathering()
    made.own_size = own_size
    made.own = {index: (length, DIGEST) for index, length in enumerate(chunks)}
    assert made.is_in_place(made.wanted.entry) == in_place
    assert made.can_be_appended(large(made)) == appended


def test_a_chunk_that_is_missing_in_the_middle_can_not_be_appended_to() -> None:
    made = gathering()
    made.own_size = 3 * CHUNK_SIZE
    made.own = dict.fromkeys((0, 2), (CHUNK_SIZE, DIGEST))
    assert not made.can_be_appended(large(made))
    made.own[1] = CHUNK_SIZE, DIGEST
    assert made.can_be_appended(large(made))


def test_what_a_content_holds(mirror: Mirror, folder: Folder) -> None:
    data = new(1000)
    for name, content in (("own", data), ("other", data[:600] + bytes(400))):
        write(mirror.root / name, content)
    made = gathering(Base("own", 1000, None), Base("other", 1000, None))
    made.open(mirror, folder)
    view = memoryview(bytearray(300))
    (own, own_handle), (other, other_handle) = made.bases
    assert holds(made.bases, own, own_handle, view, 500, digest(data[500:800]))
    assert bytes(view) == data[500:800]
    assert holds(made.bases, other, other_handle, view, 300, digest(data[300:600]))
    assert not holds(made.bases, other, other_handle, view, 500, digest(data[500:800]))
    assert not holds(made.bases, own, own_handle, view, 800, digest(data[800:]))
    made.close()


def test_a_partial_file_that_is_held_is_completed_by_what_stood_beside_it(mirror: Mirror, folder: Folder) -> None:
    """It was gathered behind the 600 bytes of a file that was to be appended to, and has a hole there."""
    data, name = new(1000), digest(b"a name")
    write(mirror.root / "own", data[:600])
    write(mirror.root / ".pynetwork/held" / name.hex(), bytes(600) + data[600:])
    made = gathering(Base("own", 600, None), Base("", 1000, name))
    made.open(mirror, folder)
    assert [(base.place, base.size) for base, _ in made.bases] == [("own", 600), ("", 1000)]
    view = memoryview(bytearray(500))
    held, handle = made.bases[1]
    assert holds(made.bases, held, handle, view, 500, digest(data[500:]))
    assert bytes(view) == data[500:]
    assert not holds(made.bases, held, handle, view, 500, digest(data[400:900]))
    made.close()

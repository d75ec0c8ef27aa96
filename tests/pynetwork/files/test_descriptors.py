from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pynetwork.files import descriptors
from pynetwork.files.descriptors import read_into, write_all
from tests.serving import Background

CONTENTS = bytes(range(256)) * 4


@pytest.fixture(params=["positional", "seeking"])
def handle(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An open file, where the system has positional calls and where it has none."""
    if request.param == "seeking":
        monkeypatch.setattr(descriptors, "_preadv", descriptors._seek_and_read)
        monkeypatch.setattr(descriptors, "_pwrite", descriptors._seek_and_write)
    (tmp_path / "file").write_bytes(CONTENTS)
    opened = os.open(tmp_path / "file", os.O_RDWR)
    yield opened
    os.close(opened)


def read(handle: int, size: int, offset: int) -> bytes:
    view = memoryview(bytearray(b"." * size))
    got = read_into(handle, view, offset)
    assert bytes(view[got:]) == b"." * (size - got)
    return bytes(view[:got])


@pytest.mark.parametrize(
    ("size", "offset"), [(0, 0), (10, 0), (10, 7), (1024, 0), (1025, 0), (100, 1000), (5, 1024), (5, 9999)]
)
def test_reading_ends_with_the_view_or_the_file(handle: int, size: int, offset: int) -> None:
    assert read(handle, size, offset) == CONTENTS[offset : offset + size]


def test_short_readings_are_continued(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = descriptors._preadv
    monkeypatch.setattr(descriptors, "_preadv", lambda handle, views, at: original(handle, (views[0][:3],), at))
    assert read(handle, 10, 1) == CONTENTS[1:11]
    assert read(handle, 10, 1020) == CONTENTS[1020:]


def test_writing_goes_where_it_should(handle: int, tmp_path: Path) -> None:
    write_all(handle, b"first", 3)
    write_all(handle, b"", 3)
    write_all(handle, memoryview(b"end"), 2000)
    data = (tmp_path / "file").read_bytes()
    assert data == CONTENTS[:3] + b"first" + CONTENTS[8:] + bytes(2000 - 1024) + b"end"


def test_much_is_written_in_pieces_that_may_be_short(
    handle: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = descriptors._pwrite
    asked: list[int] = []

    def write(handle: int, data: Any, offset: int) -> int:
        asked.append(len(data))
        return original(handle, data[:1000], offset)

    monkeypatch.setattr(descriptors, "_PIECE", 1500)
    monkeypatch.setattr(descriptors, "_pwrite", write)
    data = os.urandom(4001)
    write_all(handle, data, 5)
    assert (tmp_path / "file").read_bytes() == CONTENTS[:5] + data
    assert max(asked) == 1500
    asked.clear()
    write_all(handle, data[:1400], 0)
    assert asked == [1400, 1400, 400]
    assert (tmp_path / "file").read_bytes()[:1400] == data[:1400]


def test_trouble_is_an_error(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> int:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(descriptors, "_preadv", fail)
    monkeypatch.setattr(descriptors, "_pwrite", fail)
    uses: list[Callable[[], Any]] = [lambda: read(handle, 3, 0), lambda: write_all(handle, b"x", 0)]
    for use in uses:
        with pytest.raises(OSError, match="broken disk"):
            use()


def test_threads_do_not_move_the_position_under_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that reads is stopped between seeking and reading, while another one writes to the same file."""
    monkeypatch.setattr(descriptors, "_preadv", descriptors._seek_and_read)
    monkeypatch.setattr(descriptors, "_pwrite", descriptors._seek_and_write)
    (tmp_path / "file").write_bytes(CONTENTS)
    handle = os.open(tmp_path / "file", os.O_RDWR)
    seeking, goes_on = threading.Event(), threading.Event()
    lseek = os.lseek

    def slow(handle: int, offset: int, whence: int) -> int:
        found = lseek(handle, offset, whence)
        if offset == 100:
            seeking.set()
            assert goes_on.wait(10)
        return found

    monkeypatch.setattr(os, "lseek", slow)
    reader = Background(read, handle, 10, 100)
    assert seeking.wait(10)
    writer = Background(write_all, handle, b"elsewhere", 500)
    with pytest.raises(AssertionError, match="still runs"):
        writer.result(0.05)
    goes_on.set()
    assert reader.result() == CONTENTS[100:110]
    writer.result()
    os.close(handle)
    assert (tmp_path / "file").read_bytes() == CONTENTS[:500] + b"elsewhere" + CONTENTS[509:]

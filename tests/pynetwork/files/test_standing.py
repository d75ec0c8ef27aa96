"""Files that have their names already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import UnsafePath
from handshakes.manifest import Entry
from pynetwork.files.folders import Folder, NotAFile
from pynetwork.files.standing import StandingFile
from tests.pynetwork.files.transferring import STAMP, write


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder(tmp_path, portable=False) as opened:
        yield opened


def test_a_file_is_read_as_it_stands(folder: Folder, tmp_path: Path) -> None:
    path = write(tmp_path / "sub/file", b"0123456789")
    with StandingFile(folder, "sub/file") as standing:
        view = memoryview(bytearray(4))
        assert (standing.size, standing.mtime_ns) == (10, STAMP)
        assert (standing.read_into(view, 3), bytes(view)) == (4, b"3456")
        assert standing.read_into(view, 8) == 2
        first = standing.version
    path.write_bytes(b"abcdefghij")
    with StandingFile(folder, "sub/file") as standing:
        assert standing.version != first


def test_what_is_no_file_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(write(tmp_path / "file", b"x"))
    os.mkfifo(tmp_path / "pipe")
    for path, error in [
        ("sub", NotAFile),
        ("pipe", NotAFile),
        ("link", OSError),
        ("no", OSError),
        ("../x", UnsafePath),
    ]:
        with pytest.raises(error), StandingFile(folder, path):
            pass


@pytest.mark.parametrize("supported", [True, False])
def test_a_file_gets_its_mode_and_time(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    path = write(tmp_path / "sub/file", b"0123456789")
    if not supported:
        monkeypatch.setattr(os, "supports_fd", set())
    with StandingFile(folder, "sub/file") as standing:
        standing.dress(Entry("sub/file", 10, STAMP + 7, 0o600), durable=True)
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o600, STAMP + 7)


def test_a_file_that_lacks_nothing_is_left_alone(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    write(tmp_path / "file", b"x", 0o640)
    for name in ("fchmod", "utime"):
        monkeypatch.setattr(os, name, never)
    with StandingFile(folder, "file") as standing:
        standing.dress(Entry("file", 1, STAMP, 0o640))

"""Bringing everything to the disk."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pynetwork.files.flushing import flush


class Library:
    """A C library that notes what is flushed, and answers that it went well or not."""

    def __init__(self, answer: int) -> None:
        self.flushed: list[tuple[int, int]] = []
        self._answer = answer

    def syncfs(self, handle: int) -> int:
        status = os.fstat(handle)
        self.flushed.append((status.st_dev, status.st_ino))
        ctypes.set_errno(errno.EIO)
        return self._answer


def test_everything_is_flushed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    flush(tmp_path)


def test_the_file_system_of_the_folder_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(0)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    flush(tmp_path)
    status = tmp_path.stat()
    assert library.flushed == [(status.st_dev, status.st_ino)]


def test_what_could_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library(-1))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as failure:
        flush(tmp_path)
    assert failure.value.errno == errno.EIO
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "none")


@pytest.mark.parametrize("known", [True, False])
def test_where_there_is_no_such_call_all_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    if known:
        monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    else:
        monkeypatch.delattr(os, "sync")
    flush(tmp_path)
    assert calls == ["sync"] * known

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pynetwork.series.engine.lock import StoreBusy, StoreLock


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path)
    with pytest.raises(StoreBusy, match="already open in this process") as caught:
        StoreLock(tmp_path)
    assert caught.value.pid == os.getpid()
    lock.release()
    StoreLock(tmp_path).release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x", "host": 1}'])
def test_rubbish_in_the_file_names_nobody(tmp_path: Path, content: bytes) -> None:
    lock = StoreLock(tmp_path)
    (tmp_path / "lock").write_bytes(content)
    with pytest.raises(StoreBusy, match="does not say who it is"):
        StoreLock(tmp_path)
    lock.release()


def test_releasing_twice_is_once(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path)
    lock.release()
    following = StoreLock(tmp_path)
    # Which has most likely the handle that the first had.
    lock.release()
    with pytest.raises(StoreBusy, match="already open in this process"):
        StoreLock(tmp_path)
    following.release()
    StoreLock(tmp_path).release()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_can_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code), str(tmp_path / "lock"))

    monkeypatch.setattr("pynetwork.series.engine.lock.os.open", refuse)
    with pytest.raises(OSError, match="a store is opened for writing, even to be read") as caught:
        StoreLock(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (code, str(tmp_path))


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StoreLock(tmp_path / "absent")

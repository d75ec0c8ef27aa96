"""Reading and writing an open file at an offset, from any thread, on systems with and without calls for that."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from handshakes.messages import Bytes

__all__ = ["read_into", "write_all"]

# Bytes written by one call. For more at once Linux takes memory in larger pieces; a virtual machine that gives free
# memory back has just those to fetch from its host again, and is then slower than a disk.
_PIECE = 128 << 10


def read_into(handle: int, view: memoryview, offset: int) -> int:
    """Read until ``view`` is full or the file ends; answers how many bytes there were. Raises `OSError`."""
    size = len(view)
    if not size:
        return 0
    got = _preadv(handle, (view,), offset)
    while 0 < got < size:
        more = _preadv(handle, (view[got:],), offset + got)
        if not more:
            break
        got += more
    return got


def write_all(handle: int, data: Bytes, offset: int) -> None:
    """Write all of ``data``. Raises `OSError`; then a part of it may be written."""
    if len(data) <= _PIECE and _pwrite(handle, data, offset) == len(data):
        return
    left = memoryview(data)
    while left:
        written = _pwrite(handle, left[:_PIECE], offset)
        offset += written
        left = left[written:]


# Where there is one position for all threads, nobody else may move it between seeking and reading or writing.
_SEEKING = threading.Lock()


def _seek_and_read(handle: int, views: tuple[memoryview], offset: int) -> int:
    with _SEEKING:
        os.lseek(handle, offset, os.SEEK_SET)
        data = os.read(handle, len(views[0]))
    views[0][: len(data)] = data
    return len(data)


def _seek_and_write(handle: int, data: Bytes, offset: int) -> int:
    with _SEEKING:
        os.lseek(handle, offset, os.SEEK_SET)
        return os.write(handle, data)


_preadv: Callable[[int, tuple[memoryview], int], int] = getattr(os, "preadv", _seek_and_read)
_pwrite: Callable[[int, Bytes, int], int] = getattr(os, "pwrite", _seek_and_write)

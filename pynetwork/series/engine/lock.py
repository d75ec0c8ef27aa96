"""One process a store: its folder holds a lock of the system, which is free at once however its holder ends."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import socket
from pathlib import Path
from typing import Any

import orjson

from handshakes.errors import Busy

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["StoreBusy", "StoreLock"]

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NOT_TO_BE_WRITTEN = frozenset([errno.EROFS, errno.EACCES, errno.EPERM])
_MOST = 4096
# The byte that is locked on Windows, where what is locked can't be read: far behind what stands in the file.
_LOCKED_BYTE = 1 << 20


class StoreBusy(Busy):
    """The store is open elsewhere. ``pid`` and ``host`` say where; 0 and "" if that could not be read."""

    def __init__(self, message: str, pid: int = 0, host: str = "") -> None:
        super().__init__(message)
        self.pid = pid
        self.host = host


class StoreLock:
    """The right to open the store in ``folder``, held until `release`.

    Raises `StoreBusy` at once when somebody has it, in this process or any other, and `OSError` when the folder can't
    be written or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self._place = folder / "lock"
        try:
            handle = os.open(self._place, _OPEN, 0o644)
        except OSError as error:
            if error.errno in _NOT_TO_BE_WRITTEN:
                reason = (
                    f"{error.strerror}: a store is opened for writing, even to be read; copy it to where that may be"
                )
                raise OSError(error.errno, reason, str(folder)) from error
            raise
        try:
            _lock(handle)
            # What says who holds it is not the lock, and a full disk is no reason to refuse reading.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.write(handle, orjson.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        except BlockingIOError:
            os.close(handle)
            raise self._busy() from None
        except BaseException:
            os.close(handle)
            raise
        self._handle: int | None = handle
        self._holder = os.getpid()

    def release(self) -> None:
        """Let others open the store. What was forked from the holder lets go of nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            if self._holder == os.getpid():
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, 0)
                _unlock(handle)
            os.close(handle)

    def _busy(self) -> StoreBusy:
        folder = str(self._place.parent)
        try:
            with self._place.open("rb") as file:
                holder = orjson.loads(file.read(_MOST))
            pid, host = int(holder["pid"]), str(holder["host"])[:256]
        except (OSError, ValueError, TypeError, KeyError):
            return StoreBusy(f"the store {folder!r} is open in another process, which does not say who it is")
        way_out = "close it there, or reach it through a gateway or a SeriesServer there"
        if pid == os.getpid() and host == socket.gethostname():
            return StoreBusy(f"the store {folder!r} is already open in this process; use that one", pid, host)
        return StoreBusy(f"the store {folder!r} is open in process {pid} on {host!a}; {way_out}", pid, host)


def _lock(handle: int) -> None:
    """Lock the file. Raises `BlockingIOError` when somebody has it."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    windows: Any = importlib.import_module("msvcrt")
    os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
    try:
        windows.locking(handle, windows.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError from error
    os.lseek(handle, 0, os.SEEK_SET)


def _unlock(handle: int) -> None:
    """What was forked meanwhile has the file open too, and would hold the lock on."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)

"""Files that have their names already: what they hold is not moved again; perhaps they lack mode and time alone."""

from __future__ import annotations

import os
import stat
import time

from handshakes.manifest import Entry
from pynetwork.files.descriptors import read_into
from pynetwork.files.folders import Folder, NotAFile

__all__ = ["StandingFile", "Version"]

Version = tuple[int, int, int, int]
"""Tells a file, and its content as far as its facts do, from what else may stand under its name later."""


class StandingFile:
    """The regular file at ``path`` in ``folder``, as a context manager; of its thread.

    Entering raises `UnsafePath`, and `OSError` when there is no such file or it can't be read.
    """

    def __init__(self, folder: Folder, path: str) -> None:
        self._folder = folder
        self._path = path
        self._handle = -1

    def __enter__(self) -> StandingFile:
        self._handle = self._folder.open_file(self._path)
        self._status = os.fstat(self._handle)
        if not stat.S_ISREG(self._status.st_mode):
            os.close(self._handle)
            raise NotAFile(self._status.st_mode)
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._handle)

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._status.st_size

    @property
    def mtime_ns(self) -> int:
        """When it was changed last, when it was opened."""
        return self._status.st_mtime_ns

    @property
    def version(self) -> Version:
        """Which file it is, and in which state, when it was opened."""
        status = self._status
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def read_into(self, view: memoryview, offset: int) -> int:
        """Read what is at ``offset``; answers how many bytes there were. Raises `OSError`."""
        return read_into(self._handle, view, offset)

    def dress(self, entry: Entry, *, durable: bool = False) -> None:
        """Give it the mode and time of ``entry``, unless it has them. Raises `OSError`."""
        if self._status.st_mode & 0o7777 != entry.mode and hasattr(os, "fchmod"):
            os.fchmod(self._handle, entry.mode)
        if self._status.st_mtime_ns != entry.mtime_ns:
            times = (time.time_ns(), entry.mtime_ns)
            if os.utime in os.supports_fd:
                os.utime(self._handle, ns=times)
            else:
                components = self._folder.split(self._path)
                self._folder.directory(components[:-1]).set_times(components[-1], times)
        if durable:
            os.fsync(self._handle)

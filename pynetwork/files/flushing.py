"""Bringing everything that was written to the disk at once, rather than file by file."""

from __future__ import annotations

import ctypes
import os

__all__ = ["flush"]


def flush(path: str | os.PathLike[str]) -> None:
    """Wait until all that was written to the file system of the folder ``path`` is on the disk (``syncfs``, elsewhere
    ``sync``). Raises `OSError` when something could not be written.
    """
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    syncfs = getattr(library, "syncfs", None)
    if syncfs is None:
        if hasattr(os, "sync"):
            os.sync()
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        if syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(path))
    finally:
        os.close(handle)

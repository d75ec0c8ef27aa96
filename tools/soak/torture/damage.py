"""Bits that flip on a disk."""

from __future__ import annotations

import os
import random
from pathlib import Path

__all__ = ["flip_bit"]


def flip_bit(path: Path, chance: random.Random) -> int | None:
    """Change one bit of a file, and neither its time nor its length; answers which byte, None when it is empty."""
    status = path.stat()
    if not status.st_size:
        return None
    at = chance.randrange(status.st_size)
    handle = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(handle, 1, at)
        os.pwrite(handle, bytes([byte[0] ^ 1 << chance.randrange(8)]), at)
    finally:
        os.close(handle)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return at

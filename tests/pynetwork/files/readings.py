"""What tests of reading have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from handshakes.manifest import Entry
from pynetwork.files import descriptors
from pynetwork.files.folders import entry_of

CHUNK = 1000
OLD = 1_500_000_000_000_000_001


def write(path: Path, data: bytes, mtime_ns: int = OLD) -> Entry:
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return listed(path)


def listed(path: Path) -> Entry:
    status = path.stat()
    return entry_of(path.name, status)


class Tap:
    """Counts and troubles the readings of a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offsets: list[int] = []
        self.after: Callable[[], object] = lambda: None
        self.most = 1 << 30
        monkeypatch.setattr(descriptors, "_preadv", self._read)

    def _read(self, handle: int, views: tuple[memoryview], offset: int) -> int:
        self.offsets.append(offset)
        count = os.preadv(handle, [views[0][: self.most]], offset)
        self.after()
        return count

from __future__ import annotations

import random
from pathlib import Path

from tools.soak.torture.damage import flip_bit


def test_one_bit_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(1000))
    before = file.stat()
    at = flip_bit(file, random.Random(3))
    assert at is not None
    data = file.read_bytes()
    assert sum(byte.bit_count() for byte in data) == 1
    assert data[at]
    assert (file.stat().st_mtime_ns, file.stat().st_size) == (before.st_mtime_ns, 1000)
    file.write_bytes(b"")
    assert flip_bit(file, random.Random(3)) is None

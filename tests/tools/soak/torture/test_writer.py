from __future__ import annotations

import threading
from pathlib import Path

from tests.serving import PATIENCE, Background
from tests.waiting import wait_until
from tools.soak.torture.mirror import Mirror, differences
from tools.soak.torture.scene import LOGS, RING, RING_LINES, STREAMS
from tools.soak.torture.truth import Truth
from tools.soak.torture.writer import Writer


def test_all_that_is_written_is_as_it_should_be_at_any_time(tmp_path: Path) -> None:
    """The source judged as if it were the mirror: while it is written, and in the end."""
    source, reference = tmp_path / "source", tmp_path / "reference"
    source.mkdir()
    reference.mkdir()
    writer = Writer(source, reference, rate=1e6, rotate=0.2, seed="3")
    over = threading.Event()
    try:
        writing = Background(writer.write, over)
        mirror = Mirror(source, Truth(reference))
        faults: list[str] = []

        def rotated() -> bool:
            faults.extend(mirror.faults())
            return min(writer.rotations.values()) >= 4

        wait_until(rotated, PATIENCE, "all logs to be rotated")
        over.set()
        writing.result()
    finally:
        over.set()
        writer.close()
    assert not faults
    assert list(Mirror(source, Truth(reference)).faults()) == []
    assert list(differences(source, source, reference, exactly=True)) == []
    assert set(writer.rotations) == {log.name for log in LOGS}
    assert set(writer.written) == set(STREAMS)
    assert all(writer.written.values())


def test_a_ring_a_folder_and_small_files_change_too(tmp_path: Path) -> None:
    source, reference = tmp_path / "source", tmp_path / "reference"
    source.mkdir()
    reference.mkdir()
    writer = Writer(source, reference, rate=1000, rotate=100, seed="3")
    before = (source / RING).read_bytes()
    for _ in range(60):
        writer._write_ring()
        writer._rename_batch()
        writer._write_small()
    writer.close()
    after = (source / RING).read_bytes()
    assert len(after) == len(before)
    assert after != before
    assert writer.written[RING] > 2 * RING_LINES
    assert (source / "batch-60").is_dir()
    assert not (source / "batch-59").exists()
    assert list(Mirror(source, Truth(reference)).faults()) == []

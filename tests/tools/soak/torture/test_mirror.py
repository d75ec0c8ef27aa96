from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from tools.soak.torture.lines import LINE, Lines
from tools.soak.torture.mirror import Mirror, Truth, differences, final_files, flip_bit, partial_files
from tools.soak.torture.scene import LOGS, RING, RING_LINES, STREAMS

LINES = {name: Lines(name, "5") for name in STREAMS}
WRITTEN = 3 * RING_LINES // 2
WHOLE = LINES["zipped"].text(100, 50)
ROUNDS = LINES[RING].text(0, WRITTEN)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lines of each stream."""
    folder = tmp_path_factory.mktemp("reference")
    for name, lines in LINES.items():
        (folder / name).write_bytes(lines.text(0, WRITTEN if name == RING else 300))
    return folder


@pytest.mark.parametrize("size", [0, 1, 8, 21, 22, 127, 128, 129, 1000, len(WHOLE)])
def test_a_beginning_of_a_run_is_right(reference: Path, size: int) -> None:
    truth = Truth(reference)
    assert truth.fault("zipped.log.4", WHOLE[:size]) is None
    assert truth.fault("zipped.log.4.gz", gzip.compress(WHOLE)[:size]) is None


WRONG = {
    "a line is lost": WHOLE[: 3 * LINE] + WHOLE[4 * LINE :],
    "a line is doubled": WHOLE[: 3 * LINE] + WHOLE[2 * LINE :],
    "a bit is another": WHOLE[:500] + bytes([WHOLE[500] ^ 1]) + WHOLE[501:],
    "a part is not there yet": WHOLE[: 3 * LINE] + bytes(5 * LINE) + WHOLE[8 * LINE :],
    "it is of another log": LINES["mixed"].text(100, 50),
    "two files are mixed": WHOLE[: 10 * LINE] + LINES["zipped"].text(170, 40),
    "it begins within a line": WHOLE[5:],
    "there is more than was written": LINES["zipped"].text(290, 20),
    "it is short, and no line": b"hello",
}


@pytest.mark.parametrize("what", WRONG)
def test_nothing_else_is(reference: Path, what: str) -> None:
    truth = Truth(reference)
    assert truth.fault("zipped.log.4", WRONG[what])
    assert truth.fault("zipped.log.4.gz", gzip.compress(WRONG[what]))


def test_no_compressed_file(reference: Path) -> None:
    packed = bytearray(gzip.compress(WHOLE))
    packed[len(packed) // 2] ^= 1
    assert "decompressed" in (Truth(reference).fault("zipped.log.4.gz", bytes(packed)) or "")
    assert Truth(reference).fault("zipped.log.4.gz", WHOLE)


def test_a_file_that_nobody_wrote(reference: Path) -> None:
    assert Truth(reference).fault("other.txt", WHOLE)


@pytest.mark.parametrize("fresh", [0, 1, 700, RING_LINES // 2])
def test_a_ring(reference: Path, fresh: int) -> None:
    right = ROUNDS[RING_LINES * LINE :][: fresh * LINE] + ROUNDS[fresh * LINE : RING_LINES * LINE]
    truth = Truth(reference)
    assert truth.fault(RING, right) is None
    assert truth.fault(RING, right[:-1])
    assert truth.fault(RING, right[: 5 * LINE] + bytes(LINE) + right[6 * LINE :])
    assert truth.fault(RING, right[:-5] + b"other")


def test_a_ring_of_which_an_older_part_was_read_later(reference: Path) -> None:
    new, old = ROUNDS[RING_LINES * LINE :], ROUNDS[: RING_LINES * LINE]
    torn = new[: 10 * LINE] + old[10 * LINE : 20 * LINE] + new[20 * LINE : 30 * LINE] + old[30 * LINE :]
    assert Truth(reference).fault(RING, torn)


def test_it_looks_again_at_what_has_changed(tmp_path: Path, reference: Path) -> None:
    (tmp_path / ".pynetwork").mkdir()
    (tmp_path / ".pynetwork" / "held").write_bytes(b"its own")
    (tmp_path / ".zipped.log.2.partial").write_bytes(b"not complete")
    log = tmp_path / "zipped.log.1"
    log.write_bytes(WHOLE)
    mirror = Mirror(tmp_path, Truth(reference))
    assert list(mirror.faults()) == list(mirror.faults()) == []
    assert mirror.looks == 1
    log.write_bytes(WHOLE[LINE + 1 :])
    assert [fault.partition(":")[0] for fault in mirror.faults()] == ["zipped.log.1"]
    assert [path.name for path in final_files(tmp_path)] == ["zipped.log.1"]
    assert [path.name for path in partial_files(tmp_path)] == [".zipped.log.2.partial"]


@pytest.fixture
def both(tmp_path: Path, reference: Path) -> tuple[Path, Path]:
    """A source, and its finished mirror."""
    folders = tmp_path / "source", tmp_path / "mirror"
    for folder in folders:
        (folder / "empty").mkdir(parents=True)
        for log in LOGS:
            text = (reference / log.name).read_bytes()
            (folder / f"{log.name}.log.2.gz").write_bytes(gzip.compress(text[:1280], mtime=0))
            (folder / f"{log.name}.log.1").write_bytes(text[1280:2560])
            (folder / f"{log.name}.log").write_bytes(text[2560:])
    return folders


def test_a_finished_mirror(both: tuple[Path, Path], reference: Path) -> None:
    source, mirror = both
    assert list(differences(source, mirror, reference, exactly=True)) == []
    (mirror / "old").write_bytes(b"")
    assert list(differences(source, mirror, reference, exactly=False)) == []
    assert list(differences(source, mirror, reference, exactly=True)) == ["old is in the mirror only"]


def test_differences(both: tuple[Path, Path], reference: Path) -> None:
    source, mirror = both

    def found() -> list[str]:
        return list(differences(source, mirror, reference, exactly=False))

    (mirror / ".mixed.log.partial").write_bytes(b"")
    assert found() == ["a partial file is left: .mixed.log.partial"]
    (mirror / ".mixed.log.partial").rename(mirror / "other")
    (mirror / "empty").rmdir()
    assert found() == ["the empty folder is not in the mirror"]
    (mirror / "empty").mkdir()
    (mirror / "mixed.log.1").rename(mirror / "mixed.log.9")
    assert found() == [
        "mixed.log.1 is not in the mirror",
        "the 2 parts of mixed.log make another SHA-256 than all that was written",
    ]
    (mirror / "mixed.log.9").rename(mirror / "mixed.log.1")
    assert found() == []
    flip_bit(mirror / "copied.log.1", random.Random(1))
    assert found() == [
        "copied.log.1 has another SHA-256 in the mirror",
        "the 3 parts of copied.log make another SHA-256 than all that was written",
    ]


def test_a_log_that_is_lost_on_both_sides(both: tuple[Path, Path], reference: Path) -> None:
    for folder in both:
        (folder / "renamed.log.1").unlink()
    assert list(differences(*both, reference, exactly=True)) == [
        "the 2 parts of renamed.log make another SHA-256 than all that was written"
    ]


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

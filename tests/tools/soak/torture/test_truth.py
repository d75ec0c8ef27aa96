from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tools.soak.torture.lines import LINE, Lines
from tools.soak.torture.scene import RING, RING_LINES, STREAMS
from tools.soak.torture.truth import Truth

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

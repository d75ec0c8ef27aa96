from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from tests.serving import PATIENCE
from tests.waiting import wait_until
from tools.soak.torture.damage import flip_bit
from tools.soak.torture.lines import LINE, Lines
from tools.soak.torture.mirror import Mirror, Watch, differences, final_files, partial_files
from tools.soak.torture.scene import LOGS, STREAMS
from tools.soak.torture.truth import Truth

LINES = {name: Lines(name, "5") for name in STREAMS}
WHOLE = LINES["zipped"].text(100, 50)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lines of each stream."""
    folder = tmp_path_factory.mktemp("reference")
    for name, lines in LINES.items():
        (folder / name).write_bytes(lines.text(0, 300))
    return folder


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


def test_a_watch_tells_what_is_wrong_until_it_is_stopped(tmp_path: Path, reference: Path) -> None:
    found: list[str] = []
    log = tmp_path / "zipped.log"
    log.write_bytes(WHOLE)
    mirror = Mirror(tmp_path, Truth(reference))
    watch = Watch(mirror, found.append)
    watch.start()
    try:
        wait_until(lambda: mirror.looks, PATIENCE, "the first look")
        assert not found
        log.write_bytes(WHOLE[LINE + 1 :])
        wait_until(lambda: found, PATIENCE, "the fault to be found")
    finally:
        watch.stop()
    assert "in the mirror carries a final name, but is wrong: zipped.log: " in found[0]
    assert not watch.is_alive()


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

"""The last look at a run, with a source, a mirror and a reference that are made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from handshakes.manifest import CHUNK_SIZE
from tools.soak.torture.lines import Lines
from tools.soak.torture.options import Options
from tools.soak.torture.report import Report
from tools.soak.torture.scene import LOGS
from tools.soak.torture.verdict import Verdict

RIGHT = ("-c", "pass")
BAD = ("-c", "import sys; sys.exit('it is bad')")
# Names what is damaged until that is to be repaired, and repairs nothing.
NAMES = " ".join(f"{log.name}.log" for log in LOGS)
PRETENDS = ("-c", f"import sys; sys.exit(0 if '--repair' in sys.argv else '{NAMES}')")


class Judged:
    """A verdict over a mirror that is as it should be; ``found`` is what it finds all the same."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.found: list[str] = []
        self.report = Report(seed=1)
        self.places = {name: folder / name for name in ("source", "mirror", "reference")}
        for name, place in self.places.items():
            (place / "empty").mkdir(parents=True)
            for log in LOGS:
                file = place / (log.name if name == "reference" else f"{log.name}.log")
                file.write_bytes(Lines(log.name, "1").text(0, 50))
        self.verdict = Verdict(Options(**options), self.report, self.places, self.found.append)  # type: ignore[arg-type]


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    return Judged(tmp_path, verify=RIGHT)


def test_all_is_right(judged: Judged) -> None:
    judged.verdict.mirror()
    judged.verdict.unchanged(0)
    judged.verdict.verify()
    assert not judged.found
    assert judged.report.checks == [
        "in the end 4 files are in the mirror, and the parts of each log make what was written, by SHA-256",
        "whatever else is in the mirror in the end was right once",
        "a backup of what has not changed carried no data",
        "in the end the mirror is verified",
    ]


def test_a_file_that_is_wrong(judged: Judged) -> None:
    (judged.places["mirror"] / "mixed.log").write_bytes(b"something else")
    judged.verdict.mirror("after the repair")
    assert [found.partition(":")[0] for found in judged.found] == [
        "mixed.log has another SHA-256 in the mirror",
        "the 1 parts of mixed.log make another SHA-256 than all that was written",
        "in the mirror carries a final name after the repair, but is wrong",
    ]
    assert not judged.report.checks


def test_a_backup_of_nothing_that_carries_something(judged: Judged) -> None:
    judged.verdict.unchanged(5)
    assert judged.found == ["a backup of what has not changed carried 5 bytes of data"]


def test_how_much_may_be_carried_again(tmp_path: Path) -> None:
    judged = Judged(tmp_path, flips=2, again=0.1)
    amounts = judged.report.amounts
    amounts.needed = 1000
    amounts.carried = 1000 + 100 + 2 * CHUNK_SIZE
    judged.verdict.amounts()
    assert not judged.found
    amounts.carried += 1
    judged.verdict.amounts()
    (finding,) = judged.found
    assert finding.startswith("2,097,253 bytes of files' data were carried again, of 1,000 that had to be")
    assert finding.endswith("up to 2,097,252 may be")


def test_of_compressed_data_nobody_can_tell(tmp_path: Path) -> None:
    judged = Judged(tmp_path, compress=True)
    judged.report.amounts.carried = 1000
    judged.verdict.amounts()
    assert not judged.found
    assert not judged.report.checks


def test_a_mirror_that_is_not_verified(tmp_path: Path) -> None:
    judged = Judged(tmp_path, verify=BAD)
    judged.verdict.verify()
    assert judged.found == ["verify ended with 1 in the end: it is bad\n"]


def test_damage_that_is_not_found(tmp_path: Path) -> None:
    judged = Judged(tmp_path, verify=RIGHT, damage=2)
    judged.verdict.repair(lambda: 0)
    assert "verify ended with 0 and does not name ['" in judged.found[0]


def test_a_repair_that_carries_too_much_and_mends_nothing(tmp_path: Path) -> None:
    judged = Judged(tmp_path, verify=PRETENDS, damage=1)
    carried = iter([0, CHUNK_SIZE + 1])
    judged.verdict.repair(lambda: next(carried))
    assert "1 damaged files are found" in judged.report.checks
    assert judged.found[0] == f"the repair carried {CHUNK_SIZE + 1:,} bytes, for 1 chunks"
    assert "has another SHA-256 in the mirror" in judged.found[1]
    assert "verify ended with 1 after the repair" in judged.found[-1]

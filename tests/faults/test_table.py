from __future__ import annotations

from tests.faults.matrix import TROUBLES
from tests.faults.operations import OPERATIONS
from tests.faults.table import PATH, page


def test_the_page_is_what_is_tested() -> None:
    assert PATH.read_text(encoding="utf-8") == page(), "write it again: python -m tests.faults"


def test_every_operation_and_every_fault_is_on_it() -> None:
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[2 : 2 + len(OPERATIONS)]] == [each.name for each in OPERATIONS]
    assert all(len(row) == len(TROUBLES) + 1 for row in rows[: 2 + len(OPERATIONS)])

from __future__ import annotations

import json
from collections import Counter

from tools.soak.torture.report import Amounts, Report
from tools.soak.torture.troubles import Ill
from tools.soak.torture.wire import ROW


def report() -> Report:
    made = Report(seed=3, seconds=10, backups=1234, failed=5, slowest=1.5, written=90_000_000)
    made.troubles[Ill.CUT] = 7
    made.rotations = Counter(renamed=4, copied=5)
    made.amounts = Amounts(carried=100_500_000 + 10 * ROW, needed=100_000_000, rows=10, total=100_600_000)
    made.checks = ["it was looked at"]
    return made


def test_what_may_be_carried_again() -> None:
    amounts = report().amounts
    assert (amounts.again, amounts.allowed) == (500_000, 1_000_000)
    amounts.flips, amounts.chunk = 3, 1 << 20
    assert amounts.allowed == 1_000_000 + (3 << 20)


def test_all_is_well() -> None:
    text = report().text()
    cells = [line.split() for line in text.splitlines()]
    assert ["all", "links", "cut", "7"] in cells
    assert ["rotations", "9"] in cells
    assert ["MB", "of", "it", "carried", "again", "0.50"] in cells
    assert ["MB", "of", "messages", "0.10"] in cells
    assert "+ it was looked at\n" in text
    assert text.endswith("\n10 s, seed 3: all is well")


def test_findings() -> None:
    made = report()
    made.findings = ["one thing"]
    assert made.verdict == "1 finding"
    made.findings.append("another thing")
    made.interrupted = True
    assert made.verdict == "2 findings, as far as it went"
    assert "- one thing\n- another thing\n" in made.text()


def test_enough_findings() -> None:
    made = report()
    kept = sum(made.find(f"thing {number}") for number in range(1000))
    assert 10 < kept < 100
    assert len(made.findings) == kept
    assert made.verdict == "1000 findings"
    assert f"- and {1000 - kept} more\n" in made.text()


def test_as_json() -> None:
    told = json.loads(json.dumps(report().to_json()))
    assert told["bytes"] == {
        "carried": 100_500_320,
        "needed": 100_000_000,
        "again": 500_000,
        "allowed": 1_000_000,
        "messages": 100_000,
        "total": 100_600_000,
    }
    assert told["backups"] == {"right": 1234, "failed": 5, "slowest": 1.5}
    assert told["troubles"]["all links cut"] == 7
    assert (told["verdict"], told["findings"], told["checks"]) == ("all is well", [], ["it was looked at"])

from __future__ import annotations

import json

from tools.soak.figures import Life, Sample
from tools.soak.report import Report
from tools.soak.troubles import Ill
from tools.soak.turns import Count


def life(name: str, *memories: int) -> Life:
    return Life(name, 7, [Sample(number, memory << 20, 10, 5) for number, memory in enumerate(memories)])


def report() -> Report:
    made = Report(seed=3, seconds=10)
    made.counts = {"call": Count(1234, 0.5), "upload": Count(2, 1.0)}
    made.lost.update({"call": 3, "dial": 1})
    made.troubles[Ill.STALL] = 4
    made.lives = [life("gateway", 1, 2), life("gateway", *[40] * 100), life("asyncio 1", 5)]
    return made


def test_all_is_well() -> None:
    text = report().text()
    lines = text.splitlines()
    assert lines[-1] == "10 s, seed 3, 124 operations a second: all is well"
    cells = [line.split() for line in lines]
    assert ["call", "1,234", "3", "0.50", "s"] in cells
    assert ["dial", "0", "1", "0.00", "s"] in cells
    assert ["gateway", "2", "99", "s", "40", ">", "40", "10", ">", "10", "5", ">", "5"] in cells
    assert ["one", "direction", "stalled", "4"] in cells
    assert any(line.startswith("asyncio 1") and "too short" in line for line in lines)


def test_what_was_found_and_what_grew() -> None:
    made = report()
    made.findings = ["after 3 s: something"]
    made.lives.append(life("blocking 1", *[40] * 100, *[90] * 100))
    made.interrupted = True
    found = made.all_findings
    assert found[0] == "after 3 s: something"
    assert "blocking 1 (process 7): memory grew from 41,943,040 to 94,371,840 within 199 s" in found[1]
    assert len(found) == 2
    assert made.verdict == "2 findings, as far as it went"
    assert all(f"- {each}" in made.text() for each in found)


def test_as_json() -> None:
    told = json.loads(json.dumps(report().to_json()))
    assert told["operations"]["call"] == {"right": 1234, "slowest": 0.5, "lost": 3}
    assert told["troubles"]["one direction stalled"] == 4
    assert told["processes"][0]["samples"][1] == {"at": 1, "memory": 2 << 20, "descriptors": 10, "threads": 5}
    assert (told["verdict"], told["findings"], told["interrupted"]) == ("all is well", [], False)


def test_nothing_yet() -> None:
    made = Report(seed=1, interrupted=True)
    assert made.text().endswith("0 s, seed 1, 0 operations a second: all is well, as far as it went")

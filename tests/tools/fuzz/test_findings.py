from __future__ import annotations

import time
from pathlib import Path

import pytest

from tools.fuzz import findings
from tools.fuzz.findings import keep, tried


def fragile(data: bytes) -> None:
    if b"!" in data:
        raise KeyError(data)
    assert b"?" not in data


def test_what_was_raised_and_where() -> None:
    assert tried(fragile, b"fine") is None
    first, again, other = (tried(fragile, data) for data in (b"a!", b"b!", b"?"))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.place.startswith("KeyError at test_findings.py:")
    assert first.place == again.place != other.place
    assert "Traceback" in first.trace
    assert first.data == b"a!"


def test_what_takes_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "SLOW", 0.01)

    def slow(_data: bytes) -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    found = tried(slow, b"x")
    assert found is not None
    assert found.place == "slow"
    assert tried(lambda _data: None, b"x") is None


def test_a_finding_is_kept_as_a_file_that_can_be_tried_again(tmp_path: Path) -> None:
    found = tried(fragile, b"a!")
    assert found is not None
    path = keep(found, "fragile", tmp_path / "new")
    assert keep(found, "fragile", tmp_path / "new") == path
    assert sorted(each.suffix for each in path.parent.iterdir()) == [".bin", ".txt"]
    assert found.place in path.with_suffix(".txt").read_text(encoding="utf-8")
    again = tried(fragile, path.read_bytes())
    assert again is not None
    assert again.place == found.place

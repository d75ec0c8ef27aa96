from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tools.fuzz import corpus, runner
from tools.fuzz.findings import tried
from tools.fuzz.runner import Task, guided_is_possible, run, run_mutated
from tools.fuzz.targets import TARGETS

ANY_TIME = 60.0


def broken(data: bytes) -> None:
    """Fails at two places."""
    if data.count(b"n") > 2:
        raise KeyError(data)
    if data[:1] == b"\xff":
        raise IndexError(data)


@pytest.fixture
def broken_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "broken", broken)


def test_seeds_come_first_and_inputs_are_counted() -> None:
    seen: list[bytes] = []
    seeds = [b"one", b"two"]
    assert [*run_mutated(seen.append, seeds, 50, ANY_TIME, seed=1)] == [(50, None)]
    assert seen[:2] == seeds
    assert len(seen) == 50
    again: list[bytes] = []
    assert [*run_mutated(again.append, seeds, 50, ANY_TIME, seed=1)] == [(50, None)]
    assert again == seen


def test_time_ends_a_run() -> None:
    began = time.monotonic()
    ((count, _),) = run_mutated(lambda _data: None, [b"x"], 10**12, 0.05, seed=1)
    assert time.monotonic() - began < ANY_TIME
    assert 0 < count < 10**12


def test_of_findings_at_one_place_only_the_first_counts() -> None:
    found = [
        finding for _, finding in run_mutated(broken, [b"n", b"nnnn", b"nnnnn"], 5000, ANY_TIME, seed=1) if finding
    ]
    assert Counter(finding.place.partition(" ")[0] for finding in found) == {"KeyError": 1, "IndexError": 1}
    assert found[0].data == b"nnnn"


@pytest.mark.usefixtures("broken_target")
def test_a_task_keeps_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "corpus")
    outcome = run(Task("broken", 5000, ANY_TIME, seed=1, findings=tmp_path / "found"))
    assert (outcome.target, outcome.inputs) == ("broken", 5000)
    assert len(outcome.found) == 2
    for path in outcome.found:
        again = tried(broken, path.read_bytes())
        assert again is not None
        assert again.place in path.with_suffix(".txt").read_text(encoding="utf-8")
    assert outcome.seconds > 0
    quiet = run(Task("paths", 500, ANY_TIME, seed=1, findings=tmp_path / "none"))
    assert (quiet.inputs, quiet.found) == (500, [])
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(not guided_is_possible(), reason="atheris is not installed")
def test_guided_by_coverage(tmp_path: Path) -> None:
    outcome = run(Task("paths", 2000, ANY_TIME, seed=1, findings=tmp_path / "found", guided=True))
    assert outcome.inputs >= 2000
    assert outcome.found == []


@pytest.mark.skipif(not guided_is_possible(), reason="atheris is not installed")
def test_a_guide_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="atheris did not run"):
        run(Task("paths", 10, ANY_TIME, seed=1, findings=tmp_path / "found", guided=True))

"""Rounds, and contestants that fail."""

from __future__ import annotations

import contextlib

import pytest

from tools.bench import report, runner, workloads
from tools.bench.contract import Contestant, Metric, Role, Task, Workload
from tools.bench.needs import Package
from tools.bench.network import Shape
from tools.bench.process import Pair, WorkerFailed
from tools.bench.runner import Options, run
from tools.bench.workloads.memory import AtRest
from tools.bench.workloads.streams import consume


class Failing(Workload):
    name = "call"
    title = "calls that fail"
    metrics = (Metric("p50", "", "s"),)
    contestants = (
        Contestant("limit", Role.LIMIT, "none:None"),
        Contestant("missing", Role.PEER, "none:None", (Package("no-such-package-at-all"),)),
    )

    def serve(self, sides, task):
        return contextlib.nullcontext()

    def measure(self, sides, address, task):
        return {}


def test_a_missing_package_is_named_and_no_failure(tmp_path, capfd):
    outcome = run(Failing(), Options(rounds=1, folder=tmp_path))
    assert outcome.rounds == {}
    assert outcome.missing == {"missing": "`pip install no-such-package-at-all`"}
    assert set(outcome.failures) == {"limit"}
    assert not list(tmp_path.iterdir())
    assert "StopIteration" in capfd.readouterr().err


def test_peers_take_part_only_when_asked(tmp_path):
    outcome = run(Failing(), Options(rounds=1, folder=tmp_path, peers=False))
    assert [each.name for each in outcome.contestants] == ["limit"]
    assert outcome.missing == {}


def test_a_workload_that_needs_a_link_where_there_can_be_none(tmp_path):
    workload = Failing()
    workload.link = Shape(congestion="none-such")
    outcome = run(workload, Options(rounds=1, folder=tmp_path))
    assert outcome.unavailable
    assert (outcome.rounds, outcome.failures, outcome.missing) == ({}, {}, {})
    assert not list(report.rows(outcome))
    assert report.hints([outcome]) == f"- {workload.title}: {outcome.unavailable}"


def test_what_is_about_a_disk_is_not_in_memory(monkeypatch, tmp_path):
    folders = []
    workload = Failing()
    workload.on_disk = True
    workload.contestants = ()
    workload.prepare = lambda task: folders.append(task.folder)
    monkeypatch.setattr(runner, "disk_folder", lambda: tmp_path)
    run(workload, Options(rounds=1))
    assert [folder.parent for folder in folders] == [tmp_path]


def test_larger_sizes_are_passed_on(tmp_path):
    tasks = []
    workload = Failing()
    workload.contestants = ()
    workload.prepare = tasks.append
    run(workload, Options(rounds=1, folder=tmp_path))
    run(workload, Options(rounds=1, folder=tmp_path, large=True))
    assert [task.large for task in tasks] == [False, True]


def test_a_workload_says_for_how_long_it_may_take(tmp_path):
    workload = AtRest()
    workload.patience = 0.0
    outcome = run(workload, Options(rounds=1, folder=tmp_path, seconds=0.001))
    assert set(outcome.failures) == {each.name for each in workload.contestants}
    assert all("did not answer within 0.001 s" in failure for failure in outcome.failures.values())


def test_a_worker_that_fails_says_why(tmp_path, capfd):
    task = Task(tmp_path / "nowhere", tmp_path, seconds=0.01, quick=True)
    large = workloads.WORKLOADS["file-1"]
    with (
        Pair(large, large.contestants[0], task) as pair,
        pytest.raises(WorkerFailed, match="FileNotFound"),
    ):
        pair.measure(30.0)
    assert "Traceback" in capfd.readouterr().err


def test_a_task_survives_json(tmp_path):
    task = Task(tmp_path, tmp_path / "own", 0.5, True, 17)
    assert Task.from_json(task.to_json()) == task


def test_items_out_of_order_are_noticed():
    items = ((0, b"") for _ in iter(int, 1))
    with pytest.raises(ValueError, match="was due"):
        consume(items, 0.001, lambda _ident, _payload: None)

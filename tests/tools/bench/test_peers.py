"""The peers: each that is installed does its work for a moment, checked as in every run."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from tools.bench.contract import Role, Task
from tools.bench.network import LOOPBACK
from tools.bench.peers import PYNETWORK2
from tools.bench.process import Pair
from tools.bench.workloads import WORKLOADS
from tools.link import LinkUnavailable

ROOT = Path(__file__).resolve().parents[3]
SHOWN = ("call", "small-items", "json-items", "array-items", "latency", "file-4", "logs-1")
SHOWN += ("backup-logs", "backup-logs-flushed", "backup-grown", "backup-50mbit-logs")
SHOWN += ("series-store", "series-box", "series-channel")
PEERS = [
    pytest.param(WORKLOADS[name], contestant, id=f"{name}-{contestant.sides.partition(':')[0].rpartition('.')[2]}")
    for name in SHOWN
    for contestant in WORKLOADS[name].contestants
    if contestant.role is Role.PEER
]


@pytest.mark.parametrize(("workload", "peer"), PEERS)
def test_a_peer_does_the_work(workload, peer, tmp_path):
    if missing := peer.missing():
        pytest.skip(f"{peer.name} is not installed: {missing}")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    task = Task(tmp_path, scratch, seconds=0.05, quick=True)
    workload.prepare(task)
    with contextlib.ExitStack() as stack:
        try:
            network = stack.enter_context(workload.link.opened()) if workload.link else LOOPBACK
        except LinkUnavailable as error:
            pytest.skip(str(error))
        pair = stack.enter_context(Pair(workload, peer, task, network))
        for _ in range(2):
            figures = pair.measure(30.0)
            assert list(figures) == [metric.key for metric in workload.metrics]
            assert all(figure > 0 for figure in figures.values())


def test_every_workload_that_others_can_do_has_peers():
    assert {name for name, workload in WORKLOADS.items() if workload.asked(True) != workload.asked(False)} == {
        *(name for name in WORKLOADS if name.startswith(("call", "small-items", "file", "logs", "backup"))),
        "json-items",
        "array-items",
        "latency",
        "series-store",
        "series-box",
        "series-channel",
    }


def test_each_has_a_module_and_a_need():
    for name, workload in WORKLOADS.items():
        for peer in workload.contestants:
            if peer.role is Role.PEER:
                module = peer.sides.partition(":")[0].replace(".", "/")
                assert (ROOT / f"{module}.py").exists(), f"{peer.name} in {name}"
                assert peer.needs
                assert all(need.hint for need in peer.needs)


def test_make_installs_what_the_hints_say():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"peers/{PYNETWORK2.folder.name}" in makefile
    assert f"{PYNETWORK2.distribution}=={PYNETWORK2.number}" in makefile
    extra = re.search(r'"bench": \[(.*?)\]', (ROOT / "setup.py").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert extra is not None
    hints = {need.hint for each in WORKLOADS.values() for peer in each.contestants for need in peer.needs}
    wanted = {hint.removeprefix("pip install ") for hint in hints if re.fullmatch(r"pip install [\w-]+", hint)}
    assert wanted == set(re.findall(r'"([\w-]+)>=', extra[1]))

"""Memory of a put and a get."""

from __future__ import annotations

import contextlib
import mmap

import pytest

from tools.bench.contract import Task
from tools.bench.sensors import TOGETHER
from tools.bench.workloads.series_memory import SeriesMemory, StreamingSession, StreamingSides

MIB = 1 << 20


class Holding(StreamingSession, StreamingSides):
    """Takes memory for each request and lets go of it again."""

    def __init__(self, less=0):
        self.less = less
        self.count = 0
        self.folders = []

    def serve(self, folder):
        self.folders.append(folder)
        return contextlib.nullcontext(1)

    def connect(self, address):
        return contextlib.nullcontext(self)

    def put(self, rows):
        self.count = len(rows)
        self.take(40)

    def stream(self):
        self.take(20)
        return self.count - self.less

    @staticmethod
    def take(mebibytes):
        # From the system and back to it, whatever was freed before.
        with mmap.mmap(-1, mebibytes * MIB) as memory:
            for begin in range(0, len(memory), mmap.PAGESIZE):
                memory[begin] = 1


@pytest.fixture
def task(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Task.from_json({**Task(tmp_path, scratch, 0.05, quick=True).to_json(), "server": "self"})


def test_peaks_are_above_what_was_there_before(task):
    workload, sides = SeriesMemory(), Holding()
    for _ in range(2):
        with workload.serve(sides, task) as address:
            figures = workload.measure(sides, address, task)
        assert list(figures) == [metric.key for metric in workload.metrics]
        assert 35 < figures["put_client"] < 60
        assert 15 < figures["get_client"] < 35
    assert len(set(sides.folders)) == 2
    assert list(task.scratch.iterdir()) == []


def test_records_that_do_not_come_are_noticed(task):
    workload, sides = SeriesMemory(), Holding(less=1)
    with workload.serve(sides, task) as address, pytest.raises(ValueError, match=f"where {2 * TOGETHER} were due"):
        workload.measure(sides, address, task)

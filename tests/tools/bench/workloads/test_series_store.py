"""Stores: what is asked of them, and that their answers are looked at."""

from __future__ import annotations

import contextlib
import shutil

import numpy
import pytest

from handshakes.records import Rows, row_type
from tools.bench.contract import Role, Task
from tools.bench.raw.series_store import AsTheyCome, BySeries
from tools.bench.sensors import TOGETHER, WIDTH, readings, slice_of_time, span, sum_of
from tools.bench.workloads.series_store import SeriesBox, SeriesStore, Store, StoreSides


class Memory(Store):
    """Remembers what it was asked for."""

    def __init__(self):
        self.parts = []
        self.puts = []
        self.answers = []

    def put(self, rows):
        self.puts.append(len(rows))
        self.parts.append(rows)

    def put_one(self, key, payload):
        self.put(numpy.array([(*key, payload)], row_type(WIDTH)))

    def get(self, box):
        rows = numpy.concatenate(self.parts)
        found = rows[box.mask(Rows(rows))]
        self.answers.append(len(found))
        return found


class Forgetful(Memory):
    """Leaves a record out of its answers."""

    def get(self, box):
        return super().get(box)[1:]


class Sides(StoreSides):
    def __init__(self, kind=Memory):
        self.kind = kind
        self.stores = {}

    @contextlib.contextmanager
    def opened(self, folder):
        assert folder.is_dir()
        yield self.stores.setdefault(folder, self.kind())


@pytest.fixture
def task(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Task(tmp_path, scratch, seconds=0.05, quick=True)


def test_a_round_has_a_store_of_its_own(task):
    workload, sides = SeriesStore(), Sides()
    with workload.serve(sides, task) as address:
        for _ in range(2):
            figures = workload.measure(sides, address, task)
            assert list(figures) == [metric.key for metric in workload.metrics]
            assert all(figure > 0 for figure in figures.values())
            assert list(task.scratch.iterdir()) == []
            (store,) = sides.stores.values()
            sides.stores.clear()
            assert store.puts == [TOGETHER] + [1] * 200
            assert store.answers[0] == TOGETHER
            assert set(store.answers[1:-1]) <= {TOGETHER // 100, TOGETHER // 100 + 1}
            assert store.answers[-1] == 200


def test_both_stores_are_filled_once(task):
    workload, sides = SeriesBox(), Sides()
    sizes = workload.sizes(task)
    for _ in range(2):
        figures = workload.measure(sides, None, task)
        assert list(figures) == [metric.key for metric in workload.metrics]
        assert figures["one_growth"] == figures["one_large"] / figures["one_small"]
    assert [sum(store.puts) for store in sides.stores.values()] == list(sizes)
    assert {answer for store in sides.stores.values() for answer in store.answers} <= {
        4 * TOGETHER // 100,
        4 * TOGETHER // 100 + 1,
    }


def test_larger_sizes_are_asked_for(task):
    large = Task(task.folder, task.scratch, 1.0, quick=False, large=True)
    usual = Task(task.folder, task.scratch, 1.0, quick=False)
    assert [round(size / 1e6) for size in SeriesBox.sizes(usual)] == [2, 20]
    assert [round(size / 1e6) for size in SeriesBox.sizes(large)] == [10, 100]


def test_a_disk_that_is_too_small_is_left_as_it_is(task, monkeypatch):
    usage = shutil.disk_usage(task.scratch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    sides = Sides()
    with pytest.raises(OSError, match="are wanted on the disk, 1,000 are free"):
        SeriesBox().measure(sides, None, task)
    assert sides.stores == {}


@pytest.mark.parametrize("workload", [SeriesStore(), SeriesBox()], ids=["store", "box"])
def test_what_is_missing_is_noticed(workload, task):
    with pytest.raises(ValueError, match="were due"):
        workload.measure(Sides(Forgetful), None, task)


@pytest.mark.parametrize("sides", [AsTheyCome, BySeries])
def test_the_limits_keep_what_they_are_given(sides, tmp_path):
    rows = readings(0, 2 * TOGETHER)
    box = slice_of_time(rows, TOGETHER - 300, 600)
    with sides().opened(tmp_path) as store:
        store.put(rows[:TOGETHER])
        store.put(rows[TOGETHER:])
        assert sum_of(store.get(box)) == sum_of(rows[box.mask(Rows(rows))])
    more = readings(4 * TOGETHER, TOGETHER)[:3]
    with sides().opened(tmp_path) as store:
        for row in more:
            store.put_one(
                Rows(more).key(0)._replace(**{name: int(row[name]) for name in ("mid", "moid", "cap", "acq")}),
                row["payload"].tobytes(),
            )
        assert sum_of(store.get(span(rows))) == sum_of(rows)
    with sides().opened(tmp_path) as store:
        assert sum_of(store.get(span(more))) == sum_of(more)


def test_the_peers_and_ours_are_asked_for_the_same():
    for workload in SeriesStore(), SeriesBox():
        assert workload.on_disk
        assert [each.role for each in workload.contestants][:3] == [Role.LIMIT, Role.ORIENTATION, Role.OURS]

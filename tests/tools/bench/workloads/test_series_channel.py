"""Channels and putters: what is sent, and that what is confirmed is there."""

from __future__ import annotations

import contextlib
import threading

import numpy
import pytest

from handshakes.records import Key, KeyRange
from tools.bench.contract import Task
from tools.bench.raw.series_channel import RawChannel, RawPutters
from tools.bench.sensors import TOGETHER, readings, sum_of
from tools.bench.workloads.series_channel import ChannelSides, PutterSides, SeriesChannel, SeriesPutters, Session


class Echo(Session, ChannelSides):
    """Answers what was put last, all but ``less`` of it."""

    def __init__(self, less=0):
        self.less = less
        self.seen = []

    def serve(self, folder):
        assert not folder.exists()
        return contextlib.nullcontext(7)

    def connect(self, address):
        assert address == 7
        return contextlib.nullcontext(self)

    def put(self, rows):
        self.seen.append(rows)

    def get(self, box):
        return self.seen[-1][self.less :]


class Counting(PutterSides):
    """Counts, and forgets ``less`` of what it has confirmed."""

    def __init__(self, less=0):
        self.less = less
        self.lock = threading.Lock()
        self.keys = []
        self.connections = 0

    def serve(self, folder):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def connect(self, address):
        def put(key, payload):
            with self.lock:
                self.keys.append(key)

        with self.lock:
            self.connections += 1
        yield put

    @contextlib.asynccontextmanager
    async def connect_async(self, address):
        async def put(key, payload):
            self.keys.append(key)

        self.connections += 1
        yield put

    def count(self, address):
        return max(0, len(self.keys) - self.less)


class Failing(Counting):
    def connect(self, address):
        raise OSError("nobody listens")


@pytest.fixture
def task(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Task(tmp_path, scratch, seconds=0.05, quick=True)


def turns(workload, sides, task, count=2):
    with workload.serve(sides, task) as address:
        return [workload.measure(sides, address, task) for _ in range(count)]


def test_each_round_puts_other_records(task):
    sides = Echo()
    figures = turns(SeriesChannel(), sides, task)
    assert all(list(figure) == ["put", "get"] for figure in figures)
    first, second = sides.seen
    assert len(first) == len(second) == TOGETHER
    assert not numpy.isin(first["cap"], second["cap"]).any()


def test_what_does_not_come_back_is_noticed(task):
    with pytest.raises(ValueError, match=f"{TOGETHER - 1} records came where {TOGETHER} were due"):
        turns(SeriesChannel(), Echo(less=1), task)


def test_64_threads_and_64_tasks_put_keys_that_nobody_else_has(task):
    sides = Counting()
    figures = turns(SeriesPutters(), sides, task)
    assert all(list(figure) == ["threads", "tasks"] for figure in figures)
    assert sides.connections == 2 * 2 * 64
    assert len(set(sides.keys)) == len(sides.keys)
    assert len({key.mid for key in sides.keys}) <= 2 * 2 * 64


def test_what_is_confirmed_and_not_there_is_noticed(task):
    with pytest.raises(ValueError, match="were confirmed"):
        turns(SeriesPutters(), Counting(less=1), task)


def test_who_cannot_connect_says_why(task):
    with pytest.raises(OSError, match="nobody listens"):
        turns(SeriesPutters(), Failing(), task)


def test_the_limit_gives_back_what_it_was_given(task):
    with RawChannel().serve(task.scratch / "store") as address, RawChannel().connect(address) as session:
        for count in (TOGETHER, 100, 1):
            rows = readings(0, TOGETHER)[:count]
            session.put(rows)
            assert sum_of(session.get(KeyRange.everything())) == sum_of(rows)


def test_the_limit_counts_what_it_has_flushed(task):
    sides = RawPutters()
    with sides.serve(task.scratch / "store") as address:
        with sides.connect(address) as put, sides.connect(address) as other:
            for number in range(3):
                put(Key(1, 2, 3, number), bytes(16))
                other(Key(1, 2, 4, number), bytes(16))
        assert sides.count(address) == 6

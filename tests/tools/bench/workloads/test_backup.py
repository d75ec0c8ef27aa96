"""Backups: what is arranged for each turn, and what is counted."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from pathlib import Path

import pytest

from tools.bench.contract import Role, Task
from tools.bench.workloads import WORKLOADS
from tools.bench.workloads.backup import GrownBackup, first_logs, grown, same
from tools.bench.workloads.files import FileSides


class Copying(FileSides):
    """Copies what is new or has another size, and remembers what that was."""

    remote = False

    def __init__(self):
        self.copied = []

    def serve(self, source, host):
        return contextlib.nullcontext(str(source))

    @contextlib.contextmanager
    def session(self, address, connections):
        def fetch(target):
            names = []
            for path in sorted(Path(address).rglob("*.log")):
                there = target / path.relative_to(address)
                if not there.exists() or there.stat().st_size != path.stat().st_size:
                    there.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, there)
                    names.append(there.name)
            self.copied.append(names)

        yield fetch


class Talking(Copying):
    """The same, after it has heard 1,000 bytes and said 10."""

    remote = True

    @contextlib.contextmanager
    def serve(self, source, host):
        def answer():
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with sock:
                        sock.sendall(bytes(1000))
                        while sock.recv(100):
                            pass

        self.source = str(source)
        with socket.create_server((host, 0)) as listener:
            thread = threading.Thread(target=answer)
            thread.start()
            try:
                yield listener.getsockname()
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    @contextlib.contextmanager
    def session(self, address, connections):
        with super().session(self.source, connections) as copy:

            def fetch(target):
                with socket.create_connection(address) as sock:
                    sock.sendall(bytes(10))
                    left = 1000
                    while left:
                        left -= len(sock.recv(left))
                copy(target)

            yield fetch


class Sloppy(Copying):
    """Leaves a byte out."""

    @contextlib.contextmanager
    def session(self, address, connections):
        with super().session(address, connections) as copy:

            def fetch(target):
                copy(target)
                path = next(target.rglob("*.log"))
                path.write_bytes(path.read_bytes()[:-1])

            yield fetch


@pytest.fixture
def task(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Task(tmp_path, scratch, seconds=0.05, quick=True)


def turns(workload, sides, task, count=2):
    workload.prepare(task)
    with workload.serve(sides, task) as address:
        return [workload.measure(sides, address, task) for _ in range(count)]


def test_a_first_backup_begins_with_nothing(task):
    sides = Copying()
    figures = turns(first_logs(), sides, task)
    assert [len(names) for names in sides.copied] == [200, 200]
    assert all(figure["files"] > 0 for figure in figures)
    assert not (task.folder / "target").exists()


def test_when_nothing_has_changed_nothing_is_copied(task):
    sides = Copying()
    figures = turns(same(5000), sides, task)
    assert [len(names) for names in sides.copied] == [200, 0, 0]
    assert [list(figure) for figure in figures] == [["time"], ["time"]]


def test_memory_is_of_those_who_work_in_the_two_processes(task):
    sides = Copying()
    sides.in_process = True
    task = Task.from_json({**task.to_json(), "server": "self"})
    (figures,) = turns(same(100_000), sides, task, count=1)
    assert set(figures) == {"time", "gateway", "controller"}
    assert figures["controller"] > 1
    sides.in_process = False
    (figures,) = turns(same(100_000), sides, task, count=1)
    assert set(figures) == {"time"}


def test_some_logs_grow_before_each_turn_the_same_for_all(task):
    one, other = Copying(), Copying()
    turns(grown(), one, task)
    shutil.rmtree(task.scratch)
    turns(grown(), other, task)
    assert [len(names) for names in one.copied] == [200, 2, 2]
    assert one.copied == other.copied
    assert one.copied[1] != one.copied[2]


def test_bytes_are_counted_both_ways_apart_from_the_time(task):
    sides = Talking()
    figures = turns(grown(), sides, task, count=1)
    assert [figure["wire"] for figure in figures] == [1.01]
    # The first backup, the one that is timed, the one that is counted.
    assert [len(names) for names in sides.copied] == [200, 2, 2]


def test_what_is_not_complete_is_noticed(task):
    for workload in first_logs(), same(5000), grown():
        with pytest.raises(ValueError, match="arrive"):
            turns(workload, Sloppy(), task)
        shutil.rmtree(task.folder / "target", ignore_errors=True)
        shutil.rmtree(task.scratch / "target", ignore_errors=True)


def test_what_is_promised_alike_is_compared_alike():
    for name, workload in WORKLOADS.items():
        if name.startswith("backup"):
            flushed = name.endswith("-flushed")
            assert workload.on_disk is flushed
            for each in workload.contestants:
                if each.role in (Role.OURS, Role.PEER):
                    promise = each.name.endswith(("--fsync", "then sync")) or each.name in (
                        "pynetwork",
                        "pynetwork backup",
                    )
                    assert promise is flushed, f"{each.name} in {name}"


def test_bytes_may_be_a_bit_more_than_the_new_ones():
    wire = grown().metrics[1]
    assert isinstance(grown(), GrownBackup)
    assert wire.bound.value == round((1.2 * 50 * 4096 + 100 * 5000) / 1000)

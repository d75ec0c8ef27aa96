"""Backups of a shared folder: the first one, one after which nothing has changed, one after which logs have grown.

What is promised alike is compared alike: where ours has everything on the disk before it is done, so do the others,
and those rows are of a disk; where it leaves that to the system, as the others do unless told otherwise, all happens in
memory unless a folder is given. The sources have the times of a day ago, as most logs do, and after each turn every
byte is compared.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.logs import log_text
from tools.bench.network import LOOPBACK
from tools.bench.peers import BACKUPS, FLUSHED_BACKUPS, FLUSHED_UPDATES, UPDATES
from tools.bench.workloads.files import COPY, RAW, FileSet, FileSides, FileWorkload, arrange, check, make
from tools.bench.workloads.memory import peak, restart_peak
from tools.proxy import DOWN, UP, Proxy

__all__ = [
    "AGE",
    "CONNECTIONS",
    "OURS",
    "FirstBackup",
    "GrownBackup",
    "SameBackup",
    "first_files",
    "first_logs",
    "grown",
    "same",
]

CONNECTIONS = 4
"""For those who have to be told a number: as many as rclone has by itself."""
AGE = 86400.0
_GROWTH = 4096
_PART = 100
_MIB = 1 << 20


def _ours(name: str, sides: str) -> Contestant:
    return Contestant(name, Role.OURS, f"tools.bench.ours.backup:{sides}")


OURS = (
    _ours("pynetwork, durable=False", "UnflushedBackup"),
    _ours("pynetwork backup --not-durable", "UnflushedCommand"),
)
_FLUSHED_OURS = (_ours("pynetwork", "Backup"), _ours("pynetwork backup", "Command"))
_FLUSHED_RAW = Contestant("raw socket, no digests, then sync", Role.LIMIT, "tools.bench.raw.files:FlushedFiles")
_FLUSHED_COPY = Contestant("cp -a, no network, then sync", Role.ORIENTATION, "tools.bench.raw.files:FlushedCopy")
_UPDATE = Contestant("cp -a --update, no network", Role.LIMIT, "tools.bench.raw.files:Update")

_LOGS = FileSet(5000, 4000, folders=50, text=True)
_QUICK_LOGS = FileSet(200, 4000, folders=50, text=True)


class FirstBackup(FileWorkload):
    """Into an empty folder. A backup connects by itself, so that counts."""

    def __init__(
        self,
        name: str,
        title: str,
        files: FileSet,
        quick: FileSet,
        *,
        metrics: tuple[Metric, ...],
        contestants: tuple[Contestant, ...],
    ) -> None:
        super().__init__(name, title, files, quick, CONNECTIONS, metrics=metrics, contestants=contestants, age=AGE)

    def measure(self, sides: FileSides, address: Any, task: Task) -> dict[str, float]:
        """Beginning with a system that has nothing left to write."""
        os.sync()
        return super().measure(sides, address, task)


class _Backup(Workload[FileSides]):
    """Into a folder that holds a backup already, made by the contestant itself before its first turn."""

    def __init__(
        self, name: str, title: str, files: FileSet, quick: FileSet, *, metrics: tuple[Metric, ...], flushed: bool
    ) -> None:
        self.name = name
        self.title = title
        self.metrics = metrics
        ours, peers = (_FLUSHED_OURS, FLUSHED_UPDATES) if flushed else (OURS, UPDATES)
        self.contestants = (_UPDATE, *ours, *peers)
        self.on_disk = flushed
        self._files = files
        self._quick = quick

    def _set(self, task: Task) -> FileSet:
        return self._quick if task.quick else self._files

    def _target(self, sides: FileSides, address: Any, task: Task) -> Path:
        """The contestant's backup."""
        target = task.scratch / "target"
        if not target.exists():
            target.mkdir()
            _back_up(sides, address, target)
        return target


def _back_up(sides: FileSides, address: Any, target: Path) -> float:
    """Milliseconds that it took, beginning with a system that has nothing left to write."""
    os.sync()
    with sides.session(address, CONNECTIONS) as fetch:
        began = time.perf_counter()
        fetch(target)
        return (time.perf_counter() - began) * 1000


class SameBackup(_Backup):
    """Nothing has changed. The peaks of memory are of those who start no programs for it."""

    def prepare(self, task: Task) -> None:
        """Make the files."""
        source = task.folder / "source"
        make(self._set(task), source)
        arrange(self._set(task), source, task.folder / "nothing", resident=False, age=AGE)

    def serve(self, sides: FileSides, task: Task) -> AbstractContextManager[Any]:
        """Serve the folder with them."""
        return sides.serve(task.folder / "source", task.host)

    def measure(self, sides: FileSides, address: Any, task: Task) -> dict[str, float]:
        """The peaks are those of the system, so nothing is missed between two looks."""
        target = self._target(sides, address, task)
        processes = {"gateway": str(task.server), "controller": "self"}
        wanted = {metric.key for metric in self.metrics} & processes.keys() if sides.in_process else set()
        for name in wanted:
            restart_peak(processes[name])
        figures = {"time": _back_up(sides, address, target)}
        figures.update((name, peak(processes[name]) / _MIB) for name in wanted)
        check(self._set(task), task.folder / "source", target)
        return figures


class GrownBackup(_Backup):
    """Some logs have grown by some lines. Time is measured first; the bytes of another backup, after they have grown
    again, are counted by a proxy: what both sides send, without the headers of TCP.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns = 0

    def prepare(self, task: Task) -> None:
        """Nothing: each contestant has logs of its own."""

    def serve(self, sides: FileSides, task: Task) -> AbstractContextManager[Any]:
        """Serve logs that are this contestant's."""
        source = task.scratch / "source"
        make(self._set(task), source)
        arrange(self._set(task), source, task.scratch / "nothing", resident=False, age=AGE)
        return sides.serve(source, task.host)

    def measure(self, sides: FileSides, address: Any, task: Task) -> dict[str, float]:
        """One after the other."""
        source, target = task.scratch / "source", self._target(sides, address, task)
        files = self._set(task)
        self._grow(files, source)
        figures = {"time": _back_up(sides, address, target)}
        check(files, source, target)
        if sides.remote:
            self._grow(files, source)
            host, port, *rest = address
            with Proxy(port, host=host) as proxy:
                _back_up(sides, (LOOPBACK.host, proxy.port, *rest), target)
                figures["wire"] = (proxy.count(UP) + proxy.count(DOWN)) / 1000
            check(files, source, target)
        return figures

    def _grow(self, files: FileSet, source: Path) -> None:
        """The same files, by the same lines, for each contestant."""
        self._turns += 1
        chance = random.Random(self._turns)
        for name in chance.sample(files.names(), files.count // _PART):
            with (source / name).open("ab") as file:
                file.write(log_text(chance, _GROWTH))


class _OnLoopback(FirstBackup):
    """Ahead of everybody."""

    def __init__(self, name: str, title: str, files: FileSet, quick: FileSet, *, metric: Metric, flushed: bool) -> None:
        peers = FLUSHED_BACKUPS if flushed else BACKUPS
        others = (_FLUSHED_RAW, _FLUSHED_COPY, *_FLUSHED_OURS) if flushed else (RAW, COPY, *OURS)
        ahead = replace(metric, digits=0, times={peer.name: 1.0 for peer in peers})
        super().__init__(*_flushed(name, title, flushed), files, quick, metrics=(ahead,), contestants=(*others, *peers))
        self.on_disk = flushed


def _flushed(name: str, title: str, flushed: bool) -> tuple[str, str]:
    return (f"{name}-flushed", f"{title}, flushed to a disk") if flushed else (name, title)


def first_logs(flushed: bool = False) -> FirstBackup:
    """Those of `tools.bench.workloads.files.small_logs`, but with text in them."""
    title, metric = "first backup of 5,000 logs of 4 kB", Metric("files", "", "files/s")
    return _OnLoopback("backup-logs", title, _LOGS, _QUICK_LOGS, metric=metric, flushed=flushed)


def first_files(flushed: bool = False) -> FirstBackup:
    """Those of `tools.bench.workloads.files.large_files`."""
    title, metric = "first backup of 20 x 50 MiB", Metric("rate", "", "MB/s")
    files, quick = FileSet(20, 50 << 20), FileSet(4, 8 << 20)
    return _OnLoopback("backup-files", title, files, quick, metric=metric, flushed=flushed)


def same(count: int, flushed: bool = False) -> SameBackup:
    """So many files, with figures of memory where they are very many."""
    many = count > _LOGS.count
    name, title = _flushed(f"backup-same-{count}", f"backup of {count:,} files, nothing changed", flushed)
    files = FileSet(count, 200, folders=count // 100, text=True) if many else _LOGS
    rsync = (FLUSHED_UPDATES if flushed else UPDATES)[0]
    metrics = [Metric("time", "", "ms", digits=0, costs=True, times={rsync.name: 1.0})]
    if many:
        most = Bound(150, at_most=True, plain=True)
        metrics += [
            Metric("gateway", "peak of the gateway's memory", "MiB", most, costs=True),
            Metric("controller", "peak of the controller's memory", "MiB", most, costs=True),
        ]
    return SameBackup(name, title, files, _QUICK_LOGS, metrics=tuple(metrics), flushed=flushed)


def grown(flushed: bool = False) -> GrownBackup:
    """The logs of `first_logs`. The bytes may be 1.2 times the new ones and 100 for each file."""
    name, title = _flushed("backup-grown", "backup of 5,000 logs, 1 % grew by 4 KiB", flushed)
    rsync = (FLUSHED_UPDATES if flushed else UPDATES)[0]
    allowed = 1.2 * _GROWTH * (_LOGS.count // _PART) + 100 * _LOGS.count
    most = Bound(round(allowed / 1000), at_most=True, plain=True)
    metrics = (
        Metric("time", "", "ms", digits=0, costs=True, times={rsync.name: 1 / 0.7}),
        Metric("wire", "bytes both ways", "kB", most, digits=0, costs=True),
    )
    return GrownBackup(name, title, _LOGS, _QUICK_LOGS, metrics=metrics, flushed=flushed)

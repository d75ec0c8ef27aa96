"""Over emulated links, far away, lossy or slow: first backups, and a stream beside one.

Both ends are namespaces of this machine, and TCP is what it is on most machines: cubic, with the system's own buffers.
"""

from __future__ import annotations

import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.figures import quantile
from tools.bench.network import Shape, arrived
from tools.bench.peers import COMPRESSED_BACKUP, FAR_BACKUPS, RSYNC, SLOW_BACKUPS
from tools.bench.workloads.backup import AGE, OURS, FirstBackup
from tools.bench.workloads.files import RAW, FileSet, arrange, check, make
from tools.bench.workloads.latency import STAMP, source
from tools.bench.workloads.streams import Source

__all__ = ["Beside", "BesideSides", "LinkBackup", "far", "lossy", "slow", "slow_logs"]

_SLOW = Shape(rate=50e6 / 8, trip=0.02)
_LOSSY = Shape(trip=0.02, loss=0.01)
_NOISE = FileSet(12, 5 << 20)
_QUICK = FileSet(200, 4000, folders=50, text=True)
_RSYNC = FAR_BACKUPS[0].name


class LinkBackup(FirstBackup):
    """Megabits of files a second, and where the link has a rate, which part of it is used."""

    def __init__(
        self,
        name: str,
        title: str,
        files: FileSet,
        link: Shape,
        peers: tuple[Contestant, ...],
        times: Mapping[str, float],
        used: Bound | None = None,
    ) -> None:
        metrics = [Metric("bits", "", "Mbit/s", times=times)]
        if link.rate:
            metrics.append(Metric("used", "use of the link", "%", used, compared=False))
        super().__init__(name, title, files, _QUICK, metrics=tuple(metrics), contestants=(RAW, *OURS, *peers))
        self.link: Shape = link

    def _timed(self, files: FileSet, work: Callable[[], None]) -> dict[str, float]:
        """The link's use is counted in whole packets, those that came twice included."""
        with Use(self.link) as use:
            figures = super()._timed(files, work)
        return {**figures, "used": use.percent} if self.link.rate else figures


class Use:
    """Which part of a link that leads here is used while the context lasts."""

    def __init__(self, link: Shape) -> None:
        self._rate = link.rate or 0.0
        self.percent = 0.0

    def __enter__(self) -> Use:
        self._before, self._began = arrived(), time.perf_counter()
        return self

    def __exit__(self, *_exception: object) -> None:
        seconds = time.perf_counter() - self._began
        if self._rate:
            self.percent = 100 * (arrived() - self._before) / (seconds * self._rate)


def far(milliseconds: int, times: Mapping[str, float]) -> LinkBackup:
    """As much as TCP makes of it, but each round trip lasts."""
    title = f"first backup of 5,000 logs of 4 kB, {milliseconds} ms away"
    files = FileSet(5000, 4000, folders=50, text=True)
    return LinkBackup(f"backup-{milliseconds}ms", title, files, Shape(trip=milliseconds / 1000), FAR_BACKUPS, times)


def lossy() -> LinkBackup:
    """One packet in a hundred is lost."""
    title = "first backup of 2,500 logs of 4 kB, 20 ms away, 1 % loss"
    files = FileSet(2500, 4000, folders=50, text=True)
    return LinkBackup("backup-loss", title, files, _LOSSY, FAR_BACKUPS, {_RSYNC: 3.0})


def slow() -> LinkBackup:
    """Nothing can be compressed."""
    title = "first backup of 12 x 5 MiB, 20 ms away, 50 Mbit/s"
    return LinkBackup("backup-50mbit", title, _NOISE, _SLOW, SLOW_BACKUPS, {}, Bound(95, plain=True))


def slow_logs() -> LinkBackup:
    """Much can be compressed."""
    title = "first backup of 60 logs of 1 MiB, 20 ms away, 50 Mbit/s"
    files = FileSet(60, 1 << 20, folders=20, text=True)
    times = {_RSYNC: 3.0, COMPRESSED_BACKUP.name: 1.0}
    return LinkBackup("backup-50mbit-logs", title, files, _SLOW, (*SLOW_BACKUPS, COMPRESSED_BACKUP), times)


class BesideSides(ABC):
    """What a contestant gives whose backup runs while a stream of ours goes over the same link."""

    @abstractmethod
    def serve(self, source: Source, folder: Path, host: str) -> AbstractContextManager[Any]:
        """Send the items of ``source()``, and let ``folder`` be backed up; answers the address."""

    @abstractmethod
    def items(self, address: Any) -> AbstractContextManager[Iterator[tuple[int, Any]]]:
        """An iterator over the items."""

    @abstractmethod
    def back_up(self, address: Any, target: Path) -> None:
        """All of it, in another process."""


class Beside(Workload[BesideSides]):
    """By how much the 99th percentile of the stream's delays grows from before a backup to while it runs."""

    name = "backup-beside-stream"
    title = "100 Hz stream beside a first backup, 20 ms away, 50 Mbit/s"
    metrics = (
        Metric("idle", "p99 before", "ms", costs=True, compared=False),
        Metric("added", "p99 grows by", "ms", Bound(10, at_most=True, plain=True), costs=True),
        Metric("used", "use of the link", "%", Bound(90, plain=True), compared=False),
    )
    contestants = (
        Contestant("pynetwork backup --not-durable", Role.OURS, "tools.bench.ours.beside:Ours"),
        Contestant(_RSYNC, Role.PEER, "tools.bench.ours.beside:Rsync", (RSYNC,)),
    )
    link: Shape | None = _SLOW
    _before = 300

    @staticmethod
    def _set(task: Task) -> FileSet:
        return _QUICK if task.quick else _NOISE

    def prepare(self, task: Task) -> None:
        """Make the files."""
        make(self._set(task), task.folder / "source")

    def serve(self, sides: BesideSides, task: Task) -> AbstractContextManager[Any]:
        """The source of the workload "latency", and the folder."""
        return sides.serve(source, task.folder / "source", task.host)

    def measure(self, sides: BesideSides, address: Any, task: Task) -> dict[str, float]:
        """By the clock that both processes share."""
        files, folder, target = self._set(task), task.folder / "source", task.folder / "target"
        arrange(files, folder, target, resident=False, age=AGE)
        with sides.items(address) as items:
            idle = [_delay(payload) for _, payload in islice(items, 20 if task.quick else self._before)]
            backup = threading.Thread(target=sides.back_up, args=(address, target))
            busy = []
            with Use(_SLOW) as use:
                backup.start()
                while backup.is_alive():
                    busy.append(_delay(next(items)[1]))
            backup.join()
        check(files, folder, target)
        shutil.rmtree(target)
        before, while_busy = quantile(idle, 0.99), quantile(busy, 0.99)
        return {"idle": before, "added": while_busy - before, "used": use.percent}


def _delay(payload: Any) -> float:
    """Milliseconds from the birth of an item to now."""
    return (time.monotonic_ns() - int(STAMP.unpack(payload)[0])) / 1e6

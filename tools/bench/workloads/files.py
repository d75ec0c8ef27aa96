"""Bringing files from one folder to another: a large one over a resident one, large ones, small logs.

Where there is a memory-backed folder all happens there, as the figures of a disk say more about the disk.
Even there, memory that is new to the machine may arrive slowly; hence the large file is written over one
that is there already. Each contestant finds the names and sizes by itself, within the time. Before each
turn the sources get a new modification time, so that nothing remembered of an earlier turn is of use, and
after each turn every byte is compared.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy

from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.logs import log_text
from tools.bench.peers import FILES

__all__ = [
    "COPY",
    "RAW",
    "FileSet",
    "FileSides",
    "FileWorkload",
    "arrange",
    "check",
    "large_file",
    "large_files",
    "make",
    "small_logs",
]

Fetch = Callable[[Path], None]
_BLOCK = 1 << 20


class FileSides(ABC):
    """What a contestant of files gives. Who would take minutes for thousands of small ones gets only a ``few``; who is
    not ``remote`` has no network between; and ``in_process`` is who starts no programs for it.
    """

    few: ClassVar[bool] = False
    remote: ClassVar[bool] = True
    in_process: ClassVar[bool] = False

    @abstractmethod
    def serve(self, source: Path, host: str) -> AbstractContextManager[Any]:
        """Let clients read the files in and below ``source``; the context answers the address: ``host`` and the
        port where there is a network between, and what else the sides need.
        """

    @abstractmethod
    def session(self, address: Any, connections: int) -> AbstractContextManager[Fetch]:
        """Connect; answers ``fetch(target)``, which brings all files into that folder."""

    def adopt(self, target: Path) -> None:  # noqa: B027
        """The files in ``target`` are to be written over: make them what this contestant writes over."""


@dataclass(frozen=True)
class FileSet:
    """So many files of so many bytes, spread over so many sub-folders: noise, or the text of logs."""

    count: int
    size: int
    folders: int = 0
    text: bool = False

    def few(self) -> FileSet:
        """One folder of them, where there are several."""
        return replace(self, count=self.count // self.folders, folders=1) if self.folders else self

    def names(self) -> list[str]:
        """Their paths, relative to the folder."""
        if self.folders:
            return [f"day{number % self.folders:02}/device{number:05}.log" for number in range(self.count)]
        return [f"record{number:02}.bin" for number in range(self.count)]


def make(files: FileSet, folder: Path) -> None:
    """Write the set, with content that nothing can guess, nor compress if it is noise."""
    chance = numpy.random.default_rng(1)
    letters = random.Random(1)
    for name in files.names():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for start in range(0, files.size, _BLOCK):
                size = min(_BLOCK, files.size - start)
                file.write(log_text(letters, size) if files.text else chance.bytes(size))


def arrange(files: FileSet, source: Path, target: Path, resident: bool, age: float = 0.0) -> None:
    """Before a turn: new times on the sources, so many seconds ago; in the target nothing, or files of the right size
    with wrong content.
    """
    stamp = time.time_ns() - int(age * 1e9)
    for name in files.names():
        os.utime(source / name, ns=(stamp, stamp))
    if not resident:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        return
    target.mkdir(exist_ok=True)
    for name in files.names():
        path = target / name
        if not path.exists() or path.stat().st_size != files.size:
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, path)
        with path.open("r+b") as file:
            for start in range(0, files.size, _BLOCK):
                file.seek(start)
                file.write(b"to be written over")


def check(files: FileSet, source: Path, target: Path) -> None:
    """Raise ValueError unless every byte has arrived, and none beside."""
    for name in files.names():
        # Unbuffered: there may be a hundred thousand.
        with open(source / name, "rb", 0) as one, open(target / name, "rb", 0) as other:
            while block := one.read(_BLOCK):
                if block != other.read(_BLOCK):
                    raise ValueError(f"{name} did not arrive as it is")
            if other.read(1):
                raise ValueError(f"{name} arrived with more than it has")


_QUICK = {"file": FileSet(1, 32 << 20), "files": FileSet(4, 8 << 20), "logs": FileSet(200, 4000, folders=50)}


_AMOUNTS: dict[str, Callable[[FileSet], float]] = {
    "files": lambda files: files.count,
    "rate": lambda files: files.count * files.size / 1e6,
    "bits": lambda files: files.count * files.size * 8 / 1e6,
}


class FileWorkload(Workload[FileSides]):
    """One set of files over so many connections. The first metric is files, megabytes ("rate") or megabits (10^6) a
    second, by its key. ``age`` is how many seconds ago the files were written.
    """

    def __init__(
        self,
        name: str,
        title: str,
        files: FileSet,
        quick: FileSet,
        connections: int,
        *,
        metrics: tuple[Metric, ...],
        contestants: tuple[Contestant, ...],
        resident: bool = False,
        age: float = 0.0,
    ) -> None:
        self.name = name
        self.title = title
        self.metrics = metrics
        self.contestants = contestants
        self._files = files
        self._quick = quick
        self._connections = connections
        self._resident = resident
        self._age = age

    def _set(self, task: Task, few: bool = False) -> tuple[FileSet, Path]:
        """The files, and the folder that they are in."""
        files = self._quick if task.quick else self._files
        if few and files.few() != files:
            return files.few(), task.folder / "few"
        return files, task.folder / "source"

    def prepare(self, task: Task) -> None:
        """Make the files."""
        for files, source in {self._set(task), self._set(task, few=True)}:
            make(files, source)

    def serve(self, sides: FileSides, task: Task) -> AbstractContextManager[Any]:
        """Serve the folder with them."""
        return sides.serve(self._set(task, sides.few)[1], task.host)

    def measure(self, sides: FileSides, address: Any, task: Task) -> dict[str, float]:
        """All files once; connecting does not count, finding out what there is does."""
        files, source = self._set(task, sides.few)
        target = task.folder / "target"
        arrange(files, source, target, self._resident, self._age)
        if self._resident:
            sides.adopt(target)
        with sides.session(address, self._connections) as fetch:
            figures = self._timed(files, lambda: fetch(target))
        check(files, source, target)
        if not self._resident:
            shutil.rmtree(target)
        return figures

    def _timed(self, files: FileSet, work: Callable[[], None]) -> dict[str, float]:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        key = self.metrics[0].key
        return {key: _AMOUNTS[key](files) / seconds}


RAW = Contestant("raw socket, sendfile, no digests", Role.LIMIT, "tools.bench.raw.files:RawFiles")
COPY = Contestant("cp -a, no network", Role.ORIENTATION, "tools.bench.raw.files:Copy")
_OURS = Contestant("pynetwork", Role.OURS, "tools.bench.ours.files:OurFiles")


def _connections(number: int) -> str:
    return f"{number} connection{'s' if number > 1 else ''}"


def large_file(connections: int) -> FileWorkload:
    """1 GiB over a resident file."""
    return FileWorkload(
        f"file-{connections}",
        f"1 GiB over a resident file, {_connections(connections)}",
        FileSet(1, 1 << 30),
        _QUICK["file"],
        connections,
        metrics=(Metric("rate", "", "MB/s", Bound(1.0), digits=0),),
        contestants=(RAW, _OURS, *FILES),
        resident=True,
    )


def large_files(connections: int) -> FileWorkload:
    """20 files of 50 MiB, new."""
    return FileWorkload(
        f"files-{connections}",
        f"20 x 50 MiB, new, {_connections(connections)}",
        FileSet(20, 50 << 20),
        _QUICK["files"],
        connections,
        metrics=(Metric("rate", "", "MB/s", digits=0),),
        contestants=(RAW, COPY, _OURS, *FILES),
    )


def small_logs(connections: int) -> FileWorkload:
    """5,000 logs of about 4 KiB in 50 folders, new."""
    return FileWorkload(
        f"logs-{connections}",
        f"5,000 logs of 4 kB, new, {_connections(connections)}",
        FileSet(5000, 4000, folders=50),
        _QUICK["logs"],
        connections,
        metrics=(Metric("files", "", "files/s", digits=0),),
        contestants=(RAW, COPY, _OURS, *FILES),
    )

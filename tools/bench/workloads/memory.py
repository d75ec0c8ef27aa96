"""Memory, in fresh processes: of a gateway at rest, of a pair that does nothing, of a lane that works."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import psutil

from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.workloads.files import FileSet, FileSides, arrange, check, make

__all__ = ["AtRest", "BusyLane", "IdlePair", "IdleSides", "Script", "peak", "restart_peak"]

_LANES = 4
_MIB = 1 << 20


class Script(ABC):
    """A contestant that is a few lines of Python in an interpreter of its own, which print one number."""

    @abstractmethod
    def text(self) -> str:
        """The lines."""

    def run(self) -> float:
        """The number. Raises `subprocess.CalledProcessError`."""
        command = [sys.executable, "-c", self.text()]
        # As for users: compiled once. Installed packages come compiled, so that this only matters to ours.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60, env=environment).stdout)


class AtRest(Workload[Script]):
    """Resident memory of a started gateway, beside an interpreter that has imported the core dependencies."""

    name = "memory-rest"
    title = "memory of a gateway at rest"
    metrics = (Metric("rest", "", "MiB", Bound(1.3, at_most=True), costs=True),)
    contestants = (
        Contestant("interpreter, core dependencies", Role.LIMIT, "tools.bench.raw.scripts:BareMemory"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.scripts:GatewayMemory"),
    )

    def serve(self, sides: Script, task: Task) -> AbstractContextManager[Any]:
        """Nothing has to run."""
        del sides, task
        return nullcontext()

    def measure(self, sides: Script, address: Any, task: Task) -> dict[str, float]:
        """One interpreter."""
        del address, task
        return {"rest": sides.run() / _MIB}


class IdleSides(ABC):
    """What a contestant of idle pairs gives."""

    @abstractmethod
    def serve(self, most: int) -> AbstractContextManager[Any]:
        """Accept up to ``most`` connections; the context answers the address."""

    @abstractmethod
    def connect(self, address: Any) -> Callable[[], AbstractContextManager[Any]]:
        """Answers what makes one connection, ready for work."""


class IdlePair(Workload[IdleSides]):
    """Growth of resident memory of both processes for each connection that is open and idle."""

    name = "memory-idle"
    title = "memory of an idle pair"
    metrics = (
        Metric("server", "gateway", "KiB", costs=True),
        Metric("client", "controller", "KiB", costs=True),
    )
    contestants = (
        Contestant("raw socket, a thread for each", Role.LIMIT, "tools.bench.raw.idle:RawIdle"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.idle:OurIdle"),
    )
    fresh: ClassVar[bool] = True
    _first = 4
    _pairs = 96

    def serve(self, sides: IdleSides, task: Task) -> AbstractContextManager[Any]:
        """Room for all of them."""
        del task
        return sides.serve(self._first + self._pairs)

    def measure(self, sides: IdleSides, address: Any, task: Task) -> dict[str, float]:
        """The first few bring in what is loaded once, and do not count."""
        processes = str(task.server), "self"
        with ExitStack() as stack:
            connect = sides.connect(address)
            for _ in range(self._first):
                stack.enter_context(connect())
            before = [_resident(each) for each in processes]
            for _ in range(self._pairs):
                stack.enter_context(connect())
            after = [_resident(each) for each in processes]
        server, client = ((late - early) / self._pairs / 1024 for early, late in zip(before, after, strict=True))
        return {"server": server, "client": client}


class BusyLane(Workload[FileSides]):
    """Growth of the peak of resident memory while 1 GiB comes over four lanes, for each lane, in both
    processes.
    """

    name = "memory-busy"
    title = "memory of a busy lane, 1 GiB over 4"
    metrics = (
        Metric("server", "gateway", "MiB", digits=2, costs=True),
        Metric("client", "controller", "MiB", digits=2, costs=True),
    )
    contestants = (
        Contestant("raw socket, sendfile, no digests", Role.LIMIT, "tools.bench.raw.files:RawFiles"),
        Contestant("pynetwork", Role.OURS, "tools.bench.ours.files:OurFiles"),
    )
    fresh: ClassVar[bool] = True

    def prepare(self, task: Task) -> None:
        """Make the file."""
        make(self._set(task), task.folder / "source")

    @staticmethod
    def _set(task: Task) -> FileSet:
        return FileSet(1, 32 * _MIB if task.quick else 1024 * _MIB)

    def serve(self, sides: FileSides, task: Task) -> AbstractContextManager[Any]:
        """Serve the folder with it."""
        return sides.serve(task.folder / "source", task.host)

    def measure(self, sides: FileSides, address: Any, task: Task) -> dict[str, float]:
        """The peaks are those of the system, so nothing is missed between two looks."""
        source, target = task.folder / "source", task.folder / "target"
        arrange(self._set(task), source, target, resident=True)
        sides.adopt(target)
        with sides.session(address, _LANES) as fetch:
            before = [restart_peak(each) for each in (str(task.server), "self")]
            fetch(target)
            after = [peak(each) for each in (str(task.server), "self")]
        check(self._set(task), source, target)
        server, client = ((late - early) / _LANES / _MIB for early, late in zip(before, after, strict=True))
        return {"server": server, "client": client}


def restart_peak(process: str) -> int:
    """Forget the peak of a process's resident memory so far; answers what is resident now, in bytes."""
    # 5: the peak becomes what is resident now (proc(5)).
    Path(f"/proc/{process}/clear_refs").write_text("5", encoding="ascii")
    return peak(process)


def peak(process: str) -> int:
    """The most memory that was resident, in bytes."""
    return _figure(Path(f"/proc/{process}/status"), "VmHWM:")


def _resident(process: str) -> int:
    try:
        # The short figure that everybody else reads is behind by up to some hundred KiB for each CPU.
        return _figure(Path(f"/proc/{process}/smaps_rollup"), "Rss:")
    except OSError:
        return int(psutil.Process(None if process == "self" else int(process)).memory_info().rss)


def _figure(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(f"this system does not tell the memory of a process ({path}, {name})")

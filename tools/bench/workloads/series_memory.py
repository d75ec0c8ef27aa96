"""Memory of a series server and its client, in fresh processes, while four million records come and go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final

from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.sensors import TOGETHER, Array, readings
from tools.bench.workloads.memory import peak, restart_peak

__all__ = ["LIMIT", "SeriesMemory", "StreamingSession", "StreamingSides"]

LIMIT: Final = 16 << 20
"""Bytes of records that an answer may hold in memory."""

_RECORDS: Final = 4 << 20
_MIB: Final = 1 << 20


class StreamingSession(ABC):
    """A connection whose answers hold `LIMIT` bytes of records at most."""

    @abstractmethod
    def put(self, rows: Array) -> None:
        """Send records, and wait until they are confirmed."""

    @abstractmethod
    def stream(self) -> int:
        """Get all records, and let go of them as they come; how many there were."""


class StreamingSides(ABC):
    """What a contestant gives."""

    @abstractmethod
    def serve(self, folder: Path) -> AbstractContextManager[Any]:
        """A store in a new folder; answers the address."""

    @abstractmethod
    def connect(self, address: Any) -> AbstractContextManager[StreamingSession]:
        """One connection."""


class SeriesMemory(Workload[StreamingSides]):
    """Growth of the peaks of resident memory above what both had when they were connected, the client's array left out.

    What a put leaves behind counts in the get as well.
    """

    name = "series-memory"
    title = "memory of 4,194,304 records of 48 bytes over the loopback"
    metrics = (
        Metric("put_server", "put as one array, server", "MiB", Bound(64, at_most=True, plain=True), costs=True),
        Metric("put_client", "put as one array, client", "MiB", costs=True),
        Metric(
            "get_server", "get with a limit of 16 MiB, server", "MiB", Bound(64, at_most=True, plain=True), costs=True
        ),
        Metric(
            "get_client", "get with a limit of 16 MiB, client", "MiB", Bound(48, at_most=True, plain=True), costs=True
        ),
    )
    contestants = (Contestant("pynetwork", Role.OURS, "tools.bench.ours.series:OurStreaming"),)
    fresh: ClassVar[bool] = True
    on_disk: bool = True

    @contextmanager
    def serve(self, sides: StreamingSides, task: Task) -> Iterator[Any]:
        """A new store each time."""
        with TemporaryDirectory(dir=task.scratch) as folder, sides.serve(Path(folder) / "store") as address:
            yield address

    def measure(self, sides: StreamingSides, address: Any, task: Task) -> dict[str, float]:
        """The peaks are those of the system, so nothing is missed between two looks."""
        server = str(task.server)
        count = 2 * TOGETHER if task.quick else _RECORDS
        # Once before, as making readings loads what the client would not have otherwise.
        readings(0, TOGETHER)
        with sides.connect(address) as session:
            idle, mine = restart_peak(server), restart_peak("self")
            rows = readings(0, count)
            with_rows = restart_peak("self")
            session.put(rows)
            put_server, put_client = peak(server) - idle, peak("self") - with_rows
            del rows
            restart_peak(server)
            restart_peak("self")
            found = session.stream()
            get_server, get_client = peak(server) - idle, peak("self") - mine
        if found != count:
            raise ValueError(f"{found} records came where {count} were due")
        figures = {
            "put_server": put_server,
            "put_client": put_client,
            "get_server": get_server,
            "get_client": get_client,
        }
        return {name: figure / _MIB for name, figure in figures.items()}

"""The workloads, by name, in the order in which they are measured."""

from __future__ import annotations

from typing import Any

from tools.bench.contract import Workload
from tools.bench.workloads.array_items import ArrayItems
from tools.bench.workloads.backup import first_files, first_logs, grown, same
from tools.bench.workloads.call import Call, CallUnpinned
from tools.bench.workloads.files import large_file, large_files, small_logs
from tools.bench.workloads.import_time import ImportTime
from tools.bench.workloads.json_items import JsonItems
from tools.bench.workloads.latency import Latency
from tools.bench.workloads.links import Beside, far, lossy, slow, slow_logs
from tools.bench.workloads.memory import AtRest, BusyLane, IdlePair
from tools.bench.workloads.series_channel import SeriesChannel, SeriesPutters
from tools.bench.workloads.series_memory import SeriesMemory
from tools.bench.workloads.series_store import SeriesBox, SeriesStore
from tools.bench.workloads.small_items import SmallItems, SmallItemsUnpinned

__all__ = ["WORKLOADS"]

_ALL: tuple[Workload[Any], ...] = (
    Call(),
    CallUnpinned(),
    SmallItems(),
    SmallItemsUnpinned(),
    JsonItems(),
    ArrayItems(),
    Latency(),
    large_file(1),
    large_file(4),
    large_files(4),
    small_logs(1),
    small_logs(4),
    first_logs(),
    first_files(),
    same(5000),
    same(100_000),
    grown(),
    first_logs(flushed=True),
    first_files(flushed=True),
    same(5000, flushed=True),
    grown(flushed=True),
    far(20, times={}),
    far(100, times={"rsync daemon": 2.0}),
    lossy(),
    slow(),
    slow_logs(),
    Beside(),
    SeriesStore(),
    SeriesBox(),
    SeriesChannel(),
    SeriesPutters(),
    SeriesMemory(),
    AtRest(),
    IdlePair(),
    BusyLane(),
    ImportTime(),
)

WORKLOADS = {workload.name: workload for workload in _ALL}

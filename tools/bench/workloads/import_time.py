"""How long ``import pynetwork`` takes, beside ``import numpy``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tools.bench.contract import Bound, Contestant, Metric, Role, Task, Workload
from tools.bench.figures import quantile
from tools.bench.workloads.memory import Script

__all__ = ["ImportTime"]

_EACH = 5


class ImportTime(Workload[Script]):
    """The median of a few fresh interpreters; the interpreter's own start does not count."""

    name = "import"
    title = "import"
    metrics = (Metric("time", "", "ms", Bound(1.5, at_most=True), costs=True),)
    contestants = (
        Contestant("import numpy", Role.LIMIT, "tools.bench.raw.scripts:ImportNumpy"),
        Contestant("import pynetwork", Role.OURS, "tools.bench.ours.scripts:ImportPynetwork"),
    )

    def serve(self, sides: Script, task: Task) -> AbstractContextManager[Any]:
        """Nothing has to run."""
        del sides, task
        return nullcontext()

    def measure(self, sides: Script, address: Any, task: Task) -> dict[str, float]:
        """Milliseconds."""
        del address
        return {"time": 1e3 * quantile([sides.run() for _ in range(1 if task.quick else _EACH)], 0.5)}

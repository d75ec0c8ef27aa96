"""Interpreters to compare with."""

from __future__ import annotations

from tools.bench.workloads.memory import Script

__all__ = ["BareMemory", "ImportNumpy", "timed_import"]

MEMORY = "print(psutil.Process().memory_info().rss)"


class BareMemory(Script):
    """The core dependencies, imported."""

    def text(self) -> str:
        """Prints bytes."""
        return f"import numpy, orjson, psutil, tqdm, xxhash\n{MEMORY}"


class ImportNumpy(Script):
    """The largest of them."""

    def text(self) -> str:
        """Prints seconds."""
        return timed_import("numpy")


def timed_import(name: str) -> str:
    """A program that prints how long importing takes, in seconds."""
    return f"import time\nbegan = time.perf_counter()\nimport {name}\nprint(time.perf_counter() - began)"

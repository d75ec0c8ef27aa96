"""Figures of this process and its machine, by psutil. Its processor load counts from the import of this module."""

from __future__ import annotations

from typing import Any

import psutil

__all__ = ["machine_figures", "process_figures"]


def process_figures() -> dict[str, Any]:
    """Resident memory in bytes, seconds of processor time, and threads of this process."""
    process = psutil.Process()
    return {
        "memory": process.memory_info().rss,
        "cpu_seconds": sum(process.cpu_times()[:2]),
        "threads": process.num_threads(),
    }


def machine_figures() -> dict[str, Any]:
    """Processors and their load, memory in bytes, and when the machine was started (seconds since 1970)."""
    memory = psutil.virtual_memory()
    return {
        "cpus": psutil.cpu_count(),
        "cpu_percent": psutil.cpu_percent(),
        "load": list(psutil.getloadavg()),
        "memory_total": memory.total,
        "memory_available": memory.available,
        "boot_time": psutil.boot_time(),
    }

"""What the figures were measured on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import psutil

from pynetwork._version import __version__

__all__ = ["describe"]

_CORE = ("numpy", "orjson", "xxhash", "tqdm", "psutil")


def describe(packages: Iterable[str] = ()) -> dict[str, str]:
    """Name and value of everything worth printing; ``packages`` are further distributions whose version
    matters.
    """
    found = {name: _version(name) for name in (*_CORE, *dict.fromkeys(packages))}
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{each:.2f}" for each in psutil.getloadavg())
    return {
        "pynetwork": __version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name, version in found.items() if version),
        "CPU": f"{_cpu_model()}, {usable} usable",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load before": load,
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        # Boards of the Raspberry Pi name themselves under "Model", PC processors under "model name".
        if name.strip().lower() in ("model name", "model") and not value.strip().isdigit():
            return value.strip()
    return platform.processor() or "unknown"

"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

import psutil

from pynetwork._version import __version__
from tools.bench.needs import Need, Package

__all__ = ["describe"]

_CORE = tuple(map(Package, ("numpy", "orjson", "xxhash", "tqdm", "psutil")))


def describe(peers: Iterable[Need] = ()) -> dict[str, str]:
    """Name and value of everything worth printing; ``peers`` is what the peers in the run need."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = ", ".join(f"{each:.2f}" for each in psutil.getloadavg())
    return {
        "pynetwork": __version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": _versions(_CORE),
        "peers": _versions(dict.fromkeys(peers)) or "none",
        "CPU": f"{_cpu_model()}, {usable} usable",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load before": load,
    }


def _versions(needs: Iterable[Need]) -> str:
    """Of what is there."""
    found = ((need.name, need.version()) for need in needs)
    return ", ".join(
        name if name.endswith(f" {version}") else f"{name} {version}" for name, version in found if version
    )


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

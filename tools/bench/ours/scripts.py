"""Interpreters with pynetwork in them."""

from __future__ import annotations

from tools.bench.raw.scripts import MEMORY, timed_import
from tools.bench.workloads.memory import Script

__all__ = ["GatewayMemory", "ImportPynetwork"]


class GatewayMemory(Script):
    """A gateway that listens."""

    def text(self) -> str:
        """Prints bytes."""
        return f"import psutil, pynetwork\nwith pynetwork.Gateway(0, host='127.0.0.1'):\n    {MEMORY}"


class ImportPynetwork(Script):
    """The package as a user imports it."""

    def text(self) -> str:
        """Prints seconds."""
        return timed_import("pynetwork")

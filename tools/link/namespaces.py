"""Which processes are in a network namespace, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

__all__ = ["end_processes", "processes_in"]

_PATIENCE = 5.0


def processes_in(namespace: int) -> Iterator[int]:
    """The ids of the processes in the network namespace of this inode number."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            # It may have ended, or belong to somebody whose processes are hidden.
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == namespace:
                    yield int(name)


def end_processes(namespace: int) -> None:
    """Kill all processes in a network namespace that was made for them, with those that they still start."""
    deadline = time.monotonic() + _PATIENCE
    while (left := list(processes_in(namespace))) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.001)

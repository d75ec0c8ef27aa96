"""Starting programs in a network namespace, finding them, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

__all__ = ["end_processes", "entering", "processes_in"]

_PATIENCE = 5.0


def entering(path: str) -> list[str]:
    """The beginning of a command that is run in the namespace at a path."""
    return ["nsenter", f"--net={path}", "--"]


def processes_in(inode: int, path: str = "") -> Iterator[int]:
    """The ids of the processes in the network namespace of this inode number, and of those that are `entering` it."""
    door = "\0".join(entering(path)).encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            # It may have ended, or belong to somebody whose processes are hidden.
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == inode or (path and _command(name).startswith(door)):
                    yield int(name)


def _command(process: str) -> bytes:
    with open(f"/proc/{process}/cmdline", "rb") as file:
        return file.read()


def end_processes(inode: int, path: str) -> None:
    """Kill all processes in, or entering, a network namespace that was made for them, with those that they start."""
    deadline = time.monotonic() + _PATIENCE
    while (left := list(processes_in(inode, path))) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.001)

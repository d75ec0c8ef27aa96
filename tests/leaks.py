"""What a test may leave behind: no thread, no child process, no open descriptor."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import psutil

from tests.waiting import wait_until

Thing = TypeVar("Thing")

PATIENCE = 5.0
DESCRIPTORS = Path("/proc/self/fd")
# Helpers that a library starts once and keeps: tqdm's refresher, multiprocessing's cleaner and fork server.
LONG_LIVED_THREADS = ("TMonitor",)
LONG_LIVED_PROCESSES = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
# Opened once by the interpreter or the C library and kept.
LONG_LIVED_FILES = ("/dev/urandom", "/dev/null")


@dataclass(frozen=True)
class Watch(Generic[Thing]):
    """One kind of thing that a test can leave behind: how to list it and how to say what it is."""

    name: str
    living: Callable[[], set[Thing]]
    describe: Callable[[Thing], str]

    def leaks(self, before: set[Thing], patience: float = PATIENCE) -> set[Thing]:
        """Return what lives now and did not `before`, after having given it time to go."""
        try:
            wait_until(lambda: not self.living() - before, timeout=patience)
        except AssertionError:
            return self.living() - before
        return set()


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if type(thread).__name__ not in LONG_LIVED_THREADS}


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else "(ended meanwhile)\n"
    return f"{thread!r}\n{stack}"


def _command(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.status()}: {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid} (ended meanwhile)"


def _has_children() -> bool:
    """Whether this process has any child, running or not waited for; where that can't be told, it may."""
    if not hasattr(os, "waitid"):
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _processes() -> set[psutil.Process]:
    if not _has_children():  # as a rule; to look through all processes of the machine takes longer than most tests
        return set()
    children = psutil.Process().children(recursive=True)
    return {child for child in children if not any(name in _command(child) for name in LONG_LIVED_PROCESSES)}


def _descriptors() -> set[tuple[str, str]]:
    if not DESCRIPTORS.exists():  # not Linux: there, unclosed sockets still show up as ResourceWarning
        return set()
    found = set()
    for number in os.listdir(DESCRIPTORS):
        try:
            target = os.readlink(DESCRIPTORS / number)
        except OSError:  # the one that listed the folder
            continue
        if target not in LONG_LIVED_FILES:
            found.add((number, target))
    return found


THREADS = Watch("threads", _threads, _stack)
PROCESSES = Watch("child processes", _processes, _command)
FILES = Watch("descriptors", _descriptors, " -> ".join)

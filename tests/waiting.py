"""Waiting for something that happens elsewhere: in another thread, in another process, in the kernel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")

INTERVAL = 0.005


def wait_until(condition: Callable[[], Seen], timeout: float = 5.0, what: str = "") -> Seen:
    """Call `condition` until what it returns is true, and return that.

    The sleep in here is the only one a test needs: a test waits for something it can name, never for a while.
    Raises AssertionError, naming `what` (or the condition), after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"waited {timeout:g} s in vain for {name}; last seen: {seen!r}")
        time.sleep(INTERVAL)

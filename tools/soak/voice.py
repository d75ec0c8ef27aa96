"""How a process that takes part in a soak speaks to whoever started it, and hears that it should end."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Voice", "when_input_ends"]


class Voice:
    """Says lines of JSON on what was the standard output, from any thread."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        # Whatever else is printed must not be taken for one of these lines.
        os.dup2(2, 1)

    def say(self, **message: Any) -> None:
        """Say one line."""
        with self._lock:
            self._file.write(json.dumps(message) + "\n")

    def __enter__(self) -> Voice:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()


def when_input_ends(action: Callable[[], None]) -> None:
    """Do this, on a thread of its own, when the standard input ends: whoever started this process has gone, or asks it
    to end.
    """

    def wait() -> None:
        sys.stdin.read()
        action()

    threading.Thread(target=wait, name="input", daemon=True).start()

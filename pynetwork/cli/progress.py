"""Progress of long work: a bar on a terminal, or an object a line with --json."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator

from pynetwork.cli.common import Output
from pynetwork.cli.display import on_terminal

__all__ = ["progress_for"]

_EVERY = 1.0


@contextlib.contextmanager
def progress_for(
    arguments: argparse.Namespace, output: Output
) -> Iterator[bool | Callable[[int, int, int, int], None]]:
    """What a job is to be given as its ``progress``."""
    if not arguments.json:
        yield on_terminal()
        return
    last = 0.0

    def tell(done: int, total: int, files: int, files_total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY:
            last = now
            output.event(
                "progress", None, bytes_done=done, bytes_total=total, files_done=files, files_total=files_total
            )

    yield tell

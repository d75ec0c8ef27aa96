"""A series server for tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from pynetwork.series.server import SeriesServer
from tests.pynetwork.series.memory_store import MemoryStore


@contextlib.contextmanager
def serving(store: Any = None, **options: Any) -> Iterator[tuple[SeriesServer, Any]]:
    """A server over a store in memory, and the store."""
    store = store or MemoryStore()
    with SeriesServer(store, **options) as server:
        yield server, store


def ours(server: SeriesServer) -> list[threading.Thread]:
    """The threads of a server."""
    return [each for each in threading.enumerate() if each.name.startswith(server.name)]

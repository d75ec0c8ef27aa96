"""How many lanes are worth having: more are added while each makes it quicker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from pynetwork.lanes import Lanes

__all__ = ["MOST_LANES", "grow"]

MOST_LANES: Final = 4
"""So many connections a job takes by itself; a gateway has five handlers unless told otherwise."""
_WINDOW: Final = 0.5
_WORTH_IT: Final = 1.15
_LONG_WAY: Final = 0.01
_LOOK: Final = 0.05
_BEGINNING: Final = 0.001


def grow(lanes: Lanes, most: Callable[[], int], moved: Callable[[], int | None], stopping: threading.Event) -> None:
    """Add lanes as long as each makes it quicker; at once where the way is long: connections begin slowly there.

    ``most``: so many there may be now; ``moved``: bytes till now, None while nothing waits to be moved.
    """
    while not lanes.running:
        if stopping.wait(_BEGINNING):
            return
    if lanes.clients[0].link.stream.round_trip >= _LONG_WAY:
        while lanes.count < MOST_LANES and not stopping.is_set():
            if lanes.count >= most():
                stopping.wait(_LOOK)
            elif not lanes.grow():
                return
    before = rate = 0.0
    counted = 0
    while lanes.count < most() and not stopping.wait(_WINDOW):
        total = moved()
        if total is None:
            continue
        rate, counted = total - counted, total
        if rate < before * _WORTH_IT or not lanes.grow():
            return
        before = rate

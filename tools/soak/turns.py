"""A thread that uses one client, or one swarm, again and again, and tells what came of it."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from handshakes.errors import ItemFailed, PynetworkError
from tools.soak.operations import Operation, Scene, Wrong

__all__ = ["CLOSING", "DIALLING", "Count", "Failure", "Turns"]

DIALLING = "dial"
CLOSING = "close"
_MOST_TURNS = 60
_PAUSE = 0.1


@dataclass
class Count:
    """How often an operation came out right, and the most seconds that it took."""

    right: int = 0
    slowest: float = 0.0

    def add(self, other: Count) -> None:
        """Add another's figures to these."""
        self.right += other.right
        self.slowest = max(self.slowest, other.slowest)


@dataclass(frozen=True)
class Failure:
    """An operation that did not come out right. ``kind`` is the class of its error, ``wrong`` or ``hung``; what
    happened between ``since`` and ``ended``, on the clock of `time.monotonic`, may be why.
    """

    operation: str
    kind: str
    text: str
    since: float
    ended: float

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Failure:
        """The inverse of `to_json`."""
        return cls(**fields)


class Turns:
    """Dials, does some of the ``operations`` in random order, closes, and begins again, until it is stopped.

    ``lasting``: a loss that nobody noticed between two operations is one of the next; a swarm begins each with lanes
    that are alive.
    """

    def __init__(
        self,
        dial: Callable[[], Any],
        operations: Sequence[Operation],
        scene: Scene,
        chance: random.Random,
        tell: Callable[[Failure], None],
        *,
        lasting: bool,
    ) -> None:
        self._dial = dial
        self._operations = operations
        self._scene = scene
        self._chance = chance
        self._tell = tell
        self._lasting = lasting
        self._drawn: list[Operation] = []
        self._since = 0.0
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}
        self._running: tuple[str, float] | None = None
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._live, name=scene.name, daemon=True)

    def stop(self) -> None:
        """End after what runs now."""
        self._stopping.set()

    def counts(self) -> dict[str, Count]:
        """What came out right since this was asked last."""
        with self._lock:
            counts, self._counts = self._counts, {}
            return counts

    def hanging(self, seconds: float) -> tuple[str, float] | None:
        """What has been running for longer than so many seconds, and since when."""
        running = self._running
        return running if running is not None and time.monotonic() - running[1] > seconds else None

    def _live(self) -> None:
        while not self._stopping.is_set():
            self._since = time.monotonic()
            made: list[Any] = []
            if self._did(DIALLING, partial(self._make, made)):
                self._use(made[0])
                self._did(CLOSING, made[0].close)
            else:
                self._stopping.wait(_PAUSE)

    def _make(self, made: list[Any]) -> None:
        made.append(self._dial())

    def _use(self, caller: Any) -> None:
        for _ in range(self._chance.randrange(1, _MOST_TURNS)):
            if self._stopping.is_set():
                return
            operation = self._draw()
            if not self._did(operation.name, partial(operation.run, caller, self._chance, self._scene)):
                return

    def _draw(self) -> Operation:
        """Any one, but none again before all others have had their turn."""
        if not self._drawn:
            self._drawn = self._chance.sample(self._operations, len(self._operations))
        return self._drawn.pop()

    def _did(self, name: str, do: Callable[[], None]) -> bool:
        """Do it, and tell what came of it; whether it came out right."""
        began = time.monotonic()
        since = self._since if self._lasting else began
        self._running = name, began
        try:
            do()
        except Exception as error:
            self._tell(Failure(name, _kind(error), _text(error), since, time.monotonic()))
            return False
        finally:
            self._running = None
        self._since = time.monotonic()
        with self._lock:
            self._counts.setdefault(name, Count()).add(Count(1, self._since - began))
        return True


def _kind(error: BaseException) -> str:
    while isinstance(error, ItemFailed) and error.__cause__ is not None:
        error = error.__cause__
    return "wrong" if isinstance(error, Wrong) else type(error).__name__


def _text(error: Exception) -> str:
    if isinstance(error, (PynetworkError, Wrong)):
        return str(error)
    return "".join(traceback.format_exception(error))

"""What a store does by itself, in one thread: it folds small puts, moves SQLite's log, removes what nobody can see."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Chore", "Upkeep"]

logger = logging.getLogger("pynetwork.series")


class Chore(NamedTuple):
    """Something to do by and by: ``due`` says whether. What is ``urgent`` is looked at whenever something was put."""

    due: Callable[[], bool]
    do: Callable[[], object]
    urgent: bool = True


class Upkeep:
    """Does ``chores`` when they are due, as `look` is called, and at times by itself. What fails is tried again then,
    and is told in the log, once until it is done; ``failure`` is the last that did.
    """

    def __init__(self, chores: Sequence[Chore], every: float = 1.0) -> None:
        self._chores = chores
        self._every = every
        self._wanted = threading.Event()
        self._stopping = False
        self.failure: Exception | None = None
        self._told: dict[Chore, str] = {}
        # Nothing is lost when it ends in the middle of something, so it does not keep a program from ending.
        self._thread = threading.Thread(target=self._run, name="series-upkeep", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Something may be due."""
        if not self._wanted.is_set() and any(chore.urgent and chore.due() for chore in self._chores):
            self._wanted.set()

    @property
    def stopping(self) -> bool:
        """Whether what is being done should be left off."""
        return self._stopping

    def stop(self) -> None:
        """Return when nothing is being done, and nothing will be any more."""
        self._stopping = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._wanted.wait(self._every)
            self._wanted.clear()
            for chore in self._chores:
                if self._stopping:
                    return
                try:
                    if chore.due():
                        chore.do()
                        self._told.pop(chore, None)
                except Exception as error:
                    self._tell(chore, error)

    def _tell(self, chore: Chore, error: Exception) -> None:
        self.failure = error
        if self._told.get(chore) != repr(error):
            self._told[chore] = repr(error)
            logger.warning("the store can't be kept in order, and tries again: %s", error)

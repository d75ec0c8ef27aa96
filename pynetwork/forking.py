"""What a forked child gives back at once: the connections and listeners of its parent.

A fork leaves every open socket in two processes. Were both to use it, neither peer could tell them apart; and even a
child that never touches it would keep a connection open that its parent closes, and a port taken that its parent frees.
So whatever holds sockets says so here, and lets go of them in the child, without a word to the peer.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from typing import ClassVar

__all__ = ["HoldsSockets"]


class HoldsSockets(ABC):
    """Is told when it has become a copy in a forked child."""

    # A fork is about the whole process, and so is this.
    _living: ClassVar[weakref.WeakSet[HoldsSockets]] = weakref.WeakSet()

    def watch_forks(self) -> None:
        """From now on, ``let_go`` is called in each child that this process forks."""
        self._living.add(self)

    @abstractmethod
    def let_go(self) -> None:
        """Close the copies of the sockets, and nothing else: the connections behind them are the parent's."""

    @classmethod
    def _let_all_go(cls) -> None:
        for each in list(cls._living):
            each.let_go()
        cls._living.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HoldsSockets._let_all_go)

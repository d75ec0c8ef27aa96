"""Group commit: of those that want something committed, one at a time commits for all that wait.

A commit costs one flush of the disk however much it holds. While one is under way, whoever comes joins the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Committer"]

Job = TypeVar("Job")

_MOST = 64 << 20


class _Ticket(Generic[Job]):
    __slots__ = ("called", "done", "failure", "jobs", "leads", "size")

    def __init__(self, jobs: Sequence[Job], size: int) -> None:
        self.jobs = jobs
        self.size = size
        self.leads = self.done = False
        self.failure: BaseException | None = None
        # A lock that is let go of by another thread is the cheapest way to be woken.
        self.called = threading.Lock()
        self.called.acquire()


class Committer(Generic[Job]):
    """Hands all jobs that wait to ``work``, in the order in which they came. ``work`` notes in them what came of it;
    what it raises, all of them get.
    """

    def __init__(self, work: Callable[[list[Job]], None]) -> None:
        self._work = work
        self._guard = threading.Lock()
        self._waiting: list[_Ticket[Job]] = []
        self._together: list[_Ticket[Job]] = []
        self._working = False

    def commit(self, jobs: Sequence[Job], size: int = 0) -> None:
        """Return when ``jobs``, of ``size`` bytes in all, were worked on."""
        ticket = _Ticket(jobs, size)
        try:
            with self._guard:
                self._waiting.append(ticket)
                ticket.leads = not self._working
                self._working = True
            if not ticket.leads:
                ticket.called.acquire()
            if not ticket.done:
                self._lead(ticket)
        except BaseException:
            # What ends one thread, such as a Ctrl-C, may come anywhere, and is not for the others.
            self._leave(ticket)
            raise
        if ticket.failure is not None:
            raise ticket.failure

    def _lead(self, mine: _Ticket[Job]) -> None:
        with self._guard:
            self._take()
        failure: Exception | None = None
        try:
            self._work([job for ticket in self._together for job in ticket.jobs])
        except Exception as error:
            failure = error
        self._finish(mine, failure)

    def _take(self) -> None:
        """Let those that wait be worked on together, up to a size, but at least the first."""
        many, size = 1, self._waiting[0].size
        while many < len(self._waiting) and size + self._waiting[many].size <= _MOST:
            size += self._waiting[many].size
            many += 1
        self._together, self._waiting = self._waiting[:many], self._waiting[many:]

    def _finish(self, mine: _Ticket[Job], failure: Exception | None) -> None:
        """Tell all that were worked on, and let the next one lead. May be interrupted, and done again."""
        with self._guard:
            for ticket in self._together:
                if not ticket.done:
                    ticket.failure, ticket.done = failure, True
                if ticket.called.locked():
                    ticket.called.release()
            self._together = []
            if self._waiting:
                mine.leads, self._waiting[0].leads = False, True
                self._waiting[0].called.release()
            else:
                mine.leads = self._working = False

    def _leave(self, ticket: _Ticket[Job]) -> None:
        """Whoever put ``ticket`` was interrupted: nobody works on it if it waited, and another one leads."""
        with self._guard:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
        if ticket.leads:
            self._finish(ticket, InterruptedError("the thread that committed for several was interrupted; put again"))

"""Group commit: of those that want something committed, one at a time commits for all that wait.

A commit costs one flush of the disk however much it holds. While one is under way, whoever comes joins the next.
"""

from __future__ import annotations

import threading
from collections import deque
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
        self._waiting: deque[_Ticket[Job]] = deque()
        self._working = False

    def commit(self, jobs: Sequence[Job], size: int = 0) -> None:
        """Return when ``jobs``, of ``size`` bytes in all, were worked on."""
        ticket = _Ticket(jobs, size)
        with self._guard:
            self._waiting.append(ticket)
            ticket.leads = not self._working
            self._working = True
        try:
            if not ticket.leads:
                ticket.called.acquire()
            if not ticket.done:
                self._lead(ticket)
        except BaseException:
            self._leave(ticket)
            raise
        if ticket.failure is not None:
            raise ticket.failure

    def _lead(self, mine: _Ticket[Job]) -> None:
        with self._guard:
            together = self._next()
        failure: BaseException | None = None
        try:
            self._work([job for ticket in together for job in ticket.jobs])
        except BaseException as error:
            failure = error
        for ticket in together:
            ticket.failure = failure
            if ticket is not mine and failure is not None and not isinstance(failure, Exception):
                # What ends one thread, such as a Ctrl-C, is not for the others.
                ticket.failure = InterruptedError("the thread that committed for several was interrupted; put again")
            ticket.done = True
            if ticket is not mine:
                ticket.called.release()
        with self._guard:
            self._pass_on()

    def _next(self) -> list[_Ticket[Job]]:
        """Those that wait, up to a size, but at least the first."""
        together = [self._waiting.popleft()]
        size = together[0].size
        while self._waiting and size + self._waiting[0].size <= _MOST:
            together.append(self._waiting.popleft())
            size += together[-1].size
        return together

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].called.release()
        else:
            self._working = False

    def _leave(self, ticket: _Ticket[Job]) -> None:
        """Whoever put ``ticket`` was interrupted while it waited: nobody works on it, and another one leads."""
        with self._guard:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                if ticket.leads:
                    self._pass_on()

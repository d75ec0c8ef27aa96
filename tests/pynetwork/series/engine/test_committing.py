from __future__ import annotations

import linecache
import sys
import threading
from types import FrameType
from typing import Any

from pynetwork.series.engine import committing
from pynetwork.series.engine.committing import Committer
from tests.waiting import wait_until


class Work:
    """Notes what it is given; the first time, it waits until ``go``, and the second time it fails with ``failure``."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.groups: list[list[int]] = []
        self.go = threading.Event()
        self._failure = failure

    def __call__(self, jobs: list[int]) -> None:
        self.groups.append(jobs)
        if len(self.groups) == 1:
            assert self.go.wait(20)
        elif len(self.groups) == 2 and self._failure is not None:
            raise self._failure


def commit_in_threads(committer: Committer[int], jobs: list[int], size: int = 0) -> tuple[list[threading.Thread], list]:  # type: ignore[type-arg]
    raised: list[BaseException] = []

    def run(job: int) -> None:
        try:
            committer.commit([job], size)
        except BaseException as error:
            raised.append(error)

    threads = []
    for waiting, job in enumerate(jobs):
        threads.append(threading.Thread(target=run, args=(job,)))
        threads[-1].start()
        # The first one works, the others wait.
        wait_until(lambda waiting=waiting: committer._working and len(committer._waiting) == waiting)
    return threads, raised


def test_who_comes_meanwhile_is_committed_together_in_order() -> None:
    work = Work()
    committer = Committer(work)
    threads, raised = commit_in_threads(committer, [1, 2, 3, 4])
    wait_until(lambda: len(work.groups) == 1 and len(committer._waiting) == 3)
    work.go.set()
    for thread in threads:
        thread.join()
    assert (work.groups, raised) == ([[1], [2, 3, 4]], [])
    committer.commit([5])
    assert work.groups[-1] == [5]


def test_a_group_is_bounded() -> None:
    work = Work()
    committer = Committer(work)
    threads, _ = commit_in_threads(committer, [1, 2, 3], size=40 << 20)
    wait_until(lambda: len(work.groups) == 1 and len(committer._waiting) == 2)
    work.go.set()
    for thread in threads:
        thread.join()
    assert work.groups == [[1], [2], [3]]


def test_what_work_raises_all_of_the_group_get() -> None:
    work = Work(OSError("full"))
    committer = Committer(work)
    threads, raised = commit_in_threads(committer, [1, 2, 3])
    work.go.set()
    for thread in threads:
        thread.join()
    assert [str(error) for error in raised] == ["full", "full"]
    committer.commit([4])
    assert work.groups == [[1], [2, 3], [4]]


def test_an_interrupt_is_for_its_own_thread_alone() -> None:
    work = Work(KeyboardInterrupt())
    committer = Committer(work)
    threads, raised = commit_in_threads(committer, [1, 2, 3])
    work.go.set()
    for thread in threads:
        thread.join()
    assert sorted(type(error).__name__ for error in raised) == ["InterruptedError", "KeyboardInterrupt"]
    committer.commit([4])
    assert work.groups == [[1], [2, 3], [4]]


def test_who_leaves_while_waiting_does_not_hold_up_others() -> None:
    work = Work()
    committer = Committer(work)
    threads, _ = commit_in_threads(committer, [1, 2, 3])
    wait_until(lambda: len(work.groups) == 1 and len(committer._waiting) == 2)
    left = committer._waiting[0]
    committer._leave(left)
    work.go.set()
    threads[0].join()
    threads[2].join()
    left.done = True
    left.called.release()
    threads[1].join()
    assert work.groups == [[1], [3]]


def interrupted_at(line: int, committer: Committer[int]) -> bool:
    """Commit, with a Ctrl-C when so many lines of the committer have been run; whether it came."""
    left = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != committing.__file__:
            return None
        # No signal is heeded between the end of a block and the release of its lock.
        if event == "line" and "with self._guard" not in linecache.getline(committing.__file__, frame.f_lineno):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        committer.commit([line])
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_anywhere_does_not_hold_up_others() -> None:
    line = 1
    while True:
        committed: list[int] = []
        committer = Committer(committed.extend)
        came = interrupted_at(line, committer)
        thread = threading.Thread(target=committer.commit, args=([-1],))
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), f"after an interrupt at line {line}"
        assert committed[-1] == -1
        if not came:
            break
        line += 1
    assert line > 15

"""Several pairs of one gateway, working as one: maps, merged streams and file transfers."""

from __future__ import annotations

import heapq
import os
import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from handshakes.errors import ConnectionLost, ItemFailed, PynetworkError
from handshakes.messages import Items
from pynetwork.client import Client
from pynetwork.lanes import Lanes, LanesReport

if TYPE_CHECKING:
    from pynetwork.files import TransferReport

__all__ = ["Swarm", "SwarmMap", "SwarmStream"]

_AHEAD = 4
"""Results, or frames of items, that may wait for the consumer, per lane."""
_PATIENCE = 1.0
"""Seconds that a lane has to leave a job by itself, before its connection is ended."""


class Swarm:
    """``count`` clients used as one; made by `Controller.get_swarm`. One job at a time; a lost lane is replaced."""

    def __init__(
        self, dial: Callable[[], Client], count: int, download_dir: str | os.PathLike[str] = "Downloads"
    ) -> None:
        self._lanes = Lanes(dial, count)
        self._download_dir = download_dir

    @property
    def clients(self) -> list[Client]:
        """The pairs' clients, one a lane. While no job runs they may be used on their own."""
        return self._lanes.clients

    def __len__(self) -> int:
        return self._lanes.count

    def map(self, name: str, items: Iterable[Any], /, *arguments: Any, **keywords: Any) -> SwarmMap:
        """Call ``name(item, *arguments, **keywords)`` for each item, spread over the lanes; an iterator of the results.

        Results come in the order of the items. Items are taken only a little ahead of the results that were consumed.
        The first item whose call fails raises `ItemFailed`, after the results before it. An item whose lane was
        lost is called again on another, so a call may run twice.
        """
        return SwarmMap(_MapJob(self._lanes, name, items, arguments, keywords))

    def stream(self, name: str, /, *arguments: Any, ordered: bool = False, **keywords: Any) -> SwarmStream:
        """The items of generator ``name``, run once on every lane and merged into one iterator.

        A generator that accepts the keywords ``lane`` and ``lanes`` is told which share of the work is its. With
        ``ordered`` the items come by rising ident, where each lane's own idents rise; else as they arrive. On a lane
        that is lost and replaced the generator is started again; with ``ordered``, items that had arrived before are
        passed over.
        """
        return SwarmStream(_StreamJob(self._lanes, name, arguments, keywords, ordered))

    def download(
        self,
        share: str,
        pattern: str | None = None,
        files: Sequence[str] | None = None,
        to: str | os.PathLike[str] | None = None,
        *,
        durable: bool = False,
        progress: Any = None,
    ) -> TransferReport:
        """Bring files of a shared folder into the folder ``to`` (default: the controller's ``download_dir``).

        All of them, those whose path relative to the folder matches the regular expression ``pattern`` as a whole, or
        those listed in ``files``. See `pynetwork.files.download`.
        """
        # Only now, as it takes a while.
        from pynetwork import files as transfers  # noqa: PLC0415

        target = self._download_dir if to is None else to
        return transfers.download(
            self._lanes, share, pattern=pattern, files=files, to=target, durable=durable, progress=progress
        )

    def upload(
        self,
        paths: Sequence[str | os.PathLike[str]],
        dirname: str = "",
        *,
        durable: bool = False,
        progress: Any = None,
    ) -> TransferReport:
        """Send files and folders into ``dirname`` below the gateway's ``download_dir``. See
        `pynetwork.files.upload`.
        """
        from pynetwork import files as transfers  # noqa: PLC0415 - see download

        return transfers.upload(self._lanes, paths, dirname=dirname, durable=durable, progress=progress)

    def close(self) -> None:
        """End every pair."""
        self._lanes.close()

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _Job(ABC):
    """Something that runs on all lanes in the background while the caller iterates over what comes of it."""

    def __init__(self, lanes: Lanes) -> None:
        self.report = LanesReport()
        self._lanes = lanes
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="swarm job", daemon=True)

    def _run(self) -> None:
        try:
            self.report = self._lanes.run(self._work, self._lane_over)
        except BaseException as error:
            self._failure = error
        self._finished()

    @abstractmethod
    def iterate(self) -> Generator[Any, None, None]:
        """Run, and give what comes of it; stops when it is closed."""

    @abstractmethod
    def _work(self, client: Client, lane: int) -> None:
        """One lane's part."""

    def _lane_over(self, _lane: int) -> None:  # noqa: B027 - not every job minds
        """Nothing more will come of this lane."""

    @abstractmethod
    def _finished(self) -> None:
        """All lanes have ended."""

    def _end(self, patience: float | None) -> None:
        """Stop and wait; a lane that still waits for its gateway after ``patience`` seconds loses its connection."""
        self._stopping.set()
        self._thread.join(patience)
        while self._thread.is_alive():
            self._lanes.interrupt()
            self._thread.join(_PATIENCE)


class _MapJob(_Job):
    """Calls for items, spread over the lanes."""

    def __init__(
        self, lanes: Lanes, name: str, items: Iterable[Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        super().__init__(lanes)
        self._name = name
        self._source = enumerate(items)
        self._source_lock = threading.Lock()
        self._arguments = arguments
        self._keywords = keywords
        self._changed = threading.Condition()
        self._returned: deque[tuple[int, Any]] = deque()
        self._results: dict[int, Any] = {}
        self._errors: dict[int, tuple[Any, BaseException]] = {}
        self._next = 0
        self._taken = 0
        self._in_flight = 0
        self._exhausted = False
        self._over = False

    def iterate(self) -> Generator[Any, None, None]:
        """The results, in order."""
        patience: float | None = None
        self._thread.start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(self._has_news)
                    if self._next in self._errors:
                        item, error = self._errors[self._next]
                        raise ItemFailed(self._next, item, error) from error
                    if self._next not in self._results:
                        break
                    result = self._results.pop(self._next)
                    self._next += 1
                    self._changed.notify_all()
                yield result
            if self._failure is not None:
                raise self._failure
            if self._returned or self._errors:
                raise ConnectionLost("no lane was left for the items that remain")
        except KeyboardInterrupt:
            patience = 0.0
            raise
        finally:
            with self._changed:
                self._stopping.set()
                self._changed.notify_all()
            self._end(patience)

    def _has_news(self) -> bool:
        return self._next in self._results or self._next in self._errors or self._over

    def _work(self, client: Client, lane: int) -> None:  # noqa: ARG002 - for those that merge
        while (task := self._take()) is not None:
            index, item = task
            try:
                result = client.call(self._name, item, *self._arguments, **self._keywords)
            except ConnectionLost:
                self._give_back(task)
                if self._stopping.is_set():
                    return
                raise
            except PynetworkError as error:
                self._note(self._errors, index, (item, error))
            else:
                self._note(self._results, index, result)

    def _take(self) -> tuple[int, Any] | None:
        """The next item; waits while the results are too far ahead, or while an item may still be given back."""
        while True:
            with self._changed:
                self._changed.wait_for(self._may_take)
                if self._stopping.is_set():
                    return None
                if not self._returned and (self._errors or self._exhausted):
                    return None
                self._in_flight += 1
                if self._returned:
                    return self._returned.popleft()
                self._taken += 1
            task = self._from_source()
            if task is not None:
                return task

    def _from_source(self) -> tuple[int, Any] | None:
        """An item for the place that was taken for it. Results go on coming while its source makes it."""
        task = None
        try:
            with self._source_lock:
                task = next(self._source, None)
        finally:
            if task is None:
                with self._changed:
                    self._exhausted = True
                    self._taken -= 1
                    self._in_flight -= 1
                    self._changed.notify_all()
        return task

    def _may_take(self) -> bool:
        if self._stopping.is_set() or self._returned:
            return True
        if self._errors or self._exhausted:
            # Not yet: what runs elsewhere may be given back by a lane that is lost.
            return self._in_flight == 0
        return self._taken - self._next < _AHEAD * self._lanes.count

    def _give_back(self, task: tuple[int, Any]) -> None:
        with self._changed:
            self._in_flight -= 1
            self._returned.append(task)
            self._changed.notify_all()

    def _note(self, where: dict[int, Any], index: int, what: Any) -> None:
        with self._changed:
            self._in_flight -= 1
            where[index] = what
            self._changed.notify_all()

    def _finished(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()


class _StreamJob(_Job):
    """A generator that runs on every lane, and its items merged."""

    def __init__(
        self, lanes: Lanes, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], ordered: bool
    ) -> None:
        super().__init__(lanes)
        self._name = name
        self._arguments = arguments
        self._keywords = keywords
        self._ordered = ordered
        count = lanes.count
        shared: queue.Queue[Items | None] = queue.Queue(_AHEAD * count)
        self._queues = [queue.Queue(_AHEAD) for _ in range(count)] if ordered else [shared] * count
        self._ended_lanes: set[int] = set()

    def iterate(self) -> Generator[tuple[int, Any], None, None]:
        """The items of all lanes."""
        self._thread.start()
        try:
            if self._ordered:
                yield from heapq.merge(*map(self._of, range(len(self._queues))), key=lambda item: item[0])
            else:
                yield from self._of(0)
            self._thread.join()
            if self._failure is not None:
                raise self._failure
            if self.report.lost:
                raise ConnectionLost(
                    f"{self.report.lost} of {self._lanes.count} lanes were lost, and their items with them"
                )
        finally:
            self._end(_PATIENCE)

    def _of(self, lane: int) -> Iterator[tuple[int, Any]]:
        """The items of one queue, until the job is over."""
        last: int | None = None
        while (frame := self._queues[lane].get()) is not None:
            for item in zip(frame.idents, frame.payloads, strict=True):
                if self._ordered and last is not None and item[0] <= last:
                    continue
                last = item[0]
                yield item

    def _work(self, client: Client, lane: int) -> None:
        if self._stopping.is_set():
            return
        stream = client.start_stream(self._name, self._arguments, self._keywords, [lane, self._lanes.count])
        try:
            with stream:
                for frame in stream.frames():
                    if not self._put(lane, frame):
                        return
        except ConnectionLost:
            if not self._stopping.is_set():
                raise

    def _lane_over(self, lane: int) -> None:
        # Whoever merges must not wait for a lane that brings nothing more, whether it ended, failed or was lost.
        if self._ordered:
            self._ended_lanes.add(lane)
            self._put(lane, None)

    def _put(self, lane: int, frame: Items | None) -> bool:
        """Pass on, waiting for the consumer; False when it has left."""
        while not self._stopping.is_set():
            try:
                self._queues[lane].put(frame, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _finished(self) -> None:
        for lane in range(len(self._queues) if self._ordered else 1):
            if lane not in self._ended_lanes:
                self._put(lane, None)


class _Yield:
    """What a job brings, as an iterator.

    The job does not know it: so the end of a ``for`` loop that was left lets go of the iterator, which ends the job.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._iterator = job.iterate()

    @property
    def report(self) -> LanesReport:
        """Which lanes were replaced or lost; complete at the end."""
        return self._job.report

    def __iter__(self) -> Iterator[Any]:
        return self._iterator

    def __next__(self) -> Any:
        return next(self._iterator)

    def close(self) -> None:
        """Leave early."""
        self._iterator.close()

    def __enter__(self: AnyYield) -> AnyYield:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


AnyYield = TypeVar("AnyYield", bound=_Yield)


class SwarmMap(_Yield):
    """The results of a map, in order. Left early, calls that run are waited for, and no further ones are made."""


class SwarmStream(_Yield):
    """Merged items ``(ident, payload)``. Left early, the generators on the gateway are closed."""

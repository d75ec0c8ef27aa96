"""Several pairs of one gateway, working as one on an event loop: maps, merged streams and file transfers."""

from __future__ import annotations

import asyncio
import heapq
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from handshakes.errors import Closed, ConnectionLost, ItemFailed, PynetworkError
from handshakes.messages import Items
from pynetwork.aio import files as transfers
from pynetwork.aio.client import AsyncClient
from pynetwork.aio.lanes import AsyncLanes
from pynetwork.aio.link import run_on
from pynetwork.files import TransferReport
from pynetwork.lanes import LanesReport

__all__ = ["AsyncSwarm", "AsyncYield"]

_AHEAD = 4
"""Results, or frames of items, that may wait for the consumer, per lane."""
_END: Any = object()


class AsyncSwarm:
    """``count`` clients used as one; made by `AsyncController.get_swarm`. One job at a time; a lost lane is replaced.

    What it does is what `pynetwork.Swarm` does; cancelling the task that waits ends the job.
    """

    def __init__(self, lanes: AsyncLanes, download_dir: str | os.PathLike[str] = "Downloads") -> None:
        self._lanes = lanes
        self._download_dir = download_dir

    @classmethod
    async def dial(
        cls, dial: Callable[[], Awaitable[AsyncClient]], count: int, download_dir: str | os.PathLike[str]
    ) -> AsyncSwarm:
        """A swarm of ``count`` clients that are dialled now; raises what ``dial`` raises, all or nothing."""
        return cls(await AsyncLanes.dial_all(dial, count), download_dir)

    @property
    def clients(self) -> list[AsyncClient]:
        """The pairs' clients, one a lane. While no job runs they may be used on their own."""
        return self._lanes.clients

    def __len__(self) -> int:
        return self._lanes.count

    def map(
        self, name: str, items: Iterable[Any] | AsyncIterable[Any], /, *arguments: Any, **keywords: Any
    ) -> AsyncYield:
        """Call ``name(item, *arguments, **keywords)`` for each item; the results in order, for ``async for``.

        See `pynetwork.Swarm.map`.
        """
        return AsyncYield(_MapJob(self._lanes, name, items, arguments, keywords))

    def stream(self, name: str, /, *arguments: Any, ordered: bool = False, **keywords: Any) -> AsyncYield:
        """The items of generator ``name``, run once on every lane and merged, for ``async for``.

        See `pynetwork.Swarm.stream`.
        """
        return AsyncYield(_StreamJob(self._lanes, name, arguments, keywords, ordered))

    async def download(
        self,
        share: str,
        pattern: str | None = None,
        files: Sequence[str] | None = None,
        to: str | os.PathLike[str] | None = None,
        *,
        durable: bool = False,
        progress: Any = None,
    ) -> TransferReport:
        """Bring files of a shared folder into the folder ``to``; see `pynetwork.Swarm.download`.

        Files are read and written on threads of the loop's executor, the network stays on the loop.
        """
        target = self._download_dir if to is None else to
        return await transfers.download(
            self._lanes, share, pattern=pattern, files=files, to=target, durable=durable, progress=progress
        )

    async def upload(
        self,
        paths: Sequence[str | os.PathLike[str]],
        dirname: str = "",
        *,
        durable: bool = False,
        progress: Any = None,
    ) -> TransferReport:
        """Send files and folders into ``dirname`` below the gateway's folder for uploads.

        See `pynetwork.Swarm.upload`.
        """
        return await transfers.upload(self._lanes, paths, dirname=dirname, durable=durable, progress=progress)

    async def close(self) -> None:
        """End every pair."""
        await self._lanes.close()

    async def __aenter__(self) -> AsyncSwarm:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()


class _Changes:
    """Wakes the tasks that wait for any change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._event.wait()


class _Job(ABC):
    """Something that runs on all lanes in a task of its own while the caller takes what comes of it."""

    def __init__(self, lanes: AsyncLanes) -> None:
        self.report = LanesReport()
        self._lanes = lanes
        self._changes = _Changes()
        self._task: asyncio.Task[LanesReport] | None = None
        self._over = self._left = False
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Run it, unless it runs already."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._lanes.run(self._work, self._lane_over, self.report))
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[LanesReport]) -> None:
        self._failure = Closed("this job was cancelled") if task.cancelled() else task.exception()
        self._over = True
        self._changes.notify()

    def leave(self) -> None:
        """Stop it, without waiting."""
        self._left = True
        if self._task is not None:
            run_on(self._task.get_loop(), self._cancel)

    def _cancel(self) -> None:
        assert self._task is not None
        self._lanes.leave(self._task)

    async def end(self) -> None:
        """Stop it, and wait until it has ended."""
        self.leave()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def next(self) -> Any:
        """What comes of the job next. Raises `StopAsyncIteration` at the end, or what ended it."""
        found = await self._next()
        if found is not _END:
            return found
        if self._failure is not None and not self._left:
            raise self._failure
        raise StopAsyncIteration

    @abstractmethod
    async def _next(self) -> Any:
        """The same, `_END` when nothing more comes."""

    @abstractmethod
    async def _work(self, client: AsyncClient, lane: int) -> None:
        """One lane's part."""

    def _lane_over(self, lane: int) -> None:  # noqa: B027 - not every job minds
        """Nothing more will come of this lane."""


class _MapJob(_Job):
    """Calls for items, spread over the lanes."""

    def __init__(
        self,
        lanes: AsyncLanes,
        name: str,
        items: Iterable[Any] | AsyncIterable[Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        super().__init__(lanes)
        self._name = name
        self._source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._source_turn = asyncio.Lock()
        self._arguments = arguments
        self._keywords = keywords
        self._returned: deque[tuple[int, Any]] = deque()
        self._results: dict[int, Any] = {}
        self._errors: dict[int, tuple[Any, BaseException]] = {}
        self._next_index = 0
        self._asked = 0
        self._taken = 0
        self._in_flight = 0
        self._exhausted = False

    async def _next(self) -> Any:
        """The next result, in order."""
        await self._changes.wait_for(self._has_news)
        if self._next_index in self._errors:
            item, error = self._errors[self._next_index]
            raise ItemFailed(self._next_index, item, error) from error
        if self._next_index in self._results:
            result = self._results.pop(self._next_index)
            self._next_index += 1
            self._changes.notify()
            return result
        if self._failure is None and not self._left and (self._returned or self._errors):
            raise ConnectionLost("no lane was left for the items that remain")
        return _END

    def _has_news(self) -> bool:
        return self._next_index in self._results or self._next_index in self._errors or self._over

    async def _work(self, client: AsyncClient, lane: int) -> None:  # noqa: ARG002 - for those that merge
        while (task := await self._take()) is not None:
            index, item = task
            try:
                self._results[index] = await client.call(self._name, item, *self._arguments, **self._keywords)
            except ConnectionLost:
                self._returned.append(task)
                raise
            except PynetworkError as error:
                self._errors[index] = item, error
            finally:
                self._in_flight -= 1
                self._changes.notify()

    async def _take(self) -> tuple[int, Any] | None:
        """The next item; waits while the results are too far ahead, or while an item may still be given back."""
        while True:
            await self._changes.wait_for(self._may_take)
            if not self._returned and (self._errors or self._exhausted):
                return None
            self._in_flight += 1
            if self._returned:
                return self._returned.popleft()
            self._asked += 1
            task = await self._from_source()
            if task is not None:
                return task

    async def _from_source(self) -> tuple[int, Any] | None:
        """An item for the place that was taken for it."""
        item = _END
        try:
            async with self._source_turn:
                if isinstance(self._source, AsyncIterator):
                    item = await anext(self._source, _END)
                else:
                    item = next(self._source, _END)
                index, self._taken = self._taken, self._taken + 1
        finally:
            if item is _END:
                self._exhausted = True
                self._asked -= 1
                self._in_flight -= 1
                self._changes.notify()
        return None if item is _END else (index, item)

    def _may_take(self) -> bool:
        if self._returned:
            return True
        if self._errors or self._exhausted:
            # Not yet: what runs elsewhere may be given back by a lane that is lost.
            return self._in_flight == 0
        return self._asked - self._next_index < _AHEAD * self._lanes.count


class _Inbox:
    """Frames of items that wait for the consumer, and what is left of the one it has taken.

    With ``rising``, items whose ident does not rise are passed over: they came before, from a lane that was replaced.
    """

    def __init__(self, changes: _Changes, most: int, *, rising: bool) -> None:
        self.over = False
        self._changes = changes
        self._most = most
        self._rising = rising
        self._frames: deque[Items] = deque()
        self._items: Iterator[tuple[int, Any]] = iter(())
        self._last: int | None = None

    async def put(self, frame: Items) -> None:
        """Leave a frame here; waits for room."""
        await self._changes.wait_for(lambda: len(self._frames) < self._most)
        self._frames.append(frame)
        self._changes.notify()

    async def take(self, over: Callable[[], bool]) -> Any:
        """The next item; `_END` when there is none and the inbox, or all, is ``over``."""
        while True:
            for item in self._items:
                if not self._rising or self._last is None or item[0] > self._last:
                    self._last = item[0]
                    return item
            if not self._frames:
                await self._changes.wait_for(lambda: bool(self._frames) or self.over or over())
            if not self._frames:
                return _END
            frame = self._frames.popleft()
            self._items = zip(frame.idents, frame.payloads, strict=True)
            self._changes.notify()


class _StreamJob(_Job):
    """A generator that runs on every lane, and its items merged."""

    def __init__(
        self, lanes: AsyncLanes, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], ordered: bool
    ) -> None:
        super().__init__(lanes)
        self._name = name
        self._arguments = arguments
        self._keywords = keywords
        self._ordered = ordered
        count = lanes.count
        shared = _Inbox(self._changes, _AHEAD * count, rising=False)
        self._inboxes = (
            [_Inbox(self._changes, _AHEAD, rising=True) for _ in range(count)] if ordered else [shared] * count
        )
        # Of each lane the next item waits here; of those that are due it is to be awaited first.
        self._waiting: list[tuple[int, int, Any]] = []
        self._due = list(range(count))

    async def _next(self) -> Any:
        """The next item of all lanes."""
        found = await (self._merged() if self._ordered else self._inboxes[0].take(self._is_over))
        if found is _END and self._task is not None:
            await asyncio.wait([self._task])
            if self._failure is None and self.report.lost and not self._left:
                raise ConnectionLost(
                    f"{self.report.lost} of {self._lanes.count} lanes were lost, and their items with them"
                )
        return found

    async def _merged(self) -> Any:
        """By rising ident, as far as each lane's own rise."""
        while self._due:
            lane = self._due[-1]
            item = await self._inboxes[lane].take(self._is_over)
            self._due.pop()
            if item is not _END:
                heapq.heappush(self._waiting, (item[0], lane, item[1]))
        if not self._waiting:
            return _END
        ident, lane, payload = heapq.heappop(self._waiting)
        self._due.append(lane)
        return ident, payload

    def _is_over(self) -> bool:
        return self._over

    async def _work(self, client: AsyncClient, lane: int) -> None:
        share = [lane, self._lanes.count]
        async with client.start_stream(self._name, self._arguments, self._keywords, share) as stream:
            while (frame := await stream.frame()) is not None:
                await self._inboxes[lane].put(frame)

    def _lane_over(self, lane: int) -> None:
        # Whoever merges must not wait for a lane that brings nothing more.
        if self._ordered:
            self._inboxes[lane].over = True
            self._changes.notify()


class AsyncYield:
    """What a job brings, for ``async for``; left early, the job ends.

    It begins when it is first iterated, or entered with ``async with``.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._closed = False

    @property
    def report(self) -> LanesReport:
        """Which lanes were replaced or lost; complete at the end."""
        return self._job.report

    def __aiter__(self) -> AsyncYield:
        return self

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        self._job.start()
        try:
            return await self._job.next()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave early: nothing more is asked of the gateway."""
        self._closed = True
        await self._job.end()

    def __del__(self) -> None:
        # The end of a loop that was left lets go of this: the job ends, and the next one waits for that.
        self._job.leave()

    async def __aenter__(self) -> AsyncYield:
        self._job.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

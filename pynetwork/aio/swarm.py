"""Several pairs of one gateway, working as one on an event loop: maps, merged streams and file transfers."""

from __future__ import annotations

import asyncio
import heapq
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from handshakes.errors import ConnectionLost, ItemFailed, PynetworkError
from handshakes.messages import Items
from pynetwork.aio import files as transfers
from pynetwork.aio.client import AsyncClient
from pynetwork.aio.lanes import AsyncLanes
from pynetwork.files import TransferReport
from pynetwork.lanes import LanesReport

__all__ = ["AsyncSwarm", "AsyncYield"]

_AHEAD = 4
"""Results, or frames of items, that may wait for the consumer, per lane."""


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


class _Job:
    """Something that runs on all lanes in a task while the caller iterates over what comes of it."""

    def __init__(self, lanes: AsyncLanes) -> None:
        self.report = LanesReport()
        self._lanes = lanes
        self._task: asyncio.Task[LanesReport] | None = None

    def start(self) -> asyncio.Task[LanesReport]:
        """Run it; ``iterate`` gives what comes of it."""
        self._task = asyncio.ensure_future(self._lanes.run(self._work, self._lane_over, self.report))
        self._task.add_done_callback(lambda _: self._finished())
        return self._task

    def leave(self) -> None:
        """Stop it, without waiting."""
        if self._task is not None:
            self._lanes.leave(self._task)

    async def end(self) -> None:
        """Stop it, and wait until it has ended."""
        if self._task is not None:
            self.leave()
            await asyncio.wait([self._task])

    def raise_failure(self) -> None:
        """Raise what ended the job, if anything did."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            failure = self._task.exception()
            if failure is not None:
                raise failure

    def iterate(self) -> AsyncGenerator[Any, None]:
        """What comes of the job that runs."""
        raise NotImplementedError

    async def _work(self, client: AsyncClient, lane: int) -> None:
        raise NotImplementedError

    async def _lane_over(self, lane: int) -> None:
        """Nothing more will come of this lane."""

    def _finished(self) -> None:
        raise NotImplementedError


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
        self._source = _enumerated(items)
        self._source_turn = asyncio.Lock()
        self._arguments = arguments
        self._keywords = keywords
        self._changes = _Changes()
        self._returned: deque[tuple[int, Any]] = deque()
        self._results: dict[int, Any] = {}
        self._errors: dict[int, tuple[Any, BaseException]] = {}
        self._next = 0
        self._taken = 0
        self._in_flight = 0
        self._exhausted = False
        self._over = False

    async def iterate(self) -> AsyncGenerator[Any, None]:
        """The results, in order."""
        while True:
            await self._changes.wait_for(self._has_news)
            if self._next in self._errors:
                item, error = self._errors[self._next]
                raise ItemFailed(self._next, item, error) from error
            if self._next not in self._results:
                break
            result = self._results.pop(self._next)
            self._next += 1
            self._changes.notify()
            yield result
        self.raise_failure()
        if self._returned or self._errors:
            raise ConnectionLost("no lane was left for the items that remain")

    def _has_news(self) -> bool:
        return self._next in self._results or self._next in self._errors or self._over

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
            self._taken += 1
            task = await self._from_source()
            if task is not None:
                return task

    async def _from_source(self) -> tuple[int, Any] | None:
        """An item for the place that was taken for it."""
        task = None
        try:
            async with self._source_turn:
                task = await anext(self._source, None)
        finally:
            if task is None:
                self._exhausted = True
                self._taken -= 1
                self._in_flight -= 1
                self._changes.notify()
        return task

    def _may_take(self) -> bool:
        if self._returned:
            return True
        if self._errors or self._exhausted:
            # Not yet: what runs elsewhere may be given back by a lane that is lost.
            return self._in_flight == 0
        return self._taken - self._next < _AHEAD * self._lanes.count

    def _finished(self) -> None:
        self._over = True
        self._changes.notify()


async def _enumerated(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[tuple[int, Any]]:
    index = 0
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield index, item
            index += 1
    else:
        for item in items:
            yield index, item
            index += 1


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
        shared: asyncio.Queue[Items | None] = asyncio.Queue(_AHEAD * count)
        self._queues = [asyncio.Queue(_AHEAD) for _ in range(count)] if ordered else [shared] * count
        self._over = False

    async def iterate(self) -> AsyncGenerator[tuple[int, Any], None]:
        """The items of all lanes."""
        if self._ordered:
            async for item in self._merged():
                yield item
        else:
            async for frame in self._frames(0):
                for item in zip(frame.idents, frame.payloads, strict=True):
                    yield item
        assert self._task is not None
        await asyncio.wait([self._task])
        self.raise_failure()
        if self.report.lost:
            raise ConnectionLost(
                f"{self.report.lost} of {self._lanes.count} lanes were lost, and their items with them"
            )

    async def _merged(self) -> AsyncIterator[tuple[int, Any]]:
        """By rising ident, as far as each lane's own rise."""
        sources = [self._rising(lane) for lane in range(len(self._queues))]
        waiting: list[tuple[int, int, Any]] = []
        for lane, source in enumerate(sources):
            await _push(waiting, lane, source)
        while waiting:
            ident, lane, payload = heapq.heappop(waiting)
            yield ident, payload
            await _push(waiting, lane, sources[lane])

    async def _rising(self, lane: int) -> AsyncIterator[tuple[int, Any]]:
        """A lane's items; those that had arrived before the lane was replaced are passed over."""
        last: int | None = None
        async for frame in self._frames(lane):
            for ident, payload in zip(frame.idents, frame.payloads, strict=True):
                if last is None or ident > last:
                    last = ident
                    yield ident, payload

    async def _frames(self, lane: int) -> AsyncIterator[Items]:
        """What comes in one queue, until the job is over."""
        items = self._queues[lane]
        while not (self._over and items.empty()):
            frame = await items.get()
            if frame is None:
                return
            yield frame

    async def _work(self, client: AsyncClient, lane: int) -> None:
        share = [lane, self._lanes.count]
        async with client.start_stream(self._name, self._arguments, self._keywords, share) as stream:
            async for frame in stream.frames():
                await self._queues[lane].put(frame)

    async def _lane_over(self, lane: int) -> None:
        # Whoever merges must not wait for a lane that brings nothing more.
        if self._ordered:
            await self._queues[lane].put(None)

    def _finished(self) -> None:
        self._over = True
        for items in set(self._queues):
            # A queue that is full has a reader that does not wait.
            if not items.full():
                items.put_nowait(None)


async def _push(waiting: list[tuple[int, int, Any]], lane: int, source: AsyncIterator[tuple[int, Any]]) -> None:
    item = await anext(source, None)
    if item is not None:
        heapq.heappush(waiting, (item[0], lane, item[1]))


class AsyncYield:
    """What a job brings, for ``async for``; left early, the job ends.

    It begins when it is first iterated, or entered with ``async with``.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._iterator: AsyncGenerator[Any, None] | None = None
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
        if self._iterator is None:
            self._job.start()
            self._iterator = self._job.iterate()
        try:
            return await anext(self._iterator)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave early: nothing more is asked of the gateway."""
        self._closed = True
        if self._iterator is not None:
            await self._iterator.aclose()
            await self._job.end()

    def __del__(self) -> None:
        # The end of a loop that was left lets go of this: the job ends, and the next one waits for that.
        self._job.leave()

    async def __aenter__(self) -> AsyncYield:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

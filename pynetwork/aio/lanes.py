"""Several clients used as one, on an event loop: work runs on all of them, and a lane that is lost is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from handshakes.errors import Busy, Closed, ConfigurationError, ConnectionLost, PynetworkError
from pynetwork.aio.client import AsyncClient
from pynetwork.aio.link import to_the_end
from pynetwork.lanes import MOST_SHORT_LIVES, REDIALS, SHORT_LIFE, LanesReport, all_or_none
from pynetwork.transport import backoff

__all__ = ["AsyncLanes"]

Dial = Callable[[], Awaitable[AsyncClient]]
Work = Callable[[AsyncClient, int], Coroutine[Any, Any, None]]
Over = Callable[[int], object]


class AsyncLanes:
    """Clients of one gateway, made by ``dial_all``. One job at a time runs on them."""

    def __init__(self, dial: Dial, clients: list[AsyncClient]) -> None:
        self.clients = clients
        self._dial = dial
        self._closed = False
        self._running: _Run | None = None

    @classmethod
    async def dial_all(cls, dial: Dial, count: int) -> AsyncLanes:
        """``count`` clients, dialled at once; raises what ``dial`` raises, all or nothing."""
        if count < 1:
            raise ConfigurationError(f"a swarm of {count} lanes can't do anything; it needs at least 1")
        dials = [asyncio.ensure_future(dial()) for _ in range(count)]
        try:
            await asyncio.wait(dials)
            failures = [failure for failure in (each.exception() for each in dials) if failure is not None]
            all_or_none(failures, count)
        except BaseException:
            await to_the_end(asyncio.ensure_future(_give_up(dials)))
            raise
        return cls(dial, [each.result() for each in dials])

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self.clients)

    async def run(self, work: Work, over: Over | None = None, report: LanesReport | None = None) -> LanesReport:
        """Run ``work(client, lane)`` on every lane, each in a task of its own, and wait for all.

        What is raised, and when a lane is replaced, is as with `pynetwork.lanes.Lanes.run`. When this is cancelled, so
        is the work; the clients stay usable. ``over(lane)`` is called when nothing more will come of a lane, ``report``
        is filled in as things happen. Raises `Busy` while another job runs, unless that was told to ``leave``: then
        this one waits for its end.
        """
        while self._running is not None:
            if not self._running.leaving:
                raise Busy("this swarm runs another job; let it end, or take another swarm for this one")
            await self._running.ended.wait()
        if self._closed:
            raise Closed("this swarm is closed")
        run = self._running = _Run(self, work, over, report or LanesReport())
        try:
            return await run.wait()
        finally:
            self._running = None
            run.ended.set()

    def leave(self, job: asyncio.Task[Any]) -> None:
        """Cancel the task ``job``, which called ``run``; the next job waits until it has ended."""
        job.cancel()
        if self._running is not None and self._running.job is job:
            self._running.leaving = True

    async def revive(self, lane: int) -> AsyncClient | None:
        """A new client for a lane whose connection was lost; None when there is none to be had."""
        await self.clients[lane].close()
        for pause, _ in zip(backoff(), range(REDIALS), strict=False):
            try:
                self.clients[lane] = client = await self._dial()
            except PynetworkError:
                await asyncio.sleep(pause)
            else:
                return client
        return None

    async def close(self) -> None:
        """End every pair; a job that runs ends with `Closed`."""
        self._closed = True
        try:
            if self._running is not None:
                self._running.stop(Closed("this swarm was closed in the middle of a job"))
                await self._running.ended.wait()
        finally:
            await _close(self.clients)


async def _give_up(dials: list[asyncio.Task[AsyncClient]]) -> None:
    """Whatever comes of them is closed."""
    for each in dials:
        each.cancel()
    ends = await asyncio.gather(*dials, return_exceptions=True)
    await _close([end for end in ends if isinstance(end, AsyncClient)])


async def _close(clients: list[AsyncClient]) -> None:
    try:
        await asyncio.gather(*(client.close() for client in clients))
    finally:
        # Cancelled at once, those may not even have begun.
        for client in clients:
            client.link.close()


class _Run:
    """One job on all lanes, which ``job``, a task, waits for."""

    def __init__(self, lanes: AsyncLanes, work: Work, over: Over | None, report: LanesReport) -> None:
        self.job = asyncio.current_task()
        self.leaving = False
        self.ended = asyncio.Event()
        self._lanes = lanes
        self._work = work
        self._over = over
        self._report = report
        self._stopped_by: PynetworkError | None = None
        self._lost_by: ConnectionLost | None = None
        self._tasks = [asyncio.ensure_future(self._run_lane(lane)) for lane in range(lanes.count)]

    async def wait(self) -> LanesReport:
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in self._tasks:
                task.cancel()
            ends = await to_the_end(asyncio.gather(*self._tasks, return_exceptions=True))
        failures = [end for end in ends if isinstance(end, BaseException)]
        for failure in failures:
            if not isinstance(failure, asyncio.CancelledError):
                raise failure
        if self._stopped_by is not None and failures:
            raise self._stopped_by
        if self._report.lost == self._lanes.count and self._lost_by is not None:
            raise self._lost_by
        return self._report

    def stop(self, reason: PynetworkError) -> None:
        """Cancel the work; whoever waits for it gets this error."""
        self._stopped_by = reason
        for task in self._tasks:
            task.cancel()

    async def _run_lane(self, lane: int) -> None:
        await self._keep_working(lane)
        if self._over is not None:
            self._over(lane)

    async def _keep_working(self, lane: int) -> None:
        first = self._lanes.clients[lane]
        client = first if first.usable else await self._lanes.revive(lane)
        if client is None:
            self._note_loss(ConnectionLost("the connection was lost before, and no other can be had"))
        loop = asyncio.get_running_loop()
        short_lives = 0
        while client is not None:
            began = loop.time()
            try:
                await self._work(client, lane)
                return
            except ConnectionLost as error:
                short_lives = short_lives + 1 if loop.time() - began < SHORT_LIFE else 0
                client = await self._lanes.revive(lane) if short_lives < MOST_SHORT_LIVES else None
                if client is not None:
                    self._report.replaced += 1
                else:
                    self._note_loss(error)

    def _note_loss(self, error: ConnectionLost) -> None:
        self._report.lost += 1
        self._lost_by = error

"""Several clients used as one, on an event loop: work runs on all of them, and a lane that is lost is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from handshakes.errors import Busy, Closed, ConfigurationError, ConnectionLost, PynetworkError
from pynetwork.aio.client import AsyncClient
from pynetwork.lanes import MOST_SHORT_LIVES, REDIALS, SHORT_LIFE, LanesReport, all_or_none
from pynetwork.transport import backoff

__all__ = ["AsyncLanes"]

Dial = Callable[[], Awaitable[AsyncClient]]
Work = Callable[[AsyncClient, int], Coroutine[Any, Any, None]]


class AsyncLanes:
    """Clients of one gateway, made by ``dial_all``. One job at a time runs on them."""

    def __init__(self, dial: Dial, clients: list[AsyncClient]) -> None:
        self.clients = clients
        self._dial = dial
        self._closed = False
        self._job: asyncio.Task[Any] | None = None
        self._leaving = False

    @classmethod
    async def dial_all(cls, dial: Dial, count: int) -> AsyncLanes:
        """``count`` clients, dialled at once; raises what ``dial`` raises, all or nothing."""
        if count < 1:
            raise ConfigurationError(f"a swarm of {count} lanes can't do anything; it needs at least 1")
        dials = [asyncio.ensure_future(dial()) for _ in range(count)]
        try:
            made = await asyncio.gather(*dials, return_exceptions=True)
        except asyncio.CancelledError:
            made = await asyncio.gather(*dials, return_exceptions=True)
            await _close([each for each in made if isinstance(each, AsyncClient)])
            raise
        clients = [each for each in made if isinstance(each, AsyncClient)]
        try:
            all_or_none([each for each in made if isinstance(each, BaseException)], count)
        except BaseException:
            await _close(clients)
            raise
        return cls(dial, clients)

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self.clients)

    async def run(
        self, work: Work, over: Callable[[int], Awaitable[None]] | None = None, report: LanesReport | None = None
    ) -> LanesReport:
        """Run ``work(client, lane)`` on every lane, each in a task of its own, and wait for all.

        What is raised, and when a lane is replaced, is as with `pynetwork.lanes.Lanes.run`. When this is cancelled, so
        is the work; the clients stay usable. ``report`` is filled in as things happen.
        """
        await self._take_turn()
        run = _Run(self, work, over, report or LanesReport())
        try:
            return await run.wait()
        finally:
            self._job = None

    async def _take_turn(self) -> None:
        if self._job is not None:
            if not self._leaving:
                raise Busy("this swarm runs another job; let it end, or take another swarm for this one")
            await asyncio.wait([self._job])
        self._job, self._leaving = asyncio.current_task(), False
        try:
            await self._revive_idle()
        except BaseException:
            self._job = None
            raise

    def leave(self, job: asyncio.Task[Any]) -> None:
        """Cancel ``job``, whose task it is that runs: the next one waits until it has ended."""
        if not job.done():
            job.cancel()
            self._leaving = job is self._job

    async def revive(self, lane: int) -> AsyncClient | None:
        """A new client for a lane whose connection was lost; None when there is none to be had."""
        await self.clients[lane].close()
        for pause, _ in zip(backoff(), range(REDIALS), strict=False):
            if self._closed:
                return None
            try:
                self.clients[lane] = client = await self._dial()
            except PynetworkError:
                await asyncio.sleep(pause)
                continue
            if self._closed:
                await client.close()
                return None
            return client
        return None

    async def _revive_idle(self) -> None:
        if self._closed:
            raise Closed("this swarm is closed")
        for lane, client in enumerate(self.clients):
            if not client.usable:
                await self.revive(lane)

    async def close(self) -> None:
        """End every pair; a job that runs is cancelled."""
        self._closed = True
        if self._job is not None and self._job is not asyncio.current_task():
            self._job.cancel()
            await asyncio.wait([self._job])
        await _close(self.clients)


async def _close(clients: list[AsyncClient]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


class _Run:
    """One job on all lanes."""

    def __init__(
        self,
        lanes: AsyncLanes,
        work: Work,
        over: Callable[[int], Awaitable[None]] | None,
        report: LanesReport,
    ) -> None:
        self._lanes = lanes
        self._work = work
        self._over = over
        self._report = report
        self._lost_by: ConnectionLost | None = None

    async def wait(self) -> LanesReport:
        tasks = [asyncio.ensure_future(self._run_lane(lane)) for lane in range(self._lanes.count)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end
        if self._report.lost == self._lanes.count and self._lost_by is not None:
            raise self._lost_by
        return self._report

    async def _run_lane(self, lane: int) -> None:
        await self._keep_working(lane)
        if self._over is not None:
            await self._over(lane)

    async def _keep_working(self, lane: int) -> None:
        client: AsyncClient | None = self._lanes.clients[lane]
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
                    self._report.lost += 1
                    self._lost_by = error

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from handshakes.errors import Busy, Closed, ConfigurationError, ConnectionLost, PoolFull
from pynetwork.aio import AsyncClient
from pynetwork.aio.lanes import AsyncLanes
from pynetwork.lanes import MOST_SHORT_LIVES, LanesReport
from tests.conformance.breaking import break_mine
from tests.pynetwork.aio.looping import a_turn, add, cancelling, controller_of, on_loop, until
from tests.serving import serving


class Dialler:
    """Dials until it is told that nobody answers any more."""

    def __init__(self, dial: Callable[[], Awaitable[AsyncClient]]) -> None:
        self._dial = dial
        self.reachable = True

    async def __call__(self) -> AsyncClient:
        if not self.reachable:
            raise ConnectionLost("nobody there")
        return await self._dial()


@on_loop
async def test_all_or_none() -> None:
    with serving(add, max_poolsize=3) as gateway:
        controller = controller_of(gateway)
        with pytest.raises(ConfigurationError, match="a swarm of 0 lanes"):
            await AsyncLanes.dial_all(controller.get_client, 0)
        with pytest.raises(PoolFull):
            await AsyncLanes.dial_all(controller.get_client, 4)
        lanes = await AsyncLanes.dial_all(controller.get_client, 3)
        assert lanes.count == 3
        await lanes.close()
        await (await controller.get_swarm(3)).close()


@on_loop
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_dialling_is_cancelled_when_much_is_dialled(times: int) -> None:
    """What was dialled by then is closed when it ends, not some time."""
    with serving(add, max_poolsize=3) as gateway:
        controller = controller_of(gateway)
        for most in range(3):
            made: list[AsyncClient] = []

            async def dial(made: list[AsyncClient] = made, most: int = most) -> AsyncClient:
                client = await controller.get_client()
                if len(made) >= most:
                    await client.close()
                    await asyncio.Event().wait()
                made.append(client)
                return client

            dialling = asyncio.ensure_future(AsyncLanes.dial_all(dial, 3))
            while len(made) < most:
                await a_turn()
            for _ in range(times):
                dialling.cancel()
                await a_turn()
            with pytest.raises(asyncio.CancelledError):
                await dialling
            assert not any(client.usable for client in made)
            await until(lambda: not gateway._pool.handlers())


@on_loop
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_dialling_is_cancelled_wherever_it_waits(times: int) -> None:
    with serving(add, max_poolsize=3) as gateway:
        controller = controller_of(gateway)
        lanes = None
        async for lanes in cancelling(lambda: AsyncLanes.dial_all(controller.get_client, 3), times):
            if lanes is not None:
                await lanes.close()
            await until(lambda: not gateway._pool.handlers())
        assert lanes is not None


@on_loop
async def test_a_lost_lane_is_replaced() -> None:
    with serving(add, max_poolsize=4) as gateway:
        gateway.add_subroutine("cut", lambda: break_mine(gateway))
        lanes = await AsyncLanes.dial_all(controller_of(gateway).get_client, 2)
        began: list[int] = []
        over: list[int] = []

        async def work(client: AsyncClient, lane: int) -> None:
            began.append(lane)
            if began.count(lane) == 1 and lane == 1:
                await client.call("cut")
            assert await client.call("add", lane) == lane + 1

        assert await lanes.run(work, over.append) == LanesReport(lost=0, replaced=1)
        assert sorted(began) == [0, 1, 1]
        assert sorted(over) == [0, 1]
        await lanes.close()


@on_loop
@pytest.mark.usefixtures("impatient")
async def test_the_others_go_on_without_a_lane_that_stays_lost() -> None:
    with serving(add) as gateway:
        dialler = Dialler(controller_of(gateway).get_client)
        lanes = await AsyncLanes.dial_all(dialler, 2)
        dialler.reachable = False
        over: list[int] = []

        async def work(client: AsyncClient, lane: int) -> None:
            if lane == 1:
                raise ConnectionLost("cut")
            assert await client.call("add", lane) == lane + 1

        assert await lanes.run(work, over.append) == LanesReport(lost=1, replaced=0)
        assert sorted(over) == [0, 1]
        await lanes.close()


@on_loop
async def test_a_lane_that_is_lost_again_and_again_is_given_up() -> None:
    with serving(add) as gateway:
        lanes = await AsyncLanes.dial_all(controller_of(gateway).get_client, 1)
        report, began = LanesReport(), 0

        async def work(_client: AsyncClient, _lane: int) -> None:
            nonlocal began
            began += 1
            raise ConnectionLost("cut again")

        with pytest.raises(ConnectionLost, match="cut again"):
            await lanes.run(work, report=report)
        assert began == MOST_SHORT_LIVES
        assert report == LanesReport(lost=1, replaced=MOST_SHORT_LIVES - 1)
        await lanes.close()


@on_loop
@pytest.mark.usefixtures("impatient")
async def test_a_lane_that_was_lost_before() -> None:
    with serving(add) as gateway:
        dialler = Dialler(controller_of(gateway).get_client)
        lanes = await AsyncLanes.dial_all(dialler, 2)

        async def work(client: AsyncClient, lane: int) -> None:
            assert await client.call("add", lane) == lane + 1

        await lanes.clients[1].close()
        assert await lanes.run(work) == LanesReport()
        assert lanes.clients[1].usable
        dialler.reachable = False
        await lanes.clients[1].close()
        assert await lanes.run(work) == LanesReport(lost=1)
        await lanes.clients[0].close()
        with pytest.raises(ConnectionLost, match="was lost before, and no other can be had"):
            await lanes.run(work)
        await lanes.close()


@on_loop
async def test_an_error_ends_the_work_of_all() -> None:
    with serving(add) as gateway:
        lanes = await AsyncLanes.dial_all(controller_of(gateway).get_client, 3)
        ended: list[int] = []

        async def work(client: AsyncClient, lane: int) -> None:
            if lane == 1:
                raise LookupError("lane 1")
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(lane)

        with pytest.raises(LookupError, match="lane 1"):
            await lanes.run(work)
        assert sorted(ended) == [0, 2]
        assert all([await client.call("add", 1) == 2 for client in lanes.clients])
        await lanes.close()


@on_loop
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_cancelled_when_all_its_work_has_ended(times: int) -> None:
    with serving(add) as gateway:
        lanes = await AsyncLanes.dial_all(controller_of(gateway).get_client, 2)
        running = 0

        async def work(client: AsyncClient, lane: int) -> None:
            nonlocal running
            running += 1
            try:
                await asyncio.Event().wait()
            finally:
                await client.call("add", lane)
                running -= 1

        job = asyncio.ensure_future(lanes.run(work))
        while running < 2:
            await a_turn()
        for _ in range(times):
            job.cancel()
            await a_turn()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert running == 0
        await lanes.close()


@on_loop
async def test_one_job_at_a_time_but_the_next_waits_for_one_that_is_left() -> None:
    with serving(add) as gateway:
        lanes = await AsyncLanes.dial_all(controller_of(gateway).get_client, 2)

        async def wait(_client: AsyncClient, _lane: int) -> None:
            await asyncio.Event().wait()

        async def use(client: AsyncClient, _lane: int) -> None:
            assert await client.call("add", 1) == 2

        job = asyncio.ensure_future(lanes.run(wait))
        await a_turn()
        with pytest.raises(Busy, match="this swarm runs another job"):
            await lanes.run(use)
        lanes.leave(job)
        assert await lanes.run(use) == LanesReport()
        assert job.cancelled()
        await lanes.close()


@on_loop
@pytest.mark.parametrize("by", ["cancelling", "closing"])
async def test_ended_while_a_lane_is_replaced(by: str) -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        redialling = asyncio.Event()
        made: list[AsyncClient] = []

        async def dial() -> AsyncClient:
            if made:
                redialling.set()
                await asyncio.Event().wait()
            made.append(await controller.get_client())
            return made[-1]

        async def work(_client: AsyncClient, _lane: int) -> None:
            raise ConnectionLost("cut")

        lanes = await AsyncLanes.dial_all(dial, 1)
        job = asyncio.ensure_future(lanes.run(work))
        await redialling.wait()
        if by == "cancelling":
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            await lanes.close()
        else:
            await lanes.close()
            with pytest.raises(Closed):
                await job
        await (await controller.get_client()).close()


@on_loop
async def test_the_error_of_a_lane_is_not_forgotten_by_cancelling_then() -> None:
    """Nor does the loop complain that nobody asked for it."""
    with serving(add) as gateway:
        lanes = await AsyncLanes.dial_all(controller_of(gateway).get_client, 2)
        winding_up, go_on = asyncio.Event(), asyncio.Event()

        async def work(_client: AsyncClient, lane: int) -> None:
            if lane == 0:
                raise LookupError("lane 0")
            try:
                await asyncio.Event().wait()
            finally:
                winding_up.set()
                await go_on.wait()

        job = asyncio.ensure_future(lanes.run(work))
        await winding_up.wait()
        job.cancel()
        await a_turn()
        assert not job.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await job
        await lanes.close()


@on_loop
async def test_closing_ends_a_job() -> None:
    with serving(add) as gateway:
        lanes = await AsyncLanes.dial_all(controller_of(gateway).get_client, 2)

        async def wait(_client: AsyncClient, _lane: int) -> None:
            await asyncio.Event().wait()

        job = asyncio.ensure_future(lanes.run(wait))
        await a_turn()
        await lanes.close()
        with pytest.raises(Closed, match="in the middle of a job"):
            await job
        with pytest.raises(Closed, match="this swarm is closed"):
            await lanes.run(wait)

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost
from pynetwork.aio import AsyncSwarm
from pynetwork.files import TransferReport, jobs
from pynetwork.files.reading import Reader
from pynetwork.files.storing import StoringLane
from pynetwork.gateway import Gateway
from tests.conformance.breaking import break_mine
from tests.pynetwork.aio.looping import a_turn, on_loop, swarming
from tests.pynetwork.files.transferring import CHUNK, once, plant, tree, write


@dataclass
class Place:
    """A gateway that shares ``share`` as "s" and stores uploads in ``uploads``, a swarm of it, and a ``target``."""

    gateway: Gateway
    swarm: AsyncSwarm
    share: Path
    uploads: Path
    target: Path

    async def download(self) -> TransferReport:
        return await self.swarm.download("s", to=self.target, progress=False)

    async def upload(self) -> TransferReport:
        return await self.swarm.upload([self.share], progress=False)

    def arrived(self, way: str) -> dict[str, Any]:
        return tree(self.target if way == "download" else self.uploads / "share")


@contextlib.asynccontextmanager
async def placed(root: Path, lanes: int = 2) -> AsyncIterator[Place]:
    share, uploads, target = (root / name for name in ("share", "uploads", "target"))
    share.mkdir()
    async with swarming(lanes, share={"s": share}, download_dir=uploads) as (gateway, swarm):
        yield Place(gateway, swarm, share, uploads, target)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "CHUNK_SIZE", CHUNK)


TROUBLE = {"download": (Reader, "read_chunk"), "upload": (StoringLane, "_keep_chunk")}
"""What the gateway does with each chunk."""


@on_loop
@pytest.mark.parametrize("way", ["download", "upload"])
async def test_files_come_whole(tmp_path: Path, way: str) -> None:
    async with placed(tmp_path, lanes=3) as here:
        expected = plant(here.share)
        report = await getattr(here, way)()
        assert here.arrived(way) == expected
        assert (report.files, report.skipped, report.chunks_again) == (len(expected), [], 0)


@on_loop
@pytest.mark.parametrize("way", ["download", "upload"])
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, times: int) -> None:
    async with placed(tmp_path) as here:
        for number in range(3):
            write(here.share / f"{number}", os.urandom(30 * CHUNK))
        loop = asyncio.get_running_loop()

        def cancel(move: Callable[..., Any], *arguments: Any) -> Any:
            for _ in range(times):
                loop.call_soon_threadsafe(moving.cancel)
            return move(*arguments)

        with monkeypatch.context() as patch:
            owner, name = TROUBLE[way]
            patch.setattr(owner, name, once(cancel, getattr(owner, name), at=9))
            moving = asyncio.ensure_future(getattr(here, way)())
            with pytest.raises(asyncio.CancelledError):
                await moving
        assert all([await client.ping() > 0 for client in here.swarm.clients])
        report = await getattr(here, way)()
        assert report.files == 3
        assert here.arrived(way) == tree(here.share)


@on_loop
@pytest.mark.parametrize("way", ["download", "upload"])
async def test_a_lost_lane_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async with placed(tmp_path) as here:

        def cut(move: Callable[..., Any], *arguments: Any) -> Any:
            break_mine(here.gateway)
            return move(*arguments)

        for number in range(3):
            write(here.share / f"{number}", os.urandom(20 * CHUNK))
        owner, name = TROUBLE[way]
        monkeypatch.setattr(owner, name, once(cut, getattr(owner, name), at=9))
        report = await getattr(here, way)()
        assert here.arrived(way) == tree(here.share)
        assert (report.files, report.lanes_lost, report.lanes_replaced) == (3, 0, 1)


@on_loop
@pytest.mark.usefixtures("impatient")
async def test_a_gateway_that_dies_ends_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with placed(tmp_path) as here:

        def die(move: Callable[..., Any], *arguments: Any) -> Any:
            here.gateway._pool.size = 0
            for handler in here.gateway._pool.handlers():
                handler.link.stream.shutdown()
            return move(*arguments)

        write(here.share / "file", os.urandom(50 * CHUNK))
        monkeypatch.setattr(Reader, "read_chunk", once(die, Reader.read_chunk, at=9))
        with pytest.raises(ConnectionLost):
            await here.download()
        assert tree(here.target) == {}


@on_loop
async def test_the_loop_runs_on_meanwhile(tmp_path: Path) -> None:
    async with placed(tmp_path) as here:
        for number in range(20):
            write(here.share / f"{number}", os.urandom(20 * CHUNK))
        turns = 0
        moving = asyncio.ensure_future(here.download())
        while not moving.done():
            turns += 1
            await a_turn()
        assert moving.result().files == 20
        assert turns > 20

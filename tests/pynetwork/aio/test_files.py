from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handshakes.connection import Phase
from handshakes.errors import Busy, Closed, ConnectionLost, RemoteProtocolError
from handshakes.manifest import Entry
from pynetwork.aio import AsyncSwarm, files
from pynetwork.aio import client as client_module
from pynetwork.files import TransferReport, jobs
from pynetwork.files.downloads import Download
from pynetwork.files.jobs import JobLane
from pynetwork.files.reading import Reader
from pynetwork.files.storing import StoringLane
from pynetwork.gateway import Gateway
from tests.conformance.breaking import break_mine
from tests.pynetwork.aio.looping import (
    Blocker,
    a_turn,
    add,
    controller_of,
    happened,
    on_loop,
    operating,
    swarming,
    until,
)
from tests.pynetwork.files.transferring import CHUNK, Tree, once, plant, tree, write
from tests.serving import PATIENCE


@dataclass
class Place:
    """A gateway that shares ``share`` as "s" and stores uploads in ``uploads``, a swarm of it, and a ``target``."""

    gateway: Gateway
    swarm: AsyncSwarm
    share: Path
    uploads: Path
    target: Path

    async def move(self, way: str) -> TransferReport:
        if way == "download":
            return await self.swarm.download("s", to=self.target, progress=False)
        return await self.swarm.upload([self.share], progress=False)

    def arrived(self, way: str) -> Tree:
        """What has come; a gateway keeps what is not complete for a while, under another name."""
        if way == "download":
            return tree(self.target)
        return {path: found for path, found in tree(self.uploads / "share").items() if not path.endswith(".partial")}


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
        report = await here.move(way)
        assert here.arrived(way) == expected
        assert (report.files, report.skipped, report.chunks_again) == (len(expected), [], 0)


# Cancelling


@on_loop
@pytest.mark.parametrize("way", ["download", "upload"])
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_at_everything_that_is_done_on_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, times: int
) -> None:
    """Nothing that is not whole is left behind, and the next job runs at once."""
    async with placed(tmp_path) as here:
        plant_a_little(here.share)
        expected = tree(here.share)
        for at in itertools.count(1):
            with monkeypatch.context() as patch:
                cancelled = CancelledOnThread(at, times)
                patch.setattr(files, "_on_thread", cancelled.on_thread)
                report = await cancelled.run(here.move(way))
            if report is not None:
                break
            assert all([await client.ping() > 0 for client in here.swarm.clients])
            assert here.arrived(way).items() <= expected.items()
        assert at > 10
        assert report.files == len(expected)
        assert here.arrived(way) == expected


class CancelledOnThread:
    """Cancels a transfer, so many times, when it does its thing number ``at`` on a thread."""

    def __init__(self, at: int, times: int) -> None:
        self._at, self._times = at, times
        self._done = 0
        self._on_thread = files._on_thread

    async def on_thread(self, *arguments: Any) -> Any:
        """In place of that of the module."""
        self._done += 1
        if self._done == self._at:
            loop = asyncio.get_running_loop()
            for turn in range(self._times):
                loop.call_later(0.001 * turn, self._moving.cancel)
        return await self._on_thread(*arguments)

    async def run(self, moving: Coroutine[Any, Any, TransferReport]) -> TransferReport | None:
        """How it went; None when it was cancelled."""
        self._moving = asyncio.ensure_future(moving)
        await asyncio.wait([self._moving])
        assert self._moving.cancelled() == (self._done >= self._at)
        return None if self._moving.cancelled() else self._moving.result()


def plant_a_little(root: Path) -> None:
    for number in range(2):
        write(root / f"large {number}", os.urandom(5 * CHUNK))
    for number in range(3):
        write(root / f"small {number}", os.urandom(number))


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_while_a_lane_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """It holds a folder, which is closed then."""
    async with placed(tmp_path) as here:
        plant_a_little(here.share)
        entered, release = threading.Semaphore(0), threading.Event()
        make_lane = Download.make_lane

        def wait(job: Download, operation: Any) -> Any:
            entered.release()
            assert release.wait(PATIENCE)
            return make_lane(job, operation)

        with monkeypatch.context() as patch:
            patch.setattr(Download, "make_lane", wait)
            moving = asyncio.ensure_future(here.move("download"))
            await happened(entered, 2)
            for _ in range(times):
                moving.cancel()
                await a_turn()
            assert not moving.done()
            release.set()
            with pytest.raises(asyncio.CancelledError):
                await moving
        assert (await here.move("download")).files == 5


@on_loop
@pytest.mark.parametrize("way", ["download", "upload"])
async def test_closing_ends_a_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async with placed(tmp_path) as here:
        plant_a_little(here.share)
        blocker = Blocker()
        monkeypatch.setattr(client_module, "_FAREWELL", 0.05)

        def wait(move: Callable[..., Any], *arguments: Any) -> Any:
            blocker.function()
            return move(*arguments)

        owner, name = TROUBLE[way]
        monkeypatch.setattr(owner, name, once(wait, getattr(owner, name), at=4))
        moving = asyncio.ensure_future(here.move(way))
        await happened(blocker.entered)
        await here.swarm.close()
        with pytest.raises(Closed, match="closed in the middle of a job"):
            await moving
        blocker.release.set()
        assert here.arrived(way).items() <= tree(here.share).items()


# Losses


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
        report = await here.move(way)
        assert here.arrived(way) == tree(here.share)
        assert (report.files, report.lanes_lost, report.lanes_replaced) == (3, 0, 1)


@on_loop
@pytest.mark.usefixtures("impatient")
async def test_one_of_two_gateways_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's files come whole."""
    read_chunk = Reader.read_chunk
    for name in ("dying", "living"):
        (tmp_path / name).mkdir()
    async with placed(tmp_path / "dying") as dying, placed(tmp_path / "living") as living:
        for here in (dying, living):
            write(here.share / here.share.parent.name, os.urandom(100 * CHUNK))

        def read_or_die(reader: Reader, entry: Entry, size: int, index: int) -> Any:
            if entry.path == "dying" and index == 50:
                die(dying.gateway)
            return read_chunk(reader, entry, size, index)

        monkeypatch.setattr(Reader, "read_chunk", read_or_die)
        lost, report = await asyncio.gather(dying.move("download"), living.move("download"), return_exceptions=True)
        assert isinstance(lost, ConnectionLost)
        assert (report.files, report.lanes_lost) == (1, 0)
        assert living.arrived("download") == tree(living.share)
        assert dying.arrived("download") == {}


def die(gateway: Gateway) -> None:
    """Every connection breaks, and there will be no other."""
    gateway._pool.size = 0
    for handler in gateway._pool.handlers():
        handler.link.stream.shutdown()


@on_loop
@pytest.mark.parametrize("way", ["download", "upload"])
async def test_a_gateway_that_owes_an_answer_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its lane is replaced."""
    monkeypatch.setattr(files, "SILENCE_TIMEOUT", 0.2)
    monkeypatch.setattr(client_module, "_FAREWELL", 0.05)
    async with placed(tmp_path) as here:
        plant_a_little(here.share)
        blocker = Blocker()

        def wait(move: Callable[..., Any], *arguments: Any) -> Any:
            blocker.function()
            return move(*arguments)

        owner, name = TROUBLE[way]
        monkeypatch.setattr(owner, name, once(wait, getattr(owner, name), at=4))
        report = await here.move(way)
        assert (report.files, report.lanes_lost) == (5, 0)
        assert report.lanes_replaced > 0
        assert here.arrived(way) == tree(here.share)
        blocker.release.set()


@on_loop
async def test_a_gateway_that_answers_what_nobody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one lane waits for the other, which has the only file."""
    async with placed(tmp_path) as here:
        write(here.share / "file", os.urandom(2 * CHUNK))
        blocker = Blocker()
        busy: list[str] = []

        def wait(read: Callable[..., Any], *arguments: Any) -> Any:
            busy.append(threading.current_thread().name)
            blocker.function()
            return read(*arguments)

        monkeypatch.setattr(Reader, "read_chunk", once(wait, Reader.read_chunk, at=2))
        monkeypatch.setattr(client_module, "_FAREWELL", 0.05)
        moving = asyncio.ensure_future(here.move("download"))
        await happened(blocker.entered)
        idle = next(each for each in here.gateway._pool.handlers() if each.thread.name not in busy)
        await until(lambda: idle.link.connection.phase is Phase.RUNNING)
        idle.link.send(idle.link.connection.message(1, b"", [b"unasked"]))
        with pytest.raises(RemoteProtocolError, match="a message came that nobody had asked for"):
            await moving
        blocker.release.set()
        assert (await here.move("download")).files == 1


@on_loop
async def test_a_gateway_whose_answer_is_long_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SILENCE_TIMEOUT", 0.5)
    async with operating() as (_, operation, served):
        pieces = iter(b"".join(map(bytes, served.link.connection.message(1, b"head", [b"body"]))))

        def say_on() -> None:
            for piece in itertools.islice(pieces, 1):
                served.link.stream.send([bytes([piece])])
                asyncio.get_running_loop().call_later(0.03, say_on)

        say_on()
        message = await files._next_answer(operation)
        assert message is not None
        assert bytes(message.body) == b"body"
        with pytest.raises(ConnectionLost, match=r"owes an answer and has said nothing for 0\.5 s"):
            await files._next_answer(operation)


@on_loop
async def test_the_loop_runs_on_while_a_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is this side that writes slowly; another client calls in the meantime."""
    async with placed(tmp_path) as here:
        here.gateway.add_subroutine("add", add)
        plant_a_little(here.share)
        blocker = Blocker()

        def wait(take_in: Callable[..., Any], *arguments: Any) -> Any:
            blocker.function()
            return take_in(*arguments)

        monkeypatch.setattr(JobLane, "take_in", once(wait, JobLane.take_in, at=3))
        moving = asyncio.ensure_future(here.move("download"))
        await happened(blocker.entered)
        async with controller_of(here.gateway).get_client() as client:
            assert [await client.call("add", number) for number in range(20)] == list(range(1, 21))
        assert not moving.done()
        with pytest.raises(Busy, match="this swarm runs another job"):
            await here.move("upload")
        blocker.release.set()
        assert (await moving).files == 5
        assert (await here.move("upload")).files == 5

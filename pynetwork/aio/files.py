"""File transfers on an event loop: the same jobs as with the blocking driver, whose network is the loop's.

Files are read and written on threads of the loop's executor; a job's own bookkeeping knows no driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from handshakes.chunks import Work
from handshakes.errors import ConnectionLost, DeadlineExceeded, LocalProtocolError, RemoteProtocolError
from handshakes.messages import Bytes, Message
from handshakes.transfer import Code
from pynetwork.aio.client import AsyncClient
from pynetwork.aio.lanes import AsyncLanes
from pynetwork.aio.link import to_the_end
from pynetwork.aio.operation import AsyncOperation
from pynetwork.files import Progress, TransferReport, make_download, make_upload
from pynetwork.files.conversation import SILENCE_TIMEOUT, Begin, Conversation, Hear, Request, Say, Step
from pynetwork.files.jobs import Job, JobLane

__all__ = ["download", "upload"]

Answer = TypeVar("Answer")


async def download(
    lanes: AsyncLanes,
    share: str,
    *,
    pattern: str | None = None,
    files: Sequence[str] | None = None,
    to: str | os.PathLike[str],
    durable: bool = False,
    progress: bool | Progress | None = None,
    overwrite: bool = True,
    chunk_size: int | None = None,
) -> TransferReport:
    """As `pynetwork.files.download`."""
    job = make_download(
        lanes.count,
        share,
        pattern=pattern,
        files=files,
        to=to,
        durable=durable,
        progress=progress,
        overwrite=overwrite,
        chunk_size=chunk_size,
    )
    return await _Transfer(job).run(lanes)


async def upload(
    lanes: AsyncLanes,
    paths: Sequence[str | os.PathLike[str]],
    *,
    dirname: str = "",
    durable: bool = False,
    progress: bool | Progress | None = None,
    chunk_size: int | None = None,
) -> TransferReport:
    """As `pynetwork.files.upload`."""
    job = make_upload(lanes.count, paths, dirname=dirname, durable=durable, progress=progress, chunk_size=chunk_size)
    return await _Transfer(job).run(lanes)


async def _on_thread(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Run it on a thread, to its end even when this is cancelled: it may be in the middle of writing."""
    return await to_the_end(asyncio.get_running_loop().run_in_executor(None, lambda: function(*arguments)))


class _Outbox:
    """Gathers what a lane says, until the loop sends it."""

    def __init__(self) -> None:
        self._said: list[tuple[int, bytes, tuple[Bytes, ...]]] = []

    def send(self, code: int, head: bytes = b"", *buffers: Bytes) -> None:
        """Keep a message; the buffers may be used again."""
        self._said.append((code, head, tuple(map(bytes, buffers))))

    async def send_all(self, operation: AsyncOperation) -> None:
        """Send what was kept."""
        said, self._said = self._said, []
        for code, head, buffers in said:
            await operation.send(code, head, *buffers)


class _Transfer:
    """One job on all lanes."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._loop = asyncio.get_running_loop()
        self._preparing = asyncio.Lock()
        self._waiting: set[asyncio.Future[bool]] = set()
        job.listeners.append(lambda: self._loop.call_soon_threadsafe(self._wake))

    async def run(self, lanes: AsyncLanes) -> TransferReport:
        """Do it, and say how it went."""
        began = time.perf_counter()
        try:
            used = await lanes.run(self._work)
        finally:
            await _on_thread(self._job.close)
        return self._job.report(used, time.perf_counter() - began)

    async def _work(self, client: AsyncClient, _lane: int) -> None:
        job = self._job
        try:
            async with self._preparing:
                if not job.is_prepared:
                    await _converse(client, job.prepare())
                    job.prepared()
            async with await client.open(*job.opening()) as operation:
                outbox = _Outbox()
                lane = await self._make_lane(outbox)
                await self._drive(client, operation, lane, outbox)
        except ConnectionLost as error:
            job.note_loss(error)
            raise
        finally:
            with job.changed:
                job.notify()

    async def _make_lane(self, outbox: _Outbox) -> JobLane:
        making = self._loop.run_in_executor(None, self._job.make_lane, outbox)
        try:
            return await to_the_end(making)
        except asyncio.CancelledError:
            if making.exception() is None:
                making.result().close()
            raise

    async def _drive(self, client: AsyncClient, operation: AsyncOperation, lane: JobLane, outbox: _Outbox) -> None:
        """A lane's loop; what is not done when this raises goes back to the plan."""
        try:
            while await self._fill(client, operation, lane, outbox):
                if not operation.ready():
                    lane.widen()
                message = await _next_answer(operation)
                await _on_thread(lane.take_in, message)
                if message is not None:
                    operation.recycle(message.body)
            await _finish(operation)
        except BaseException:
            lane.give_back()
            raise
        finally:
            await _on_thread(lane.close)

    async def _fill(self, client: AsyncClient, operation: AsyncOperation, lane: JobLane, outbox: _Outbox) -> bool:
        if lane.hungry:
            while room := lane.room:
                work = self._take(room)
                if work is None and not lane.asked:
                    work = await self._wait_for_work(client, operation, room)
                if work is None:
                    break
                await _on_thread(lane.ask, work)
                await outbox.send_all(operation)
        return bool(lane.asked)

    def _take(self, room: int) -> Work | None:
        with self._job.changed:
            return self._job.take_now(room)

    async def _wait_for_work(self, client: AsyncClient, operation: AsyncOperation, room: int) -> Work | None:
        """The next piece of work, None when the job has finished."""
        while True:
            wake: asyncio.Future[bool] = self._loop.create_future()
            self._waiting.add(wake)
            try:
                # Once more, now that a change would wake us.
                work = self._take(room)
                if work is not None or self._job.plan.finished:
                    return work
                await client.link.idle(wake)
            finally:
                self._waiting.discard(wake)
            if operation.ready():
                # As in `Job.take`: the rest of an operation that was left before is dropped, and nothing comes of it.
                with contextlib.suppress(DeadlineExceeded):
                    await operation.receive(0.0)
                    raise RemoteProtocolError("a message came that nobody had asked for")

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(True)


async def _converse(client: AsyncClient, conversation: Conversation) -> None:
    """As `pynetwork.files.conversation.converse`; what the conversation does itself is done on a thread."""
    operation: AsyncOperation | None = None
    answer: Any = None
    try:
        while (step := await _on_thread(_next_step, conversation, answer)) is not None:
            if isinstance(step, Request):
                answer = await client.request(step.verb, *step.parameters)
            elif isinstance(step, Begin):
                operation, answer = await client.open(step.verb, *step.parameters), None
            else:
                answer = await _within(operation, step)
    finally:
        conversation.close()
        if operation is not None:
            operation.abort()


def _next_step(conversation: Conversation, answer: Any) -> Step | None:
    try:
        return conversation.send(answer)
    except StopIteration:
        return None


async def _within(operation: AsyncOperation | None, step: Step) -> Any:
    if operation is None:
        raise LocalProtocolError("nothing has begun in which this could be said")
    if isinstance(step, Say):
        await operation.send(step.code, b"", step.body)
        return None
    return await (_next_answer(operation) if isinstance(step, Hear) else operation.result())


async def _finish(operation: AsyncOperation) -> None:
    await operation.send(Code.FINISH)
    if await _next_answer(operation) is not None:
        raise RemoteProtocolError("a message arrived in place of a result")


async def _next_answer(operation: AsyncOperation) -> Message | None:
    """As `pynetwork.files.conversation.next_answer`."""
    while True:
        before = operation.received
        try:
            return await operation.receive(SILENCE_TIMEOUT)
        except DeadlineExceeded as error:
            if operation.received == before:
                raise ConnectionLost(
                    f"{operation.peer} owes an answer and has said nothing for {SILENCE_TIMEOUT:g} s"
                ) from error

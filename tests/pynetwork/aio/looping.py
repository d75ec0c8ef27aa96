"""What these tests share: a loop for each, waiting that lets it run, functions to serve, links with a far end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from handshakes.connection import Connection, Role
from handshakes.messages import Rights
from pynetwork.aio import AsyncClient, AsyncController, AsyncSwarm
from pynetwork.aio.link import AsyncLink
from pynetwork.gateway import Gateway
from pynetwork.link import Link
from pynetwork.service import ServedOperation
from pynetwork.transport import TcpStream
from tests.serving import PATIENCE, serving
from tests.waiting import wait_until

LARGE = bytes(20_000_000)
"""More than the system takes at once from one who sends it to nobody."""


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test on an event loop of its own, in asyncio's debug mode.

    It fails for a task that outlives it, and for all that the loop has to complain about.
    """

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(_watched(test(*arguments, **fixtures)), debug=True)

    return run


async def _watched(body: Coroutine[Any, Any, None]) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    await asyncio.wait_for(body, 3 * PATIENCE)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, others = await asyncio.wait(others, timeout=PATIENCE)
    assert not others
    # Errors that nobody asked for are told when their tasks and futures go.
    gc.collect(1)
    assert not complaints


async def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait for something while the loop runs on; the condition is looked at from another thread."""
    return await asyncio.to_thread(wait_until, condition, PATIENCE, what)


async def happened(event: threading.Event | threading.Semaphore, times: int = 1) -> None:
    """Wait while the loop runs on: for an event, or for so many releases of a semaphore."""
    wait = event.wait if isinstance(event, threading.Event) else functools.partial(event.acquire, True)
    for _ in range(times):
        assert await asyncio.to_thread(wait, timeout=PATIENCE)


async def a_turn() -> None:
    """Everything that was ready to run has run once."""
    await asyncio.sleep(0)


async def cancelled(task: asyncio.Future[Any], times: int = 1) -> None:
    """Cancel it, and wait for that."""
    for _ in range(times):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class CancelledAt:
    """Awaits something and, when it waits for the ``turn``th time, cancels it, and so the next ``times - 1`` times.

    ``early``: before anything runs that it has begun just then, else after that. ``reached`` tells whether it waited
    so often.
    """

    def __init__(self, turn: int, awaited: Coroutine[Any, Any, Any], times: int = 1, *, early: bool = False) -> None:
        self.reached = False
        self._awaited = awaited
        self._at = range(turn, turn + times)
        self._early = early

    async def run(self) -> Any:
        """What comes of it; None when it was cancelled."""
        task = asyncio.ensure_future(self._run())
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def _run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaited.__await__()
        loop, task, sent = asyncio.get_running_loop(), asyncio.current_task(), None
        assert task is not None
        for turn in itertools.count():
            cancelled = turn in self._at
            if cancelled and self._early:
                loop.call_soon(task.cancel)
            try:
                waiting_for = steps.throw(sent) if isinstance(sent, BaseException) else steps.send(sent)
            except StopIteration as end:
                return end.value
            self.reached |= cancelled
            if cancelled and not self._early:
                loop.call_soon(task.cancel)
            try:
                sent = yield waiting_for
            except BaseException as error:
                sent = error


async def cancelling(make: Callable[[], Coroutine[Any, Any, Any]], times: int = 1) -> AsyncIterator[Any]:
    """Cancel what ``make`` makes, wherever it waits: each time another one, one place further on.

    Yields what came of each; ends after the first one that was done before it could be cancelled.
    """
    for turn in itertools.count():
        for early in (True, False):
            attempt = CancelledAt(turn, make(), times, early=early)
            yield await attempt.run()
        if not attempt.reached:
            return


# What is served


def add(first: int, second: int = 1) -> int:
    return first + second


def swallow(*, buffer: bytes) -> int:
    return len(buffer)


def shared(count: int, *, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
    for number in range(lane, count, lanes):
        yield number, number * 10


class Endless:
    """A generator ``endless`` that counts up until it is closed: how often it ``began``, how many ``produced`` items,
    and how many are ``open``.
    """

    def __init__(self, size: int = 8) -> None:
        self.began = self.closed = self.produced = 0
        self._lock = threading.Lock()
        self._payload = bytes(size)

    @property
    def open(self) -> int:
        return self.began - self.closed

    @property
    def function(self) -> Callable[..., Iterator[Any]]:
        def endless(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
            with self._lock:
                self.began += 1
            try:
                for number in itertools.count(lane, lanes):
                    self.produced += 1
                    yield number, self._payload
            finally:
                with self._lock:
                    self.closed += 1

        return endless

    async def ended(self) -> None:
        """Wait until each that began is closed."""
        await until(lambda: self.began and not self.open, "the end of the generators")


class Blocker:
    """A function ``block`` that answers its argument when it is released."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    @property
    def function(self) -> Callable[[Any], Any]:
        def block(value: Any = None) -> Any:
            self.entered.release()
            assert self.release.wait(PATIENCE)
            return value

        return block


# Callers


def controller_of(gateway: Gateway, **options: Any) -> AsyncController:
    """A controller of a gateway on this machine."""
    return AsyncController("127.0.0.1", gateway.port, **options)


@contextlib.asynccontextmanager
async def paired(*functions: Callable[..., Any], **options: Any) -> AsyncIterator[tuple[Gateway, AsyncClient]]:
    """A gateway that offers these functions, and a client of it without a timeout."""
    with serving(*functions, **options) as gateway:
        async with controller_of(gateway, timeout=None).get_client() as client:
            yield gateway, client


@contextlib.asynccontextmanager
async def swarming(
    lanes: int, *functions: Callable[..., Any], **options: Any
) -> AsyncIterator[tuple[Gateway, AsyncSwarm]]:
    """A gateway that offers these functions, with room for lost lanes, and a swarm of it."""
    with serving(*functions, max_poolsize=2 * lanes, **options) as gateway:
        async with controller_of(gateway, timeout=None).get_swarm(lanes) as swarm:
            yield gateway, swarm


# A link whose far end the test holds


@contextlib.asynccontextmanager
async def joined() -> AsyncIterator[tuple[AsyncLink, socket.socket]]:
    """A link, and the socket at its other end; nothing was said yet."""
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    _, link = await asyncio.get_running_loop().create_connection(lambda: AsyncLink("the gateway"), sock=near)
    try:
        yield link, far
    finally:
        link.close()
        await link.wait_closed()
        far.close()


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[AsyncLink, Link]]:
    """A link and the gateway's, whose handshake is done; nobody serves. The gateway's must not wait for the loop."""
    async with joined() as (link, sock):
        client = Connection(Role.CLIENT, nonce=b"c" * 32)
        gateway = Connection(Role.GATEWAY, nonce=b"g" * 32, rights=Rights.DEFAULT)
        served = Link(TcpStream(sock, "the caller"), gateway)
        link.attach(client)
        link.write(client.start())
        served.next_event(PATIENCE)
        served.send(gateway.data_to_send())
        served.send(gateway.welcome())
        await link.next_event(PATIENCE)
        yield link, served


@contextlib.asynccontextmanager
async def operating() -> AsyncIterator[tuple[AsyncClient, Any, ServedOperation]]:
    """A client, its running operation, and the gateway's side of that; nobody serves it."""
    async with linked() as (link, served):
        client = AsyncClient(link)
        operation = await client.open("verb")
        served.next_event(PATIENCE)
        yield client, operation, ServedOperation(served)

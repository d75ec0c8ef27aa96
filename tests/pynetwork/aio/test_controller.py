from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from handshakes.errors import ConfigurationError, ConnectionLost, DeadlineExceeded, PoolFull
from pynetwork.aio import AsyncController
from pynetwork.gateway import Gateway
from tests.pynetwork.aio.looping import Endless, add, cancelling, controller_of, on_loop, until
from tests.serving import KEY, PATIENCE, serving
from tests.waiting import wait_until


@on_loop
async def test_awaited_or_entered() -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        client = await controller.get_client()
        assert await client.call("add", 1) == 2
        await client.close()
        # The handler is free as soon as it is closed.
        async with controller.get_client() as client:
            assert await client.call("add", 2) == 3
        async with controller.get_swarm(1) as swarm:
            assert [result async for result in swarm.map("add", [3])] == [4]
        controller.get_client()  # never awaited: nothing is dialled, nothing is said about it
        await (await controller.get_client()).close()


@on_loop
async def test_many_clients_in_one_loop() -> None:
    def both(number: int) -> int:
        together.wait()
        return number

    together = threading.Barrier(20, timeout=PATIENCE)
    with serving(both, max_poolsize=20) as gateway:
        controller = controller_of(gateway)

        async def use(number: int) -> int:
            async with controller.get_client() as client:
                answer: int = await client.call("both", number)
                return answer

        assert await asyncio.gather(*map(use, range(20))) == list(range(20))


# Waiting for a place


@on_loop
async def test_waiting_for_a_place_lets_the_loop_run() -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        async with controller.get_client() as first:
            with pytest.raises(PoolFull):
                await controller.get_client()
            waiting = asyncio.ensure_future(controller._get_client(PATIENCE))
            for number in range(50):
                assert await first.call("add", number) == number + 1
            assert not waiting.done()
        client = await waiting
        assert await client.call("add", 1) == 2
        await client.close()


@on_loop
async def test_waiting_for_a_place_is_cancelled() -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        async with controller.get_client() as first:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(controller._get_client(PATIENCE), 0.1)
            assert await first.call("add", 1) == 2
        await (await controller.get_client()).close()


# Dialling


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


@on_loop
async def test_a_gateway_that_does_not_answer(silent: socket.socket) -> None:
    controller = AsyncController(port=silent.getsockname()[1], timeout=0.1)
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.1 s"):
        await controller.get_client()


@on_loop
async def test_dialling_is_cancelled_in_the_handshake(silent: socket.socket) -> None:
    dialling = asyncio.ensure_future(AsyncController(port=silent.getsockname()[1])._get_client(None))
    accepted, _ = await asyncio.to_thread(silent.accept)
    with accepted:
        assert await asyncio.to_thread(accepted.recv, 65536)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert await asyncio.to_thread(accepted.recv, 65536) == b""


@on_loop
@pytest.mark.parametrize("times", [1, 2])
async def test_dialling_is_cancelled_wherever_it_waits(times: int) -> None:
    with serving(add, max_poolsize=1, key=KEY) as gateway:
        controller = controller_of(gateway, key=KEY)

        async def use() -> Any:
            async with controller.get_client() as client:
                return await client.call("add", 1)

        results = [result async for result in cancelling_and_waiting(gateway, use, times)]
        assert len(results) > 3
        assert results[-1] == 2


async def cancelling_and_waiting(
    gateway: Gateway, use: Callable[[], Coroutine[Any, Any, Any]], times: int
) -> AsyncIterator[Any]:
    """Each time until the gateway serves nobody any more."""
    async for result in cancelling(use, times):
        await until(lambda: not gateway._pool.handlers())
        yield result


@on_loop
async def test_a_host_by_its_name() -> None:
    with serving(add) as gateway:
        async with AsyncController("localhost", gateway.port).get_client() as client:
            assert client.peer == f"localhost:{gateway.port}"
            assert await client.call("add", 1) == 2


@on_loop
async def test_options_are_checked_at_once() -> None:
    with pytest.raises(ConfigurationError):
        AsyncController(port=70_000)
    with pytest.raises(ConfigurationError, match="0 lanes"):
        await AsyncController().get_swarm(0)


@on_loop
async def test_stopping_a_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(rights="stop") as gateway:
        await controller_of(gateway, verbose=True).stop_gateway()
        assert "the gateway stops" in capsys.readouterr().err
        await asyncio.to_thread(gateway.wait)
        with pytest.raises(ConnectionLost):
            await controller_of(gateway).get_client()


# The end of a loop


PROGRAM = """
import asyncio
import sys
import threading
from pynetwork.aio import AsyncController

async def main(controller):
    # That a busy machine takes its time is no complaint.
    asyncio.get_running_loop().slow_callback_duration = 60
    {body}

try:
    asyncio.run(main(AsyncController(port=int(sys.argv[1]))))
except KeyboardInterrupt:
    pass
assert threading.active_count() == 1
"""
ENDS = {
    "idle": "client = await controller.get_client(); await client.ping()",
    "kept": "global kept; kept = await controller.get_client()",
    "in a stream": """
client = await controller.get_client()
async for ident, _ in client.stream("endless"):
    if ident == 100:
        return
""",
    "in a task": """
client = await controller.get_client()
begun = asyncio.Event()
async def consume():
    async for _ in client.stream("endless"):
        begun.set()
task = asyncio.ensure_future(consume())
await begun.wait()
""",
    "a swarm": """
swarm = await controller.get_swarm(2)
async for ident, _ in swarm.stream("endless"):
    if ident > 100:
        return
""",
    "by an error": """
client = await controller.get_client()
stream = client.stream("endless")
await stream.__anext__()
raise SystemExit
""",
}
INTERRUPTED = """
import os, signal

reached = []

async def consume(stream):
    async for ident, _ in stream:
        if ident == 1000:
            reached.append(stream)
            if len(reached) == 2:
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()

async with controller.get_client() as client, controller.get_swarm(2) as swarm:
    await asyncio.gather(consume(client.stream("endless")), consume(swarm.stream("endless", ordered=True)))
"""
USES = """
def alone():
    assert threading.enumerate() == [threading.main_thread()]

async with controller.get_client() as client, controller.get_swarm(3) as swarm:
    alone()
    assert await client.call("add", 1) == 2
    async for ident, _ in client.stream("endless"):
        if ident == 1000:
            alone()
            break
    assert [result async for result in swarm.map("add", range(20))] == list(range(1, 21))
    for ordered in (False, True):
        async for ident, _ in swarm.stream("endless", ordered=ordered):
            if ident > 1000:
                alone()
                break
    alone()
"""


def run(port: int, body: str) -> None:
    """Run it in a process of its own, and see that it has nothing to complain about."""
    program = PROGRAM.format(body=textwrap.indent(body, "    ").strip())
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, str(port)],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("end", ENDS)
def test_a_loop_that_ends_closes_what_is_open(end: str) -> None:
    endless = Endless()
    with serving(endless.function) as gateway:
        run(gateway.port, ENDS[end])
        assert bool(endless.began) == ("endless" in ENDS[end])
        wait_until(lambda: not endless.open, PATIENCE)
        wait_until(lambda: not gateway._pool.handlers(), PATIENCE)


@pytest.mark.skipif(sys.platform == "win32", reason="there a process can't be sent Ctrl-C alone")
def test_ctrl_c_closes_what_is_open() -> None:
    endless = Endless()
    with serving(endless.function, max_poolsize=3) as gateway:
        run(gateway.port, INTERRUPTED)
        wait_until(lambda: not gateway._pool.handlers(), PATIENCE)
        assert endless.began > 2
        assert not endless.open


def test_no_thread_is_started() -> None:
    endless = Endless()
    with serving(add, endless.function) as gateway:
        run(gateway.port, USES)
        # All of it was run: a stream of one client, and two of three lanes each.
        assert endless.began == 7
        wait_until(lambda: not endless.open, PATIENCE)


def test_a_controller_serves_one_loop_after_the_other() -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)

        async def use(number: int) -> Any:
            client = await controller.get_client(wait=PATIENCE)
            return await client.call("add", number)

        assert [asyncio.run(use(number)) for number in range(3)] == [1, 2, 3]

"""A gateway that is started and stopped again and again under traffic: nothing of it stays. PYNETWORK_LONG=1 makes it
200 times.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import socket
import statistics
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from handshakes.errors import ConnectionLost
from pynetwork import lanes
from pynetwork.aio import AsyncController
from pynetwork.aio import lanes as async_lanes
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from tests.leaks import FILES, THREADS
from tests.serving import PATIENCE, Background
from tests.waiting import wait_until
from tools.facade import ControllerFacade, LoopThread

pytestmark = [pytest.mark.system, pytest.mark.slow]

CYCLES = 200 if os.environ.get("PYNETWORK_LONG") else 20
WARM_UP = 8
MOST_MEMORY = 12 << 20
ROUNDS = 3


def add(first: int, second: int = 1) -> int:
    return first + second


def count(*, lane: int = 0, lanes: int = 1) -> Iterator[Any]:
    for ident in itertools.count(lane, lanes):
        yield ident, b"x" * 100
        # So that everybody has a turn soon.
        time.sleep(0.001)


class Traffic:
    """Somebody who uses a gateway until it is gone; ``rounds`` counts what came out right."""

    def __init__(self, use: Callable[[Any], Iterator[bool]], caller: Any) -> None:
        self.rounds = 0
        self._caller = caller
        self._running = Background(self._run, use)

    def _run(self, use: Callable[[Any], Iterator[bool]]) -> None:
        for right in use(self._caller):
            assert right
            self.rounds += 1

    def is_flowing(self) -> bool:
        return self.rounds >= ROUNDS or self._running.done

    def ends(self) -> None:
        with pytest.raises(ConnectionLost):
            self._running.result()
        self._caller.close()


def calls(client: Any) -> Iterator[bool]:
    for number in itertools.count():
        yield client.call("add", number) == number + 1


def stream(client: Any) -> Iterator[bool]:
    for expected, (ident, _) in enumerate(client.stream("count")):
        yield ident == expected


def left_streams(client: Any) -> Iterator[bool]:
    while True:
        with client.stream("count") as items:
            yield next(items) == (0, b"x" * 100)


def ordered(swarm: Any) -> Iterator[bool]:
    last = -1
    for ident, _ in swarm.stream("count", ordered=True):
        # The items of a lane that stays lost are missing, up to the error at the end.
        yield ident > last
        last = ident


def maps(swarm: Any) -> Iterator[bool]:
    for number, result in enumerate(swarm.map("add", itertools.count())):
        yield result == number + 1


def files(folder: Path) -> Callable[[Any], Iterator[bool]]:
    def both_ways(swarm: Any) -> Iterator[bool]:
        for _ in itertools.count():
            copied = swarm.download("data", to=folder / "copy", progress=False)
            sent = swarm.upload([folder / "data"], progress=False)
            yield copied.files == sent.files == 3

    return both_ways


def cycle(port: int, folder: Path, loop: LoopThread) -> tuple[int, list[weakref.ref[Any]]]:
    """One life of a gateway; its port, and what must not outlive it."""
    gateway = Gateway(port, max_poolsize=40, download_dir=folder / "incoming", share={"data": folder / "data"})
    for function in (add, count):
        gateway.add_subroutine(function.__name__, function)
    with gateway, contextlib.ExitStack() as stack:
        blocking = Controller(port=gateway.port)
        asynchronous = ControllerFacade(loop, AsyncController(port=gateway.port))
        traffic = [
            Traffic(use, made)
            for controller in (blocking, asynchronous)
            for use, made in (
                (calls, controller.get_client()),
                (stream, controller.get_client()),
                (left_streams, controller.get_client()),
                (maps, controller.get_swarm(2)),
                (ordered, controller.get_swarm(2)),
            )
        ]
        traffic.append(Traffic(files(folder), blocking.get_swarm(2)))
        # Some who say nothing, in the doorway.
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
        wait_until(lambda: all(each.is_flowing() for each in traffic), PATIENCE, "traffic to flow")
        gateway.stop(drain=0.05)
    for each in traffic:
        each.ends()
    return gateway.port, [weakref.ref(gateway), weakref.ref(gateway._pool), weakref.ref(gateway._admission)]


@pytest.mark.timeout(120 + 5 * CYCLES)
def test_nothing_stays_of_gateways_that_were_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lanes, async_lanes):
        monkeypatch.setattr(module, "REDIALS", 1)
    (tmp_path / "data").mkdir()
    for number in range(3):
        (tmp_path / "data" / f"{number}.bin").write_bytes(bytes(number * 100_000))
    # What pytest keeps of a log holds errors, and those hold all that was there when they were raised.
    caplog.set_level(logging.CRITICAL, "pynetwork")
    process = psutil.Process()
    memory: list[int] = []
    loop = LoopThread()
    try:
        port, _ = cycle(0, tmp_path, loop)
        threads, descriptors = THREADS.living(), FILES.living()
        for _ in range(CYCLES):
            # On the very same port, which is free as soon as the one before has stopped.
            again, gone = cycle(port, tmp_path, loop)
            assert again == port
            assert not THREADS.leaks(threads), [thread.name for thread in threading.enumerate()]
            assert not FILES.leaks(descriptors)
            gc.collect()
            assert not [each() for each in gone if each() is not None]
            memory.append(process.memory_info().rss)
    finally:
        loop.close()
    third = (CYCLES - WARM_UP) // 3
    grown = statistics.median(memory[-third:]) - statistics.median(memory[WARM_UP : WARM_UP + third])
    assert grown < MOST_MEMORY, f"{grown / (1 << 20):.1f} MiB more: {[each >> 20 for each in memory]}"

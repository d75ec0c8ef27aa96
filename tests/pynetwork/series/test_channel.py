"""What only the blocking channel does; what both do is in tests/conformance/test_channels.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from typing import Any

import numpy
import pytest

from handshakes.errors import Busy, Closed, ConnectionLost
from handshakes.records import KEY
from handshakes.tstorage import Status
from pynetwork.series.channel import Channel
from pynetwork.series.payloads import BytesPayloadType, NumpyPayloadType
from pynetwork.transport import MemoryStream
from tests.conformance.channels import BOX, FLOATS, TWO, TWO_BYTES
from tests.playing import Heard, Server, endless, header, playing
from tests.serving import PATIENCE, Background
from tests.waiting import wait_until

MIB = 1 << 20


def to(server: Server, **options: Any) -> Channel[Any]:
    return Channel("127.0.0.1", server.port, **{"timeout": PATIENCE, **options})


# Over a stream of somebody else


def test_a_stream_that_was_handed_over() -> None:
    near, far = MemoryStream.pair()
    closings: list[int] = []
    channel = Channel.over(near, BytesPayloadType(), on_close=lambda: closings.append(1), timeout=PATIENCE)
    assert channel.connected
    far.send([TWO_BYTES])
    assert list(channel.get(*BOX).data) == TWO
    assert not closings
    assert channel.close()
    assert channel.close()
    assert closings == [1]
    response = channel.connect()
    assert (response.status, type(response.error)) == (Status.DISCONNECTED, Closed)
    with pytest.raises(Closed, match="take another from a client"), channel:
        pass
    far.close()


def test_a_failure_on_a_stream_that_was_handed_over() -> None:
    near, far = MemoryStream.pair()
    closings: list[int] = []
    channel = Channel.over(near, BytesPayloadType(), on_close=lambda: closings.append(1), timeout=PATIENCE)
    far.send([header(-1, 0)])
    assert channel.get(*BOX).status is Status.ERROR
    assert closings == [1]
    far.close()


def test_a_put_over_memory_that_is_held_up() -> None:
    near, far = MemoryStream.pair()
    channel = Channel.over(near, FLOATS, timeout=None)
    rows = numpy.zeros(300_000, [*KEY.descr, ("value", "<f8")])
    putting = Background(channel.put, rows)
    wait_until(far.ready)
    far.send([header(-1, 0)])
    assert putting.result().status is Status.ERROR
    far.close()


# Ctrl-C


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c_in_the_middle_closes_the_channel() -> None:
    def play(heard: Heard) -> None:
        heard.answer(TWO_BYTES[:60])
        os.kill(os.getpid(), signal.SIGINT)
        heard.rest()

    with playing(play) as server:
        channel = to(server)
        assert channel.connect()
        with pytest.raises(KeyboardInterrupt):
            channel.get(*BOX)
        assert not channel.connected
        response = channel.get(*BOX)
        assert (response.status, type(response.error)) == (Status.DISCONNECTED, ConnectionLost)


# Threads


def test_another_thread_is_told_that_it_is_busy() -> None:
    asked, done = threading.Event(), threading.Event()

    def play(heard: Heard) -> None:
        heard.hear(76)
        asked.set()
        assert done.wait(PATIENCE)
        heard.say(TWO_BYTES)

    with playing(play) as server, to(server) as channel:
        asking = Background(channel.get, *BOX)
        assert asked.wait(PATIENCE)
        with pytest.raises(Busy):
            channel.get_acq(*BOX)
        done.set()
        assert list(asking.result().data) == TWO


def test_an_iteration_that_nobody_holds_any_more_closes_the_channel() -> None:
    with playing(lambda heard: heard.answer(TWO_BYTES[:-24]).rest()) as server, to(server) as channel:
        for item in channel.get_iter(*BOX):
            assert item == TWO[0]
            break
        wait_until(lambda: not channel.connected)


def test_an_iteration_as_a_context() -> None:
    with playing(lambda heard: heard.answer(TWO_BYTES[:-24]).rest()) as server, to(server) as channel:
        with channel.get_iter(*BOX) as items:
            assert next(items) == TWO[0]
        assert not channel.connected


# Memory

LIMIT = 8 * MIB
COUNT = 300
"""MiB of an answer."""


@pytest.mark.parametrize("payload_type", [NumpyPayloadType("f8,f8"), BytesPayloadType()])
def test_a_stream_takes_little_more_memory_than_its_limit(payload_type: Any) -> None:
    seen: list[int] = []
    with playing(endless(COUNT)) as server, to(server, payload_type=payload_type, memory_limit=LIMIT) as channel:

        def callback(batch: Any) -> None:
            seen.append(sum(map(len, batch)) if isinstance(batch, list) else len(batch))

        tracemalloc.start()
        try:
            assert channel.get_stream(*BOX, callback)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sum(seen) == COUNT * (MIB // 52)
    assert max(seen) * 48 <= LIMIT
    # Less would mean that it was measured wrongly.
    assert 0.9 * LIMIT < peak < LIMIT + 6 * MIB


PROGRAM = """
import re, sys
from handshakes.records import Key
from pynetwork.series.channel import Channel
from pynetwork.series.payloads import NumpyPayloadType

def peak():
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(r"VmHWM:\\s*([0-9]+) kB", file.read())[1])

count = 0

def callback(arrays):
    global count
    count += sum(map(len, arrays))

port, limit = map(int, sys.argv[1:3])
box = (Key(0, 0, 0, 0, 0), Key(9, 9, 9, 9, 9))
with Channel("127.0.0.1", port, NumpyPayloadType("f8,f8"), timeout=20.0, memory_limit=limit) as channel:
    before = peak()
    if sys.argv[3] == "get_stream":
        channel.get_stream(*box, callback).raise_for_status()
    else:
        callback([channel.get(*box).data])
    print(count, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system as Linux tells it")
@pytest.mark.parametrize(("method", "limit"), [("get_stream", LIMIT), ("get", COUNT * MIB)])
def test_the_process_stays_as_small_too(method: str, limit: int) -> None:
    with playing(endless(COUNT)) as server:
        found = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(server.port), str(limit), method],
            capture_output=True,
            text=True,
            timeout=PATIENCE * 3,
            check=True,
        )
    count, grown = map(int, found.stdout.split())
    assert count == COUNT * (MIB // 52)
    assert 0 < grown < limit + 32 * MIB

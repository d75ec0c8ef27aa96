"""A series server in a process of its own: what is put comes back bit for bit, in bounded memory, whoever else asks."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
from numpy.lib.recfunctions import repack_fields

from handshakes.records import Key
from pynetwork.series.channel import Channel
from pynetwork.series.payloads import NumpyPayloadType
from tests.pynetwork.series.raw import GET, PUT, RawClient, box, put_records
from tests.serving import Background
from tests.system.processes import running

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")
PATIENCE = 120.0
MIB = 1 << 20
PAYLOAD = NumpyPayloadType([("value", "<f8"), ("quality", "<i4"), ("source", "<i4")])
EVERYTHING = (Key.min(), Key.max())

SERVER = """
import ctypes, sys
from pynetwork.series.server import SeriesServer
from pynetwork.series.store import SeriesStore

# One arena of the C library for all threads: else each keeps what it has once used, whoever could use it now.
ctypes.CDLL(None).mallopt(-8, 1)
with SeriesStore(sys.argv[1]) as store, SeriesServer(store) as server:
    print(server.port, flush=True)
    sys.stdin.read(1)
"""


@dataclass
class Served:
    """A server and its process."""

    port: int
    process: subprocess.Popen[str]

    def peak(self) -> int:
        """The most bytes that it has had in memory since `forget`."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
        raise AssertionError("no peak is told")

    def forget(self) -> None:
        """Begin to watch for a peak anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")


@contextlib.contextmanager
def series_server(folder: Path) -> Iterator[Served]:
    with running(SERVER, folder) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield Served(int(line), process)
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
        assert process.wait(PATIENCE) == 0


def channel_of(served: Served, **options: Any) -> Channel[Any]:
    return Channel("127.0.0.1", served.port, PAYLOAD, timeout=PATIENCE, **options)


def measured(count: int, cid: int) -> Any:
    """Records of three sensors."""
    chance = numpy.random.default_rng(cid)
    fields = [("cid", "<i4"), ("mid", "<i8"), ("moid", "<i4"), ("cap", "<i8"), ("acq", "<i8"), *PAYLOAD.dtype.descr]
    records = numpy.zeros(count, fields)
    records["cid"] = cid
    records["mid"] = chance.integers(0, 3, count)
    records["cap"] = numpy.arange(count)
    records["value"] = chance.random(count)
    records["source"] = chance.integers(-(2**31), 2**31, count)
    return records


def without_acq(records: Any) -> Any:
    names = [name for name in records.dtype.names if name != "acq"]
    # Without the gap where it was, in which a copy has whatever was in that memory before.
    return numpy.sort(repack_fields(records[names]), order="cap")


def together(count: int, function: Callable[[int], object]) -> None:
    for each in [Background(function, number) for number in range(count)]:
        each.result(PATIENCE)


def test_a_million_records_come_back_bit_for_bit(tmp_path: Path) -> None:
    records = measured(1 << 20, 1)
    with series_server(tmp_path / "store") as served, channel_of(served) as channel:
        answer = channel.put(records)
        answer.raise_for_status()
        assert answer.acq_max - answer.acq_min == len(records) - 1
        found = channel.get(*EVERYTHING)
        found.raise_for_status()
        assert without_acq(found.data).tobytes() == without_acq(records).tobytes()
        assert found.acq > answer.acq_max
        numpy.testing.assert_array_equal(numpy.sort(found.data["acq"]), answer.acq_min + numpy.arange(len(records)))


@needs_proc
def test_memory_is_bounded_whoever_asks_for_how_much(tmp_path: Path) -> None:
    with series_server(tmp_path / "store") as served:
        with channel_of(served) as channel:
            channel.put(measured(10, 0)).raise_for_status()
            channel.get(*EVERYTHING).raise_for_status()
        served.forget()
        idle = served.peak()

        def put(number: int) -> None:
            with channel_of(served) as channel:
                channel.put(measured(300_000, 1 + number)).raise_for_status()

        def get(_number: int) -> None:
            with channel_of(served, memory_limit=8 * MIB) as channel:
                channel.get_stream(*EVERYTHING, lambda _batches: None).raise_for_status()

        together(8, put)
        assert served.peak() - idle < 64 * MIB
        together(8, get)
        assert served.peak() - idle < 64 * MIB


@needs_proc
def test_neither_slow_readers_nor_half_puts_take_the_memory_or_hold_others_back(tmp_path: Path) -> None:
    with series_server(tmp_path / "store") as served, contextlib.ExitStack() as stack:
        with channel_of(served) as channel:
            channel.put(measured(500_000, 1)).raise_for_status()
        served.forget()
        idle = served.peak()
        for number in range(50):
            reader = stack.enter_context(RawClient(served.port))
            reader.say(box(GET)).take(1000)
            putter = stack.enter_context(RawClient(served.port))
            # It claims a batch of 2 GiB, and a record of 32 MiB of which little comes.
            begun = struct.pack("<iQiiiqiq", PUT, 0, 2 + number, 2**31 - 1, 20 + (32 << 20), 1, 1, 1)
            putter.say(begun + bytes(40_000 if number % 2 else 100))
        with channel_of(served) as channel:
            for number in range(20):
                channel.put(measured(1, 1000 + number)).raise_for_status()
                box_of_one = Key(1000 + number, 0, 0, 0, -(2**62)), Key(1001 + number, 9, 9, 9, 2**62)
                assert len(channel.get(*box_of_one).data) == 1
        assert served.peak() - idle < 64 * MIB


def test_what_64_putters_were_told_is_what_is_there(tmp_path: Path) -> None:
    with series_server(tmp_path / "store") as served, contextlib.ExitStack() as stack:
        putters = [stack.enter_context(RawClient(served.port, PATIENCE)) for _ in range(64)]
        told: dict[int, tuple[int, int]] = {}
        for turn in range(20):
            for number, putter in enumerate(putters):
                putter.say(put_records(((1, number, turn, 0, 0), b"%d/%d" % (number, turn))))
            for number, putter in enumerate(putters):
                first, last = putter.put_answer()
                assert first == last
                told[first] = number, turn
        assert len(told) == 64 * 20
        found, acq = putters[0].say(box(GET)).get_answer()
        assert {key[4]: (key[1], key[2]) for key, _ in found} == told
        assert all(payload == b"%d/%d" % (key[1], key[2]) for key, payload in found)
        assert acq > max(told)


def test_it_ends_at_once_while_everything_is_going_on(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with series_server(tmp_path / "store") as served:
            with channel_of(served) as channel:
                channel.put(measured(300_000, 1)).raise_for_status()
            for _ in range(20):
                stack.enter_context(RawClient(served.port)).say(box(GET)).take(1000)
                stack.enter_context(RawClient(served.port)).say(struct.pack("<iQ", PUT, 0) + os.urandom(3)[:2])
        with series_server(tmp_path / "store") as served, channel_of(served) as channel:
            assert len(channel.get(*EVERYTHING).data) == 300_000

"""kill -9 of a series server under concurrent puts: what was confirmed is there, all of it, and no put by halves.

PYNETWORK_LONG=1 makes it a hundred kills.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pytest

from handshakes.records import Block, Key, KeyRange, Rows, row_type
from pynetwork.series.channel import Channel
from pynetwork.series.payloads import BytesPayloadType
from pynetwork.series.store import SeriesStore
from tests.system.processes import running
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
KILLS = 100 if os.environ.get("PYNETWORK_LONG") else 6
PATIENCE = 60.0
REPLACED = 1000
"""The cid of records that are put again and again under the same full keys."""

SERVER = """
import sys
from pynetwork.series.server import SeriesServer
from pynetwork.series.store import SeriesStore

server = SeriesServer(SeriesStore(sys.argv[1])).start()
print(server.port, flush=True)
sys.stdin.read()
"""


PAYLOAD = numpy.dtype([("cid", "<i4"), ("number", "<i4"), ("index", "<i4"), ("check", "<u4")])
"""What a record holds, from which its key can be told."""


def check_of(payloads: Any) -> Any:
    """A number that depends on every bit of the others."""
    mixed = sum(payloads[name].astype(numpy.uint64) * factor for name, factor in FACTORS.items())
    return (mixed ^ (mixed >> numpy.uint64(29))).astype(numpy.uint32)


FACTORS = {
    "cid": numpy.uint64(0x9E3779B97F4A7C15),
    "number": numpy.uint64(0xC2B2AE3D27D4EB4F),
    "index": numpy.uint64(0x165667B19E3779F9),
}


def records_of(cid: int, number: int, count: int) -> Rows:
    """One put: ``count`` records, the number of the put being their mid; those of `REPLACED` all have the same keys."""
    rows = numpy.zeros(count, row_type(16))
    rows["cid"], rows["moid"] = cid, numpy.arange(count)
    rows["mid"] = 0 if cid == REPLACED else number
    payloads = numpy.zeros(count, PAYLOAD)
    payloads["cid"], payloads["number"], payloads["index"] = cid, number, rows["moid"]
    payloads["check"] = check_of(payloads)
    rows["payload"] = payloads.view("V16")
    return Rows(rows)


@dataclass
class Putter:
    """Puts until its server has gone; knows what was confirmed, and what was sent and not."""

    cid: int
    size: int
    sent: int = 0
    confirmed: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)

    def run(self, port: int) -> None:
        channel = Channel("127.0.0.1", port, BytesPayloadType(), timeout=PATIENCE)
        if not channel.connect():
            return  # others were faster, and it was killed already
        with contextlib.closing(channel):
            while True:
                self.sent += 1
                records = records_of(self.cid, self.sent, self.size)
                response = channel.puta(records) if self.cid == REPLACED else channel.put(records)
                if not response:
                    self.unknown.add(self.sent)
                    return
                self.confirmed.add(self.sent)


def round_of_puts(folder: Path, putters: list[Putter], enough: int) -> None:
    """A server that is killed when it has confirmed so many more puts."""
    with running(SERVER, folder) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        before = confirmed(putters)
        threads = [threading.Thread(target=putter.run, args=(int(line),)) for putter in putters]
        for thread in threads:
            thread.start()
        wait_until(lambda: confirmed(putters) >= before + enough, PATIENCE)
        process.kill()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def confirmed(putters: list[Putter]) -> int:
    return sum(len(putter.confirmed) for putter in putters)


def found_in(blocks: Iterator[Block]) -> dict[tuple[int, int], list[Any]]:
    """The indices of the records that are there, by cid and number of the put; each is what it says it is."""
    found: dict[tuple[int, int], list[Any]] = {}
    for block in blocks:
        assert isinstance(block, Rows)
        payloads = block.rows["payload"].copy().view(PAYLOAD)
        assert (payloads["check"] == check_of(payloads)).all(), "a payload is torn"
        numbers = numpy.where(payloads["cid"] == REPLACED, 0, payloads["number"])
        for name, said in (("cid", payloads["cid"]), ("mid", numbers), ("moid", payloads["index"])):
            assert (block.column(name) == said).all(), "a payload stands at another's key"
        puts = payloads["cid"].astype(numpy.int64) << 32 | payloads["number"]
        for put in numpy.unique(puts):
            found.setdefault((int(put) >> 32, int(put) & 0xFFFFFFFF), []).append(payloads["index"][puts == put])
    return found


def whole(indices: list[Any], size: int) -> bool:
    """Whether each index of a put is there, once."""
    return bool(numpy.array_equal(numpy.sort(numpy.concatenate(indices)), numpy.arange(size)))


def check_put(putter: Putter, found: dict[tuple[int, int], list[Any]]) -> None:
    there = {number: indices for (cid, number), indices in found.items() if cid == putter.cid}
    lost = sorted(number for number in putter.confirmed if number not in there)
    assert not lost, f"putter {putter.cid}: confirmed, and not there: {lost}"
    halves = sorted(number for number, indices in there.items() if not whole(indices, putter.size))
    assert not halves, f"putter {putter.cid}: not there as a whole: {halves}"
    assert set(there) <= putter.confirmed | putter.unknown, "something is there that nobody put"


def test_what_was_confirmed_is_there_and_nothing_by_halves(tmp_path: Path) -> None:
    chance = random.Random(20010101)
    # Single records, batches, what is staged on its way, and what replaces what is there.
    putters = [Putter(cid, size) for cid, size in enumerate([1, 1, 1, 40, 500, 70_000])]
    replacing = Putter(REPLACED, 300)
    for _ in range(KILLS):
        round_of_puts(tmp_path / "store", [*putters, replacing], chance.randrange(1, 120))
    assert all(putter.confirmed for putter in (*putters, replacing))
    with SeriesStore(tmp_path / "store") as store:
        found = found_in(store.blocks())
        acq = numpy.concatenate(
            [block.column("acq") for block in store.blocks(KeyRange(Key.min(), Key.max()._replace(cid=REPLACED)))]
        )
        assert len(numpy.unique(acq)) == len(acq)
    for putter in putters:
        check_put(putter, found)
    (version,) = (number for cid, number in found if cid == REPLACED)
    assert whole(found[REPLACED, version], replacing.size)
    assert max(replacing.confirmed) <= version <= replacing.sent

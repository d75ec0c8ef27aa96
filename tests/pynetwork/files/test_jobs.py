from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.chunks import LargeFile, Run
from handshakes.errors import ConnectionLost, RemoteProtocolError
from handshakes.manifest import CHUNK_SIZE, Entry, Skipped
from handshakes.messages import Message
from handshakes.transfer import ChunkHead, Code, Status
from pynetwork.client import CallerOperation
from pynetwork.files import jobs
from pynetwork.files.conversation import Conversation
from pynetwork.files.jobs import Asked, Carrier, Job, JobLane, TransferReport
from pynetwork.lanes import Lanes
from pynetwork.service import ServedOperation, Verb
from tests.pynetwork.files.transferring import Site, site, write
from tests.serving import controller_of, paired
from tests.waiting import wait_until


class Idle(Job):
    """A job that moves nothing."""

    name = "idle"

    def prepare(self) -> Conversation:
        yield from ()

    def opening(self) -> tuple[Any, ...]:
        return ("files.shares",)

    def make_lane(self, operation: Carrier) -> JobLane:
        return Lane(self, operation)


class Lane(JobLane):
    def ask(self, work: jobs.Work) -> None:
        raise NotImplementedError

    def answered(self, asked: Asked, message: Message) -> int:
        raise NotImplementedError


def idle(lanes: int = 1, chunk_size: int | None = None) -> Idle:
    return Idle(lanes, False, chunk_size)


def entry(size: int, path: str = "file") -> Entry:
    return Entry(path, size, 1, 0o644, 7)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


# The plan


def test_small_files_are_packed_and_large_ones_cut_the_largest_first() -> None:
    job = idle()
    sizes = [5, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE, 0]
    job.add([entry(size, f"{size}") for size in sizes], origin="here")
    assert (job.plan.files_total, job.plan.bytes_total) == (5, sum(sizes))
    works: list[jobs.Work] = []
    while (work := job.plan.take(100 * CHUNK_SIZE)) is not None:
        works.append(work)
    large = [work.file.entry.size for work in works if isinstance(work, Run)]
    assert large == sorted(large, reverse=True)
    assert set(large) == {3 * CHUNK_SIZE, CHUNK_SIZE + 1}
    packs = [work for work in works if isinstance(work, jobs.Pack)]
    assert [(pack.count, pack.size, pack.origin) for pack in packs] == [(1, 5, "here"), (2, CHUNK_SIZE, "here")]


def test_enormous_files_have_larger_chunks() -> None:
    job = idle()
    job.add([entry(1 << 40)])
    work = job.plan.take(1)
    assert isinstance(work, Run)
    assert work.file.chunk > CHUNK_SIZE


def test_a_file_that_can_not_be_cut_into_chunks_is_skipped() -> None:
    job = idle()
    job.add([entry(1 << 45, "most"), entry((1 << 45) + 1, "more"), entry(1)])
    assert job.skipped == [Skipped("more", "it is too large to be moved")]
    assert job.plan.files_total == 2


STEADY, GROWN, OTHER = entry(10), entry(15), entry(10)._replace(identity=8)


@pytest.mark.parametrize(
    ("status", "found", "now", "steady", "generation", "whole"),
    [
        (Status.OK, True, STEADY, True, 0, True),
        (Status.OK, True, STEADY, False, 1, True),
        (Status.OK, False, STEADY, True, 0, False),
        (Status.OK, True, GROWN, False, 0, True),
        (Status.OK, True, GROWN, False, 1, False),
        (Status.OK, True, GROWN, False, 2, True),
        (Status.OK, False, GROWN, False, 2, False),
        (Status.CHANGED, False, OTHER, True, 0, True),
        (Status.CHANGED, False, OTHER, False, 0, False),
        (Status.DAMAGED, True, STEADY, True, 0, False),
        (None, False, STEADY, True, 0, True),
        (None, False, STEADY, False, 0, False),
    ],
)
def test_when_a_file_is_whole(
    status: Status | None, found: bool, now: Entry, steady: bool, generation: int, whole: bool
) -> None:
    file = LargeFile(STEADY, 10)
    file.generation = generation
    file.steady = steady
    file.assembly.accept(0, b"d" * 16)
    head = None if status is None else ChunkHead(status, 0, (b"d" if found else b"x") * 16, *now[1:])
    assert idle().is_whole(file, head) is whole


# Waiting for work


def test_a_lane_without_work_waits_until_there_is_some() -> None:
    job = idle()
    with paired() as (_, client), client.open("ping", None) as operation:
        assert operation.result() is None
        assert job.take(operation, 1, wait=False) is None
        assert job.take(operation, 1, wait=True) is None
        job.add([entry(5)])
        assert job.take(operation, 1, wait=True) is not None


def test_a_waiting_lane_notices_the_end_of_its_link() -> None:
    job = idle()
    job.add([entry(5)])
    with paired() as (gateway, client):
        gateway._verbs["wait"] = Verb(lambda operation: operation.receive())
        operation = client.open("wait")
        assert job.take(operation, 1, wait=True) is not None
        wait_until(lambda: gateway.stats()["handlers"][0]["running"] == "wait")
        gateway._pool.handlers()[0].link.stream.shutdown()
        with pytest.raises(ConnectionLost):
            job.take(operation, 1, wait=True)


def test_a_message_that_nobody_asked_for_is_an_error() -> None:
    job = idle()
    job.add([entry(5)])

    def talk(operation: ServedOperation) -> None:
        operation.send(Code.PACK)
        operation.receive()

    with paired() as (gateway, client):
        gateway._verbs["talk"] = Verb(talk)
        operation: CallerOperation
        with client.open("talk") as operation:
            job.take(operation, 1, wait=True)
            with pytest.raises(RemoteProtocolError, match="nobody had asked"):
                job.take(operation, 1, wait=True)


def test_losses_in_vain_are_counted_from_the_last_progress() -> None:
    job = idle(lanes=2)
    lost = ConnectionLost("gone")
    for _ in range(10):
        job.note_loss(lost)
    job.plan.chunks += 1
    for _ in range(10):
        job.note_loss(lost)
    with pytest.raises(RemoteProtocolError, match=r"11 times while nothing moved: gone"):
        job.note_loss(lost)


def test_the_window_grows_while_answers_keep_a_lane_waiting(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[int] = []
    take_in = JobLane.take_in

    def note(self: JobLane, message: Message | None) -> None:
        take_in(self, message)
        windows.append(self._window)

    monkeypatch.setattr(JobLane, "take_in", note)
    monkeypatch.setattr(jobs, "_FIRST_WINDOW", 1 << 16)
    monkeypatch.setattr(jobs, "_LARGEST_WINDOW", 1 << 17)
    monkeypatch.setattr(CallerOperation, "ready", lambda _: False)
    write(here.share / "large", os.urandom(1 << 20))
    assert here.download().files == 1
    assert min(windows) >= 1 << 16
    assert 1 << 17 <= max(windows) <= (1 << 17) * 9 // 8


def test_what_is_asked_for_is_bounded(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small files by the bytes that the questions take: asking must never wait for being answered."""
    outstanding: list[int] = []
    expect = JobLane.expect

    def note(self: JobLane, *arguments: object) -> None:
        expect(self, *arguments)  # type: ignore[arg-type]
        outstanding.append(self._requests)

    monkeypatch.setattr(JobLane, "expect", note)
    for number in range(1500):
        write(here.share / ("d" * 200) / ("f" * 200 + str(number)), b"")
    assert here.download().files == 1500
    assert max(outstanding) <= (48 << 10) + (32 << 10)


# Report


def test_a_job_without_files_is_done_at_once() -> None:
    with paired() as (gateway, _):
        lanes = Lanes(controller_of(gateway).get_client, 2)
        try:
            report = idle().run(lanes)
        finally:
            lanes.close()
    assert (report.files, report.bytes, report.chunks) == (0, 0, 0)


def test_the_report_counts() -> None:
    report = TransferReport(2, 100, 4.0, skipped=[Skipped("a", "b")])
    assert report.rate == 25
    assert TransferReport().rate == 0
    assert report.to_dict() == {
        "files": 2,
        "bytes": 100,
        "seconds": 4.0,
        "chunks": 0,
        "chunks_again": 0,
        "skipped": [{"path": "a", "reason": "b"}],
        "lanes_lost": 0,
        "lanes_replaced": 0,
        "rate": 25,
    }


# A lane whose connection is lost


class Broken:
    """An operation that carries two requests, and breaks while a third is sent. ``came``: so many answers are here."""

    round_trip = 0.0
    received = 0

    def __init__(self, came: int) -> None:
        self._came = came
        self.said: list[int] = []

    def send(self, code: int, _head: bytes = b"", *_buffers: Any) -> None:
        self.said.append(code)
        if len(self.said) > 2:
            raise ConnectionLost("it broke while something was said")

    def ready(self) -> bool:
        return bool(self._came)

    def receive(self, _timeout: float | None = None) -> Message:
        assert self._came, "nobody waits for what can't come"
        self._came -= 1
        return Message(Code.PACK, b"", b"")

    def recycle(self, _body: object) -> None:
        """There is no memory to speak of."""


class Counting(Lane):
    """Asks for four pieces of work at first, and for more once two are answered."""

    taken = 0

    def ask(self, work: jobs.Work) -> None:
        self.expect(work, jobs._FIRST_WINDOW // 4)
        self.operation.send(Code.PACK)

    def answered(self, asked: Asked, _message: Message) -> int:
        self.taken += 1
        self.done(asked)
        return asked.cost


@pytest.mark.parametrize("came", [0, 1, 2])
def test_what_has_come_is_taken_in_when_nothing_more_can_be_said(came: int) -> None:
    job = idle()
    job.add([entry(CHUNK_SIZE, f"{number}") for number in range(9)])
    broken: Any = Broken(came)
    lane = Counting(job, broken)
    with pytest.raises(ConnectionLost, match="while something was said"):
        lane.run(broken)
    assert lane.taken == came
    assert broken.said == [Code.PACK] * 3
    # Others can have all that was not answered, and what could not be asked for, too.
    left = 0
    while job.plan.take(CHUNK_SIZE) is not None:
        left += 1
    assert left == 9 - came


def test_nothing_is_finished_over_a_connection_that_is_lost() -> None:
    """Though all that was asked for was answered, the last words did not get there."""
    job = idle()
    job.add([entry(CHUNK_SIZE, f"{number}") for number in range(3)])
    broken: Any = Broken(came=3)
    lane = Counting(job, broken)
    with pytest.raises(ConnectionLost, match="while something was said"):
        lane.run(broken)
    assert lane.taken == 3
    assert Code.FINISH not in broken.said

"""What downloads and uploads have in common: one plan for all lanes, progress, and the report."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from handshakes.chunks import TRIES, ChunkPlan, Compare, LargeFile, Pack, Piece, Run, Seal, Work
from handshakes.errors import ConnectionLost, DeadlineExceeded, RemoteProtocolError
from handshakes.manifest import CHUNK_SIZE, PACK_SIZE, Entry, Skipped, chunk_size_for, encode_file, packs
from handshakes.messages import Bytes, Message
from handshakes.transfer import ChunkHead, Code, Status
from pynetwork.client import CallerOperation, Client
from pynetwork.files.conversation import Conversation, await_end, converse, next_answer
from pynetwork.files.folders import Turn
from pynetwork.files.partials import PartialFile
from pynetwork.files.progress import Display, Progress
from pynetwork.lanes import Lanes, LanesReport, OneLane

__all__ = ["DAMAGED", "Asked", "Carrier", "Job", "JobLane", "TransferReport"]

DAMAGED = "it arrived damaged several times"
_CHANGED = "it changed while it was read"
_TOO_LARGE = "it is too large to be moved"

_IDLE_LOOK = 0.05
_LONG_WAY = 0.01
_FIRST_WINDOW = 4 << 20
_LARGEST_WINDOW = 32 << 20
_LARGEST_TAKE = 4 << 20
_REQUESTS = 48 << 10
_VAIN_LOSSES = 5


@dataclass
class TransferReport:
    """What a download or upload did.

    ``files`` and ``bytes`` that are complete and verified, in ``seconds``; ``chunks`` that were moved (a
    small file is one) and ``chunks_again``, those moved again after damage, a change of the file or a lost
    lane; ``skipped`` paths with reasons; ``lanes_lost`` for good and ``lanes_replaced``.
    """

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    chunks: int = 0
    chunks_again: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    lanes_lost: int = 0
    lanes_replaced: int = 0

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; undecodable bytes of names are replaced."""
        values = dataclasses.asdict(self)
        values["rate"] = self.rate
        values["skipped"] = [
            {"path": path.encode("utf-8", "replace").decode(), "reason": reason} for path, reason in self.skipped
        ]
        return values


class Job(ABC):
    """One download or upload over lanes. ``changed`` guards the plan and wakes lanes that wait for work."""

    name = ""

    def __init__(self, lanes: int, progress: bool | Progress | None, chunk_size: int | None) -> None:
        self.changed = threading.Condition()
        self.plan = ChunkPlan(lanes)
        self.skipped: list[Skipped] = []
        self.chunk_size = chunk_size or CHUNK_SIZE
        self.turn = Turn()
        self.listeners: list[Callable[[], object]] = []
        self._progress = progress
        self._display: Display | None = None
        self._prepared = False
        self._preparing = threading.Lock()
        self._lanes = lanes
        self._losses = 0
        self._moved: tuple[object, ...] = ()
        self._open_files: set[LargeFile] = set()

    # For subclasses

    @abstractmethod
    def prepare(self) -> Conversation:
        """Find out what is to be moved and fill the plan. Done again, on another lane, when the link broke."""

    @abstractmethod
    def opening(self) -> tuple[Any, ...]:
        """The verb and parameters that open one lane's part of the job."""

    @abstractmethod
    def make_lane(self, operation: Carrier) -> JobLane:
        """One lane's part of the job. Raises `OSError` when that can't be."""

    def add(self, entries: list[Entry], origin: object = None, tries: int = 0) -> None:
        """Plan these files: small ones in packs, large ones, the largest first, in chunks."""
        small = [entry for entry in entries if entry.size <= min(self.chunk_size, PACK_SIZE)]
        for group in packs(small):
            table = b"".join(map(encode_file, group))
            self.plan.add_pack(Pack(table, len(group), sum(entry.size for entry in group), origin, tries))
        large = [entry for entry in entries if entry.size > min(self.chunk_size, PACK_SIZE)]
        for entry in sorted(large, key=lambda entry: -entry.size):
            try:
                file = LargeFile(entry, chunk_size_for(entry.size, self.chunk_size), origin)
            except RemoteProtocolError:
                self.skip(entry.path, _TOO_LARGE)
            else:
                self.plan.add_file(file)

    # Running

    def run(self, lanes: Lanes | OneLane) -> TransferReport:
        """Do it on all lanes and say how it went."""
        began = time.perf_counter()
        try:
            used = lanes.run(self._work)
        finally:
            self.close()
        return self.report(used, time.perf_counter() - began)

    def report(self, used: LanesReport, seconds: float) -> TransferReport:
        """How it went."""
        plan = self.plan
        return TransferReport(
            plan.files_done,
            plan.bytes_done,
            seconds,
            plan.chunks,
            plan.chunks_again,
            sorted(self.skipped),
            used.lost,
            used.replaced,
        )

    def _work(self, client: Client, _lane: int) -> None:
        try:
            with self._preparing:
                if not self._prepared:
                    converse(client, self.prepare())
                    self.prepared()
            with client.open(*self.opening()) as operation:
                self.make_lane(operation).run(operation)
        except ConnectionLost as error:
            self.note_loss(error)
            raise
        finally:
            with self.changed:
                self.notify()

    @property
    def is_prepared(self) -> bool:
        """Whether the plan is made."""
        return self._prepared

    def prepared(self) -> None:
        """The plan is made: from now on its progress is shown."""
        self._prepared = True
        self._display = Display(self._progress, self.name, self.plan)
        self._display.show(last=True)

    def notify(self) -> None:
        """Something has changed for lanes that wait; the lock is held."""
        self.changed.notify_all()
        for listener in self.listeners:
            listener()

    def note_loss(self, error: ConnectionLost) -> None:
        """Lanes that are lost again and again while nothing moves will not be better for being replaced."""
        with self.changed:
            moved = (self._prepared, self.plan.files_done, self.plan.chunks)
            self._losses = self._losses + 1 if moved == self._moved else 1
            self._moved = moved
            if self._losses > self._lanes * _VAIN_LOSSES:
                raise RemoteProtocolError(
                    f"the gateway broke the link {self._losses} times while nothing moved: {error}"
                ) from error

    def take(self, operation: CallerOperation, budget: int, *, wait: bool) -> Work | None:
        """The next piece of work. None when there is none now or, with ``wait``, when the job has finished."""
        with self.changed:
            while True:
                work = self.take_now(budget)
                if work is not None or not wait or self.plan.finished:
                    return work
                self.changed.wait(_IDLE_LOOK)
                if operation.ready():
                    # Nothing was asked, so this is the end of the link, or a gateway that breaks the
                    # protocol, or the rest of an operation that was left before: that is dropped, and nothing
                    # comes of it.
                    with contextlib.suppress(DeadlineExceeded):
                        operation.receive(0.0)
                        raise RemoteProtocolError("a message came that nobody had asked for")

    def take_now(self, budget: int) -> Work | None:
        """The next piece of work, None when there is none now; the lock is held."""
        return self.plan.take(min(budget, _LARGEST_TAKE))

    # What became of the work; all with the lock held

    def show(self) -> None:
        """Show progress."""
        if self._display is not None:
            self._display.show(last=self.plan.finished)
        if self.plan.finished:
            self.notify()

    def chunk_arrived(self, run: Run | Compare | Piece, number: int, chunk_digest: bytes) -> None:
        """A chunk is verified and in its place."""
        self.plan.chunk_arrived(run, number, chunk_digest)
        if not run.file.assembly.missing:
            self.notify()
        self.show()

    def chunk_damaged(self, run: Run | Compare | Piece, number: int) -> None:
        """A chunk came damaged: it is moved again, or its file given up."""
        if self.plan.chunk_damaged(run, number):
            self.notify()
        else:
            self.fail_file(run.file, DAMAGED)

    def skip(self, path: str, reason: str) -> None:
        """``path`` is not moved."""
        self.skipped.append(Skipped(path, reason))

    def keep(self, file: LargeFile, partial: PartialFile) -> None:
        """``partial`` gathers the data of ``file``."""
        file.handle = partial
        self._open_files.add(file)

    def fail_file(self, file: LargeFile, reason: str) -> None:
        """``file`` is given up."""
        if self.plan.settle_file(file, done=False):
            self.skip(file.entry.path, reason)
            self.let_go(file)
        self.notify()
        self.show()

    def finish_file(self, file: LargeFile) -> None:
        """``file`` is complete under its name."""
        self.plan.settle_file(file, done=True)
        self.let_go(file)
        self.notify()
        self.show()

    def begin_again(self, work: Run | Compare | Piece | Seal, entry: Entry) -> bool:
        """The file has changed: move it from the beginning, unless that happened too often. False when given
        up.
        """
        file = work.file
        self.let_go(file)
        if self.plan.begin_again(work, entry):
            self.notify()
            return True
        self.fail_file(file, _CHANGED)
        return False

    def let_go(self, file: LargeFile) -> None:
        """Discard what was gathered of ``file`` and is not complete."""
        self._open_files.discard(file)
        if isinstance(file.handle, PartialFile):
            file.handle.discard()
        file.handle = None

    def settle_pack(self, pack: Pack, done: int, size: int, again: list[Entry], skipped: list[Skipped]) -> None:
        """``done`` files of ``pack`` are complete; those in ``again`` are moved again, unless that was tried enough."""
        self.skipped += skipped
        if pack.tries + 1 >= TRIES:
            self.skipped += [Skipped(entry.path, DAMAGED) for entry in again]
            again = []
        # First what is added: the job must not look finished in between.
        self.add(again, pack.origin, pack.tries + 1)
        self.plan.chunks_again += len(again)
        self.plan.settle_pack(pack, done, size)
        self.notify()
        self.show()

    def is_whole(self, file: LargeFile, head: ChunkHead | None) -> bool:
        """Whether what has arrived is the file, as its sender's answer to SEAL tells; ``head`` is None when it is gone.

        A file that went away, or was cut or replaced, after all of it had been read as it was listed, was read well.
        A log that has grown since is a beginning of itself; but one that was begun anew in the middle of a change had
        better be tried again.
        """
        if head is None or head.status is Status.CHANGED:
            return file.steady
        if head.status is not Status.OK or head.digest != file.assembly.digest():
            return False
        return head.shows(file.entry) or file.generation in (0, TRIES - 1)

    def close(self) -> None:
        """The job is over: what is unfinished is given up."""
        with self.changed:
            for file in list(self._open_files):
                self.let_go(file)
        if self._display is not None:
            self._display.close()


class Asked:
    """A piece of work that is on its way: ``cost`` bytes of the window, the ``next`` chunk of a run to be
    answered.

    An upload notes what it sent: the ``digest`` of a chunk, the ``lengths`` of a pack's files.
    """

    __slots__ = ("cost", "digest", "lengths", "next", "replaced", "request", "work")

    def __init__(self, work: Work, cost: int, request: int = 0) -> None:
        self.work = work
        self.cost = cost
        self.request = request
        self.next = work.first if isinstance(work, Run) else 0
        self.digest = b""
        self.lengths: list[int] = []
        self.replaced: dict[int, Entry] = {}

    @property
    def rest(self) -> Work:
        """What of the work has not been answered."""
        work = self.work
        if isinstance(work, Run):
            return Run(work.file, work.generation, self.next, work.first + work.count - self.next)
        return work


class Carrier(Protocol):
    """What a lane needs of its operation, whichever driver that has."""

    def send(self, code: int, head: bytes = b"", *buffers: Bytes) -> None:
        """Send one message; the buffers may be used again."""


class _Outgoing:
    """What a lane says, as long as somebody may hear it: after a ``failure`` the rest is dropped. Answers that came
    before the connection was lost can still be taken in then.
    """

    def __init__(self, operation: Carrier) -> None:
        self._operation = operation
        self.failure: ConnectionLost | None = None

    def send(self, code: int, head: bytes = b"", *buffers: Bytes) -> None:
        """Send one message, or note that it can't be sent."""
        if self.failure is None:
            try:
                self._operation.send(code, head, *buffers)
            except ConnectionLost as error:
                self.failure = error

    def check(self) -> None:
        """Raise the failure, if there was one."""
        if self.failure is not None:
            raise self.failure


class JobLane(ABC):
    """One lane: asks for work as far as the window reaches, deals with one answer, and again.

    Answers come strictly in the order of the questions. The window grows while answers keep this lane
    waiting, so that links with long round trips stay full; what is asked for takes no memory here. A driver either
    calls ``run`` or does the same with ``hungry``, ``room``, ``ask``, ``take_in`` and ``give_back``.
    """

    def __init__(self, job: Job, operation: Carrier) -> None:
        self.job = job
        self.operation = self._outgoing = _Outgoing(operation)
        self.asked: deque[Asked] = deque()
        self._window = _FIRST_WINDOW
        self._outstanding = 0
        self._requests = 0

    @abstractmethod
    def ask(self, work: Work) -> None:
        """Send what ``work`` needs and call ``expect`` for each answer that will come."""

    @abstractmethod
    def answered(self, asked: Asked, message: Message) -> int:
        """Deal with an answer; return how many bytes of the window are free again. Ends it with ``done``."""

    def close(self) -> None:  # noqa: B027 - not every lane holds something
        """Give everything back."""

    def expect(self, work: Work, cost: int, request: int = 0) -> None:
        """An answer to ``work`` will come; the request took ``request`` bytes."""
        self.asked.append(Asked(work, cost, request))
        self._outstanding += cost
        self._requests += request

    def run(self, operation: CallerOperation) -> None:
        """Work until the job has finished. What is not done when this raises goes back to the plan."""
        try:
            while self._fill(operation):
                if not operation.ready():
                    self._outgoing.check()
                    self.widen()
                    self.ask_meanwhile(operation)
                message = next_answer(operation)
                self.take_in(message)
                if message is not None:
                    operation.recycle(message.body)
            self._outgoing.check()
            operation.send(Code.FINISH)
            await_end(operation)
        except BaseException:
            self.give_back()
            raise
        finally:
            self.close()

    def ask_meanwhile(self, operation: CallerOperation) -> None:
        """Where more to do comes up while an answer is on its way, it is asked for at once: the way may be long."""
        changed, plan = self.job.changed, self.job.plan
        while plan.open and self.hungry and not operation.ready():
            if operation.round_trip < _LONG_WAY:
                return
            with changed:
                changed.wait(_IDLE_LOOK / 10)
            self._fill(operation)

    def _fill(self, operation: CallerOperation) -> bool:
        if self.hungry:
            while self._outgoing.failure is None and (room := self.room):
                work = self.job.take(operation, room, wait=not self.asked)
                if work is None:
                    break
                self.ask(work)
        return bool(self.asked)

    @property
    def hungry(self) -> bool:
        """Whether it is time to ask for more."""
        return self._outstanding <= self._window // 2

    @property
    def room(self) -> int:
        """Bytes that may still be asked for."""
        return max(0, self._window - self._outstanding) if self._requests < _REQUESTS else 0

    def widen(self) -> None:
        """An answer keeps this lane waiting: more had better be on its way."""
        if self._window < _LARGEST_WINDOW:
            self._window += self._window // 8

    def take_in(self, message: Message | None) -> None:
        """Deal with the next answer; None is the end of the operation, which comes too early."""
        if message is None:
            raise RemoteProtocolError("the gateway ended the transfer before its end")
        asked = self.asked[0]
        free = self.answered(asked, message)
        self._outstanding -= free
        asked.cost -= free

    def done(self, asked: Asked) -> None:
        """Everything has been answered that was asked."""
        self.asked.popleft()
        self._requests -= asked.request

    def give_back(self) -> None:
        """What was asked for and not answered goes back to the plan."""
        with self.job.changed:
            for asked in reversed(self.asked):
                self.job.plan.give_back(asked.rest)
            self.asked.clear()
            self.job.notify()

"""The plan of a transfer, and lanes that do at random what lanes may do."""

from __future__ import annotations

from handshakes.chunks import TRIES, ChunkPlan, Compare, LargeFile, Pack, Piece, Run, Seal, Work
from handshakes.manifest import Entry
from tools.fuzz.checking import Wrong, check

__all__ = ["chunks"]


def chunks(data: bytes) -> None:
    """However lanes take, bring, damage, lose and begin again: every file is settled once, and the figures add up."""
    plan = _Plan(data)
    plan.stir()
    plan.drain()
    figures = (plan.plan.files_done, plan.plan.files_total, plan.plan.bytes_done, plan.plan.bytes_total)
    check(plan.plan.finished, f"everything was brought, and the plan is not finished: {figures}")
    check(plan.plan.files_done == plan.plan.files_total == plan.done, f"{plan.done} files done, figures: {figures}")
    check(plan.plan.bytes_done == plan.plan.bytes_total == plan.size, f"{plan.size} bytes done, figures: {figures}")


class _Plan:
    """A plan, lanes that work at random, and what they should come to."""

    _MOST_STEPS = 20_000

    def __init__(self, data: bytes) -> None:
        self._choices = iter(data)
        self.plan = ChunkPlan(1 + self._next() % 4)
        self.done = self.size = 0
        self._held: list[Work] = []
        for number in range(self._next() % 6):
            entry = Entry(str(number), 1 + self._next() * 5, 0, 0)
            self.plan.add_file(LargeFile(entry, 1 + self._next() % 64, known=self._next() * 3))
        for _ in range(self._next() % 4):
            count = 1 + self._next() % 5
            self.plan.add_pack(Pack(b"", count, 10 * count))

    def _next(self) -> int:
        return next(self._choices, 0)

    def stir(self) -> None:
        """Do what the bytes say."""
        for choice in self._choices:
            if choice < 80 or not self._held:
                work = self.plan.take(1 + self._next() * 4)
                if work is not None:
                    self._held.append(work)
            else:
                work = self._held.pop(choice % len(self._held))
                (self._bring, self._lose, self._damage, self._change)[choice % 4](work)

    def drain(self) -> None:
        """Bring all that is left."""
        for _ in range(self._MOST_STEPS):
            work = self._held.pop() if self._held else self.plan.take(1 << 20)
            if work is None:
                return
            self._bring(work)
        raise Wrong("the plan never comes to an end")

    def _bring(self, work: Work) -> None:
        if isinstance(work, Pack):
            self.plan.settle_pack(work, work.count, work.size)
            self.done, self.size = self.done + work.count, self.size + work.size
        elif isinstance(work, Run):
            for index in range(work.first, work.first + work.count):
                self.plan.chunk_arrived(work, index, bytes(16))
        elif isinstance(work, Compare):
            for index in range(work.first, work.first + work.count):
                self._compare(work, index)
        elif isinstance(work, Piece):
            self.plan.chunk_arrived(work, work.first, bytes(16))
        elif not work.void:
            self._settle(work, done=True)

    def _compare(self, work: Compare, index: int) -> None:
        """A chunk is there, or it is another, or its beginning is there."""
        what = self._next() % 3
        if what == 1:
            self.plan.chunk_differs(work, index)
        elif what == 2:
            self._held.append(Piece(work.file, work.generation, index, 1))
        else:
            self.plan.chunk_arrived(work, index, bytes(16))

    def _settle(self, work: Run | Compare | Piece | Seal, *, done: bool) -> None:
        size = work.file.entry.size
        if self.plan.settle_file(work.file, done=done) and done:
            self.done, self.size = self.done + 1, self.size + size

    def _lose(self, work: Work) -> None:
        if isinstance(work, Run):
            brought = self._next() % (work.count + 1)
            for index in range(work.first, work.first + brought):
                self.plan.chunk_arrived(work, index, bytes(16))
            work = Run(work.file, work.generation, work.first + brought, work.count - brought)
        elif isinstance(work, Compare):
            compared = self._next() % (work.count + 1)
            for index in range(work.first, work.first + compared):
                self._compare(work, index)
            work = Compare(work.file, work.generation, work.first + compared, work.count - compared)
        self.plan.give_back(work)

    def _damage(self, work: Work) -> None:
        if isinstance(work, Piece):
            if not self.plan.chunk_damaged(work, work.first):
                self._settle(work, done=False)
            return
        if not isinstance(work, Run):
            self.plan.give_back(work)
            return
        for index in range(work.first, work.first + work.count):
            if self._next() % 3:
                self.plan.chunk_arrived(work, index, bytes(16))
            elif not self.plan.chunk_damaged(work, index):
                self._settle(work, done=False)

    def _change(self, work: Work) -> None:
        if isinstance(work, Pack):
            self.plan.give_back(work)
        elif not work.void:
            entry = work.file.entry._replace(size=self._next() * 5)
            if not self.plan.begin_again(work, entry):
                check(work.file.generation == TRIES - 1, "a file was given up too early")
                self._settle(work, done=False)

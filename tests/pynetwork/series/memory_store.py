"""A store as small as can be, with what servers and recorders need of one: for tests that are not about the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

from handshakes.records import KEY, Block, Key, KeyRange, block_of, joined

Full = tuple[int, int, int, int, int]


class MemoryStore:
    """Records by full key. ``gate`` may hold back every commit, ``failure`` is raised by every put while it is set."""

    def __init__(self, block_size: int = 1000) -> None:
        self.rows: dict[Full, bytes] = {}
        self.clock = 1_000
        self.groups: list[int] = []
        self.asked = 0
        self.staged = 0
        self.aborted = 0
        self.failure: Exception | None = None
        self.read_failure: tuple[int, Exception] | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self._block_size = block_size

    # Putting

    def put(self, block: Block) -> tuple[int, int]:
        return self._one(block, False)

    def puta(self, block: Block) -> tuple[int, int]:
        return self._one(block, True)

    def _one(self, block: Block, with_acq: bool) -> tuple[int, int]:
        (outcome,) = self.put_group([(block, with_acq)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def put_group(self, puts: Sequence[tuple[Block, bool]]) -> list[tuple[int, int] | Exception]:
        self.asked += 1
        assert self.gate.wait(20)
        with self._lock:
            self.groups.append(len(puts))
            return [self._put(block, with_acq) for block, with_acq in puts]

    def _put(self, block: Block, with_acq: bool) -> tuple[int, int] | Exception:
        if self.failure is not None:
            return self.failure
        if not len(block):
            return -1, -1
        first = self.clock
        if not with_acq:
            self.clock += len(block)
            block = block.with_acq(numpy.arange(first, self.clock))
        greatest = Key.max()
        for index in range(len(block)):
            key = block.key(index)
            if all(field < most for field, most in zip(key, greatest, strict=True)):
                self.rows[tuple(key)] = bytes(block.payload(index))
        return (-1, -1) if with_acq else (first, self.clock - 1)

    def stage(self, *, with_acq: bool = False) -> MemoryStaging:
        self.staged += 1
        return MemoryStaging(self, with_acq)

    # Getting

    def horizon(self, limit: int) -> int:
        return min(limit, self.clock)

    def snapshot(self, box: KeyRange) -> MemorySnapshot:
        with self._lock:
            found = [(key, self.rows[key]) for key in sorted(self.rows) if box.holds(Key(*key))]
            return MemorySnapshot(found, self.horizon(box.max.acq), self._block_size, self.read_failure)


class MemorySnapshot:
    def __init__(
        self, found: list[tuple[Full, bytes]], horizon: int, size: int, failure: tuple[int, Exception] | None
    ) -> None:
        self.horizon = horizon
        self._found = found
        self._size = size
        self._failure = failure

    def blocks(self, *, admit: Callable[[int], Any] = lambda _size: None) -> Iterator[Block]:
        for number, begin in enumerate(range(0, len(self._found), self._size)):
            if self._failure is not None and self._failure[0] == number:
                raise self._failure[1]
            part = self._found[begin : begin + self._size]
            admit(sum(32 + len(payload) for _, payload in part))
            yield block_of(numpy.array([key for key, _ in part], KEY), [payload for _, payload in part])

    def close(self) -> None:
        self._found = []

    def __enter__(self) -> MemorySnapshot:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class MemoryStaging:
    def __init__(self, store: MemoryStore, with_acq: bool) -> None:
        self._store = store
        self._with_acq = with_acq
        self._blocks: list[Block] = []

    def add(self, block: Block) -> None:
        if self._store.failure is not None:
            raise self._store.failure
        self._blocks.append(block)

    def commit(self) -> tuple[int, int]:
        return self._store._one(joined(self._blocks), self._with_acq)

    def abort(self) -> None:
        self._store.aborted += 1
        self._blocks.clear()


def rows_of(*records: tuple[Full, bytes]) -> Block:
    """A block of these records."""
    return block_of(numpy.array([key for key, _ in records], KEY), [payload for _, payload in records])

"""A store whose blocks, tiles and limits are so small that some dozens of records meet all of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy

from handshakes.records import KEY, Block, Key, KeyRange, block_of
from pynetwork.series.engine.database import Database

Full = tuple[int, int, int, int, int]

SIZES = {
    "contents.MOST_RECORDS": 4,
    "core.MOST_RECORDS": 4,
    "ordering.TILE": 16,
    "core.TILE": 16,
    "staging.TILE": 16,
    "staging._HELD_RECORDS": 8,
    "compaction.TILE": 16,
    "compaction._SHORT_RECORDS": 8,
    "compaction._TOGETHER": 3,
    "putting._SMALL_RECORDS": 6,
    "putting.FOLD_RECORDS": 20,
    "timewise._FIRST_SLICE": 100,
    "timewise._SLICE": 400,
    "summaries._AT_ONCE": 2,
    "recent._SETTLE": 4,
    "retention._AT_ONCE": 2,
}


def small_sizes() -> contextlib.ExitStack:
    """A context manager: everything is small in it."""

    stack = contextlib.ExitStack()
    for name, value in SIZES.items():
        stack.enter_context(mock.patch(f"pynetwork.series.engine.{name}", value))
    return stack


def block(*records: tuple[Full, bytes]) -> Block:
    """A block of these records."""
    return block_of(numpy.array([key for key, _ in records], KEY), [payload for _, payload in records])


def records(found: Block) -> list[tuple[Full, bytes]]:
    """The records of a block."""
    return list(zip(found.keys().tolist(), map(bytes, found.payloads()), strict=True))


def box(**limits: tuple[int, int]) -> KeyRange:
    """The box of what is in these limits, least and end, by the names of the fields."""
    low = {name: each[0] for name, each in limits.items()}
    high = {name: each[1] for name, each in limits.items()}
    return KeyRange(Key.min()._replace(**low), Key.max()._replace(**high))


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: int = 1_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class _Interrupted:
    def __init__(self, connection: sqlite3.Connection, after: str, left: int) -> None:
        self._connection = connection
        self._after = after
        self._left = left

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        done = self._connection.execute(statement, *values)
        if statement == self._after:
            self._left -= 1
            if not self._left:
                raise KeyboardInterrupt
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@contextlib.contextmanager
def interrupted(database: Database, after: str, times: int = 1) -> Iterator[None]:
    """The statement ``after`` is done for the first time, or after so many ``times``, and then a Ctrl-C comes."""
    with mock.patch.object(database, "_writer", _Interrupted(database._writer, after, times)):
        yield

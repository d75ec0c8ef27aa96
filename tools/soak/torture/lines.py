"""Numbered lines: what is written in a torture run. Any piece of them tells where it belongs, so loss, doubling and
tearing show.

Every line has `LINE` bytes: ``#``, the name of its stream, its number there from 0, and letters that depend on both
and hardly compress. What a stream consists of is known before it is written.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["LINE", "Lines", "Run", "mark_at", "runs"]

LINE = 128
"""Bytes of a line, with its end."""

_MARK = re.compile(rb"#(?=.{8}\d)([a-z]{1,7}) {1,7}(\d{12}) ")
_MARK_SIZE = 22
# As many different endings: more than compression remembers.
_ENDINGS = 1009
_LETTERS = string.ascii_letters + string.digits + "+/"


class Lines:
    """The lines of the stream ``name``, a word of at most 7 small letters."""

    def __init__(self, name: str, seed: str) -> None:
        self.name = name
        self._start = _start(name)
        chance = random.Random(f"{seed} {name}")
        size = LINE - _MARK_SIZE - 1
        self._endings = ["".join(chance.choices(_LETTERS, k=size)).encode() + b"\n" for _ in range(_ENDINGS)]

    def text(self, first: int, count: int) -> bytes:
        """``count`` lines from number ``first``."""
        start, endings = self._start, self._endings
        return b"".join(
            [b"%b%012d %b" % (start, number, endings[number % _ENDINGS]) for number in range(first, first + count)]
        )


def _start(stream: str) -> bytes:
    return f"#{stream:<8}".encode()


class Run(NamedTuple):
    """Consecutive lines, that lie at ``at`` to ``end`` in some data and begin at byte ``start`` of their stream; the
    last may be cut short.
    """

    stream: str
    start: int
    at: int
    end: int


def mark_at(data: bytes | bytearray, at: int) -> tuple[str, int] | None:
    """Stream and number of the line that begins at ``at``."""
    found = _MARK.match(data, at)
    return None if found is None else (found[1].decode(), int(found[2]))


def runs(data: bytes | bytearray) -> Iterator[Run]:
    """All runs of lines in ``data``. What precedes the first whole beginning of a line belongs to none.

    Not every line is looked at: what lies between two lines of a run is taken to belong to it.
    """
    at = 0
    while (found := _MARK.search(data, at)) is not None:
        stream, number, at = found[1].decode(), int(found[2]), found.start()
        # Where the run ends lies between a line that belongs to it and one that does not.
        least, most = 1, -(-(len(data) - at) // LINE) + 1
        while most - least > 1:
            middle = (least + most) // 2
            if _continues(data, at + (middle - 1) * LINE, stream, number + middle - 1):
                least = middle
            else:
                most = middle
        end = min(len(data), at + least * LINE)
        yield Run(stream, number * LINE, at, end)
        at = end


def _continues(data: bytes | bytearray, at: int, stream: str, number: int) -> bool:
    if at + _MARK_SIZE <= len(data):
        return mark_at(data, at) == (stream, number)
    # What is left is shorter than a mark.
    return at < len(data) and (b"%b%012d " % (_start(stream), number)).startswith(data[at:])

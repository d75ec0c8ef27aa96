"""What the gateway sent, counted where it comes by: how much of it was files' data, and how much of that for the first
time.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable, Collection
from typing import Final

from handshakes.deltas import decode_grown
from handshakes.manifest import decode_page
from handshakes.messages import Kind
from handshakes.transfer import Code
from tools.proxy import DOWN, Direction
from tools.soak.torture.lines import LINE, Run, runs
from tools.soak.torture.scene import RING

__all__ = ["ROW", "Covered", "Meter"]

ROW: Final = 32
"""The most bytes that a message with several files has for each of them, beside its data."""

_HEADER: Final = struct.Struct("<BBHII")
_DATA: Final = frozenset([Code.CHUNK, Code.PIECE, Code.PACK, Code.GROWN])
_REQUESTS: Final = frozenset([Code.PACK, Code.GROWN])


class Covered:
    """Which bytes of a stream have come by: a set of intervals."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> int:
        """Bytes ``start`` to ``end`` have come by; answers how many of them are new."""
        first = bisect.bisect_left(self._ends, start)
        last = bisect.bisect_right(self._starts, end)
        touched = list(zip(self._starts[first:last], self._ends[first:last], strict=True))
        known = sum(max(0, min(end, stop) - max(start, begin)) for begin, stop in touched)
        self._starts[first:last] = [min([start, *(begin for begin, _ in touched)])]
        self._ends[first:last] = [max([end, *(stop for _, stop in touched)])]
        return end - start - known


class Meter:
    """Counts bytes in messages with files' data. `tap` is for a `tools.proxy.Proxy`.

    Data that carries numbered lines is known when it comes again. Of the ring, which is changed in place, a whole
    message counts as new when any of its lines is: a chunk moves as a whole.
    """

    def __init__(self) -> None:
        self._covered: dict[str, Covered] = {}
        self.total = 0
        """All bytes that the gateway sent."""
        self.data = 0
        """Bytes of files' data, with the tables of messages that carry several files."""
        self.rows = 0
        """Files that were asked for by such messages."""
        self.lines = 0
        """Of ``data`` the bytes of numbered lines that came in whole messages."""
        self.new_lines = 0
        """Of ``lines`` those that had not come before."""

    def tap(self) -> Callable[[Direction, bytes], None]:
        """Who is shown what comes by on one connection."""
        requests, answers = _Frames(_REQUESTS, self._take_request), _Frames(_DATA, self._take_data)

        def see(direction: Direction, data: bytes) -> None:
            if direction is DOWN:
                self.total += len(data)
                self.data += answers.feed(data)
            else:
                requests.feed(data)

        return see

    def _take_request(self, code: int, body: bytearray) -> None:
        self.rows += len(decode_page(body).files if code == Code.PACK else decode_grown(body))

    def _take_data(self, _code: int, body: bytearray) -> None:
        found = list(runs(body))
        if found:
            found[0] = _with_beginning(found[0], body)
        self.lines += sum(run.end - run.at for run in found)
        ring = [run for run in found if run.stream == RING]
        self.new_lines += sum(self._new(run) for run in found if run.stream != RING)
        if sum(self._new(run) for run in ring):
            self.new_lines += sum(run.end - run.at for run in ring)

    def _new(self, run: Run) -> int:
        return self._covered.setdefault(run.stream, Covered()).add(run.start, run.start + run.end - run.at)


def _with_beginning(run: Run, body: bytearray) -> Run:
    """``run`` with the end of the line before, where a message begins within that."""
    if run.at < LINE and run.start and body[run.at - 1 : run.at] == b"\n":
        return run._replace(start=run.start - run.at, at=0)
    return run


class _Frames:
    """Finds the messages with one of these ``codes`` in one direction of a connection; ``take`` gets their bodies."""

    def __init__(self, codes: Collection[int], take: Callable[[int, bytearray], None]) -> None:
        self._codes = codes
        self._take = take
        self._header = bytearray()
        self._skip = 0
        """Bytes of a frame that are passed over."""
        self._code = 0
        self._body = bytearray()
        self._missing = 0
        """Bytes of ``_body``."""

    def feed(self, data: bytes) -> int:
        """Take the next bytes; answers how many of them are of bodies that are wanted."""
        at = wanted = 0
        while at < len(data):
            if self._skip:
                size = min(self._skip, len(data) - at)
                self._skip -= size
            elif self._missing:
                size = min(self._missing, len(data) - at)
                self._body += data[at : at + size]
                self._missing -= size
                wanted += size
                if not self._missing:
                    self._end()
            else:
                size = min(_HEADER.size - len(self._header), len(data) - at)
                self._header += data[at : at + size]
                if len(self._header) == _HEADER.size:
                    self._begin()
            at += size
        return wanted

    def _begin(self) -> None:
        kind, code, _, head, body = _HEADER.unpack(self._header)
        self._header.clear()
        self._skip = head
        if kind == Kind.MESSAGE and code in self._codes:
            self._code, self._missing = code, body
        else:
            self._skip += body

    def _end(self) -> None:
        body, self._body = self._body, bytearray()
        self._take(self._code, body)

"""Lines of CSV as cells: a quote too many costs the line that it stands on, and no other.

A cell may hold line breaks where its column holds text or JSON and the record is well quoted: each cell of it either
whole between quotes or without any at its beginning. Where a quote is still open at the end of a line and what follows
does not make such a record, that line is wrong, and reading goes on with the very next one. Memory is bounded by
`LONGEST_LINE`, for a line and for a record of several, whatever stands there; the limit of the module ``csv``, which
all of a process share, is neither needed nor changed.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from handshakes.tstorage_words import LARGEST_PAYLOAD
from pynetwork.series.payloads import JsonPayloadType, PayloadType

__all__ = ["LONGEST_LINE", "CsvLines", "Line", "may_break"]

LONGEST_LINE: Final = 2 * LARGEST_PAYLOAD + (1 << 20)
"""Letters: the largest payload in hexadecimal, and a key."""

_MOST_BREAKS: Final = 1 << 20
_PIECE: Final = 1 << 20

# In the place of a line that is longer: no text has this letter, so that it is noticed as what is no text is.
_OVERLONG: Final = "\ud800"


class Line(NamedTuple):
    """A line of CSV, or several that are one record; ``wrong`` is why it can be none, where that is seen already."""

    number: int
    """Of the first of them, from 1."""
    cells: list[str]
    wrong: str


def may_break(payload_type: PayloadType[Any]) -> list[bool]:
    """For each column of these payloads whether a cell may hold line breaks, as text and JSON do."""
    dtype = payload_type.dtype
    if dtype is None:
        return [isinstance(payload_type, JsonPayloadType)]
    fields = [dtype[name] for name in dtype.names or ()]
    return [field.subdtype is not None or field.names is not None or field.kind in "SU" for field in fields]


class CsvLines:
    """What ``readline``, as a file has it, gives: ``header``, the first line of it, is read at once."""

    def __init__(self, readline: Callable[[int], str]) -> None:
        self._readline = readline
        self._ahead: deque[str] = deque()
        self._number = 0
        self.header = self._next({})

    def batches(self, breaking: Mapping[int, Callable[[str], Any]], most: int, size: int) -> Iterator[list[Line]]:
        """All other lines but empty ones, about ``most`` of them or ``size`` letters at a time.

        ``breaking``: for each place at which a cell may hold line breaks, what reads it, or raises `ValueError` or
        `TypeError`.
        """
        while lines := self._taken(most, size):
            found = self._plain(lines)
            yield self._one_by_one(lines, breaking) if found is None else found

    def _taken(self, most: int, size: int) -> list[str]:
        lines: list[str] = []
        while len(lines) < most and size > 0 and (line := self._take()):
            lines.append(line)
            size -= len(line)
        return lines

    def _plain(self, lines: list[str]) -> list[Line] | None:
        """All at once, many times as fast; None unless each is a record for itself."""
        try:
            "".join(lines).encode()
            # The last one would be swallowed by a quote that is open.
            rows = list(csv.reader([*lines, ""]))
        except (UnicodeEncodeError, csv.Error):
            return None
        if len(rows) != len(lines) + 1:
            return None
        begin = self._number - len(lines) + 1
        return [Line(number, cells, "") for number, cells in enumerate(rows, begin) if cells]

    def _one_by_one(self, lines: list[str], breaking: Mapping[int, Callable[[str], Any]]) -> list[Line]:
        end = self._number
        self._give_back(lines)
        found = []
        while self._number < end:
            line = self._next(breaking)
            if line.cells or line.wrong:
                found.append(line)
        return found

    def _next(self, breaking: Mapping[int, Callable[[str], Any]]) -> Line:
        text = self._take()
        number = self._number
        if wrong := _no_text(text):
            return Line(number, [], wrong)
        cells = _Cells(text)
        if cells.open and not self._goes_on(cells, breaking):
            return Line(number, [], f"the quote that opens column {len(cells.whole) + 1} is not closed")
        return Line(number, cells.whole, cells.wrong)

    def _goes_on(self, cells: _Cells, breaking: Mapping[int, Callable[[str], Any]]) -> bool:
        """Whether the next lines close the quote, to a record that is well quoted. If not, they are still to come."""
        taken: list[str] = []
        size = 0
        broken: set[int] = set()
        at = len(cells.whole)
        while cells.open and cells.well_quoted and len(cells.whole) in breaking:
            broken.add(len(cells.whole))
            line = self._take() if size < LONGEST_LINE and len(taken) < _MOST_BREAKS else ""
            if not line or _no_text(line):
                taken += [line] if line else []
                break
            taken.append(line)
            size += len(line)
            cells.add(line)
        if (
            not cells.open
            and cells.well_quoted
            and len(cells.whole) == len(self.header.cells)
            and all(_readable(cells.whole[place], breaking[place]) for place in broken)
        ):
            return True
        self._give_back(taken)
        del cells.whole[at:]
        return False

    def _take(self) -> str:
        """The next line, empty at the end."""
        if self._ahead:
            line = self._ahead.popleft()
        else:
            line = self._readline(LONGEST_LINE)
            if len(line) >= LONGEST_LINE and line[-1] not in "\r\n":
                while (rest := self._readline(_PIECE)) and rest[-1] not in "\r\n":
                    pass
                line = _OVERLONG
        self._number += bool(line)
        return line

    def _give_back(self, lines: Sequence[str]) -> None:
        self._ahead.extendleft(reversed(lines))
        self._number -= len(lines)


class _Cells:
    """The cells of a line, and of those that are added while its quote is open, as the module ``csv`` takes them."""

    def __init__(self, text: str) -> None:
        self.whole: list[str] = []
        self.wrong = ""
        self.well_quoted = True
        self._parts: list[str] = []
        self.open = False
        if text.rstrip("\r\n"):
            self.add(text)

    def add(self, text: str) -> None:
        """The next line."""
        at = 0
        while at >= 0:
            if not self.open and text.startswith('"', at):
                self.open = True
                at += 1
            at = self._quoted(text, at) if self.open else self._bare(text, at)

    def _quoted(self, text: str, begin: int) -> int:
        """Take the rest of a cell that has a quote before it; where the next one begins, -1 when there is none."""
        end = text.find('"', begin)
        while end >= 0 and text.startswith('"', end + 1):
            end = text.find('"', end + 2)
        if end < 0:
            self._parts.append(text[begin:])
            return -1
        self._parts.append(text[begin:end])
        quoted = "".join(self._parts).replace('""', '"')
        self._parts = []
        self.open = False
        following = self._bare(text, end + 1)
        self.well_quoted = self.well_quoted and not self.whole[-1]
        self.whole[-1] = quoted + self.whole[-1]
        return following

    def _bare(self, text: str, begin: int) -> int:
        """Take a cell as it stands there; answers as `_quoted`."""
        end = text.find(",", begin)
        cell = text[begin:end] if end >= 0 else text[begin:].rstrip("\r\n")
        if "\r" in cell:
            self.wrong = "it holds a carriage return; lines must end with a line feed"
        self.whole.append(cell)
        return end + 1 if end >= 0 else -1


def _no_text(line: str) -> str:
    """Why this line is no text, empty when it is one."""
    if line == _OVERLONG:
        return f"it is longer than {LONGEST_LINE} letters"
    try:
        line.encode()
    except UnicodeEncodeError as error:
        place = len(line[: error.start].encode()) + 1
        return f"byte {place} of it, 0x{ord(line[error.start]) & 0xFF:02x}, is no text in UTF-8"
    return ""


def _readable(text: str, read: Callable[[str], Any]) -> bool:
    try:
        read(text)
    except (ValueError, TypeError):
        return False
    return True

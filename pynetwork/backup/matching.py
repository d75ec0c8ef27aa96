"""The rows of a folder beside its records: both come in the order of their names, so one pass is enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from handshakes.errors import RemoteProtocolError
from handshakes.paths import from_bytes
from handshakes.survey import FileRow
from pynetwork.backup.finding import is_same_time
from pynetwork.backup.records import FileRecord
from pynetwork.files.directories import Directory

__all__ = ["Matcher", "Passed", "status_as_recorded"]


class Passed(NamedTuple):
    """So many ``files`` of so many ``bytes`` are as they were, and ``older`` of them were brought by an earlier run.
    ``row``: the first that shows a change, None when none does.
    """

    row: FileRow | None
    files: int
    bytes: int
    older: int


class Matcher:
    """Finds the record of each row of one folder; a record without one has vanished.

    ``records``: those of the folder, in order. Where rows may be missing there are none, and ``look_up`` knows the
    record of a name. ``chosen`` tells whether a record that has vanished matters.
    """

    def __init__(
        self,
        records: Iterator[FileRecord],
        look_up: Callable[[bytes], FileRecord | None] | None = None,
        chosen: Callable[[FileRecord], bool] | None = None,
    ) -> None:
        self._records = records
        self._look_up = look_up
        self._chosen = chosen
        self._vanished: list[bytes] = []
        self._next = next(records, None)
        self._last = b""

    def match(self, name: bytes) -> FileRecord | None:
        """The record of ``name``; those before it have vanished. Raises `RemoteProtocolError` for rows out of order."""
        if name <= self._last:
            raise RemoteProtocolError(f"a survey has {name!r} after {self._last!r}")
        self._last = name
        if self._look_up is not None:
            return self._look_up(name)
        while (record := self._next) is not None and record.name < name:
            self._vanish(record)
            self._next = next(self._records, None)
        if record is None or record.name != name:
            return None
        self._next = next(self._records, None)
        return record

    def pass_unchanged(self, rows: Iterator[FileRow], directory: Directory, run: int) -> Passed:
        """Go on to the first row that shows a change, by its facts or by what stands in ``directory``; as a rule hardly
        one of thousands does. That row is still to be matched. ``run`` is the one that goes on.
        """
        records, record, last = self._records, self._next, self._last
        files = size = older = 0
        changed = None
        for row in rows:
            name, facts = row
            if (
                record is None
                or record.name != name
                or record.facts != facts
                or record.state
                or record.gone is not None
                or name <= last
                or status_as_recorded(directory, record) is None
            ):
                changed = row
                break
            files += 1
            size += record.size
            older += record.run != run
            record, last = next(records, None), name
        self._next, self._last = record, last
        return Passed(changed, files, size, older)

    def end(self) -> list[bytes]:
        """All rows have come; answers the names that have vanished, but for those that were known to be gone."""
        while self._next is not None:
            self._vanish(self._next)
            self._next = next(self._records, None)
        return self._vanished

    def _vanish(self, record: FileRecord) -> None:
        if record.gone is None and (self._chosen is None or self._chosen(record)):
            self._vanished.append(record.name)


def status_as_recorded(directory: Directory, record: FileRecord) -> os.stat_result | None:
    """The status of what stands in ``directory``; None when that is not what was recorded."""
    try:
        status = directory.status(from_bytes(record.place or record.name))
    except OSError:
        return None
    as_recorded = status.st_size == record.size and is_same_time(status.st_mtime_ns, record.mtime_ns)
    return status if as_recorded else None

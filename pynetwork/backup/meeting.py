"""A survey of what is at the gateway meets what is to be restored, folder by folder.

Both come in the same order, so that neither has to be in memory as a whole. Of the gateway's folder nothing is kept
that the source has no use for: what is to be restored bounds it, whatever the gateway tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from handshakes.errors import RemoteProtocolError
from handshakes.paths import from_bytes
from handshakes.survey import End, Facts, FileRow, FolderRow, LinkRow, Row, SkippedRow
from pynetwork.backup.source import Key, SourceFolder, key_of

__all__ = ["Meeting", "TargetFolder"]


@dataclass
class TargetFolder:
    """A folder at the gateway: what there is of the ``files`` and ``links`` that are to be restored, and of what
    interrupted restores left of large files (``partials``).
    """

    facts: Facts
    files: dict[bytes, Facts] = field(default_factory=dict)
    links: dict[bytes, bytes] = field(default_factory=dict)
    partials: dict[bytes, int] = field(default_factory=dict)


class Meeting:
    """Calls ``meet`` with every folder of the source after ``after`` (None: with all), and with what is at the gateway
    of it, None where that has no such folder. ``after`` is then the last one for which that was done.
    """

    def __init__(
        self,
        folders: Iterator[SourceFolder],
        meet: Callable[[SourceFolder, TargetFolder | None], None],
        after: Key | None = None,
    ) -> None:
        self._folders = folders
        self._meet = meet
        self.after = after
        self._next = self._advance()
        self._now: TargetFolder | None = None
        self._last: Key | None = None
        self._counted = [0, 0]

    def _advance(self) -> SourceFolder | None:
        for folder in self._folders:
            if self.after is None or folder.key > self.after:
                return folder
        return None

    def take(self, row: Row) -> bool:
        """Take in the next row; True when it is the last. Raises `RemoteProtocolError`, and what ``meet`` raises."""
        if type(row) is FileRow:
            self._counted[0] += 1
            self._take_file(row)
        elif type(row) is FolderRow:
            self._begin(row)
        elif type(row) is LinkRow:
            if self._now is not None and self._next is not None and row.name in self._next.links:
                self._now.links[row.name] = row.target
        elif type(row) is End:
            self._end_all(row)
            return True
        elif type(row) is not SkippedRow:
            raise RemoteProtocolError("a survey of a folder tells of changes in it")
        return False

    def _take_file(self, row: FileRow) -> None:
        if self._last is None:
            raise RemoteProtocolError("a survey has a file before the first folder")
        now, folder = self._now, self._next
        if now is None or folder is None:
            return
        if row.name in folder.files:
            now.files[row.name] = Facts.decode(row.facts)
        elif row.name in folder.partials:
            now.partials[row.name] = Facts.decode(row.facts).size

    def _begin(self, row: FolderRow) -> None:
        self._end_folder()
        self._counted[1] += 1
        key = key_of(row.path)
        if self._last is not None and key <= self._last:
            raise RemoteProtocolError(f"a survey has the folder {from_bytes(row.path)!r} out of its order")
        self._last = key
        while self._next is not None and self._next.key < key:
            self._pass(None)
        if self._next is not None and self._next.key == key:
            self._now = TargetFolder(row.facts)

    def _end_folder(self) -> None:
        if self._now is not None:
            self._pass(self._now)
            self._now = None

    def _end_all(self, row: End) -> None:
        self._end_folder()
        if [row.files, row.folders] != self._counted:
            raise RemoteProtocolError(f"a survey of {row.files} files came with {self._counted[0]}")
        while self._next is not None:
            self._pass(None)

    def _pass(self, found: TargetFolder | None) -> None:
        assert self._next is not None
        self._meet(self._next, found)
        self.after = self._next.key
        self._next = self._advance()

"""The gateway's side of a survey: everything below a shared folder as rows, and what changes from then on.

See `handshakes.survey` for the rows. To follow a folder costs little where nothing happens: a folder is read anew when
its modification time moves, files that were changed lately are looked at in every round, and everything else is looked
over in turn, a few milliseconds at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from handshakes.paths import COMPONENT_LIMIT, PATH_LIMIT, is_partial, to_bytes
from handshakes.survey import (
    End,
    Facts,
    FolderRow,
    GoneRow,
    LinkRow,
    SkippedRow,
    encode_end,
    encode_file_row,
    encode_folder_row,
    encode_gone_row,
    encode_link_row,
    encode_skipped_row,
)
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder, NotAFile, reason_for

__all__ = ["Surveyor", "facts_of"]

_BATCH = 512
_SECOND = 1_000_000_000
_HOT = 600 * _SECOND
_MOST_HOT = 4096
# So long after a change of a folder another one may leave its modification time as it is.
_TICK = 3 * _SECOND
_LOOK_OVER = 10.0
_LOOK_OVER_SHARE = 0.02

Components = tuple[str, ...]


def facts_of(status: os.stat_result) -> Facts:
    """What a survey tells of a file with this status."""
    inode = status.st_ino
    if inode >= 1 << 63:
        inode -= 1 << 64
    return Facts(status.st_mode & 0o777, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, inode)


@dataclass(slots=True)
class _Seen:
    """A folder as it was told last. ``hot``: facts of the files that may well change soon."""

    mtime_ns: int
    clock_ns: int
    looked: float
    fingerprint: int
    hot: dict[str, Facts]
    below: list[str]

    @property
    def settled(self) -> bool:
        """Whether a later change of the folder would have moved its time."""
        return self.clock_ns - self.mtime_ns > _TICK


class Surveyor:
    """Surveys ``folder``, which stays its owner's; with ``follow`` it remembers what it told.

    The rows come joined, a few hundred at a time. Used by one thread.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        follow: bool = False,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._follow = follow
        self._clock = clock
        self._monotonic = monotonic
        self._seen: dict[Components, _Seen] = {}
        self._files = self._folders = 0

    def survey(self) -> Generator[bytes, None, None]:
        """The rows of everything, and END."""
        self._files = self._folders = 0
        yield from self._survey_below(())
        yield encode_end(End(self._files, self._folders))

    def changes(self) -> Generator[bytes, None, None]:
        """The rows of what has changed since the last round, and END."""
        self._files = self._folders = 0
        for components in sorted(self._seen):
            seen = self._seen.get(components)
            if seen is not None:
                yield from self._changes_in(components, seen)
        yield from self._look_over()
        yield encode_end(End(self._files, self._folders))

    # Everything

    def _survey_below(self, start: Components) -> Iterator[bytes]:
        pending = [start]
        while pending:
            components = pending.pop()
            below: list[str] = []
            yield from self._survey_folder(components, below)
            pending += [(*components, name) for name in reversed(below)]

    def _survey_folder(self, components: Components, below: list[str]) -> Iterator[bytes]:
        """The rows of one folder; the names of the folders in it are added to ``below``."""
        path = _path_of(components)
        if len(path) > PATH_LIMIT:
            return
        try:
            directory = self._folder.directory(components).again()
        except OSError as error:
            yield self._unreadable(path, error)
            return
        try:
            yield from self._list(directory, components, path, below)
        finally:
            directory.close()

    def _unreadable(self, path: bytes, error: OSError) -> bytes:
        self._folders += 1
        row = FolderRow(path, Facts(0, 0, 0, 0, 0, 0), 0, self._clock(), complete=False)
        return encode_folder_row(row) + encode_skipped_row(SkippedRow(b"", reason_for(error)))

    def _list(self, directory: Directory, components: Components, path: bytes, below: list[str]) -> Iterator[bytes]:
        # In this order: what comes into the folder after its status was taken is told in the next round.
        clock = self._clock()
        status = directory.own_status()
        complete, reason = True, ""
        found: list[tuple[bytes, os.DirEntry[str]]] = []
        try:
            found.extend((to_bytes(entry.name), entry) for entry in directory.entries())
        except OSError as error:
            complete, reason = False, reason_for(error)
        found.sort(key=_by_name)
        self._folders += 1
        facts = facts_of(status)
        # Not part of the fingerprint: the clock is no change.
        yield encode_folder_row(FolderRow(path, facts, _signed(status.st_dev), clock, complete))
        hot: dict[str, Facts] = {}
        fingerprint = xxh3_64_intdigest(facts.encode())
        if reason:
            yield encode_skipped_row(SkippedRow(b"", reason))
        for at in range(0, len(found), _BATCH):
            rows = [self._row(directory, raw, entry, below, hot, clock) for raw, entry in found[at : at + _BATCH]]
            joined = b"".join(rows)
            if self._follow:
                fingerprint = xxh3_64_intdigest(joined, fingerprint)
            yield joined
        if self._follow:
            self._seen[components] = _Seen(facts.mtime_ns, clock, self._monotonic(), fingerprint, hot, list(below))

    def _row(
        self,
        directory: Directory,
        raw: bytes,
        entry: os.DirEntry[str],
        below: list[str],
        hot: dict[str, Facts],
        clock: int,
    ) -> bytes:
        """The row of one thing in a folder; empty for what is told otherwise or not at all."""
        name = entry.name
        try:
            if len(raw) > COMPONENT_LIMIT:
                return encode_skipped_row(SkippedRow(raw[:COMPONENT_LIMIT], "its name is too long"))
            if entry.is_file(follow_symlinks=False):
                if is_partial(name):
                    return b""
                facts = facts_of(entry.stat(follow_symlinks=False))
                self._files += 1
                if self._follow and clock - facts.mtime_ns < _HOT and len(hot) < _MOST_HOT:
                    hot[name] = facts
                return encode_file_row(raw, facts)
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
                return b""
            status = entry.stat(follow_symlinks=False)
            if entry.is_symlink():
                return encode_link_row(LinkRow(raw, facts_of(status), to_bytes(directory.read_link(name))))
            raise NotAFile(status.st_mode)
        except FileNotFoundError:
            return b""
        except OSError as error:
            return encode_skipped_row(SkippedRow(raw, reason_for(error)))

    # What has changed

    def _changes_in(self, components: Components, seen: _Seen) -> Iterator[bytes]:
        try:
            directory = self._folder.directory(components).again()
        except FileNotFoundError:
            self._folder.forget()
            yield from self._gone(components)
            return
        except OSError:
            return
        try:
            status = directory.own_status()
            if not status.st_nlink:
                # It was removed while it is held open: another may have its name.
                self._folder.forget()
                yield from self._gone(components)
                return
            if status.st_mtime_ns != seen.mtime_ns or not seen.settled:
                yield from self._list_again(components, seen)
            else:
                yield self._changed_files(directory, components, status, seen)
        finally:
            directory.close()

    def _list_again(self, components: Components, seen: _Seen) -> Iterator[bytes]:
        """All rows of a folder, if they are not those that were told before, and of the new folders in it."""
        files, folders = self._files, self._folders
        below: list[str] = []
        rows = list(self._survey_folder(components, below))
        now = self._seen[components]
        if now.fingerprint == seen.fingerprint:
            self._files, self._folders = files, folders
        else:
            yield from rows
        for name in set(seen.below) - set(below):
            yield from self._gone((*components, name))
        for name in below:
            if (*components, name) not in self._seen:
                yield from self._survey_below((*components, name))

    def _changed_files(
        self, directory: Directory, components: Components, status: os.stat_result, seen: _Seen
    ) -> bytes:
        """The rows of files that were changed lately and now again."""
        rows: list[bytes] = []
        clock = self._clock()
        for name, before in sorted((to_bytes(name), name) for name in seen.hot):
            try:
                facts = facts_of(directory.status(before))
            except OSError:
                continue
            if facts != seen.hot[before]:
                seen.hot[before] = facts
                rows.append(encode_file_row(name, facts))
        if not rows:
            return b""
        self._files += len(rows)
        self._folders += 1
        row = FolderRow(_path_of(components), facts_of(status), _signed(status.st_dev), clock, complete=False)
        return encode_folder_row(row) + b"".join(rows)

    def _gone(self, components: Components) -> Iterator[bytes]:
        depth = len(components)
        for other in [each for each in self._seen if each[:depth] == components]:
            del self._seen[other]
        yield encode_gone_row(GoneRow(_path_of(components)))

    def _look_over(self) -> Iterator[bytes]:
        """Read the folders anew that were not for the longest time, for as long as that takes little time."""
        began = self._monotonic()
        while self._seen:
            components, seen = min(self._seen.items(), key=lambda each: each[1].looked)
            now = self._monotonic()
            if now - seen.looked < _LOOK_OVER or now - began > _LOOK_OVER_SHARE:
                return
            seen.looked = now
            yield from self._list_again(components, seen)


def _by_name(found: tuple[bytes, os.DirEntry[str]]) -> bytes:
    return found[0]


def _path_of(components: Components) -> bytes:
    return to_bytes("/".join(components))


def _signed(device: int) -> int:
    return device if device < 1 << 63 else device - (1 << 64)

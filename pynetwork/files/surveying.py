"""The gateway's side of a survey: everything below a shared folder as rows, and what changes from then on.

See `handshakes.survey` for the rows. To follow a folder costs little where nothing happens: a folder is read anew when
its modification time moves, files that were changed lately are looked at in every round, and everything else is looked
over in turn, a few milliseconds at a time.
"""

from __future__ import annotations

import heapq
import itertools
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from xxhash import xxh3_64_intdigest

from handshakes.errors import NotFound, UnsafePath
from handshakes.paths import COMPONENT_LIMIT, PATH_LIMIT, is_partial, to_bytes
from handshakes.survey import (
    TARGET_LIMIT,
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
    is_settled,
)
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder, NotAFile, changed_at, reason_for

__all__ = ["Surveyor", "facts_of"]

_BATCH: Final = 512
# In ns, before or after now. Whatever is not settled is within this.
_HOT: Final = 600 * 1_000_000_000
_MOST_HOT: Final = 4096
# Before a folder is read again it rests so many times as long as reading it took.
_REST: Final = 10
_LOOK_OVER: Final = 10.0
_LOOK_OVER_REST: Final = 50
_LOOK_OVER_SHARE: Final = 0.02
_MASK: Final = (1 << 64) - 1
_NO_FACTS: Final = Facts(0, 0, 0, 0, 0, 0)

Components = tuple[str, ...]
Identity = tuple[int, int]


def facts_of(status: os.stat_result) -> Facts:
    """What a survey tells of a file with this status."""
    mode, size = status.st_mode & 0o777, status.st_size
    return Facts(mode, status.st_uid, status.st_gid, size, changed_at(status), _signed(status.st_ino))


@dataclass(slots=True)
class _Seen:
    """A folder as it was told last.

    ``hot``: facts of the files that may well change soon, in the order of their names; a change of those that are
    ``unsettled`` may not show. ``unsure``: so it is with others, too. ``fingerprint``: of all rows. ``below``: the
    names of the folders in it, in their order. ``looked``, ``took``: when it was read and for how long, in seconds.
    """

    number: int
    identity: Identity | None = None
    mtime_ns: int = 0
    settled: bool = True
    complete: bool = True
    files: int = 0
    fingerprint: int = 0
    hot: dict[str, Facts] = field(default_factory=dict)
    unsettled: set[str] = field(default_factory=set)
    unsure: bool = False
    below: dict[str, None] = field(default_factory=dict)
    looked: float = 0.0
    took: float = 0.0

    @property
    def due(self) -> float:
        """When it is to be looked over, whatever its time says."""
        return self.looked + max(_LOOK_OVER, _LOOK_OVER_REST * self.took)

    def note(self, row: bytes) -> bytes:
        """``row`` belongs to it."""
        self.fingerprint = self.fingerprint + xxh3_64_intdigest(row) & _MASK
        return row


class Surveyor:
    """Surveys ``folder``, which stays its owner's, or what is below ``start`` in it.

    With ``follow`` it remembers what it told; only with ``partials`` it tells of partial files. The rows come joined,
    a few hundred at a time. Used by one thread.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        start: Components = (),
        partials: bool = False,
        follow: bool = False,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._start = start
        self._partials = partials
        self._follow = follow
        self._clock = clock
        self._monotonic = monotonic
        # In this order every folder comes after the one that it is in.
        self._seen: dict[Components, _Seen] = {}
        self._due: list[tuple[float, int, Components]] = []
        self._numbers = itertools.count()
        self._hot = 0
        self._files = self._folders = 0

    def survey(self) -> Generator[bytes, None, None]:
        """The rows of everything, and END. Raises `NotFound` when the folder itself is not there any more."""
        self._begin_round()
        yield from self._survey_below(self._start)
        yield encode_end(End(self._files, self._folders))

    def changes(self) -> Generator[bytes, None, None]:
        """The rows of what has changed since the last round, and END. Raises as ``survey``."""
        self._begin_round()
        for components in list(self._seen):
            seen = self._seen.get(components)
            if seen is not None:
                yield from self._changes_in(components, seen)
        yield from self._look_over()
        yield encode_end(End(self._files, self._folders))

    def _begin_round(self) -> None:
        self._files = self._folders = 0
        try:
            there, mine = os.stat(self._folder.path), self._status(())
        except OSError as error:
            raise NotFound(f"the shared folder can't be surveyed any more: {reason_for(error)}") from error
        if _identity_of(there) != _identity_of(mine):
            raise NotFound("the shared folder can't be surveyed any more: another one has its name")

    # Everything

    def _survey_below(self, start: Components) -> Iterator[bytes]:
        pending = [start]
        while pending:
            components = pending.pop()
            seen = _Seen(next(self._numbers))
            try:
                yield from self._read(components, seen)
            except FileNotFoundError:
                # It has gone since its name was read.
                continue
            self._count(seen)
            if self._follow:
                self._remember(components, seen)
            pending += [(*components, name) for name in reversed(seen.below)]

    def _read(self, components: Components, seen: _Seen) -> Iterator[bytes]:
        """The rows of one folder; what is to be remembered of them goes into ``seen``. Raises `FileNotFoundError`."""
        clock = self._clock()
        try:
            directory, status = self._open(components)
        except FileNotFoundError:
            raise
        except OSError as error:
            yield self._unreadable(components, seen, clock, error)
        else:
            before = self._seen.get(components)
            room = _MOST_HOT - self._hot + (len(before.hot) if before else 0) if self._follow else 0
            reading = _Reading(directory, self._path_of(components), seen, clock, room, partials=self._partials)
            try:
                yield from self._timed(reading.rows(status), seen)
            finally:
                directory.close()
        seen.looked = self._monotonic()

    def _timed(self, rows: Iterator[bytes], seen: _Seen) -> Iterator[bytes]:
        """``rows``; how long it takes to make them, without what becomes of them, goes into ``seen``."""
        began = self._monotonic()
        for row in rows:
            seen.took += self._monotonic() - began
            yield row
            began = self._monotonic()

    def _open(self, components: Components) -> tuple[Directory, os.stat_result]:
        directory, status = self._enter(components)
        if not status.st_nlink:
            # It was removed while it was held open: another may have its name.
            directory.close()
            self._folder.forget()
            directory, status = self._enter(components)
        return directory, status

    def _enter(self, components: Components) -> tuple[Directory, os.stat_result]:
        directory = self._folder.directory(components).again()
        try:
            return directory, directory.own_status()
        except BaseException:
            directory.close()
            raise

    def _status(self, components: Components) -> os.stat_result:
        """What has the name of a folder now."""
        above = self._folder.directory(components[:-1])
        return above.status(components[-1]) if components else above.own_status()

    def _unreadable(self, components: Components, seen: _Seen, clock: int, error: OSError) -> bytes:
        facts, device = _NO_FACTS, 0
        try:
            status = self._status(components)
        except OSError:
            pass
        else:
            facts, device = facts_of(status), _signed(status.st_dev)
            seen.identity, seen.mtime_ns = _identity_of(status), status.st_mtime_ns
        seen.complete = False
        reason = seen.note(encode_skipped_row(SkippedRow(b"", reason_for(error))))
        return encode_folder_row(FolderRow(self._path_of(components), facts, device, clock, complete=False)) + reason

    def _path_of(self, components: Components) -> bytes:
        return to_bytes("/".join(components[len(self._start) :]))

    def _count(self, seen: _Seen) -> None:
        self._folders += 1
        self._files += seen.files

    def _remember(self, components: Components, seen: _Seen) -> None:
        before = self._seen.get(components)
        self._hot += len(seen.hot) - (len(before.hot) if before else 0)
        self._seen[components] = seen
        if before is None:
            heapq.heappush(self._due, (seen.due, seen.number, components))

    # What has changed

    def _changes_in(self, components: Components, seen: _Seen) -> Iterator[bytes]:
        try:
            status = self._status(components)
        except FileNotFoundError:
            yield from self._gone(components)
            return
        except OSError:
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder or seen.identity not in (None, _identity_of(status)):
            yield from self._gone(components)
            if is_folder:
                yield from self._survey_below(components)
        elif (status.st_mtime_ns != seen.mtime_ns or not seen.settled) and self._has_rested(seen):
            yield from self._list_again(components, seen)
        else:
            yield from self._look_at_hot(components, seen)

    def _has_rested(self, seen: _Seen) -> bool:
        return self._monotonic() - seen.looked >= _REST * seen.took

    def _list_again(self, components: Components, seen: _Seen) -> Iterator[bytes]:
        """All rows of a folder, if they are not those that were told before, and of the new folders in it."""
        now = _Seen(seen.number)
        try:
            rows = list(self._read(components, now))
        except FileNotFoundError:
            # The next round will find that.
            return
        if not now.complete:
            # What could not be read has not gone for that.
            now.below = {**seen.below, **now.below}
        self._remember(components, now)
        if now.fingerprint != seen.fingerprint or seen.unsure:
            self._count(now)
            yield from rows
        else:
            now.unsettled |= seen.unsettled & now.hot.keys()
            yield from self._look_at_hot(components, now)
        for below in [(*components, name) for name in seen.below if name not in now.below]:
            if below in self._seen:
                yield from self._gone(below)
        for below in [(*components, name) for name in now.below]:
            if below not in self._seen:
                yield from self._survey_below(below)

    def _look_at_hot(self, components: Components, seen: _Seen) -> Iterator[bytes]:
        """The rows of files that were changed lately and now again, or so soon after they were told that it may not
        show.
        """
        if not seen.hot:
            return
        clock = self._clock()
        try:
            directory, status = self._open(components)
        except OSError:
            return
        try:
            rows = [
                row
                for name, before in list(seen.hot.items())
                if (row := _changed_row(directory, name, before, seen, clock)) is not None
            ]
        finally:
            directory.close()
        if rows:
            self._files += len(rows)
            self._folders += 1
            facts, device = facts_of(status), _signed(status.st_dev)
            head = encode_folder_row(FolderRow(self._path_of(components), facts, device, clock, complete=False))
            yield head + b"".join(rows)

    def _gone(self, components: Components) -> Iterator[bytes]:
        # Handles of what was there may be held under names that mean something else now.
        self._folder.forget()
        pending = [components]
        while pending:
            each = pending.pop()
            seen = self._seen.pop(each, None)
            if seen is not None:
                self._hot -= len(seen.hot)
                pending += [(*each, name) for name in seen.below]
        yield encode_gone_row(GoneRow(self._path_of(components)))

    def _look_over(self) -> Iterator[bytes]:
        """Read the folders anew that were not for the longest time, for as long as that takes little time."""
        began = now = self._monotonic()
        while self._due and self._due[0][0] <= now <= began + _LOOK_OVER_SHARE:
            _, number, components = heapq.heappop(self._due)
            seen = self._seen.get(components)
            if seen is None or seen.number != number:
                continue
            if seen.due <= now:
                seen.looked = now
                yield from self._list_again(components, seen)
            heapq.heappush(self._due, (self._seen[components].due, number, components))
            now = self._monotonic()


class _Reading:
    """Reads a folder at ``path``, when it was ``clock`` there, and notes in ``seen`` what is to be remembered of it,
    at most ``room`` hot files.
    """

    def __init__(
        self, directory: Directory, path: bytes, seen: _Seen, clock: int, room: int, *, partials: bool
    ) -> None:
        self._directory = directory
        self._path = path
        self._seen = seen
        self._clock = clock
        self._room = room
        self._partials = partials
        self._longest = min(COMPONENT_LIMIT, PATH_LIMIT - (len(path) + 1 if path else 0))

    def rows(self, status: os.stat_result) -> Iterator[bytes]:
        """The rows of a folder that had this status before it was read."""
        seen = self._seen
        seen.identity, seen.mtime_ns = _identity_of(status), status.st_mtime_ns
        seen.settled = is_settled(changed_at(status), self._clock)
        # Names alone: where there are very many, whatever else is kept of each takes much memory.
        names: list[str] = []
        reason = b""
        try:
            names.extend(entry.name for entry in self._directory.entries())
        except OSError as error:
            seen.complete = False
            reason = seen.note(encode_skipped_row(SkippedRow(b"", reason_for(error))))
        names.sort(key=_order)
        facts, device = facts_of(status), _signed(status.st_dev)
        seen.note(facts.encode())
        yield encode_folder_row(FolderRow(self._path, facts, device, self._clock, seen.complete)) + reason
        for at in range(0, len(names), _BATCH):
            yield b"".join([seen.note(row) for row in map(self._row, names[at : at + _BATCH]) if row])

    def _row(self, name: str) -> bytes:
        """The row of one thing in the folder; empty for what is told otherwise or not at all."""
        try:
            raw = to_bytes(name)
        except UnsafePath as error:
            return encode_skipped_row(SkippedRow(b"", str(error)))
        if len(raw) > self._longest:
            return encode_skipped_row(SkippedRow(b"", f"{name[:60]!r}... is refused: its path is too long"))
        try:
            status = self._directory.status(name)
            if stat.S_ISREG(status.st_mode):
                hidden = not self._partials and is_partial(name)
                return b"" if hidden else self._file_row(name, raw, facts_of(status))
            if stat.S_ISDIR(status.st_mode):
                self._seen.below[name] = None
                return b""
            if stat.S_ISLNK(status.st_mode):
                return self._link_row(name, raw, facts_of(status))
            raise NotAFile(status.st_mode)
        except FileNotFoundError:
            return b""
        except OSError as error:
            return encode_skipped_row(SkippedRow(raw, reason_for(error)))

    def _file_row(self, name: str, raw: bytes, facts: Facts) -> bytes:
        seen = self._seen
        seen.files += 1
        if -_HOT <= self._clock - facts.mtime_ns <= _HOT:
            settled = is_settled(facts.mtime_ns, self._clock)
            if len(seen.hot) >= self._room:
                seen.unsure |= not settled
            else:
                seen.hot[name] = facts
                if not settled:
                    seen.unsettled.add(name)
        return encode_file_row(raw, facts)

    def _link_row(self, name: str, raw: bytes, facts: Facts) -> bytes:
        try:
            target = to_bytes(self._directory.read_link(name))
        except UnsafePath:
            target = b""
        if not 0 < len(target) <= TARGET_LIMIT:
            return encode_skipped_row(SkippedRow(raw, "symbolic link that leads to no path"))
        return encode_link_row(LinkRow(raw, facts, target))


def _changed_row(directory: Directory, name: str, before: Facts, seen: _Seen, clock: int) -> bytes | None:
    """The row of a hot file, if that is to be told anew; ``seen`` is brought up to date."""
    try:
        status = directory.status(name)
    except OSError:
        return None
    facts = facts_of(status)
    settled = is_settled(facts.mtime_ns, clock)
    if not stat.S_ISREG(status.st_mode) or (facts == before and not (settled and name in seen.unsettled)):
        return None
    raw = to_bytes(name)
    row = encode_file_row(raw, facts)
    seen.fingerprint -= xxh3_64_intdigest(encode_file_row(raw, before))
    seen.note(row)
    seen.hot[name] = facts
    (seen.unsettled.discard if settled else seen.unsettled.add)(name)
    return row


def _order(name: str) -> bytes:
    """What names are sorted by: their bytes, or what comes close where they have none."""
    try:
        return to_bytes(name)
    except UnsafePath:
        return name.encode("utf-8", "surrogatepass")


def _identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _signed(number: int) -> int:
    """The 64 bits of a number of the system's, as it is told."""
    number &= _MASK
    return number if number < 1 << 63 else number - (1 << 64)

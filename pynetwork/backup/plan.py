"""What a backup still has to bring, and the account of what it brought: what lanes and the survey have in common."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from handshakes.chunks import Compare, LargeFile, Pack, Piece, Run, Seal, Work
from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import CHUNK_SIZE, PACK_FILES, PACK_SIZE, Entry, Skipped, chunk_size_for, encode_file, packs
from handshakes.paths import to_bytes
from handshakes.survey import Facts
from handshakes.transfer import ChunkHead, Status
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.deleting import put_aside
from pynetwork.backup.finding import Wanted
from pynetwork.backup.gathering import Gathering
from pynetwork.backup.holding import Holdings
from pynetwork.backup.mirror import Base, Mirror
from pynetwork.backup.owning import Owners
from pynetwork.backup.records import PRUNED, FileRecord, State, UnfinishedRecord
from pynetwork.files import compression
from pynetwork.files.conversation import Conversation
from pynetwork.files.downloads import Download
from pynetwork.files.folders import Folder, reason_for
from pynetwork.files.partials import PartialFile
from pynetwork.files.progress import Progress

__all__ = ["BackupPlan", "Options", "Pace", "local_reason"]

_BACKLOG: Final = 64
_TRIES: Final = 3
_TABLE: Final = 32 << 10
_VANISHED: Final = "it is not there"
_FATAL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@dataclass(frozen=True)
class Options:
    """How a backup is made; see `pynetwork.Controller.backup`. ``limit`` in bytes a second."""

    checksum: bool = False
    owner: bool = False
    mirror_deletes: bool = False
    durable: bool = True
    compress: bool | None = None
    low_priority: bool | None = None
    limit: float | None = None
    follow: bool = False
    chosen: Callable[[str, Facts], bool] | None = None


def _is_other(entry: Entry, before: Entry) -> bool:
    """Whether ``entry`` is another file than that was ``before``, or what is left of it."""
    return entry.identity != before.identity or entry.size < before.size


def local_reason(error: Exception) -> str:
    """Why a file can't be written here. What no other file could be written for either is raised again."""
    if isinstance(error, OSError) and error.errno in _FATAL:
        raise error
    return f"it can't be written here: {reason_for(error)}"


class Pace:
    """So many bytes a second, over all lanes: what is asked for is paid for before anything else is.

    ``piece``: how much had better be asked for at once. The clock is injected.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._paid_until = clock()
        self.piece = max(1, int(rate / 4))

    @property
    def open(self) -> bool:
        """Whether something may be asked for now."""
        return self._clock() >= self._paid_until

    def spend(self, size: int) -> None:
        """So many bytes were asked for."""
        self._paid_until = max(self._paid_until, self._clock()) + size / self._rate


class BackupPlan(Download):
    """What one run of a backup of ``share`` into ``mirror`` still has to bring, and what it has brought."""

    name = "backup"

    def __init__(
        self,
        share: str,
        mirror: Mirror,
        catalogue: Catalogue,
        options: Options,
        *,
        lanes: int,
        progress: bool | Progress | None = None,
    ) -> None:
        super().__init__(
            share, None, None, mirror.root,
            lanes=lanes, durable=False, overwrite=True, flat=False, progress=progress, chunk_size=None,
        )  # fmt: skip
        self.mirror = mirror
        self.catalogue = catalogue
        self.options = options
        self.holdings = Holdings(mirror, catalogue)
        self.wanted: dict[str, Wanted] = {}
        self._later: dict[str, Wanted] = {}
        self.refused: dict[str, str] = {}
        self.refused_places: set[str] = set()
        self.owners = Owners(lambda reason: self.skip(".", reason)) if options.owner else None
        self.counts: dict[str, int] = dict.fromkeys(("new", "grown", "changed", "moved", "same"), 0)
        self._small: list[Wanted] = []
        self._grown: list[Wanted] = []
        self._received = 0
        self._pace = None if options.limit is None else Pace(options.limit)
        self._stopping = threading.Event()
        self.touched: set[int] = set()
        self._replaced: set[str] = set()
        self.last_survey = False
        self.plan.open = True

    # What lanes need

    def prepare(self) -> Conversation:
        """Nothing: the survey fills the plan while lanes empty it."""
        yield from ()

    def opening(self) -> tuple[Any, ...]:
        """Fetching from the share, with names that other systems may not have."""
        wishes = {
            "portable": False,
            "compress": self.options.compress is not False and compression.available(),
            "give_way": self.options.low_priority is not False,
            "low_priority": self.options.low_priority is True,
        }
        return "files.fetch", self.share, wishes

    def place(self, path: str) -> str:
        """Where below the destination the file at ``path`` in the share goes."""
        return self.wanted[path].place

    def count_received(self, size: int) -> None:
        """So many bytes of an answer came."""
        with self.changed:
            self._received += size

    def hold(self, folder: Folder, wanted: Wanted) -> None:
        """Keep the content that stands where ``wanted`` is to stand, as it may be wanted under another name."""
        before = wanted.before
        if before is not None and before.gone == PRUNED:
            components = folder.split(wanted.place)
            with contextlib.suppress(FileNotFoundError):
                put_aside(folder.directory(components[:-1]), components[-1], self.catalogue, wanted.folder, before)
            return
        self.holdings.keep(folder, wanted.place, wanted.folder, wanted.name, before)

    def begin_file(self, wanted: Wanted) -> None:
        """A partial file of ``wanted`` is begun."""
        self.catalogue.begin_file(wanted.place, wanted.folder, wanted.name, wanted.device, wanted.facts.inode)

    def begin_again(self, work: Run | Compare | Piece | Seal, entry: Entry) -> bool:
        """As every job; but when the name leads to another file now, or the file was cut, what was gathered is held,
        and as a rule the next survey tells what is to be done.
        """
        file = work.file
        gathering = file.origin
        if not isinstance(gathering, Gathering) or not _is_other(entry, file.entry):
            return super().begin_again(work, entry)
        if isinstance(file.handle, PartialFile):
            gathering.keep_tail(file)
            self.let_go(file)
            self._set_aside(gathering.wanted)
        if self.last_survey:
            return super().begin_again(work, entry)
        self.plan.settle_file(file, done=False)
        self._put_off(file.entry.path)
        self.notify()
        self.show()
        return False

    def _put_off(self, path: str) -> None:
        self.wanted.pop(path, None)
        self._replaced.add(path)

    def is_whole(self, file: LargeFile, head: ChunkHead | None) -> bool:
        """As every job; and a beginning that has the digest is one, however often the file was begun."""
        if head is not None and head.status is Status.OK and head.digest == file.assembly.digest():
            return head.identity == file.entry.identity
        return super().is_whole(file, head)

    def wait_until_settled(self) -> bool:
        """Wait until all that was wanted has been dealt with; whether files were replaced meanwhile."""
        with self.changed:
            while self.plan.unsettled and not self._stopping.is_set():
                self.changed.wait(0.1)
            replaced, self._replaced = self._replaced, set()
            return bool(replaced) and not self._stopping.is_set()

    def _set_aside(self, wanted: Wanted) -> None:
        facts = wanted.place, self.catalogue.run, wanted.folder, wanted.name, wanted.device, wanted.facts.inode
        with contextlib.suppress(OSError, UnsafePath), self.mirror.open() as folder:
            self.holdings.set_aside(folder, UnfinishedRecord(*facts))

    def is_in_place(self, folder: Folder, base: Base) -> bool:
        """Whether ``base`` is all of the file that stands at its place."""
        components = folder.split(base.place)
        return folder.directory(components[:-1]).status(components[-1]).st_size == base.size

    def give_owner(self, folder: Folder, wanted: Wanted) -> None:
        """Let what is complete have its owner and group, if that is wished."""
        if self.owners is not None:
            components = folder.split(wanted.place)
            self.owners.give(folder.directory(components[:-1]), components[-1], wanted.facts)

    def set_metadata(self, folder: Folder, place: str, entry: Entry) -> None:
        """Give what stands at ``place`` the mode and time of ``entry``. Raises `OSError`."""
        handle = folder.open_file(place)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(handle, entry.mode & 0o777)
            os.utime(handle, ns=(time.time_ns(), entry.mtime_ns))
        finally:
            os.close(handle)

    def done(
        self, wanted: Wanted, asked: Entry, arrived: Entry, whole: bytes, change: str, *, steady: bool = True
    ) -> None:
        """``wanted`` is here, complete and verified, as ``arrived``."""
        facts = wanted.facts
        surveyed = asked.identity == wanted.entry.identity and arrived.size >= facts.size
        same = (arrived.mtime_ns, arrived.size, arrived.mode) == (facts.mtime_ns, facts.size, facts.mode)
        settled = steady and wanted.settled and surveyed and same
        record = FileRecord(
            wanted.name,
            facts.encode(),
            State.SETTLED if settled else State.UNSETTLED,
            wanted.own_place,
            arrived.size,
            arrived.mtime_ns,
            wanted.device,
            facts.inode,
            whole,
            None,
            self.catalogue.run,
            None,
        )
        change = change or ("new" if wanted.before is None else "changed")
        path = to_bytes(wanted.path)
        self.catalogue.record(wanted.folder, record, "" if change == "same" else change, path)
        with self.changed:
            self.counts[change] += 1
            self.wanted.pop(wanted.path, None)
            self.refused.pop(wanted.path, None)
            if change != "same":
                self.touched.add(wanted.folder)

    def take_now(self, budget: int) -> Work | None:
        """The next piece of work, unless that would be more than the limit allows now; the lock is held."""
        pace = self._pace
        if pace is None:
            return super().take_now(budget)
        if not pace.open:
            return None
        work = super().take_now(min(budget, pace.piece))
        if work is not None and not isinstance(work, (Compare, Piece)):
            pace.spend(work.size)
        return work

    # What the plan is filled with

    def want(self, wanted: Wanted) -> None:
        """Have this file brought."""
        with self.changed:
            if wanted.path in self.wanted:
                self._later[wanted.path] = wanted
                return
            self.wanted[wanted.path] = wanted
        if wanted.facts.size > CHUNK_SIZE:
            self._flush_small()
            with self.changed:
                self._add_large(wanted.entry, wanted)
                self.notify()
        else:
            (self._grown if wanted.bases else self._small).append(wanted)
            if len(self._small) + len(self._grown) >= PACK_FILES:
                self._flush_small()

    def wait_for_room(self) -> None:
        """Wait while so much is waiting to be brought that more had better not be wanted."""
        with self.changed:
            while self.plan.unsettled >= _BACKLOG and not self._stopping.is_set():
                self.changed.wait(0.1)

    def _flush_small(self) -> None:
        small, grown, self._small, self._grown = self._small, self._grown, [], []
        if not small and not grown:
            return
        with self.changed:
            self.add([wanted.entry for wanted in small])
            group: list[Wanted] = []
            size = table = 0
            for wanted in grown:
                row = 64 + 3 * len(wanted.path) + 24 * len(wanted.bases)
                if group and (size + wanted.facts.size > PACK_SIZE or table + row > _TABLE or len(group) >= PACK_FILES):
                    self.plan.add_pack(Pack(b"", len(group), size, group))
                    group, size, table = [], 0, 0
                group.append(wanted)
                size += wanted.facts.size
                table += row
            if group:
                self.plan.add_pack(Pack(b"", len(group), size, group))
            self.notify()

    def add(self, entries: list[Entry], _origin: object = None, tries: int = 0) -> None:
        """Plan these files, which are wanted, without looking for anything of them here."""
        for group in packs(entry for entry in entries if entry.size <= CHUNK_SIZE):
            table = b"".join(map(encode_file, group))
            self.plan.add_pack(Pack(table, len(group), sum(entry.size for entry in group), None, tries))
        for entry in entries:
            if entry.size > CHUNK_SIZE:
                self._add_large(entry, self.wanted[entry.path])

    def _add_large(self, entry: Entry, wanted: Wanted) -> None:
        try:
            file = LargeFile(entry, chunk_size_for(entry.size), Gathering(wanted), wanted.known)
        except RemoteProtocolError:
            self.skip(entry.path, "it is too large to be moved")
        else:
            self.plan.add_file(file)

    def settle_pack(self, pack: Pack, done: int, size: int, again: list[Entry], skipped: list[Skipped]) -> None:
        """``done`` files of ``pack`` are complete; those in ``again`` are moved again, unless that was tried enough."""
        for path, reason in skipped:
            self.skip(path, reason)
        if not self.last_survey:
            for other in [entry for entry in again if _is_other(entry, self.wanted[entry.path].entry)]:
                again.remove(other)
                self._put_off(other.path)
        if pack.tries + 1 >= _TRIES:
            for entry in again:
                self.skip(entry.path, "it arrived damaged several times")
            again = []
        self.add(again, tries=pack.tries + 1)
        self.plan.chunks_again += len(again)
        self.plan.settle_pack(pack, done, size)
        self.notify()
        self.show()

    def skip(self, path: str, reason: str) -> None:
        """``path`` is not backed up; what has gone since the survey is no loss."""
        with self.changed:
            wanted = self.wanted.pop(path, None)
            if reason != _VANISHED:
                self.refused[path] = reason
                self.refused_places |= {wanted.place} if wanted is not None else set()

    def let_go(self, file: LargeFile) -> None:
        """What was gathered of ``file`` stays beside its place; the next try begins with it."""
        self._open_files.discard(file)
        if isinstance(file.handle, PartialFile):
            file.handle.release()
        file.handle = None
        if isinstance(file.origin, Gathering):
            file.origin.close()
        file.known = file.entry.size

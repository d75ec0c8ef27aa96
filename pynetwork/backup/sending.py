"""What a restore still has to send, and its lanes: of each file only what is not at the gateway."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from handshakes.chunks import TRIES, Compare, LargeFile, Pack, Piece, Run, Seal, Work
from handshakes.deltas import decode_sums
from handshakes.errors import RemoteProtocolError
from handshakes.manifest import (
    CHUNK_SIZE,
    DIGEST_SIZE,
    PACK_FILES,
    Entry,
    Skipped,
    chunk_size_for,
    decode_page,
    encode_file,
    packs,
)
from handshakes.messages import Bytes, Message
from handshakes.paths import from_bytes
from handshakes.survey import Facts, FileRow, FolderRow, LinkRow, read_rows
from handshakes.transfer import Code, PutHead, Receipt, Status, decode_receipt
from pynetwork.backup.plan import Pace
from pynetwork.backup.source import Source
from pynetwork.client import CallerOperation
from pynetwork.files.conversation import Conversation
from pynetwork.files.folders import Folder
from pynetwork.files.jobs import DAMAGED, Asked, Carrier
from pynetwork.files.progress import Progress
from pynetwork.files.reading import Reader, RowFields
from pynetwork.files.uploads import Upload, UploadLane
from pynetwork.pacing import Bottleneck

__all__ = ["RestoreLane", "RestoreOptions", "RestorePlan", "Wanted"]

_BACKLOG: Final = 64
_NOTHING: Final = bytes(DIGEST_SIZE)
_ROWS_SIZE: Final = 16 << 10
_DATA: Final = frozenset([Code.CHUNK, Code.PACK])
_ROTTEN: Final = "it is not what was backed up; pynetwork verify tells more"


@dataclass(frozen=True)
class RestoreOptions:
    """How a restore is made; see `pynetwork.Controller.restore`. ``limit`` in bytes a second."""

    checksum: bool = False
    include_gone: bool = False
    durable: bool = True
    dry_run: bool = False
    low_priority: bool = False
    limit: float | None = None
    chosen: Callable[[str, Facts], bool] | None = None


@dataclass(slots=True)
class Wanted:
    """A file, or link, that is not at the gateway as it is to be. ``entry``: as it is sent, by its path there;
    ``place``: where it stands here; ``digest``: which it must have, if that is known; ``alike``: what is there has its
    size, so that perhaps only mode and time differ; ``moved``: some of its data was sent; ``rotten``: it has another
    digest.
    """

    entry: Entry
    place: str
    digest: bytes | None
    new: bool
    alike: bool
    moved: bool = False
    rotten: bool = False


class _Kind:
    """What a pack brings, other than small files."""

    HELD: Final = "held"
    """Small files with their digests: are they there already?"""
    ROWS: Final = "rows"
    """Folders, links and modes."""


class RestorePlan(Upload):
    """What one run of a restore of ``source`` into the gateway's folder ``dirname`` still has to send, and has sent."""

    name = "restore"

    def __init__(
        self,
        source: Source,
        dirname: str,
        options: RestoreOptions,
        *,
        lanes: int,
        progress: bool | Progress | None = None,
    ) -> None:
        super().__init__([], dirname, lanes=lanes, durable=False, progress=progress, chunk_size=None)
        self.source = source
        self.options = options
        self.bottleneck = Bottleneck() if options.low_priority else None
        self.wanted: dict[str, Wanted] = {}
        self.done: dict[str, int] = dict.fromkeys(("new", "changed", "same"), 0)
        self.sent = 0
        self.arranged = False
        self.rotten = False
        self._pace = None if options.limit is None else Pace(options.limit)
        self._small: list[Entry] = []
        self._alike: list[Entry] = []
        self._rows: list[bytes] = []
        self._stopping = threading.Event()
        self.plan.open = True

    # What lanes need

    def prepare(self) -> Conversation:
        """Nothing: the survey fills the plan while lanes empty it."""
        yield from ()

    def opening(self) -> tuple[Any, ...]:
        """Storing so that it can be resumed, with names that other systems may not have."""
        return "files.store", self.dirname, self.token, False, {"portable": False, "keep": True}

    def make_lane(self, operation: Carrier) -> RestoreLane:
        """A lane with a folder of its own."""
        return RestoreLane(self, operation, self.source.open())

    def count_sent(self, size: int) -> None:
        """So many bytes of a message with file data were sent."""
        with self.changed:
            self.sent += size

    def take_now(self, budget: int) -> Work | None:
        """The next piece of work, unless that would be more than the limit allows now; the lock is held."""
        pace = self._pace
        if pace is None:
            return super().take_now(budget)
        if not pace.open:
            return None
        work = super().take_now(min(budget, pace.piece))
        if isinstance(work, Run) or (isinstance(work, Pack) and not work.origin):
            pace.spend(work.size)
        return work

    # What the plan is filled with

    def want(self, wanted: Wanted, known: int) -> None:
        """Have this file sent, of which the gateway may hold ``known`` bytes of a beginning; waits while much is
        waiting already.
        """
        entry = wanted.entry
        # One at a time, but without the lock: that is done for every file.
        self.wanted[entry.path] = wanted
        if entry.size > CHUNK_SIZE:
            with self.changed:
                self._add_large(entry, known)
                self.notify()
            self._wait_for_room()
        else:
            (self._alike if wanted.alike else self._small).append(entry)
            if len(self._alike) + len(self._small) >= PACK_FILES:
                self.flush()

    def _wait_for_room(self) -> None:
        with self.changed:
            while self.plan.unsettled >= _BACKLOG and not self._stopping.is_set():
                self.changed.wait(0.1)

    def arrange(self, rows: list[bytes], links: list[Wanted]) -> None:
        """Have the rows of one folder, which the first of them names, done; among them are these links."""
        with self.changed:
            self.wanted.update((link.entry.path, link) for link in links)
        for at in range(1, max(2, len(rows)), PACK_FILES):
            self._rows.append(b"".join([rows[0], *rows[at : at + PACK_FILES]]))
        if len(self._rows) >= PACK_FILES:
            self.flush()

    def flush(self) -> None:
        """Let lanes begin with what was gathered till now; waits as ``want`` does."""
        small, alike, rows = self._small, self._alike, self._rows
        self._small, self._alike, self._rows = [], [], []
        if not (small or alike or rows):
            return
        with self.changed:
            self.add(alike, _Kind.HELD)
            self.add(small)
            for page in _pages(rows):
                self.plan.add_pack(Pack(page, 0, 0, _Kind.ROWS))
            self.arranged = self.arranged or bool(rows)
            self.notify()
        self._wait_for_room()

    def add(self, entries: list[Entry], origin: object = None, tries: int = 0) -> None:
        """Plan these files, which are wanted; the lock is held."""
        for group in packs(entry for entry in entries if entry.size <= CHUNK_SIZE):
            table = b"".join(map(encode_file, group))
            self.plan.add_pack(Pack(table, len(group), sum(entry.size for entry in group), origin, tries))
        for entry in entries:
            if entry.size > CHUNK_SIZE:
                self._add_large(entry, 0)

    def _add_large(self, entry: Entry, known: int) -> None:
        try:
            file = LargeFile(entry, chunk_size_for(entry.size), self.wanted[entry.path], known)
        except RemoteProtocolError:
            self.skip(entry.path, "it is too large to be moved")
        else:
            self.plan.add_file(file)

    # What became of it; all with the lock held

    def skip(self, path: str, reason: str) -> None:
        """``path`` is not restored."""
        self.wanted.pop(path, None)
        super().skip(path, reason)

    def _done(self, path: str, *, same: bool) -> None:
        wanted = self.wanted.pop(path)
        self.done["same" if same else "new" if wanted.new else "changed"] += 1

    def settle_pack(self, pack: Pack, done: int, size: int, again: list[Entry], skipped: list[Skipped]) -> None:
        """``done`` files of ``pack`` are complete; those in ``again`` are moved again, unless that was tried enough."""
        for path, reason in skipped:
            self.skip(path, reason)
        left = {path for path, _ in skipped}.union(entry.path for entry in again)
        for entry in decode_page(pack.table).files:
            if entry.path not in left:
                self._done(entry.path, same=False)
        if pack.tries + 1 >= TRIES:
            for entry in again:
                self.skip(entry.path, DAMAGED)
            again = []
        self.add(again, tries=pack.tries + 1)
        self.plan.chunks_again += len(again)
        self._settle(pack, done, size)

    def settle_held(self, pack: Pack, there: list[Entry], missing: list[Entry]) -> None:
        """Of the files in ``pack`` these are there already; those that are ``missing`` will be sent."""
        for entry in there:
            self._done(entry.path, same=True)
        self.add(missing)
        self._settle(pack, len(there), sum(entry.size for entry in there))

    def settle_rows(self, pack: Pack, receipts: list[Receipt]) -> None:
        """What the rows in ``pack`` say was done, or not."""
        folder = b""
        for row, receipt in zip(read_rows(pack.table), receipts, strict=True):
            if isinstance(row, FolderRow):
                folder = row.path
            assert isinstance(row, (FolderRow, FileRow, LinkRow))
            path = folder if isinstance(row, FolderRow) else folder + b"/" * bool(folder) + row.name
            if receipt.status is not Status.OK:
                self.skip(from_bytes(path) or ".", receipt.reason)
            elif isinstance(row, LinkRow):
                self._done(from_bytes(path), same=False)
        self._settle(pack, 0, 0)

    def _settle(self, pack: Pack, done: int, size: int) -> None:
        self.plan.settle_pack(pack, done, size)
        self.notify()
        self.show()

    def begin_again(self, work: Run | Compare | Piece | Seal, entry: Entry) -> bool:
        """The file has changed, or the gateway has lost a part of it: what that still has is not sent again."""
        file = work.file
        file.known = entry.size
        wanted = _wanted(file)
        if (entry.size, entry.mtime_ns) != (wanted.entry.size, wanted.entry.mtime_ns):
            wanted.digest = None
        return super().begin_again(work, entry)

    def finish_file(self, file: LargeFile) -> None:
        """``file`` is complete under its name."""
        wanted = _wanted(file)
        self._done(file.entry.path, same=wanted.alike and not wanted.moved)
        super().finish_file(file)


def _wanted(file: LargeFile) -> Wanted:
    assert isinstance(file.origin, Wanted)
    return file.origin


def _pages(groups: list[bytes]) -> Iterator[bytes]:
    """Groups of rows joined to pages of bounded size."""
    page: list[bytes] = []
    size = 0
    for group in groups:
        if page and size + len(group) > _ROWS_SIZE:
            yield b"".join(page)
            page, size = [], 0
        page.append(group)
        size += len(group)
    if page:
        yield b"".join(page)


class _Metered:
    """A lane's operation that tells how many bytes leave with file data."""

    def __init__(self, operation: Carrier, count: Callable[[int], None]) -> None:
        self._operation = operation
        self._count = count

    def send(self, code: int, head: bytes = b"", *buffers: Bytes) -> None:
        """Send one message."""
        self._operation.send(code, head, *buffers)
        if code in _DATA:
            self._count(sum(map(len, buffers)))


class RestoreLane(UploadLane):
    """One lane of a restore."""

    job: RestorePlan

    def __init__(self, job: RestorePlan, operation: Carrier, folder: Folder) -> None:
        super().__init__(job, _Metered(operation, job.count_sent))
        self._folder = folder
        self._only_reader = Reader(folder, job.digests, "", job.turn)

    def close(self) -> None:
        self._only_reader.close()
        self._folder.close()

    def run(self, operation: CallerOperation) -> None:
        bottleneck = self.job.bottleneck
        with contextlib.nullcontext() if bottleneck is None else operation.giving_way(bottleneck):
            super().run(operation)

    def _reader(self, _origin: object) -> Reader:
        return self._only_reader

    def _here(self, entry: Entry) -> Entry:
        wanted = self.job.wanted.get(entry.path)
        return entry if wanted is None else entry._replace(path=wanted.place)

    # Sending

    def ask(self, work: Work) -> None:
        if isinstance(work, Compare):
            self._send_sums(work)
        elif isinstance(work, Pack) and work.origin == _Kind.HELD:
            self._send_held(work)
        elif isinstance(work, Pack) and work.origin == _Kind.ROWS:
            self.expect(work, len(work.table), len(work.table))
            self.operation.send(Code.ARRANGE, b"", work.table)
        else:
            super().ask(work)

    def _send_sums(self, compare: Compare) -> None:
        """Send the digests of these chunks: the gateway looks for them in what it has."""
        with self.job.changed:
            if compare.void:
                return
            entry = compare.file.entry
        digests = b""
        for number in range(compare.first, compare.first + compare.count):
            found = self._read_chunk(compare, entry, number)
            if found is None:
                return
            digests += found[0].digest
        put = PutHead(Status.OK, compare.generation, entry, compare.file.chunk, compare.first, _NOTHING)
        self.expect(compare, len(digests))
        self.asked[-1].digest = digests
        self.operation.send(Code.SUMS, put.encode(), digests)

    def _send_held(self, pack: Pack) -> None:
        """Send the digests of small files; of one that is not what it was when it was listed, none that could be."""
        entries = decode_page(pack.table).files
        rows, _ = self._only_reader.read_pack(map(self._here, entries))
        digests = b"".join(
            [
                row[4] if self._is_listed(entry, row) and not self._is_rotten(entry, row) else _NOTHING
                for entry, row in zip(entries, rows, strict=True)
            ]
        )
        self.expect(pack, len(digests), len(pack.table))
        self.operation.send(Code.HELD, len(pack.table).to_bytes(4, "little"), pack.table, digests)

    @staticmethod
    def _is_listed(entry: Entry, row: RowFields) -> bool:
        """Whether a file was read just as it is listed."""
        return row[:4] == (Status.OK, entry.mode, entry.size, entry.mtime_ns)

    def _is_rotten(self, entry: Entry, row: RowFields) -> bool:
        """Whether a file that looks as it was backed up is not that any more."""
        expected = self.job.wanted[entry.path].digest
        return expected is not None and row[2:4] == (entry.size, entry.mtime_ns) and row[4] != expected

    def _judge(self, entry: Entry, row: RowFields) -> RowFields:
        if row[0] == Status.OK and self._is_rotten(entry, row):
            self.job.wanted[entry.path].rotten = self.job.rotten = True
            return Status.FAILED, 0, row[2], 0, _NOTHING
        return row

    def _send_seal(self, seal: Seal) -> None:
        with self.job.changed:
            expected = _wanted(seal.file).digest
            rotten = not seal.void and expected not in {None, seal.file.assembly.digest()}
        if rotten:
            self._give_up(seal, _ROTTEN)
        else:
            super()._send_seal(seal)

    # Being answered

    def _settle(self, asked: Asked, message: Message) -> None:
        work = asked.work
        if isinstance(work, Compare):
            digests = decode_sums(asked.digest, work.count)
            receipts = decode_receipt(message.body, work.count)
            with self.job.changed:
                self._settle_sums(work, digests, receipts)
        elif isinstance(work, Pack) and work.origin == _Kind.HELD:
            self._settle_held(work, decode_receipt(message.body, work.count))
        elif isinstance(work, Pack) and work.origin == _Kind.ROWS:
            count = sum(1 for _ in read_rows(work.table))
            with self.job.changed:
                self.job.settle_rows(work, decode_receipt(message.body, count))
        else:
            super()._settle(asked, message)

    def _settle_pack(self, pack: Pack, asked: Asked, receipts: list[Receipt]) -> None:
        if self.job.rotten:
            receipts = [
                Receipt(Status.FAILED, _ROTTEN) if self.job.wanted[entry.path].rotten else receipt
                for entry, receipt in zip(decode_page(pack.table).files, receipts, strict=True)
            ]
        super()._settle_pack(pack, asked, receipts)

    def _settle_held(self, pack: Pack, receipts: list[Receipt]) -> None:
        entries = decode_page(pack.table).files
        answered = list(zip(entries, receipts, strict=True))
        with self.job.changed:
            self.job.settle_held(
                pack,
                [entry for entry, receipt in answered if receipt.status is Status.OK],
                [entry for entry, receipt in answered if receipt.status is not Status.OK],
            )

    def _settle_sums(self, compare: Compare, digests: list[bytes], receipts: list[Receipt]) -> None:
        job = self.job
        for number, (digest, receipt) in enumerate(zip(digests, receipts, strict=True), compare.first):
            if compare.void:
                return
            if receipt.status is Status.OK:
                job.chunk_arrived(compare, number, digest)
            elif receipt.status is Status.FAILED:
                job.fail_file(compare.file, receipt.reason)
            else:
                job.plan.chunk_differs(compare, number)
        job.notify()

    def _settle_chunk(self, run: Run, chunk_digest: bytes, receipt: Receipt) -> None:
        _wanted(run.file).moved = True
        super()._settle_chunk(run, chunk_digest, receipt)

    def _settle_seal(self, seal: Seal, receipt: Receipt) -> None:
        if receipt.status is Status.WAIT:
            self.job.plan.give_back(seal)
            self.job.notify()
        else:
            super()._settle_seal(seal, receipt)

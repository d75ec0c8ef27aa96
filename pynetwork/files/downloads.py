"""Bringing files of a shared folder here, over several lanes."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from handshakes.chunks import Compare, Pack, Piece, Run, Seal, Work
from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import Entry, Page, Skipped, decode_page, digest, hole_digest
from handshakes.messages import Message
from handshakes.paths import check_path, is_partial
from handshakes.transfer import (
    PAGE_WINDOW,
    ChunkHead,
    Code,
    Row,
    Status,
    Want,
    decode_rows,
    encode_names,
    reason_text,
)
from pynetwork.client import Client
from pynetwork.files.conversation import Begin, Conversation, End, Hear, Say, converse
from pynetwork.files.folders import Folder, folds_case, reason_for
from pynetwork.files.jobs import Asked, Carrier, Job, JobLane
from pynetwork.files.partials import PartialFile, TargetExists, write_file
from pynetwork.files.progress import Progress

__all__ = ["Download", "DownloadLane", "list_share", "other_entry"]

_NAMES = 256


@dataclass
class _Found:
    """What is to be brought, and what is not."""

    files: list[Entry] = field(default_factory=list)
    folders: list[Entry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class Download(Job):
    """Files of ``share``: all, those that ``pattern`` matches, or ``files``, into the folder ``to``."""

    name = "download"

    def __init__(
        self,
        share: str,
        pattern: re.Pattern[str] | None,
        files: Sequence[str] | None,
        to: str | os.PathLike[str],
        *,
        lanes: int,
        durable: bool,
        overwrite: bool,
        flat: bool,
        progress: bool | Progress | None,
        chunk_size: int | None,
    ) -> None:
        super().__init__(lanes, progress, chunk_size)
        self.share = share
        self.to = to
        self.durable = durable
        self.overwrite = overwrite
        self.flat = flat
        self._pattern = pattern
        self._files = files
        self._modes: dict[tuple[str, ...], int] = {}

    def opening(self) -> tuple[Any, ...]:
        """Fetching from the share."""
        return "files.fetch", self.share

    def make_lane(self, operation: Carrier) -> DownloadLane:
        """A lane with a folder of its own."""
        return DownloadLane(self, operation, self._open_target())

    def prepare(self) -> Conversation:
        """List the share, choose, and make the folders."""
        found = _Found()
        choose = partial(self._choose, found)
        yield from _list(self.share, choose) if self._files is None else _look_up(self.share, self._files, choose)
        with self._open_target() as folder:
            wanted = list(self._without_clashes(folder, found.files, found.skipped))
            for entry in found.folders:
                _make_folder(folder, entry.path, found.skipped)
        self.skipped += found.skipped
        self.add(wanted)

    def _choose(self, found: _Found, page: Page) -> None:
        """Add what is wanted of a page of the listing."""
        for entry in page.files:
            _check(entry.path)
        with contextlib.suppress(UnsafePath):
            self._modes.update((check_path(entry.path), entry.mode) for entry in page.folders)
        if self._pattern is not None:
            matches = self._pattern.fullmatch
            found.files += [entry for entry in page.files if matches(entry.path)]
            found.skipped += [entry for entry in page.skipped if matches(entry.path)]
        else:
            found.files += page.files
            found.skipped += page.skipped
            found.folders += [] if self.flat else page.folders

    def _open_target(self) -> Folder:
        folder = Folder(self.to, create=True)
        folder.modes = self._modes
        return folder

    def place(self, path: str) -> str:
        """Where below ``to`` the file at ``path`` in the share goes."""
        return path.rpartition("/")[2] if self.flat else path

    def _without_clashes(self, folder: Folder, entries: list[Entry], skipped: list[Skipped]) -> Iterator[Entry]:
        """Those that may be written: none twice, none that exists if it is to be kept."""
        folds = folds_case(folder)
        reason = f"another file has this name{', but for case,' if folds else ''} in the target folder"
        seen: set[str] = set()
        for entry in entries:
            place = self.place(entry.path)
            if folds or self.flat:
                name = unicodedata.normalize("NFC", place).casefold() if folds else place
                if name in seen:
                    skipped.append(Skipped(entry.path, reason))
                    continue
                seen.add(name)
            if not self.overwrite and _exists(folder, place):
                skipped.append(Skipped(entry.path, reason_for(TargetExists())))
                continue
            yield entry


def _check(path: str) -> None:
    try:
        components = check_path(path)
    except UnsafePath as error:
        raise RemoteProtocolError(f"the gateway lists what it must not: {error}") from error
    if is_partial(components[-1]):
        raise RemoteProtocolError(f"the gateway lists what it must not: {path!r} is a partial file")


def _exists(folder: Folder, path: str) -> bool:
    components = folder.split(path)
    try:
        folder.directory(components[:-1]).status(components[-1])
    except OSError:
        return False
    return True


def _make_folder(folder: Folder, path: str, skipped: list[Skipped]) -> None:
    """Make a folder that may stay empty."""
    try:
        folder.directory(folder.split(path), create=True)
    except (UnsafePath, OSError) as error:
        skipped.append(Skipped(path, reason_for(error)))


def list_share(client: Client, share: str, files: Sequence[str] | None = None) -> list[Page]:
    """What is in a shared folder, or what these ``files`` in it are. Raises as `download`."""
    pages: list[Page] = []
    converse(client, _list(share, pages.append) if files is None else _look_up(share, files, pages.append))
    return pages


def _list(share: str, take: Callable[[Page], object]) -> Conversation:
    """All that is in a share, page by page."""
    yield Begin("files.list", (share, False))
    while (message := (yield Hear())) is not None:
        take(_page(message))
        yield Say(Code.MORE)


def _look_up(share: str, names: Sequence[str], take: Callable[[Page], object]) -> Conversation:
    """The entries of these names, asked for in groups, some of them ahead of the answers."""
    groups = [names[at : at + _NAMES] for at in range(0, len(names), _NAMES)]
    asked = set(names)
    yield Begin("files.list", (share, True))
    for number in range(len(groups) + PAGE_WINDOW):
        if number < len(groups):
            yield Say(Code.NAMES, encode_names(groups[number]))
        if number >= PAGE_WINDOW:
            message = yield Hear()
            if message is None:
                raise RemoteProtocolError("the gateway did not look up all names")
            page = _page(message)
            if page.folders or any(entry.path not in asked for entry in page.files):
                raise RemoteProtocolError("the gateway lists what was not asked for")
            take(page)
    yield Say(Code.FINISH)
    yield End()


def _page(message: Message) -> Page:
    if message.code != Code.PAGE:
        raise RemoteProtocolError(f"message {message.code} came in place of a page of a listing")
    return decode_page(message.body)


class DownloadLane(JobLane):
    """One lane of a download."""

    job: Download

    def __init__(self, job: Download, operation: Carrier, folder: Folder) -> None:
        super().__init__(job, operation)
        self._folder = folder

    def close(self) -> None:
        self._folder.close()

    def local_reason(self, error: Exception) -> str:
        """Why a file can't be written here."""
        return reason_for(error)

    # Asking

    def ask(self, work: Work) -> None:
        if isinstance(work, Pack):
            self.expect(work, work.size + 512 * work.count, len(work.table))
            self.operation.send(Code.PACK, b"", work.table)
            return
        try:
            entry = self._prepare(work)
        except (UnsafePath, OSError) as error:
            self._give_up(work, self.local_reason(error))
            return
        if entry is None:
            return
        file = work.file
        if isinstance(work, Seal):
            head = Want(entry, file.chunk).encode()
            self.expect(work, 0, len(head))
            self.operation.send(Code.SEAL, head)
        elif isinstance(work, Run):
            head = Want(entry, file.chunk, work.first, work.count).encode()
            self.expect(work, work.count * file.chunk, len(head))
            self.operation.send(Code.RUN, head)

    def _prepare(self, work: Run | Compare | Piece | Seal) -> Entry | None:
        """Make the partial file, if this is the first that is heard of the file. Answers with what the file is, None
        when nobody waits for this work any more.
        """
        with self.job.changed:
            if work.void:
                return None
            if work.file.handle is None:
                entry = work.file.entry
                placed = entry._replace(path=self.job.place(entry.path))
                self.job.keep(work.file, PartialFile(self._folder, placed))
            return work.file.entry

    # Being answered

    def answered(self, asked: Asked, message: Message) -> int:
        work = asked.work
        if isinstance(work, Pack) and message.code == Code.PACK:
            self._keep_pack(work, message)
        elif isinstance(work, Seal) and message.code == Code.SEAL:
            self._seal(work, ChunkHead.decode(message.head), message)
        elif isinstance(work, Run) and message.code == Code.CHUNK:
            self._keep_chunk(work, asked.next, ChunkHead.decode(message.head), message)
            asked.next += 1
            if asked.next < work.first + work.count:
                return work.file.chunk
        else:
            raise RemoteProtocolError(f"message {message.code} does not answer what was asked")
        self.done(asked)
        return asked.cost

    def _keep_pack(self, pack: Pack, message: Message) -> None:
        entries = decode_page(pack.table).files
        rows, data = decode_rows(message.body, len(entries))
        skipped: list[Skipped] = []
        again: list[Entry] = []
        if self.job.durable:
            # Waiting for the disk is better done by all lanes at once.
            done, size = self._write_pack(entries, rows, data, again, skipped)
        else:
            with self.job.turn.taken():
                done, size = self._write_pack(entries, rows, data, again, skipped)
        with self.job.changed:
            self.job.settle_pack(pack, done, size, again, skipped)

    def _write_pack(
        self, entries: list[Entry], rows: list[Row], data: memoryview, again: list[Entry], skipped: list[Skipped]
    ) -> tuple[int, int]:
        """Write the files of a pack; answers how many are complete, and their bytes."""
        folder, durable, overwrite = self._folder, self.job.durable, self.job.overwrite
        at = size = done = 0
        for entry, (status, mode, length, mtime_ns, expected) in zip(entries, rows, strict=True):
            piece = data[at : at + length]
            at += length
            if status is Status.FAILED:
                skipped.append(Skipped(entry.path, reason_text(piece)))
            elif status is Status.CHANGED:
                again.append(other_entry(entry, piece))
            elif status is not Status.OK or length > entry.size:
                raise RemoteProtocolError(f"{length} bytes of {entry.path!r} came in place of {entry.size}")
            elif digest(piece) != expected:
                again.append(entry)
            else:
                try:
                    arrived = Entry(self.job.place(entry.path), length, mtime_ns, mode)
                    write_file(folder, arrived, piece, durable=durable, overwrite=overwrite)
                except (UnsafePath, OSError) as error:
                    skipped.append(Skipped(entry.path, reason_for(error)))
                else:
                    done += 1
                    size += length
        return done, size

    def _keep_chunk(self, run: Run, number: int, head: ChunkHead, message: Message) -> None:
        if head.number != number:
            raise RemoteProtocolError(f"chunk {head.number} came in place of chunk {number}")
        job, file = self.job, run.file
        with job.changed:
            if run.void or not self._may_go_on(run, head, message):
                return
            partial, length = file.handle, file.length(number)
        assert isinstance(partial, PartialFile)
        hole = head.status is Status.HOLE
        if len(message.body) != (0 if hole else length):
            raise RemoteProtocolError(f"chunk {number} of {length} bytes came with {len(message.body)}")
        if (hole_digest(length) if hole else digest(message.body)) != head.digest:
            with job.changed:
                job.chunk_damaged(run, number)
            return
        try:
            if hole:
                partial.write_hole(number * file.chunk, length)
            else:
                partial.write(message.body, number * file.chunk)
        except OSError as error:
            self._give_up(run, self.local_reason(error))
            return
        with job.changed:
            job.chunk_arrived(run, number, head.digest)

    def _may_go_on(self, run: Run | Compare | Piece, head: ChunkHead, message: Message) -> bool:
        """Whether a chunk has come, rather than bad news about its file. The lock is held."""
        entry = run.file.entry
        if head.status is Status.FAILED:
            self.job.fail_file(run.file, reason_text(message.body))
        elif head.status is Status.CHANGED:
            self.job.begin_again(run, head.entry(entry.path))
        elif head.status is Status.DAMAGED:
            raise RemoteProtocolError("the gateway sent a chunk that it calls damaged")
        else:
            if not head.shows(entry):
                run.file.steady = False
            return True
        return False

    def _give_up(self, work: Run | Compare | Piece | Seal, reason: str) -> None:
        with self.job.changed:
            if not work.void:
                self.job.fail_file(work.file, reason)

    def _seal(self, seal: Seal, head: ChunkHead, message: Message) -> None:
        job, file = self.job, seal.file
        with job.changed:
            if seal.void or not self._is_whole(seal, head, message):
                return
            partial, entry = file.handle, file.entry
        assert isinstance(partial, PartialFile)
        try:
            partial.complete(entry, durable=job.durable, overwrite=job.overwrite)
        except OSError as error:
            self._give_up(seal, reason_for(error))
            return
        with job.changed:
            if not seal.void:
                job.finish_file(file)

    def _is_whole(self, seal: Seal, head: ChunkHead, message: Message) -> bool:
        """Whether the file may be completed; else it is begun again or given up. The lock is held."""
        file = seal.file
        gone = head.status is Status.FAILED
        if self.job.is_whole(file, None if gone else head):
            return True
        if gone:
            self.job.fail_file(file, reason_text(message.body))
        else:
            self.job.begin_again(seal, head.entry(file.entry.path))
        return False


def other_entry(entry: Entry, data: memoryview) -> Entry:
    """The file that has the name of ``entry`` now."""
    page = decode_page(data)
    if len(page.files) != 1 or page.files[0].path != entry.path:
        raise RemoteProtocolError(f"something else came in place of {entry.path!r}")
    return page.files[0]

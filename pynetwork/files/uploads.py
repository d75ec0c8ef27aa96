"""Sending files and folders to a gateway, over several lanes."""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Sequence
from typing import Any

from handshakes.chunks import Compare, Pack, Run, Seal, Work
from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import PACK_FILES, Entry, Skipped, decode_page, encode_folder
from handshakes.messages import Message
from handshakes.transfer import ChunkHead, Code, PutHead, Receipt, Status, decode_receipt, encode_rows
from pynetwork.files.conversation import Conversation, Request
from pynetwork.files.folders import Folder, NotAFile, reason_for, walk
from pynetwork.files.jobs import Asked, Carrier, Job, JobLane
from pynetwork.files.progress import Progress
from pynetwork.files.reading import DigestCache, Reader, RowFields

__all__ = ["Upload", "UploadLane"]

_KEPT_READERS = 8
_SAME_NAME = "another file of this upload has the same name"


class Upload(Job):
    """Files and folders from ``paths`` into the gateway's folder ``dirname`` for uploads."""

    name = "upload"

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        dirname: str,
        *,
        lanes: int,
        durable: bool,
        progress: bool | Progress | None,
        chunk_size: int | None,
    ) -> None:
        super().__init__(lanes, progress, chunk_size)
        self.dirname = dirname
        self.durable = durable
        self.token = secrets.token_hex(16)
        self.digests = DigestCache()
        self._paths = [os.path.abspath(os.fspath(path)) for path in paths]

    def opening(self) -> tuple[Any, ...]:
        """Storing, under the token that makes the lanes one upload."""
        return "files.store", self.dirname, self.token, self.durable

    def make_lane(self, operation: Carrier) -> UploadLane:
        """A lane of this upload."""
        return UploadLane(self, operation)

    def prepare(self) -> Conversation:
        """Find the files and see that no two would have one name."""
        target = yield Request("files.target", (self.dirname,))
        if not isinstance(target, dict) or not isinstance(target.get("folds_case"), bool):
            raise RemoteProtocolError("the gateway does not tell what its folder for uploads is like")
        folds = target["folds_case"]
        skipped: list[Skipped] = []
        chosen: list[tuple[str, list[Entry]]] = []
        folders: list[Entry] = []
        seen: set[str] = set()
        for path in self._paths:
            origin, name = os.path.split(path)
            try:
                with Folder(origin) as folder:
                    entries = _find(folder, name, folders, skipped)
            except (OSError, UnsafePath) as error:
                reason = "no such file" if isinstance(error, FileNotFoundError) else reason_for(error)
                skipped.append(Skipped(path, reason))
                continue
            fresh = []
            for entry in entries:
                key = unicodedata.normalize("NFC", entry.path).casefold() if folds else entry.path
                if key in seen:
                    skipped.append(Skipped(os.path.join(origin, entry.path), _SAME_NAME))
                else:
                    seen.add(key)
                    fresh.append(entry)
            chosen.append((origin, fresh))
        for at in range(0, len(folders), PACK_FILES):
            page = b"".join(map(encode_folder, folders[at : at + PACK_FILES]))
            answer = yield Request("files.folders", (self.dirname, page))
            if not isinstance(answer, bytes):
                raise RemoteProtocolError("the gateway does not tell which folders it can't make")
            skipped += decode_page(answer).skipped
        self.skipped += skipped
        for origin, entries in chosen:
            self.add(entries, origin)


def _find(folder: Folder, name: str, folders: list[Entry], skipped: list[Skipped]) -> list[Entry]:
    """The files at ``name``: itself, or all that are below it, with its ``folders``."""
    try:
        return [folder.look_up(name)]
    except NotAFile as error:
        if error.kind != "folder":
            raise
    entries: list[Entry] = []
    for page in walk(folder, name):
        entries += page.files
        folders += page.folders
        skipped += page.skipped
    return entries


class UploadLane(JobLane):
    """One lane of an upload."""

    job: Upload

    def __init__(self, job: Upload, operation: Carrier) -> None:
        super().__init__(job, operation)
        self._readers: dict[str, tuple[Folder, Reader]] = {}

    def close(self) -> None:
        for folder, reader in self._readers.values():
            reader.close()
            folder.close()
        self._readers.clear()

    def _reader(self, origin: object) -> Reader:
        """Reads files below ``origin``. Raises `OSError`."""
        assert isinstance(origin, str)
        found = self._readers.get(origin)
        if found is None:
            if len(self._readers) >= _KEPT_READERS:
                self.close()
            folder = Folder(origin)
            found = self._readers[origin] = (folder, Reader(folder, self.job.digests, origin, self.job.turn))
        return found[1]

    def _here(self, entry: Entry) -> Entry:
        """What is read here for ``entry``, whose path is the one at the gateway."""
        return entry

    def _judge(self, _entry: Entry, row: RowFields) -> RowFields:
        """What is sent of a small file for which ``row`` was read."""
        return row

    # Sending

    def ask(self, work: Work) -> None:
        if isinstance(work, Pack):
            self._send_pack(work)
        elif isinstance(work, Seal):
            self._send_seal(work)
        elif isinstance(work, Run):
            self._send_run(work)

    def _send_pack(self, pack: Pack) -> None:
        self.expect(pack, pack.size + 512 * pack.count)
        entries = decode_page(pack.table).files
        try:
            rows, data = self._reader(pack.origin).read_pack(map(self._here, entries))
        except OSError as error:
            # The folder of all of them can't be opened any more.
            self._undo()
            skipped = [Skipped(entry.path, reason_for(error)) for entry in entries]
            with self.job.changed:
                self.job.settle_pack(pack, 0, 0, [], skipped)
            return
        rows = list(map(self._judge, entries, rows))
        asked = self.asked[-1]
        at = 0
        for number, row in enumerate(rows):
            if row[0] == Status.CHANGED:
                now = decode_page(data[at : at + row[2]]).files[0]
                asked.replaced[number] = now._replace(path=entries[number].path)
            asked.lengths.append(row[2])
            at += row[2]
        self.operation.send(Code.PACK, len(pack.table).to_bytes(4, "little"), pack.table, encode_rows(rows), data)

    def _undo(self) -> None:
        """What was expected last will not be asked after all."""
        self._outstanding -= self.asked.pop().cost

    def _send_run(self, run: Run) -> None:
        file = run.file
        number = run.first
        try:
            while number < run.first + run.count:
                with self.job.changed:
                    if run.void:
                        return
                    entry = file.entry
                if not self._send_chunk(run, entry, number):
                    return
                number += 1
        except BaseException:
            with self.job.changed:
                self.job.plan.give_back(Run(file, run.generation, number, run.first + run.count - number))
            raise

    def _send_chunk(self, run: Run, entry: Entry, number: int) -> bool:
        """Send one chunk; False when its file is given up or begun again."""
        found = self._read_chunk(run, entry, number)
        if found is None:
            return False
        head, data = found
        put = PutHead(head.status, run.generation, entry, run.file.chunk, number, head.digest)
        self.operation.send(Code.CHUNK, put.encode(), data)
        self.expect(Run(run.file, run.generation, number, 1), run.file.chunk)
        self.asked[-1].digest = head.digest
        return True

    def _read_chunk(self, work: Run | Compare, entry: Entry, number: int) -> tuple[ChunkHead, memoryview] | None:
        """Read one chunk; None when its file is given up or begun again."""
        job, file = self.job, work.file
        try:
            head, data = self._reader(file.origin).read_chunk(self._here(entry), file.chunk, number)
        except (OSError, UnsafePath) as error:
            self._give_up(work, reason_for(error))
            return None
        with job.changed:
            if work.void:
                return None
            if not head.shows(entry):
                file.steady = False
            if head.status is not Status.CHANGED:
                return head, data
            kept = job.begin_again(work, head.entry(entry.path))
        if not kept:
            self._drop(work)
        return None

    def _send_seal(self, seal: Seal) -> None:
        job, file = self.job, seal.file
        with job.changed:
            if seal.void:
                return
            entry = file.entry
        try:
            found = self._reader(file.origin).seal(self._here(entry), file.chunk)
        except (OSError, UnsafePath) as error:
            found, reason = None, reason_for(error)
        else:
            reason = ""
        with job.changed:
            whole = file.assembly.digest()
            matches = job.is_whole(file, found)
            kept = True
            if not matches and found is not None:
                kept = job.begin_again(seal, found.entry(entry.path))
        if matches:
            self.expect(seal, 0)
            put = PutHead(Status.OK, seal.generation, entry, file.chunk, 0, whole)
            self.operation.send(Code.SEAL, put.encode())
        elif found is None:
            self._give_up(seal, reason)
        elif not kept:
            self._drop(seal)

    def _give_up(self, work: Run | Compare | Seal, reason: str) -> None:
        with self.job.changed:
            if work.void:
                return
            self.job.fail_file(work.file, reason)
        self._drop(work)

    def _drop(self, work: Run | Compare | Seal) -> None:
        """Let the gateway forget a file that has been given up."""
        file = work.file
        self.expect(Seal(file, work.generation), 0)
        put = PutHead(Status.OK, work.generation, file.entry, file.chunk, 0, bytes(16))
        self.operation.send(Code.DROP, put.encode())

    # Being answered

    def answered(self, asked: Asked, message: Message) -> int:
        if message.code != Code.RECEIPT:
            raise RemoteProtocolError(f"message {message.code} came in place of a receipt")
        self._settle(asked, message)
        self.done(asked)
        return asked.cost

    def _settle(self, asked: Asked, message: Message) -> None:
        work = asked.work
        if isinstance(work, Pack):
            self._settle_pack(work, asked, decode_receipt(message.body, work.count))
            return
        (receipt,) = decode_receipt(message.body, 1)
        with self.job.changed:
            if work.void:
                return
            if isinstance(work, Seal):
                self._settle_seal(work, receipt)
            elif isinstance(work, Run):
                self._settle_chunk(work, asked.digest, receipt)

    def _settle_pack(self, pack: Pack, asked: Asked, receipts: list[Receipt]) -> None:
        entries = decode_page(pack.table).files
        again: list[Entry] = []
        skipped: list[Skipped] = []
        done = size = 0
        for number, (entry, receipt) in enumerate(zip(entries, receipts, strict=True)):
            if number in asked.replaced:
                again.append(asked.replaced[number])
            elif receipt.status is Status.OK:
                done += 1
                size += asked.lengths[number]
            elif receipt.status is Status.FAILED or pack.tries >= 2:
                skipped.append(Skipped(entry.path, receipt.reason))
            else:
                again.append(entry)
        with self.job.changed:
            self.job.settle_pack(pack, done, size, again, skipped)

    def _settle_chunk(self, run: Run, chunk_digest: bytes, receipt: Receipt) -> None:
        if receipt.status is Status.OK:
            self.job.chunk_arrived(run, run.first, chunk_digest)
        elif receipt.status is Status.FAILED:
            self.job.fail_file(run.file, receipt.reason)
        else:
            self.job.chunk_damaged(run, run.first)

    def _settle_seal(self, seal: Seal, receipt: Receipt) -> None:
        if receipt.status is Status.OK:
            self.job.finish_file(seal.file)
        elif receipt.status is Status.CHANGED:
            self.job.begin_again(seal, seal.file.entry)
        else:
            self.job.fail_file(seal.file, receipt.reason)

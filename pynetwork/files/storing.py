"""Uploads as the gateway stores them: what has arrived of each large file, shared by the lanes that bring it.

A transfer is known by the token that its caller drew. Its state is dropped, with its partial files, when its
last lane has ended well, when none came back within a grace period after the last was lost, when so many
others were lost after it, or when another transfer wants a target that only a lost one still holds. The partial files
of a transfer that is to be resumed stay, and the next one for the same targets asks which of their chunks are right.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from handshakes.deltas import decode_held, decode_offer
from handshakes.errors import BadRequest, Closed, RemoteProtocolError, UnsafePath
from handshakes.manifest import (
    CHUNK_SIZE,
    PACK_SIZE,
    PACK_TABLE,
    Entry,
    Skipped,
    chunk_count,
    decode_page,
    digest,
    hole_digest,
)
from handshakes.messages import Bytes, Message
from handshakes.paths import check_path
from handshakes.transfer import Code, PutHead, Receipt, Row, Status, decode_rows, reason_text
from pynetwork.files.arranging import arrange
from pynetwork.files.flushing import flush
from pynetwork.files.folders import Folder, Turn, folds_case, reason_for
from pynetwork.files.incoming import FINE, IncomingFile
from pynetwork.files.partials import PartialFile, TargetBusy, write_file
from pynetwork.files.standing import StandingFile

__all__ = ["StoringLane", "Uploads"]

_TOKEN_LIMIT = 64
_MOST_FILES = 256
_MOST_CHUNKS = 1 << 23
_MOST_SMALL_CHUNKS = 1 << 16
_MOST_ORPHANS = 16
_PRIVATE = 0o700
_TORN = Receipt(Status.DAMAGED, "its digest is wrong")
_NOT_THERE = Receipt(Status.CHANGED)
_TOO_SMALL = Receipt(Status.FAILED, "its chunks are too small for so large a file")


class _Transfer:
    """One upload: how many lanes it has, and its large files by path. ``keep``: so that it can be resumed."""

    def __init__(self, prefix: str, keep: bool) -> None:
        self.prefix = prefix
        self.keep = keep
        self.lanes = 0
        self.lock = threading.Lock()
        self.files: dict[str, IncomingFile] = {}

    def drop(self) -> None:
        """Remove every partial file, or let go of those that are kept."""
        with self.lock:
            for incoming in self.files.values():
                incoming.partial.release()
            self.files.clear()

    def drop_file(self, path: str) -> bool:
        """Give up ``path``; False when it isn't being written here."""
        with self.lock:
            incoming = self.files.get(path)
            if incoming is None or not incoming.open:
                return False
            incoming.fail("another transfer has taken its target over")
            return True


class Uploads:
    """The running uploads of one gateway, all below ``root``. ``grace`` in seconds, see the module's text."""

    def __init__(self, root: str | os.PathLike[str], grace: float) -> None:
        self._root = root
        self._grace = grace
        self.turn = Turn()
        self._lock = threading.Lock()
        self._transfers: dict[str, _Transfer] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._closed = False

    def _open_root(self, *, portable: bool = True) -> Folder:
        try:
            return Folder(self._root, create=True, portable=portable)
        except OSError as error:
            raise BadRequest(f"the folder for uploads can't be opened: {reason_for(error)}") from error

    def folds_case(self, dirname: str) -> bool:
        """Whether names in the folder ``dirname`` (made if need be) that differ in case only are one name."""
        _prefix(dirname)
        with self._open_root() as folder:
            try:
                return folds_case(folder, dirname)
            except OSError as error:
                raise BadRequest(f"the folder {dirname!r} can't be made: {reason_for(error)}") from error

    def open_target(self, dirname: str) -> tuple[Folder, tuple[str, ...]] | None:
        """The folder for uploads with names as they are, for the caller to close, and where in it ``dirname`` is; None
        when that is not there.
        """
        _prefix(dirname)
        folder = None
        try:
            folder = Folder(self._root, portable=False)
            components = folder.split(dirname) if dirname else ()
            folder.directory(components)
        except OSError as error:
            if folder is not None:
                folder.close()
            if isinstance(error, FileNotFoundError):
                return None
            raise BadRequest(f"the folder {dirname!r} can't be opened: {reason_for(error)}") from error
        return folder, components

    def flush(self) -> None:
        """Wait until everything that was uploaded is on the disk. Raises `OSError`."""
        flush(self._root)

    def make_folders(self, dirname: str, entries: list[Entry]) -> list[Skipped]:
        """Make these folders below ``dirname``; answers with those that can't be made."""
        prefix = _prefix(dirname)
        skipped = []
        with self._open_root() as folder:
            for entry in entries:
                try:
                    components = folder.split(prefix + entry.path)
                    folder.modes = {components: entry.mode}
                    folder.directory(components, create=True)
                except (UnsafePath, OSError) as error:
                    skipped.append(Skipped(entry.path, reason_for(error)))
        return skipped

    def check_room(self, chunks: int) -> None:
        """Raise `RemoteProtocolError` when another file of so many chunks would be more than anybody needs at
        once. What lost transfers hold is given up first.
        """
        while True:
            with self._lock:
                transfers = list(self._transfers.values())
            files = [incoming for transfer in transfers for incoming in list(transfer.files.values()) if incoming.open]
            if len(files) < _MOST_FILES and sum(file.assembly.count for file in files) + chunks <= _MOST_CHUNKS:
                return
            if not self._give_up_orphans(0, 1):
                raise RemoteProtocolError(
                    f"{len(files)} large files are open already, with too many chunks for another"
                )

    def _give_up_orphans(self, keep: int, most: int) -> bool:
        """Give up to ``most`` lost transfers up, the oldest first, so that ``keep`` stay. False when none had to go."""
        gone: list[tuple[threading.Timer, _Transfer]] = []
        with self._lock:
            while len(self._timers) > keep and len(gone) < most:
                token = next(iter(self._timers))
                gone.append((self._timers.pop(token), self._transfers.pop(token)))
        for timer, transfer in gone:
            timer.cancel()
            transfer.drop()
        return bool(gone)

    @contextmanager
    def join(
        self, dirname: str, token: str, durable: bool, *, portable: bool = True, keep: bool = False
    ) -> Iterator[StoringLane]:
        """One lane of the transfer ``token``. Raises `BadRequest` for a folder that can't be, `Closed` when
        all has ended.

        With ``keep`` what is unfinished stays for a later transfer to go on with, and new folders are nobody else's
        until they are arranged; without ``portable`` names may be such that other systems can't have them.
        """
        prefix = _prefix(dirname)
        if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_LIMIT:
            raise BadRequest(f"an upload needs a token of 1 to {_TOKEN_LIMIT} characters")
        with self._open_root(portable=portable) as folder:
            if keep:
                folder.mode = _PRIVATE
            transfer = self._enter(token, prefix, keep)
            lane = StoringLane(self, transfer, folder, durable=bool(durable))
            try:
                yield lane
            finally:
                self._leave(token, transfer, keep=not lane.finished)

    def _enter(self, token: str, prefix: str, keep: bool) -> _Transfer:
        with self._lock:
            if self._closed:
                raise Closed("this gateway has stopped")
            transfer = self._transfers.setdefault(token, _Transfer(prefix, keep))
            if (transfer.prefix, transfer.keep) != (prefix, keep):
                raise BadRequest("this upload's token belongs to an upload into another folder")
            transfer.lanes += 1
            timer = self._timers.pop(token, None)
        if timer is not None:
            timer.cancel()
        return transfer

    def _leave(self, token: str, transfer: _Transfer, *, keep: bool) -> None:
        with self._lock:
            transfer.lanes -= 1
            if transfer.lanes:
                return
            if keep and not self._closed and any(incoming.open for incoming in transfer.files.values()):
                keep = self._start_timer(token, transfer)
            else:
                keep = False
            if not keep:
                self._transfers.pop(token, None)
        if keep:
            self._give_up_orphans(_MOST_ORPHANS, 1)
        else:
            transfer.drop()

    def _start_timer(self, token: str, transfer: _Transfer) -> bool:
        """Let a lost transfer end after the grace period; False when there can't be another thread."""
        timer = threading.Timer(self._grace, self._expire, (token, transfer))
        timer.name = "orphaned upload"
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return False
        self._timers[token] = timer
        return True

    def _expire(self, token: str, transfer: _Transfer) -> None:
        with self._lock:
            if transfer.lanes or self._transfers.get(token) is not transfer:
                return
            del self._transfers[token]
            self._timers.pop(token, None)
        transfer.drop()

    def free_target(self, path: str) -> bool:
        """Take ``path`` from a transfer that has no lane left; False when none holds it."""
        with self._lock:
            lost = [transfer for transfer in self._transfers.values() if not transfer.lanes]
        return any(transfer.drop_file(path) for transfer in lost)

    def close(self) -> None:
        """Give every unfinished upload up."""
        with self._lock:
            self._closed = True
            transfers = list(self._transfers.values())
            timers = list(self._timers.values())
            self._transfers.clear()
            self._timers.clear()
        for timer in timers:
            timer.cancel()
        for transfer in transfers:
            transfer.drop()
        for timer in timers:
            timer.join()


def _prefix(dirname: str) -> str:
    if not isinstance(dirname, str):
        raise BadRequest("an upload needs the name of a folder, which may be empty")
    if not dirname:
        return ""
    try:
        check_path(dirname)
    except UnsafePath as error:
        raise BadRequest(str(error)) from error
    return dirname + "/"


class StoringLane:
    """One lane of an upload, on its handler's thread."""

    def __init__(self, uploads: Uploads, transfer: _Transfer, folder: Folder, *, durable: bool) -> None:
        self.finished = False
        self._uploads = uploads
        self._transfer = transfer
        self._folder = folder
        self._durable = durable

    def keep(self, message: Message) -> list[Receipt]:
        """Store what a message brings. Raises `RemoteProtocolError` for one that makes no sense."""
        if message.code == Code.PACK:
            return self._keep_pack(message.head, message.body)
        if message.code == Code.HELD:
            return self._look_up(decode_held(message.head, message.body))
        if message.code == Code.ARRANGE:
            return arrange(self._folder, self._transfer.prefix, message.body)
        if message.code in (Code.CHUNK, Code.SUMS, Code.SEAL, Code.DROP):
            return self._keep_part(message)
        raise RemoteProtocolError(f"message {message.code} is no part of storing files")

    def _keep_part(self, message: Message) -> list[Receipt]:
        """Store what a message brings of a large file."""
        head = PutHead.decode(message.head)
        if head.chunk < CHUNK_SIZE and chunk_count(head.entry.size, head.chunk) > _MOST_SMALL_CHUNKS:
            return [_TOO_SMALL]
        path = self._transfer.prefix + head.entry.path
        digests = decode_offer(head, message.body) if message.code == Code.SUMS else []
        try:
            self._folder.split(path)
            if message.code == Code.CHUNK:
                return [self._keep_chunk(path, head, message.body)]
            if message.code == Code.SUMS:
                return self._compare(path, head, digests)
            if message.code == Code.SEAL:
                return [self._seal(path, head)]
        except (UnsafePath, OSError) as error:
            return [Receipt(Status.FAILED, reason_for(error))] * (len(digests) or 1)
        return [self._drop(path, head)]

    # Small files

    def _keep_pack(self, head: bytes, body: Bytes) -> list[Receipt]:
        size = int.from_bytes(head, "little")
        entries = decode_page(memoryview(body)[:size]).files if size <= min(PACK_TABLE, len(body)) else []
        rows, data = decode_rows(memoryview(body)[size:], len(entries))
        if self._durable:
            # Waiting for the disk is better done by all lanes at once.
            return self._write_pack(entries, rows, data)
        with self._uploads.turn.taken():
            return self._write_pack(entries, rows, data)

    def _write_pack(self, entries: list[Entry], rows: list[Row], data: memoryview) -> list[Receipt]:
        receipts = []
        at = 0
        for entry, row in zip(entries, rows, strict=True):
            piece = data[at : at + row.length]
            at += row.length
            if row.status:
                receipts.append(Receipt(Status.FAILED, reason_text(piece)))
            elif digest(piece) != row.digest:
                receipts.append(_TORN)
            else:
                receipts.append(
                    self._keep_small(
                        Entry(self._transfer.prefix + entry.path, row.length, row.mtime_ns, row.mode), piece
                    )
                )
        return receipts

    def _keep_small(self, entry: Entry, data: memoryview) -> Receipt:
        try:
            write_file(self._folder, entry, data, durable=self._durable)
        except TargetBusy as error:
            # It may be this very transfer's lost lane that is still at it: then a second try will do.
            self._uploads.free_target(entry.path)
            return Receipt(Status.CHANGED, reason_for(error))
        except (UnsafePath, OSError) as error:
            return Receipt(Status.FAILED, reason_for(error))
        return FINE

    def _look_up(self, files: list[tuple[Entry, bytes]]) -> list[Receipt]:
        """Which of these small files are here with just these contents? Those get their mode and time."""
        view = memoryview(bytearray(PACK_SIZE))
        with self._uploads.turn.taken():
            return [FINE if self._stands(entry, each, view[: entry.size]) else _NOT_THERE for entry, each in files]

    def _stands(self, entry: Entry, expected: bytes, view: memoryview) -> bool:
        try:
            with StandingFile(self._folder, self._transfer.prefix + entry.path) as standing:
                if standing.size != entry.size or standing.read_into(view, 0) < entry.size or digest(view) != expected:
                    return False
                standing.dress(entry, durable=self._durable)
        except (UnsafePath, OSError):
            # Should that matter, it will be said when the file is sent.
            return False
        return True

    # Large files

    def _compare(self, path: str, head: PutHead, digests: list[bytes]) -> list[Receipt]:
        incoming = self._incoming(path, head)
        if incoming is None or incoming.done is not None:
            return [FINE] * len(digests)
        return incoming.compare(self._folder, head.number, digests)

    def _keep_chunk(self, path: str, head: PutHead, body: Bytes) -> Receipt:
        offset = head.number * head.chunk
        length = min(head.chunk, head.entry.size - offset)
        hole = head.status is Status.HOLE
        if len(body) != (0 if hole else length) or length <= 0:
            raise RemoteProtocolError(f"chunk {head.number} of {length} bytes came with {len(body)}")
        if (hole_digest(length) if hole else digest(body)) != head.digest:
            return _TORN
        incoming = self._incoming(path, head)
        return FINE if incoming is None else incoming.write(head.number, body, head.digest, hole=hole)

    def _incoming(self, path: str, head: PutHead) -> IncomingFile | None:
        """The file that ``head`` speaks of; None when its caller has begun it anew since."""
        with self._transfer.lock:
            incoming = self._transfer.files.get(path)
            if incoming is not None and incoming.head.generation == head.generation:
                if not incoming.fits(head):
                    raise RemoteProtocolError(f"chunks of different files came for {path!r}")
                return incoming
            if incoming is not None and incoming.head.generation > head.generation:
                return None
            if incoming is not None:
                incoming.partial.release()
            else:
                self._uploads.check_room(chunk_count(head.entry.size, head.chunk))
            incoming = IncomingFile(path, head, self._begin(path, head.entry), self._transfer.lock)
            self._transfer.files[path] = incoming
            return incoming

    def _begin(self, path: str, entry: Entry) -> PartialFile:
        full, keep = entry._replace(path=path), self._transfer.keep
        try:
            return PartialFile(self._folder, full, keep=keep)
        except TargetBusy:
            if not self._uploads.free_target(path):
                raise
            return PartialFile(self._folder, full, keep=keep)

    def _seal(self, path: str, head: PutHead) -> Receipt:
        incoming = self._incoming(path, head)
        return FINE if incoming is None else incoming.seal(self._folder, head, durable=self._durable)

    def _drop(self, path: str, head: PutHead) -> Receipt:
        with self._transfer.lock:
            incoming = self._transfer.files.get(path)
            if incoming is not None and incoming.open and incoming.head.generation <= head.generation:
                incoming.fail("its caller has dropped it", keep=False)
        return FINE

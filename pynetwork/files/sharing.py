"""The gateway's side of file operations: listing and reading shared folders, storing uploads.

Nothing is remembered about a download. Of an upload, `Uploads` keeps what has arrived of its large files, so
that several lanes can bring one file, until the last lane has gone and for a grace period after that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, fields

from handshakes.deltas import RemoveHead
from handshakes.errors import BadRequest, DeadlineExceeded, NotFound, RemoteProtocolError, UnsafePath
from handshakes.manifest import (
    Skipped,
    chunk_size_for,
    decode_page,
    encode_file,
    encode_folder,
    encode_skipped,
)
from handshakes.messages import Message, Rights
from handshakes.survey import End, encode_end
from handshakes.transfer import (
    PAGE_WINDOW,
    Code,
    Receipt,
    Status,
    decode_names,
    encode_receipt,
)
from pynetwork.files.answering import Answerer, Courtesy
from pynetwork.files.folders import Folder, Turn, entry_of, reason_for, walk
from pynetwork.files.reading import DigestCache, Reader
from pynetwork.files.storing import Uploads
from pynetwork.files.surveying import Surveyor
from pynetwork.pacing import Bottlenecks
from pynetwork.service import ServedOperation, Verb

__all__ = ["FileService"]

logger = logging.getLogger(__name__)

_PAGE_SIZE = 64 << 10
# A connection begins with some ten packets: what is in the first page can be asked for that much earlier.
_FIRST_PAGE = 8 << 10
_SHORTEST_INTERVAL = 0.02
_LONGEST_INTERVAL = 30.0
# So many times as long as a round took of the processor's time it is left alone.
_REST = 4
_NOTHING = bytes(16)


class FileService:
    """Serves the folders in ``shares`` (name to folder) and stores uploads below ``download_dir``.

    ``grace``: for how many seconds an upload whose lanes were all lost is kept, so that it can go on.
    Verbs: ``files.shares()``, ``files.list(share, named)``, ``files.survey(share, interval)``,
    ``files.fetch(share, options)``, ``files.remove(share)``, ``files.store(dirname, token, durable, options)``,
    ``files.target(dirname)``, ``files.survey_target(dirname)`` and ``files.flush()``; their messages are in
    `handshakes.transfer`, `handshakes.deltas` and `handshakes.survey`.
    """

    def __init__(
        self,
        shares: Mapping[str, str | os.PathLike[str]],
        download_dir: str | os.PathLike[str],
        *,
        grace: float = 30.0,
    ) -> None:
        self._shares = dict(shares)
        for name, where in self._shares.items():
            if not os.path.isdir(where):
                logger.warning(
                    "the shared folder %r is not there now: callers are told so until there is a folder %s", name, where
                )
        self._digests = DigestCache()
        self._turn = Turn()
        self._bottlenecks = Bottlenecks()
        self._uploads = Uploads(download_dir, grace)

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """The verbs by name."""
        return {
            "files.shares": Verb(self._list_shares, Rights.READ),
            "files.list": Verb(self._list, Rights.READ, bulk=True),
            "files.survey": Verb(self._survey, Rights.READ, bulk=True),
            "files.fetch": Verb(self._fetch, Rights.READ, bulk=True),
            "files.remove": Verb(self._remove, Rights.REMOVE, bulk=True),
            "files.store": Verb(self._store, Rights.WRITE, bulk=True),
            "files.target": Verb(self._target, Rights.WRITE),
            "files.folders": Verb(self._make_folders, Rights.WRITE),
            "files.survey_target": Verb(self._survey_target, Rights.WRITE, bulk=True),
            "files.flush": Verb(self._flush, Rights.WRITE),
        }

    def close(self) -> None:
        """Give up unfinished uploads: their partial files are removed."""
        self._uploads.close()

    # Reading

    def _list_shares(self, _operation: ServedOperation) -> list[str]:
        return list(self._shares)

    def _open_share(self, share: object, *, portable: bool = True) -> Folder:
        where = self._shares.get(share) if isinstance(share, str) else None
        if where is None:
            known = ", ".join(map(repr, self._shares)) or "none"
            raise NotFound(f"this gateway shares no folder {share!r}; it shares: {known}")
        try:
            return Folder(where, portable=portable)
        except OSError as error:
            raise NotFound(f"the shared folder {share!r} can't be opened: {reason_for(error)}") from error

    def _list(self, operation: ServedOperation, share: str, named: bool) -> None:
        with self._open_share(share) as folder:
            if named:
                _answer_names(operation, folder)
            else:
                _Window(operation).send_pages(_walked(folder))

    def _survey(self, operation: ServedOperation, share: str, interval: float | None = None) -> None:
        """All rows; with ``interval`` go on telling what changes, looking every so many seconds."""
        if interval is not None and not (
            isinstance(interval, (int, float)) and _SHORTEST_INTERVAL <= interval <= _LONGEST_INTERVAL
        ):
            raise BadRequest(f"a folder can be followed every {_SHORTEST_INTERVAL} to {_LONGEST_INTERVAL} seconds")
        with self._open_share(share, portable=False) as folder:
            surveyor = Surveyor(folder, follow=interval is not None)
            window = _Window(operation)
            if not window.send_pages(surveyor.survey()) or interval is None:
                return
            worked = 0.0
            while not window.pause(min(_LONGEST_INTERVAL, max(interval, _REST * worked))):
                began = time.thread_time()
                if not window.send_pages(surveyor.changes()):
                    return
                worked = time.thread_time() - began

    def _fetch(self, operation: ServedOperation, share: str, options: object = None) -> None:
        wishes = _Wishes.of(options)
        with self._open_share(share, portable=wishes.portable) as folder:
            reader = Reader(folder, self._digests, share, self._turn)
            bottleneck = self._bottlenecks.to(operation.peer)
            courtesy = Courtesy(operation, bottleneck, always=wishes.low_priority, ever=wishes.give_way)
            answerer = Answerer(operation, reader, courtesy, compress=wishes.compress)
            try:
                while (message := operation.receive()).code != Code.FINISH:
                    answerer.answer(message)
            finally:
                courtesy.close()
                reader.close()

    def _remove(self, operation: ServedOperation, share: str) -> None:
        with self._open_share(share, portable=False) as folder:
            while (message := operation.receive()).code != Code.FINISH:
                if message.code != Code.REMOVE:
                    raise RemoteProtocolError(f"message {message.code} is no part of removing files")
                receipt = _remove_proved(folder, RemoveHead.decode(message.head))
                operation.send(Code.RECEIPT, b"", encode_receipt([receipt]))

    # Storing

    def _target(self, _operation: ServedOperation, dirname: str) -> dict[str, bool]:
        """What the folder of an upload is like; it is made if need be."""
        return {"folds_case": self._uploads.folds_case(dirname)}

    def _make_folders(self, _operation: ServedOperation, dirname: str, page: bytes) -> bytes:
        """Make these folders, a page of them; answers with a page of those that can't be made."""
        skipped = self._uploads.make_folders(dirname, decode_page(page).folders)
        return b"".join(map(encode_skipped, skipped))

    def _survey_target(self, operation: ServedOperation, dirname: str) -> None:
        """All rows of a folder that uploads go to, with what interrupted ones have left; none when it is not there."""
        found = self._uploads.open_target(dirname)
        if found is None:
            operation.send(Code.PAGE, b"", encode_end(End(0, 0)))
            return
        folder, start = found
        with folder:
            _Window(operation).send_pages(Surveyor(folder, start=start, partials=True).survey())

    def _flush(self, _operation: ServedOperation) -> None:
        """Wait until everything that was uploaded is on the disk."""
        self._uploads.flush()

    def _store(
        self, operation: ServedOperation, dirname: str, token: str, durable: bool, options: object = None
    ) -> None:
        wishes = _Wishes.of(options)
        with self._uploads.join(dirname, token, durable, portable=wishes.portable, keep=wishes.keep) as lane:
            while True:
                message = operation.receive()
                if message.code == Code.FINISH:
                    lane.finished = True
                    return
                receipts = lane.keep(message)
                operation.recycle(message.body)
                operation.send(Code.RECEIPT, b"", encode_receipt(receipts))


@dataclass(frozen=True)
class _Wishes:
    """How a caller wants to be answered: ``portable``: only names that every system can have; ``compress``: it can
    decompress zstd; ``give_way``: what else the gateway serves goes first; ``low_priority``: whatever else is on the
    link does; ``keep``: what it could not finish storing stays, for a later try.
    """

    portable: bool = True
    compress: bool = False
    give_way: bool = False
    low_priority: bool = False
    keep: bool = False

    @classmethod
    def of(cls, options: object) -> _Wishes:
        """The wishes in a mapping; unknown ones, of later versions, are passed over. Raises `BadRequest`."""
        if options is None:
            return cls()
        names = {each.name for each in fields(cls)}
        if not isinstance(options, dict) or any(type(options[name]) is not bool for name in names & options.keys()):
            raise BadRequest("the options of fetching and storing files are a mapping of names to true or false")
        return cls(**{name: options[name] for name in names & options.keys()})


class _Window:
    """Sends pages of a listing, so many ahead of the caller's MOREs."""

    def __init__(self, operation: ServedOperation) -> None:
        self._operation = operation
        self._credit = PAGE_WINDOW

    def send_pages(self, rows: Generator[bytes, None, None]) -> bool:
        """Send these rows, joined to pages; False when the caller has had enough of them.

        They are closed, so that whoever keeps an error keeps no folder open.
        """
        with contextlib.closing(rows):
            for page in _pages(rows):
                while not self._credit:
                    if self._take(self._operation.receive()):
                        return False
                self._operation.send(Code.PAGE, b"", page)
                self._credit -= 1
        return True

    def pause(self, seconds: float) -> bool:
        """Wait for the next round; True when the caller has had enough."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(DeadlineExceeded):
                if self._take(self._operation.receive(left)):
                    return True
        return False

    def _take(self, message: Message) -> bool:
        if message.code not in (Code.MORE, Code.FINISH):
            raise RemoteProtocolError("something else than MORE came while a folder was listed")
        self._credit += message.code == Code.MORE
        if self._credit > PAGE_WINDOW:
            raise RemoteProtocolError("more pages of a listing were asked for than were sent")
        return message.code == Code.FINISH


def _pages(rows: Iterator[bytes]) -> Iterator[bytes]:
    """Rows joined to pages of bounded size."""
    page: list[bytes] = []
    size, enough = 0, _FIRST_PAGE
    for row in rows:
        page.append(row)
        size += len(row)
        if size >= enough:
            yield b"".join(page)
            page, size = [], 0
            enough = min(2 * enough, _PAGE_SIZE)
    if page:
        yield b"".join(page)


def _walked(folder: Folder) -> Generator[bytes, None, None]:
    for found in walk(folder):
        rows = [*map(encode_file, found.files), *map(encode_folder, found.folders), *map(encode_skipped, found.skipped)]
        yield b"".join(rows)


def _answer_names(operation: ServedOperation, folder: Folder) -> None:
    while True:
        message = operation.receive()
        if message.code == Code.FINISH:
            return
        if message.code != Code.NAMES:
            raise RemoteProtocolError(f"message {message.code} came in place of names of files")
        operation.send(Code.PAGE, b"", b"".join([_look_up(folder, name) for name in decode_names(message.body)]))


def _look_up(folder: Folder, name: str) -> bytes:
    try:
        return encode_file(folder.look_up(name))
    except (OSError, UnsafePath) as error:
        return encode_skipped(Skipped(name, reason_for(error)))


def _remove_proved(folder: Folder, wanted: RemoveHead) -> Receipt:
    """Remove a file that still is what its caller holds: looked at, read, and looked at again."""
    entry = wanted.entry
    # Without the digests of earlier readings: the proof is of this moment.
    reader = Reader(folder, DigestCache())
    try:
        head = reader.seal(entry, chunk_size_for(entry.size))
        if head.status is not Status.OK or not head.shows(entry):
            return Receipt(Status.CHANGED, "it has changed since it was backed up")
        if head.digest != wanted.digest:
            return Receipt(Status.DAMAGED, "its content is not what was backed up")
        *above, name = folder.split(entry.path)
        directory = folder.directory(tuple(above))
        now = entry_of(entry.path, directory.status(name))
        if (now.size, now.mtime_ns, now.identity) != (entry.size, entry.mtime_ns, entry.identity):
            return Receipt(Status.CHANGED, "it has changed since it was backed up")
        directory.remove(name)
    except (OSError, UnsafePath) as error:
        return Receipt(Status.FAILED, reason_for(error))
    finally:
        reader.close()
    logger.info("%r was removed: it is backed up", entry.path)
    return Receipt(Status.OK)

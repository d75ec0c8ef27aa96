"""A large file that arrives at the gateway: chunks that come from its caller, and chunks that are here already.

Those are in the partial file that an earlier transfer left, or in the file that has the name now. Neither is believed:
a chunk counts when it has the digest that the caller gave. What only stands in the old file is copied late, as it may
turn out that all of the new one stands there: then nothing is copied, and the old file gets its mode and time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from handshakes.chunks import Assembly
from handshakes.errors import UnsafePath
from handshakes.manifest import chunk_count, digest, hole_digest
from handshakes.messages import Bytes
from handshakes.transfer import PutHead, Receipt, Status
from pynetwork.files.folders import Folder, reason_for
from pynetwork.files.partials import PartialFile
from pynetwork.files.standing import StandingFile, Version

__all__ = ["FINE", "IncomingFile"]

FINE = Receipt(Status.OK)
_MISSING = Receipt(Status.CHANGED)
_LOST = Receipt(Status.CHANGED, "the gateway has lost a part of it")
_WAIT = Receipt(Status.WAIT)
_PATIENCE = 5.0
"""Seconds for which a caller is kept waiting while chunks are copied here."""


class IncomingFile:
    """A large file that arrives at ``path`` in the gateway's folder, over any lanes; each hands its own folder in.

    ``lock`` guards what is known of it. ``failure``: why nothing more is accepted; ``done``: its digest, once it is
    complete.
    """

    __slots__ = (
        "_clock",
        "_copying",
        "_lock",
        "_own",
        "_standing",
        "assembly",
        "done",
        "failure",
        "head",
        "partial",
        "path",
    )

    def __init__(
        self,
        path: str,
        head: PutHead,
        partial: PartialFile,
        lock: threading.Lock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.head = head
        self.partial = partial
        self.assembly = Assembly(chunk_count(head.entry.size, head.chunk))
        self.failure = ""
        self.done: bytes | None = None
        self._lock = lock
        self._clock = clock
        # Chunks that are nowhere but in the file that stands under the name, and which file that was.
        self._own: set[int] = set()
        self._standing: Version | None = None
        self._copying = False

    @property
    def open(self) -> bool:
        """Whether it still holds a partial file."""
        return not self.failure and self.done is None

    def fits(self, head: PutHead) -> bool:
        """Whether ``head`` speaks of the same file as the first one did."""
        return (head.entry, head.chunk) == (self.head.entry, self.head.chunk)

    def fail(self, reason: str, *, keep: bool = True) -> Receipt:
        """Give it up. The partial file goes, unless it is one that is kept for later transfers and ``keep`` is True."""
        self.failure = self.failure or reason
        self.assembly = Assembly(0)
        if keep:
            self.partial.release()
        else:
            self.partial.discard()
        return Receipt(Status.FAILED, self.failure)

    def length(self, index: int) -> int:
        """The bytes of chunk ``index``."""
        return min(self.head.chunk, self.head.entry.size - index * self.head.chunk)

    # Chunks

    def write(self, index: int, data: Bytes, expected: bytes, *, hole: bool) -> Receipt:
        """Chunk ``index`` has come and has this digest."""
        if self.done is not None:
            return FINE
        if self.failure:
            return Receipt(Status.FAILED, self.failure)
        offset, length = index * self.head.chunk, self.length(index)
        try:
            written = self.partial.write_hole(offset, length) if hole else self.partial.write(data, offset)
        except OSError as error:
            return self.fail(reason_for(error))
        with self._lock:
            if written and self.open:
                self.assembly.accept(index, expected)
                self._own.discard(index)
        return FINE

    def compare(self, folder: Folder, first: int, expected: Sequence[bytes]) -> list[Receipt]:
        """The chunks from ``first`` on have these digests: which are here? A receipt each, CHANGED for those that are
        not.
        """
        view = memoryview(bytearray(self.head.chunk))
        with contextlib.ExitStack() as stack:
            standing = None
            with contextlib.suppress(OSError, UnsafePath):
                standing = stack.enter_context(StandingFile(folder, self.path))
            receipts = []
            for index, each in enumerate(expected, first):
                try:
                    held = self._take(standing, index, each, view[: self.length(index)])
                except OSError as error:
                    self.fail(reason_for(error))
                receipts.append(Receipt(Status.FAILED, self.failure) if self.failure else FINE if held else _MISSING)
            return receipts

    def _take(self, standing: StandingFile | None, index: int, expected: bytes, view: memoryview) -> bool:
        """Accept chunk ``index`` if it is here. Raises `OSError` when it can't be copied."""
        offset = index * self.head.chunk
        if self.partial.had > offset and _holds(self.partial, view, offset, expected):
            return self._accept(index, expected)
        if standing is None or not _holds(standing, view, offset, expected):
            with self._lock:
                self._copying = True
            return False
        with self._lock:
            if self._standing is None:
                self._standing = standing.version
                self._copying = self._copying or standing.size != self.head.entry.size
            late = not self._copying and standing.version == self._standing
            if late and self.open and self.assembly.accept(index, expected):
                self._own.add(index)
        return late or (self._put(view, offset, expected) and self._accept(index, expected))

    def _accept(self, index: int, expected: bytes) -> bool:
        with self._lock:
            if self.open:
                self.assembly.accept(index, expected)
        return True

    def _put(self, view: memoryview, offset: int, expected: bytes) -> bool:
        """Copy a chunk that stands here into the partial file; False when that has ended meanwhile."""
        if expected == hole_digest(len(view)):
            return self.partial.write_hole(offset, len(view))
        return self.partial.write(view, offset)

    # Completion

    def seal(self, folder: Folder, head: PutHead, *, durable: bool) -> Receipt:
        """All chunks were sent, and the whole has the digest in ``head``: let it have its name."""
        with self._lock:
            receipt = self._why_not(head)
            in_place = len(self._own) == self.assembly.count
        if receipt is not None:
            return receipt
        try:
            if self._own and in_place:
                return self._dress_standing(folder, head, durable)
            receipt = self._copy_own(folder) if self._own else None
        except (OSError, UnsafePath) as error:
            return self.fail(reason_for(error))
        if receipt is not None:
            return receipt
        with self._lock:
            receipt = self._why_not(head)
            if receipt is not None:
                return receipt
            try:
                self.partial.complete(head.entry, durable=durable)
            except OSError as error:
                return self.fail(reason_for(error))
            return self._end(head)

    def _why_not(self, head: PutHead) -> Receipt | None:
        """Why it can't be completed, if so. The lock is held."""
        if self.failure:
            return Receipt(Status.FAILED, self.failure)
        if self.done is not None:
            # The lane that sealed it was lost before its receipt was read.
            return FINE
        if self.assembly.missing:
            return _LOST
        if self.assembly.digest() != head.digest:
            return self.fail("the digest of the whole file is wrong")
        return None

    def _end(self, head: PutHead) -> Receipt:
        self.done = head.digest
        self.assembly = Assembly(0)
        return FINE

    def _dress_standing(self, folder: Folder, head: PutHead, durable: bool) -> Receipt:
        """What has the name is the new file, but perhaps for mode and time."""
        with StandingFile(folder, self.path) as standing:
            if standing.version != self._standing:
                return _LOST
            standing.dress(head.entry, durable=durable)
        with self._lock:
            self.partial.discard()
            return self._end(head)

    def _copy_own(self, folder: Folder) -> Receipt | None:
        """Copy what only stands in the old file; answers with what keeps the new one from being complete."""
        until = self._clock() + _PATIENCE
        view = memoryview(bytearray(self.head.chunk))
        with StandingFile(folder, self.path) as standing:
            if standing.version != self._standing:
                return _LOST
            with self._lock:
                own = [(index, self.assembly.get(index) or b"") for index in sorted(self._own)]
            for index, expected in own:
                if self._clock() > until:
                    return _WAIT
                piece, offset = view[: self.length(index)], index * self.head.chunk
                if not _holds(standing, piece, offset, expected):
                    return _LOST
                if self._put(piece, offset, expected):
                    with self._lock:
                        self._own.discard(index)
        return None


def _holds(file: PartialFile | StandingFile, view: memoryview, offset: int, expected: bytes) -> bool:
    """Whether the bytes at ``offset``, which are read into ``view``, can be read and have this digest."""
    try:
        return file.read_into(view, offset) == len(view) and digest(view) == expected
    except OSError:
        return False

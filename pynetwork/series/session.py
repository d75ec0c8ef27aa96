"""The server's side of one TStorage connection: requests are read, the store is asked, answers are sent.

A `Session` works in the thread that calls ``serve`` and waits there for its peer and for the disk. What it may hold in
memory it takes from a `Budget` that all sessions of a server share: a put that grows goes to the store piece by piece,
a get comes from it block by block, and whoever wants more than is left waits for its turn. A peer that stands still
in the middle of a request keeps what it holds for a while, and is dropped sooner when others wait for it.

Whatever the protocol calls a failure is answered as one, and the connection ends: nothing of that request is kept.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handshakes.errors import Closed, ConnectionLost, DeadlineExceeded, PynetworkError, RemoteProtocolError
from handshakes.messages import Bytes, Rights
from handshakes.records import Block, KeyRange, joined
from handshakes.tstorage import (
    Get,
    GetAcq,
    PutBegin,
    PutEnd,
    PutRecords,
    Request,
    RequestReader,
    Status,
    acq_answer,
    failure,
    get_answer_begin,
    get_answer_end,
    put_answer,
    record_head,
    records,
)
from pynetwork.series.memory import Budget, Share
from pynetwork.service import ServedOperation
from pynetwork.transport import Deadline, Stream

if TYPE_CHECKING:
    from pynetwork.series.store import SeriesStore, Staging

__all__ = ["BOTH", "Figures", "Ledger", "RequestFailed", "Session", "check_box", "reason_of", "serve_pair", "weight"]

logger = logging.getLogger("pynetwork.series")

BOTH = Rights.READ | Rights.WRITE
"""READ to get records, WRITE to put some."""
STALL_TIMEOUT = 60.0
"""Seconds that a peer may stand still in the middle of a request."""
IDLE_CAPACITY = 16 * 1024
"""Bytes to receive into while nothing large is on its way."""
BULK_CAPACITY = 256 * 1024
_GET_MEMORY = 64 * 1024
"""Bytes that a get takes besides its blocks: what is to be sent, and what the system has not taken yet."""
_LARGE = 1024 * 1024 + 4096
"""Bytes of a record that is larger than a share; no block of several records in a store has as many."""
_STAGED = 256 * 1024
"""Bytes of a put from which on it is staged in the store."""
_BLOCK_OVERHEAD = 512
"""Bytes that a block takes besides its records, about."""
_PIECE = 64 * 1024
"""Bytes that are sent at once: so many have to be taken within `STALL_TIMEOUT`."""
_PART = 1024 * 1024
"""Bytes of records that are encoded at once."""
_FAREWELL = 1.0
_QUIET = 0.05


class RequestFailed(Exception):
    """This request can't be carried out; the text says why. It never leaves this package."""


@dataclass
class Figures:
    """What sessions have done: requests answered and failed, records put and got."""

    requests: int = 0
    failures: int = 0
    records_put: int = 0
    records_got: int = 0

    def add(self, other: Figures) -> None:
        """Add another's figures to these."""
        self.requests += other.requests
        self.failures += other.failures
        self.records_put += other.records_put
        self.records_got += other.records_got


class Ledger:
    """The figures of all sessions of a server, past and present."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._past = Figures()
        self._present: list[Figures] = []

    def open(self) -> Figures:
        """Those of a session that begins."""
        figures = Figures()
        with self._lock:
            self._present.append(figures)
        return figures

    def close(self, figures: Figures) -> None:
        """Its session has ended."""
        with self._lock:
            self._present = [each for each in self._present if each is not figures]
            self._past.add(figures)

    def total(self) -> Figures:
        """All of them together."""
        total = Figures()
        with self._lock:
            for each in (self._past, *self._present):
                total.add(each)
        return total


class _Put:
    """The records of one put: held while they are few, staged in the store when they become many."""

    def __init__(self, store: SeriesStore, turn: threading.Lock, with_acq: bool, blocks: Sequence[Block] = ()) -> None:
        self._store = store
        self._turn = turn
        self._with_acq = with_acq
        self._blocks = list(blocks)
        self._staging: Staging | None = None
        self.size = sum(map(weight, blocks))
        self.count = sum(map(len, blocks))

    def add(self, block: Block) -> None:
        """Some records more."""
        self.count += len(block)
        self.size += weight(block)
        if self._staging is None and self.size > _STAGED:
            self._staging = self._store.stage(with_acq=self._with_acq)
            for each in self._blocks:
                self._stage(self._staging, each)
            self._blocks.clear()
        if self._staging is None:
            self._blocks.append(block)
        else:
            self._stage(self._staging, block)

    def _stage(self, staging: Staging, block: Block) -> None:
        # In turn, as sorting and writing takes several times the memory that is held before.
        with self._turn:
            staging.add(block)

    def commit(self) -> tuple[int, int]:
        """Make them durable and visible; answers the span of the times that the store gave them, -1 where it did
        not.
        """
        if self._staging is not None:
            with self._turn:
                span = self._staging.commit()
            self._staging = None
        else:
            (outcome,) = self._store.put_group([(joined(self._blocks), self._with_acq)])
            if isinstance(outcome, Exception):
                raise outcome
            span = outcome
        return (-1, -1) if self._with_acq else (span[0], span[1])

    def abort(self) -> None:
        """Keep nothing of it."""
        self._blocks.clear()
        if self._staging is not None:
            self._staging.abort()
            self._staging = None


class Session:
    """Serves one connection.

    ``rights``: reading needs READ, writing WRITE. ``reader`` may hold what was received before. ``on_rest`` is told
    when the session begins (True) and ends (False) to wait for a next request.
    """

    def __init__(
        self,
        store: SeriesStore,
        stream: Stream,
        budget: Budget,
        *,
        rights: Rights = BOTH,
        reader: RequestReader | None = None,
        figures: Figures | None = None,
        on_rest: Callable[[bool], object] = lambda _resting: None,
    ) -> None:
        self.figures = figures or Figures()
        self._store = store
        self._stream = stream
        self._rights = rights
        self._reader = reader or RequestReader(IDLE_CAPACITY)
        self._budget = budget
        self._share = Share(budget.shares, stream)
        self._bulk = Share(budget.bulk, stream)
        self._large = Share(budget.large, stream)
        self._on_rest = on_rest
        self._pending: list[Bytes] = []
        self._pending_size = 0
        self._ended = False
        self._begun = False

    def serve(
        self,
        idle: float | None = None,
        *,
        first: Request | None = None,
        blocks: Sequence[Block] = (),
        owed: Bytes = b"",
    ) -> bool:
        """Answer requests until the peer ends the connection, which answers False, or asks for nothing during ``idle``
        seconds, which answers True.

        ``first``: an event that was read before, with the ``blocks`` of the put that it began; ``owed`` is to be sent
        before anything else. Raises `ConnectionLost` and `Closed`. After a failure the peer has been told, and False is
        answered.
        """
        try:
            self._pending.append(owed)
            while True:
                event = first or self._next_request(idle)
                if event is None:
                    return not self._ended
                self._answer(event, blocks)
                first, blocks = None, ()
        except (RequestFailed, RemoteProtocolError) as error:
            self.fail(str(error))
            return False
        finally:
            self._release()
            self._reader.capacity = IDLE_CAPACITY

    # Receiving

    def _next_request(self, idle: float | None) -> Request | None:
        """What the next request begins with; None when the peer has ended the connection, or stays idle."""
        self._flush()
        self._begun = False
        self._release()
        self._reader.capacity = IDLE_CAPACITY
        event = self._reader.next_event()
        if event is not None or self._reader.mid_request:
            return event or self._next_part()
        self._on_rest(True)
        try:
            if not self._receive(idle):
                self._ended = True
                return None
        except DeadlineExceeded:
            return None
        finally:
            self._on_rest(False)
        return self._next_part()

    def _next_part(self) -> Request:
        """The next event of a request of which something has come."""
        reader = self._reader
        while True:
            event = reader.next_event()
            if event is not None:
                return event
            if reader.held > self._budget.small:
                # What was received, not what is claimed to come.
                self._make_room(reader.held)
            self._wait_for_peer(time.monotonic())
            try:
                more = self._receive(STALL_TIMEOUT)
            except DeadlineExceeded as error:
                raise RequestFailed(f"it stopped in the middle for {STALL_TIMEOUT:g} s") from error
            finally:
                self._wait_for_peer(None)
            if not more:
                raise ConnectionLost(f"{self._stream.peer} ended the connection in the middle of a request")

    def _make_room(self, size: int) -> None:
        """This request holds so many bytes, and soon as many again."""
        if size > _STAGED:
            self._bulk.hold(1)
        elif not self._bulk.size:
            self._share.hold(1 << (2 * size - 1).bit_length())
        if size > _LARGE:
            self._large.hold(1)

    def _wait_for_peer(self, since: float | None) -> None:
        self._share.waiting_since = self._bulk.waiting_since = self._large.waiting_since = since

    def _release(self) -> None:
        for each in (self._share, self._bulk, self._large):
            each.release()

    def _receive(self, timeout: float | None) -> bool:
        count = self._stream.receive_into(self._reader.buffer(), timeout)
        self._reader.received(count)
        return count > 0

    # Answering

    def _answer(self, event: Request, blocks: Sequence[Block]) -> None:
        try:
            if type(event) is PutBegin:
                self._put(event.with_acq, blocks)
            elif type(event) is Get:
                self._get(event.box)
            else:
                assert type(event) is GetAcq
                self._get_acq(event.box)
        except (ConnectionLost, Closed, RemoteProtocolError, RequestFailed):
            raise
        except Exception as error:
            raise RequestFailed(reason_of(error)) from error
        self.figures.requests += 1

    def _get_acq(self, box: KeyRange) -> None:
        check_right(self._rights, Rights.READ)
        check_box(box, may_be_empty=True)
        self._send(acq_answer(Status.OK, self._store.horizon(box.max.acq)))

    def _put(self, with_acq: bool, blocks: Sequence[Block]) -> None:
        check_right(self._rights, Rights.WRITE)
        put = _Put(self._store, self._budget.turn, with_acq, blocks)
        try:
            while True:
                if put.size > _STAGED:
                    self._bulk.hold(1)
                    self._reader.capacity = BULK_CAPACITY
                elif put.size > self._budget.small:
                    self._make_room(put.size)
                event = self._next_part()
                if type(event) is PutEnd:
                    break
                assert type(event) is PutRecords
                put.add(event.block)
            first, last = put.commit()
        except BaseException:
            put.abort()
            raise
        self.figures.records_put += put.count
        self._send(put_answer(Status.OK, first, last))

    def _get(self, box: KeyRange) -> None:
        check_right(self._rights, Rights.READ)
        check_box(box)
        self._share.hold(_GET_MEMORY)
        with self._store.snapshot(box) as snapshot:
            self._send(get_answer_begin())
            try:
                for block in snapshot.blocks(admit=self._admit):
                    self._send_records(block)
            except (ConnectionLost, Closed):
                raise
            except Exception:
                self._end_early()
                raise
            self._send(get_answer_end(Status.OK, snapshot.horizon))

    def _end_early(self) -> None:
        """Records can't be had any more: if some were sent, the end tells that they are not complete."""
        if self._begun:
            self._send(get_answer_end(Status.ERROR, -1))
        else:
            self._pending.clear()

    def _admit(self, size: int) -> None:
        """A block of so many bytes is about to be loaded; on the wire it may take as many again."""
        share, needed = (self._large, 1) if size > _LARGE else (self._share, _GET_MEMORY + 2 * size)
        if share.size < needed:
            self._flush()
            share.hold(needed)

    def _send_records(self, block: Block) -> None:
        for part in _parts(block):
            if len(part) == 1 and part.nbytes > _PART:
                # One large record, sent from where it lies.
                self._send(record_head(part))
                self._send(part.payload(0))
            else:
                self._send(records(part))
        self.figures.records_got += len(block)

    # Sending

    def _send(self, data: Bytes) -> None:
        """Send it, or let it wait for more: at the latest until the next request is read."""
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        pending, self._pending, self._pending_size = self._pending, [], 0
        if not pending:
            return
        self._begun = True
        self._wait_for_peer(time.monotonic())
        try:
            for pieces in _in_pieces(pending):
                self._stream.send(pieces, STALL_TIMEOUT)
                self._wait_for_peer(time.monotonic())
        except DeadlineExceeded as error:
            raise ConnectionLost(
                f"{self._stream.peer} has read next to nothing of its answer for {STALL_TIMEOUT:g} s"
            ) from error
        finally:
            self._wait_for_peer(None)

    def fail(self, reason: str) -> None:
        """Tell the peer that its request has failed; the connection is to be closed then.

        What it still sends is read for a moment, as closing at once could take the answer away before it is read.
        """
        logger.warning("%s: a request failed: %s", self._stream.peer, reason)
        self.figures.failures += 1
        self._release()
        answer = self._pending if self._begun else [failure()]
        self._pending = []
        with contextlib.suppress(PynetworkError):
            self._stream.send(answer, _FAREWELL)
            patience, spill = Deadline(_FAREWELL), memoryview(bytearray(IDLE_CAPACITY))
            while not patience.passed and self._stream.receive_into(spill, _QUIET):
                pass


def serve_pair(operation: ServedOperation, store: SeriesStore, budget: Budget, ledger: Ledger) -> None:
    """Serve the pair of an operation that has taken it over, as far as its rights reach, until it ends."""

    def on_rest(resting: bool) -> None:
        operation.resting = resting

    figures = ledger.open()
    try:
        stream = operation.link.stream
        Session(store, stream, budget, rights=operation.rights, figures=figures, on_rest=on_rest).serve()
    finally:
        ledger.close(figures)


def check_box(box: KeyRange, *, may_be_empty: bool = False) -> None:
    """Raises `RequestFailed` for a box that can't be asked for."""
    if box.min.cid < 0 or box.max.cid < 0:
        raise RequestFailed("its box has a negative cid")
    if not may_be_empty and box.empty:
        raise RequestFailed("its box is empty")


def check_right(rights: Rights, needed: Rights) -> None:
    """Raises `RequestFailed` for a peer that was not granted what it needs."""
    if not rights & needed:
        raise RequestFailed(f"it needs the right {str(needed.name).lower()!r}, which its key does not grant")


def weight(block: Block) -> int:
    """Bytes of memory that a block takes, about."""
    return block.nbytes + _BLOCK_OVERHEAD


def reason_of(error: Exception) -> str:
    """Why it could not be done, for people; what nobody expected is logged with its traceback."""
    if not isinstance(error, (OSError, PynetworkError)):
        logger.error("the store failed", exc_info=error)
    return str(error)


def _parts(block: Block) -> Iterator[Block]:
    """The block in pieces of which each makes about as much as is sent at once, or is one record."""
    count = max(1, len(block) * _PART // max(1, block.nbytes))
    if count >= len(block):
        yield block
        return
    for begin in range(0, len(block), count):
        yield block.take(slice(begin, begin + count))


def _in_pieces(buffers: list[Bytes]) -> Iterator[list[Bytes]]:
    """The buffers, so many at a time as are sent at once, large ones cut."""
    together: list[Bytes] = []
    size = 0
    for buffer in buffers:
        if size and size + len(buffer) > _PIECE:
            yield together
            together, size = [], 0
        rest = memoryview(buffer)
        while len(rest) > _PIECE:
            yield [rest[:_PIECE]]
            rest = rest[_PIECE:]
        together.append(rest)
        size += len(rest)
    if together:
        yield together

"""The memory that the requests of one server share."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from handshakes.errors import Closed, DeadlineExceeded
from pynetwork.transport import Deadline, Stream

__all__ = ["Budget", "Memory", "Share"]

logger = logging.getLogger("pynetwork.series")

PATIENCE = 60.0
"""Seconds that a request waits for memory."""
HURRIED_TIMEOUT = 5.0
"""Seconds that a peer may stand still in the middle of a request while others wait for the memory that it holds."""
LARGEST_SMALL = 48 * 1024
"""Bytes that a put may have, at most, without a share."""
BULK_PUT = 6 * 1024 * 1024
"""Bytes that a put holds which goes to the store piece by piece: most of it until it makes some blocks there."""
_LOOK = 0.25


class Memory:
    """``size`` bytes that the requests of one server may hold together. Who wants more than is left waits in turn."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = size
        self._queue: deque[object] = deque()
        self._shares: set[Share] = set()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def in_use(self) -> int:
        """Bytes that somebody holds."""
        return self.size - self._left

    def take(self, share: Share, size: int) -> None:
        """Give ``share`` so many bytes, in place of what it held. Raises `Closed` and `DeadlineExceeded`."""
        ticket = object()
        deadline = Deadline(PATIENCE)
        with self._changed:
            self._release(share)
            self._queue.append(ticket)
            try:
                while not self._closed and (self._queue[0] is not ticket or self._left < size):
                    if deadline.passed:
                        raise DeadlineExceeded("all memory for requests is in use; try again, or raise memory=")
                    self._changed.wait(_LOOK)
                    self._drop_stalled()
                if self._closed:
                    raise Closed("the server has stopped")
                self._left -= size
                share.size = size
                self._shares.add(share)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def release(self, share: Share) -> None:
        """Take everything back from ``share``."""
        with self._changed:
            self._release(share)
            self._changed.notify_all()

    def _release(self, share: Share) -> None:
        self._left += share.size
        share.size = 0
        self._shares.discard(share)

    def _drop_stalled(self) -> None:
        """End the connections of those that hold memory and have not moved for long."""
        late = time.monotonic() - HURRIED_TIMEOUT
        for share in list(self._shares):
            if share.waiting_since is not None and share.waiting_since < late:
                logger.warning("%s: closed: it stood still while others waited for its memory", share.stream.peer)
                share.stream.shutdown()
                share.waiting_since = None

    def close(self) -> None:
        """Nobody gets anything more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Budget:
    """What one server does with ``memory`` bytes.

    ``small`` is what each of so many connections may hold without asking. ``shares`` are for gets, and for puts while
    they grow; ``bulk`` has a place for each of a few puts that go to the store piece by piece, and ``large`` one for
    requests with a record that is larger than anybody's share. Who has one kind may wait for the next, in this order.
    ``turn``: for what takes much for a moment, and is done by one at a time: the rest is for that.
    """

    def __init__(self, memory: int, connections: int) -> None:
        self.small = min(LARGEST_SMALL, memory // 4 // connections)
        self.shares = Memory(memory * 3 // 8)
        self.bulk = Memory(max(1, memory // 4 // BULK_PUT))
        self.large = Memory(1)
        self.turn = threading.Lock()

    @property
    def in_use(self) -> int:
        """Bytes that requests hold, about; without those of a large record."""
        return self.shares.in_use + self.bulk.in_use * BULK_PUT

    def close(self) -> None:
        """Nobody gets anything more."""
        for each in (self.shares, self.bulk, self.large):
            each.close()


class Share:
    """What one session holds of a `Memory`. ``waiting_since``: when it began to wait for its peer, else None."""

    __slots__ = ("_memory", "size", "stream", "waiting_since")

    def __init__(self, memory: Memory, stream: Stream) -> None:
        self._memory = memory
        self.size = 0
        self.stream = stream
        self.waiting_since: float | None = None

    def hold(self, size: int) -> None:
        """Hold at least so many bytes, or all that there are. Raises as `Memory.take`."""
        size = min(size, self._memory.size)
        if size > self.size:
            self._memory.take(self, size)

    def release(self) -> None:
        """Hold nothing more."""
        if self.size:
            self._memory.release(self)

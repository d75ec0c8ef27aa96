"""Sending the items of a generator as far as the caller's credit reaches.

Fast producers share frames, a lone item leaves at once, and no item waits for the next one to be produced:

- *Slow* is how every stream begins: each item is sent as soon as it is produced.
- When four items in a row were produced within 50 us each, the stream turns *fast*: items gather until a frame is
  worth sending. From then on a second thread looks every millisecond, and sends what has waited since its last look;
  when nothing was produced meanwhile either, the stream is slow again. So an item waits for two milliseconds at the
  most, whatever the generator does next.

What gathers is a plain list: the producer appends, whoever holds the link's lock takes from its front. Both are
single steps of the interpreter, so the producer needs no lock for an item. Payloads that the generator could still
change (arrays, bytearrays, JSON values) are encoded before it is resumed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from operator import index
from typing import Any

import numpy

from handshakes.errors import (
    ConnectionLost,
    OperationAborted,
    PynetworkError,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
)
from handshakes.messages import Abort, Bytes, Credit, Event, Goodbye
from handshakes.values import ARRAY, JSON, RAW, TREE, encode
from pynetwork.link import Link

__all__ = ["Outlet"]

FRAME_TARGET = 48 * 1024
"""Bytes of items that are worth a frame."""
ARRAY_FRAME_TARGET = 512 * 1024
"""The same where the items are large: they are gathered by the system, not joined."""
LARGE = 64 * 1024
"""An item of so many bytes is sent at once, from the memory where it lies."""
_ITEM_OVERHEAD = 16
_FRAME_OVERHEAD = 64
_LINGER = 0.001
_QUICK = 50e-6
_QUICK_ITEMS = 4


class Outlet:
    """The sending end of one stream."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._connection = link.connection
        self._pending: list[tuple[int, Bytes]] = []
        self._form = RAW
        self._head = b""
        self._alike: tuple[Any, Any] | None = None
        self._target = FRAME_TARGET
        # Bytes that may gather before they are sent: 0 while the stream is slow.
        self._room = 0
        self._sends = 0
        self._failure: BaseException | None = None
        self._ticker: threading.Thread | None = None
        self._armed = threading.Event()
        self._ended = threading.Event()

    def send_all(self, source: Iterator[Any]) -> int:
        """Send every item of ``source``; answers how many. What the source raises comes out after its items are sent.

        Raises `OperationAborted` or `ConnectionLost` when the caller has left, and `ValueNotSupported` for an item that
        can't be encoded.
        """
        try:
            try:
                count = self._gather(source)
            except BaseException as error:
                if isinstance(error, PynetworkError) and not isinstance(error, (ValueNotSupported, ValueTooLarge)):
                    raise  # the pair is done for, or the caller has left
                # The items before it arrive before the error does.
                self._flush()
                raise
            self._flush()
            return count
        finally:
            self._end()

    def _gather(self, source: Iterator[Any]) -> int:
        """The producing loop. Its first branch is the hot one: a million small items a second pass through it."""
        append = self._pending.append
        large, overhead = LARGE, _ITEM_OVERHEAD
        count = size = quick = 0
        sent = 0.0
        raw = True
        for item in source:
            if type(item) is not tuple or len(item) != 2 or type(item[0]) is not int:
                item = _numbered(item, count)
            ident, payload = item
            if raw and type(payload) is bytes and ident >= 0 and len(payload) < large:
                append(item)
                size += len(payload) + overhead
            elif payload is None or ident < 0:
                break
            else:
                size += self._append_encoded(ident, payload)
                raw = self._form == RAW
            count += 1
            if size < self._room:
                continue
            if not self._room:
                quick = quick + 1 if time.perf_counter() - sent < _QUICK else 0
            self._flush()
            size = 0
            if not self._room:
                sent = time.perf_counter()
                if quick >= _QUICK_ITEMS:
                    quick = 0
                    self._hurry()
        return count

    def _append_encoded(self, ident: int, payload: Any) -> int:
        """Encode and append an item; answers what it counts for, which is enough to flush a large one at once."""
        if (
            self._alike is not None
            and type(payload) is numpy.ndarray
            and self._alike == (payload.dtype, payload.shape)
            and payload.flags.c_contiguous
        ):
            data = payload.tobytes()
            self._pending.append((ident, data))
            return len(data) + _ITEM_OVERHEAD
        form, head, buffers, size = encode(payload, self._connection.registry)
        if size > self._connection.send_limit - _FRAME_OVERHEAD:
            raise ValueTooLarge(
                f"item {ident} has {size} bytes, the caller accepts {self._connection.send_limit} at once; "
                "yield it in parts, or raise limit= of the controller"
            )
        if form != self._form or head != self._head or form == TREE or size >= LARGE:
            self._flush()
            self._form, self._head = form, head
            self._alike = None
        memory: Bytes = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        if size < LARGE:
            # orjson leaves a text at the end of a kilobyte that it has to give back; while texts gather, each then
            # costs 2 us for new memory. A copy (here with a blank, which JSON allows) makes room at once: 0.2 us.
            memory = bytes(memory) + b" " if form == JSON else bytes(memory)
            if form == ARRAY and payload.flags.c_contiguous:
                self._alike = (payload.dtype, payload.shape)
        self._aim(ARRAY_FRAME_TARGET if size > 2048 else FRAME_TARGET)
        self._pending.append((ident, memory))
        return self._target if size >= LARGE or form == TREE else size + _ITEM_OVERHEAD

    def _aim(self, target: int) -> None:
        """Let so many bytes gather, where they gather at all."""
        if target != self._target:
            self._target = target
            if self._room:
                self._room = target
                # The other thread may just have turned the stream slow, and gone to rest.
                self._armed.set()

    # Sending

    def _flush(self) -> None:
        """Send what is pending, waiting for credit as long as it takes."""
        with self._link.lock:
            if self._failure is not None:
                raise self._failure
            self._send_pending()
            while self._pending:
                self._note(self._link.next_event())
                self._send_pending()

    def _send_pending(self) -> None:
        """Send as much as the credit reaches for, and hear what the caller says. The lock is held.

        First the sending: a lone item should not wait for a look at the socket.
        """
        heard = True
        while heard and self._pending:
            self._spend_credit()
            heard = False
            while (event := self._link.poll_event()) is not None:
                self._note(event)
                heard = True

    def _spend_credit(self) -> None:
        pending, connection = self._pending, self._connection
        reach = min(len(pending), connection.credit_items)
        while reach and connection.credit_size > 0:
            batch = pending[:reach]
            # Not zip(*batch), which makes an iterator for each item: 130 ns an item, this is 50.
            idents, payloads = [ident for ident, _ in batch], [payload for _, payload in batch]
            try:
                buffers = connection.items(self._form, self._head, idents, payloads)
            except (ValueNotSupported, ValueTooLarge):
                if reach == 1:
                    raise
                # Together they are too much for the caller, or one of them is wrong: those before it still go.
                reach //= 2
                continue
            del pending[:reach]
            self._link.send(buffers)
            self._sends += 1
            reach = min(len(pending), connection.credit_items)

    @staticmethod
    def _note(event: Event) -> None:
        if type(event) is Abort:
            raise OperationAborted("the caller left the stream")
        if type(event) is Goodbye:
            raise ConnectionLost("the caller said goodbye in the middle of a stream")
        if type(event) is not Credit:
            raise RemoteProtocolError(f"{type(event).__name__} is no part of a stream")

    # The second thread of a fast stream

    def _hurry(self) -> None:
        self._room = self._target
        if self._ticker is None:
            self._ticker = threading.Thread(
                target=self._tick, name=threading.current_thread().name + " outlet", daemon=True
            )
            self._ticker.start()
        self._armed.set()

    def _tick(self) -> None:
        sends_seen, pending_seen = -1, 0
        while not self._ended.is_set():
            self._armed.wait()
            self._ended.wait(_LINGER)
            pending = len(self._pending)
            if self._sends == sends_seen:
                if pending == pending_seen:
                    # The generator stands still. Slow first, then send: what was appended while "fast" was still seen
                    # is sent here, what comes later is sent by the producer itself.
                    self._room = 0
                if self._pending:
                    self._send_from_ticker()
            sends_seen, pending_seen = self._sends, len(self._pending)
            if not self._room and not self._pending:
                self._rest()

    def _rest(self) -> None:
        """Look no more until the stream is fast again."""
        self._armed.clear()
        if self._room or self._ended.is_set():
            self._armed.set()

    def _send_from_ticker(self) -> None:
        if not self._link.lock.acquire(blocking=False):
            return
        try:
            if self._failure is None:
                self._send_pending()
        except PynetworkError as error:
            # The producer learns of it at its next item.
            self._failure = error
            self._pending.clear()
        finally:
            self._link.lock.release()

    def _end(self) -> None:
        self._ended.set()
        self._armed.set()
        if self._ticker is not None:
            self._ticker.join()


def _numbered(item: Any, count: int) -> tuple[int, Any]:
    """``(ident, payload)`` of what a generator yielded, where that is not plainly so already."""
    if type(item) is tuple and len(item) == 2 and not isinstance(item[0], (bool, float, str)):
        try:
            return index(item[0]), item[1]
        except TypeError:
            pass
    return count, item

"""Sending the items of a generator as far as the caller's credit reaches.

Fast producers share frames, a lone item leaves at once, and no item waits for the next one to be produced:

- *Slow* is how every stream begins: each item is sent as soon as it is produced.
- When four items in a row were produced within 50 us each, the stream turns *fast*: items gather until a frame is
  worth sending. From then on a second thread looks every millisecond, and sends what has waited since its last look;
  when nothing was produced meanwhile either, the stream is slow again. So an item waits for two milliseconds at the
  most, whatever the generator does next.

What gathers are plain lists: the producer appends, whoever holds the link's lock takes from their front. Both are
single steps of the interpreter, so the producer needs no lock for an item. How many items make a frame follows from the
size of those before, so that the producer need not add sizes up; one that is much larger begins a frame of its own.
Payloads that the generator could still change (arrays, bytearrays, JSON values) are copied or encoded before it is
resumed.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator, Sequence
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
from handshakes.values import ARRAY, JSON, RAW, TREE, Encoded, array_memory, encode
from pynetwork.link import Link
from pynetwork.service import SubroutineFailed

__all__ = ["Outlet", "numbered"]

FRAME_TARGET = 48 * 1024
"""Bytes of items that are worth a frame."""
ARRAY_FRAME_TARGET = 512 * 1024
"""The same for arrays that are not small: they lie together as they are sent, which nobody has to join."""
LARGE = 64 * 1024
"""An item of so many bytes is sent at once, from the memory where it lies."""
_ITEM_OVERHEAD = 16
_FRAME_OVERHEAD = 64
_MUCH_LARGER = 4
_LINGER = 0.001
_QUICK = 50e-6
_QUICK_ITEMS = 4


class _Block:
    """Memory where arrays that are alike are laid one after the other; those from ``first`` on wait to be sent."""

    def __init__(self, like: numpy.ndarray[Any, Any], target: int) -> None:
        self._dtype, self._shape, self._size = like.dtype, like.shape, like.nbytes
        # In one dimension there is only one order of the elements.
        self._ordered = like.ndim > 1
        self._places = max(1, target // like.nbytes)
        self._rows = numpy.empty((self._places, *like.shape), like.dtype)
        self._memory = array_memory(self._rows)
        self._next = 0
        self.first = 0

    def lay(self, payload: object) -> bool:
        """Copy it to the next place. False when it isn't one more of them, or no place is left."""
        if (
            type(payload) is not numpy.ndarray
            or payload.shape != self._shape
            or payload.dtype != self._dtype
            or self._next == self._places
            or (self._ordered and not payload.flags.c_contiguous)
        ):
            return False
        self._rows[self._next] = payload
        self._next += 1
        return True

    def memory(self, count: int) -> memoryview:
        """The bytes of the first ``count`` that wait."""
        return self._memory[self.first * self._size : (self.first + count) * self._size]

    def clear(self) -> None:
        """All have been sent: begin at the front."""
        self.first = self._next = 0


class Outlet:
    """The sending end of one stream."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._connection = link.connection
        # What waits to be sent. An item is there when its ident is, which therefore is appended last.
        self._idents: list[int] = []
        self._payloads: list[Bytes] = []
        self._block: _Block | None = None
        self._form = RAW
        self._head = b""
        self._target = FRAME_TARGET
        # With the item of this number a frame is full; 0 while the stream is slow.
        self._goal = 0
        self._quota = 1
        self._largest = LARGE - 1
        self._sent_items = self._sent_size = 0
        self._sends = 0
        self._quick = 0
        self._sent_at = 0.0
        self._error: BaseException | None = None
        self._failure: BaseException | None = None
        self._ticker: threading.Thread | None = None
        self._armed = threading.Event()
        self._ended = threading.Event()

    def send_all(self, source: Iterator[Any]) -> int:
        """Send every item of ``source``; answers how many.

        Raises `SubroutineFailed`, whose cause is what the source raised, after its items are sent; `OperationAborted`
        or `ConnectionLost` when the caller has left; `ValueNotSupported` or `ValueTooLarge` for an item that can't be
        sent.
        """
        try:
            try:
                count = self._gather(source)
            except BaseException as error:
                if error is not self._error:
                    self._flush()
                    raise SubroutineFailed from error
                if isinstance(error, (ValueNotSupported, ValueTooLarge)):
                    # The items before it arrive before the error does.
                    self._flush()
                raise
            self._flush()
            return count
        finally:
            self._end()

    def _gather(self, source: Iterator[Any]) -> int:
        """The producing loop. Its first branch is the hot one: millions of small items a second pass through it."""
        idents, payloads = self._idents, self._payloads
        number = -1
        raw, block = True, self._block
        for number, item in enumerate(source):
            if type(item) is not tuple or len(item) != 2 or type(item[0]) is not int:
                item = numbered(item, number)
            ident, payload = item
            if raw and type(payload) is bytes and ident >= 0 and len(payload) <= self._largest and number < self._goal:
                payloads.append(payload)
                idents.append(ident)
                continue
            if payload is None or ident < 0:
                return number
            if not self._goal:
                self._send_slowly(number, ident, payload)
            elif block is not None and block.lay(payload):
                idents.append(ident)
            else:
                self._append(ident, payload)
            raw, block = self._form == RAW, self._block
            if self._goal and number >= self._goal:
                self._flush()
                self._aim(number)
        return number + 1

    def _send_slowly(self, number: int, ident: int, payload: Any) -> None:
        """Send this item at once; when several came quickly, the stream turns fast."""
        self._quick = self._quick + 1 if time.perf_counter() - self._sent_at < _QUICK else 0
        if not self._send_alone(ident, payload):
            self._append(ident, payload)
            self._flush()
        self._sent_at = time.perf_counter()
        if self._quick >= _QUICK_ITEMS:
            self._quick = 0
            self._hurry(number)

    def _send_alone(self, ident: int, payload: Any) -> bool:
        """Send a small item the short way. False when it has to go the long one, with others or without."""
        if self._idents:
            return False
        form, head, buffers, size = self._encode(ident, payload)
        if size >= LARGE or form == TREE or len(buffers) > 1:
            return False
        try:
            with self._link.lock:
                self._check_ticker()
                frame = self._connection.lone_item(form, head, ident, bytes(buffers[0]))
                if frame is None:
                    return False
                self._link.send([frame])
                self._hear()
        except struct.error:
            # The long way says what is wrong with the ident.
            return False
        except BaseException as error:
            self._error = error
            raise
        return True

    def _append(self, ident: int, payload: Any) -> None:
        """An item that isn't as plain as those before: copy or encode it."""
        form, head, buffers, size = self._encode(ident, payload)
        if form != self._form or head != self._head or form == TREE or size > self._largest or self._block is not None:
            self._flush()
            self._form, self._head, self._block = form, head, None
            self._target = ARRAY_FRAME_TARGET if form == ARRAY and size > 2048 else FRAME_TARGET
        if form == ARRAY and 0 < size < LARGE and type(payload) is numpy.ndarray and payload.flags.c_contiguous:
            self._block = _Block(payload, self._target)
            self._block.lay(payload)
        else:
            self._payloads.append(_own(form, buffers, size))
        self._idents.append(ident)
        if size >= LARGE or form == TREE:
            self._flush()

    def _encode(self, ident: int, payload: Any) -> Encoded:
        try:
            encoded = encode(payload, self._connection.registry)
            self._check_size(ident, encoded[3])
        except BaseException as error:
            self._error = error
            raise
        return encoded

    def _check_size(self, ident: int, size: int) -> None:
        most = self._connection.send_limit
        if size > most - _FRAME_OVERHEAD:
            raise ValueTooLarge(
                f"item {ident} has {size} bytes, the caller accepts {most} at once; yield it in parts, or raise limit= "
                "of the controller"
            )

    # Sending

    def _flush(self) -> None:
        """Send what is pending, waiting for credit as long as it takes."""
        try:
            with self._link.lock:
                self._check_ticker()
                self._send_pending()
                while self._idents:
                    self._note(self._link.next_event())
                    self._send_pending()
                if self._block is not None:
                    self._block.clear()
        except BaseException as error:
            self._error = error
            raise

    def _check_ticker(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _send_pending(self) -> None:
        """Send as much as the credit reaches for, and hear what the caller says. The lock is held.

        First the sending: a lone item should not wait for a look at the socket.
        """
        while self._idents:
            self._spend_credit()
            if not self._hear():
                return

    def _hear(self) -> bool:
        """Take in what the caller says, without waiting; False when it says nothing."""
        heard = False
        while (event := self._link.poll_event()) is not None:
            self._note(event)
            heard = True
        return heard

    def _spend_credit(self) -> None:
        idents, payloads, block, connection = self._idents, self._payloads, self._block, self._connection
        reach = min(len(idents), connection.credit_items)
        while reach and connection.credit_size > 0:
            together: Sequence[Bytes] | memoryview = payloads[:reach] if block is None else block.memory(reach)
            credit = connection.credit_size
            try:
                buffers = connection.items(self._form, self._head, idents[:reach], together)
            except (ValueNotSupported, ValueTooLarge):
                if reach == 1:
                    raise
                # Together they are too much for the caller, or one of them is wrong: those before it still go.
                reach //= 2
                continue
            del idents[:reach]
            if block is None:
                del payloads[:reach]
            else:
                block.first += reach
            self._sent_items += reach
            self._sent_size += credit - connection.credit_size
            self._link.send(buffers)
            self._sends += 1
            reach = min(len(idents), connection.credit_items)

    @staticmethod
    def _note(event: Event) -> None:
        if type(event) is Abort:
            raise OperationAborted("the caller left the stream")
        if type(event) is Goodbye:
            raise ConnectionLost("the caller said goodbye in the middle of a stream")
        if type(event) is not Credit:
            raise RemoteProtocolError(f"{type(event).__name__} is no part of a stream")

    # The second thread of a fast stream

    def _hurry(self, number: int) -> None:
        """Let items gather from now on."""
        self._aim(number)
        if self._ticker is None:
            self._ticker = threading.Thread(
                target=self._tick, name=threading.current_thread().name + " outlet", daemon=True
            )
            self._ticker.start()

    def _aim(self, number: int) -> None:
        """Let as many items gather after this one as make a frame, by the size of those that were sent last."""
        size = self._sent_size // max(1, self._sent_items) + _ITEM_OVERHEAD
        self._sent_items = self._sent_size = 0
        self._quota = max(1, min(2 * self._quota, self._target // size))
        self._largest = min(_MUCH_LARGER * size, LARGE - 1)
        self._goal = number + self._quota
        if not self._armed.is_set():
            # Only now: the other thread looks at the goal once more before it rests.
            self._armed.set()

    def _tick(self) -> None:
        sends_seen, pending_seen = -1, 0
        while not self._ended.is_set():
            self._armed.wait()
            self._ended.wait(_LINGER)
            pending = len(self._idents)
            if self._sends == sends_seen:
                if pending == pending_seen:
                    # The generator stands still. Slow first, then send: what was appended while "fast" was still seen
                    # is sent here, what comes later is sent by the producer itself.
                    self._goal = 0
                if self._idents:
                    self._send_from_ticker()
            sends_seen, pending_seen = self._sends, len(self._idents)
            if not self._goal and not self._idents:
                self._rest()

    def _rest(self) -> None:
        """Look no more until the stream is fast again."""
        self._armed.clear()
        if self._goal or self._ended.is_set():
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
            self._idents.clear()
            self._payloads.clear()
        finally:
            self._link.lock.release()

    def _end(self) -> None:
        self._ended.set()
        self._armed.set()
        if self._ticker is not None:
            self._ticker.join()


def _own(form: int, buffers: list[Bytes], size: int) -> Bytes:
    """The memory of an encoded item, copied where the generator could still change it before it is sent."""
    memory: Bytes = buffers[0] if len(buffers) == 1 else b"".join(buffers)
    if size >= LARGE:
        return memory
    # orjson leaves a text at the end of a kilobyte that it has to give back; while texts gather, each then costs 2 us
    # for new memory. A copy (here with a blank, which JSON allows) makes room at once: 0.2 us.
    return bytes(memory) + b" " if form == JSON else bytes(memory)


def numbered(item: Any, count: int) -> tuple[int, Any]:
    """``(ident, payload)`` of what a generator yielded, where that is not plainly so already."""
    if type(item) is tuple and len(item) == 2 and not isinstance(item[0], (bool, float, str)):
        try:
            return index(item[0]), item[1]
        except TypeError:
            pass
    return count, item

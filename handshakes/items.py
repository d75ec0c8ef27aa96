"""Items of a stream, many in one frame.

All items of a frame have one form (`handshakes.values`). The head says how many there are, how their idents
and sizes are written, and carries what their values' heads have in common; columns of idents and sizes come
first in the body, where they are needed, then the payloads one after the other::

    head  count u32 · idents u8 (0 a range, 1 a column) · sizes u8 (0 all alike, 1 a column)
          · first ident i64 · size u32,
          then the common head of the values (an array's dtype and shape)
    body  [idents i64 …] [sizes u32 …] payloads

JSON payloads are written as one JSON array, so one call reads them all. A ``TREE`` value travels alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from handshakes.errors import LocalProtocolError, RemoteProtocolError, ValueNotSupported, ValueTooLarge
from handshakes.messages import Bytes, Items, Registry
from handshakes.values import ARRAY, JSON, RAW, TREE, decode, read_array_head

__all__ = ["LARGEST_BODY", "MOST_ITEMS", "read_items", "write_items"]

_HEAD = struct.Struct("<IBBqI")
MOST_ITEMS = 65536
LARGEST_BODY = 2**32 - 1
_JOIN_BELOW = 2048


def write_items(
    form: int, value_head: bytes, idents: Sequence[int], payloads: Sequence[Bytes] | memoryview
) -> tuple[bytes, list[Bytes], int]:
    """``(head, buffers, size of the body)`` of a frame with these encoded payloads of one form.

    Small payloads are joined, large ones are passed on as they are; a memoryview is payloads of one size that
    lie together already. Raises `LocalProtocolError` for a number of items that no frame carries,
    `ValueNotSupported` for idents that are not integers of 64 bits, and `ValueTooLarge`.
    """
    count = len(idents)
    together = isinstance(payloads, memoryview)
    if not 0 < count <= MOST_ITEMS or (len(payloads) % count if together else len(payloads) != count):
        raise LocalProtocolError(f"{count} idents and {len(payloads)} payloads make no frame of items")
    first = idents[0]
    try:
        ranged = first + count - 1 == idents[-1] and list(idents) == list(range(first, first + count))
        column = struct.pack(f"<{1 if ranged else count}q", *(idents[:1] if ranged else idents))
    except (struct.error, TypeError) as error:
        raise ValueNotSupported(f"the ident of an item is an integer of 64 bits: {error}") from error
    body: list[Bytes] = [] if ranged else [column]
    size = 0
    alike = True
    if isinstance(payloads, memoryview):
        size = len(payloads) // count
        body.append(payloads)
    elif form == JSON:
        body.append(b"[" + b",".join(payloads) + b"]")
    else:
        size = len(payloads[0])
        alike = set(map(len, payloads)) == {size}
        sizes = [] if alike else list(map(len, payloads))
        total = size * count if alike else sum(sizes)
        if total > LARGEST_BODY:
            raise ValueTooLarge(f"items of {total} bytes are more than a frame can hold")
        if not alike:
            body.append(struct.pack(f"<{count}I", *sizes))
        if total < _JOIN_BELOW * count and count > 1:
            body.append(b"".join(payloads))
        else:
            body.extend(payloads)
    head = _HEAD.pack(count, not ranged, not alike, first if ranged else 0, size) + value_head
    return head, body, sum(map(len, body))


def read_items(form: int, head: bytes, body: Bytes, shared: bool, registry: Registry) -> Items:
    """The items of a frame. Raises `RemoteProtocolError` and `ValueNotSupported` as `decode` does."""
    if len(head) < _HEAD.size:
        raise RemoteProtocolError("a frame of items came without its description")
    count, ident_column, size_column, first, size = _HEAD.unpack_from(head)
    if not 0 < count <= MOST_ITEMS or ident_column > 1 or size_column > 1:
        raise RemoteProtocolError(f"a frame of {count} items came; 1 to {MOST_ITEMS} are allowed")
    offset = 8 * count * ident_column + 4 * count * size_column
    if offset > len(body):
        raise RemoteProtocolError("a frame of items is shorter than its columns")
    idents: Sequence[int] = range(first, first + count)
    if ident_column:
        idents = struct.unpack_from(f"<{count}q", body)
    sizes = struct.unpack_from(f"<{count}I", body, 8 * count * ident_column) if size_column else None
    payloads = _read_payloads(form, head[_HEAD.size :], body, offset, count, sizes or size, shared, registry)
    return Items(idents, payloads, len(body))


def _read_payloads(
    form: int,
    head: bytes,
    body: Bytes,
    offset: int,
    count: int,
    sizes: int | tuple[int, ...],
    shared: bool,
    registry: Registry,
) -> Sequence[Any]:
    if form == JSON:
        payloads = decode(JSON, b"", memoryview(body)[offset:])
        if type(payloads) is not list or len(payloads) != count:
            raise RemoteProtocolError(f"a frame of {count} items came with another number of values")
        return payloads
    expected = sizes * count if isinstance(sizes, int) else sum(sizes)
    if expected != len(body) - offset:
        raise RemoteProtocolError("the sizes of items do not add up to their frame")
    if form == RAW:
        data = bytes(body)
        if isinstance(sizes, int):
            if not sizes:
                return [b""] * count
            return [data[start : start + sizes] for start in range(offset, len(data), sizes)]
        return [data[start : start + size] for start, size in zip(_starts(offset, sizes), sizes, strict=True)]
    if form == ARRAY and isinstance(sizes, int):
        memory = memoryview(body)[offset:]
        return read_array_head(head).rows(bytearray(memory) if shared else memory, count)
    if form == TREE and count == 1:
        return [decode(TREE, head, memoryview(body)[offset:], registry, shared)]
    raise RemoteProtocolError("a frame of items came in a form that is not allowed")


def _starts(offset: int, sizes: tuple[int, ...]) -> list[int]:
    starts = []
    for size in sizes:
        starts.append(offset)
        offset += size
    return starts

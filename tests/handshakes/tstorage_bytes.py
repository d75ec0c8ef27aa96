"""TStorage's bytes, written by hand, and plain ways to write and read more of them.

Nothing here uses the encoders and readers under test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st

from handshakes.records import Block, Key, KeyRange
from handshakes.tstorage import (
    AcqAnswer,
    Command,
    Get,
    GetAcq,
    GetEnd,
    GetRecords,
    PutAnswer,
    PutBegin,
    PutEnd,
    PutRecords,
    RequestReader,
    ResponseReader,
)

Record: TypeAlias = tuple[Key, bytes]

BOX = KeyRange(Key(1, -2, 3, 4, -5), Key(0x11223344, 0x0102030405060708, -1, 2**63 - 1, 0x1112131415161718))

RAW_BOX = bytes.fromhex(
    "01000000"  # least cid
    "feffffffffffffff"  # least mid
    "03000000"  # least moid
    "0400000000000000"  # least cap
    "fbffffffffffffff"  # least acq
    "44332211"  # cid below which it must be
    "0807060504030201"  # mid
    "ffffffff"  # moid
    "ffffffffffffff7f"  # cap
    "1817161514131211"  # acq
)

GET = bytes.fromhex("01000000 4000000000000000") + RAW_BOX
"""The command, 64 bytes to come, two keys."""

GETACQ = bytes.fromhex("07000000 4000000000000000") + RAW_BOX

GET_LONGER = bytes.fromhex("01000000 4300000000000000 aabbcc") + RAW_BOX
"""With three bytes between the header and the keys."""

GETACQ_LONGER = bytes.fromhex("07000000 4500000000000000 ffffffffff") + RAW_BOX

ALIKE: list[Record] = [
    (Key(7, 0x0102030405060708, -3, 1_000_000_000), b"hi"),
    (Key(7, -1, -(2**31), -(2**63)), b"ok"),
]
DIFFERING: list[Record] = [
    (Key(0, 42, 5, 6), b""),
    (Key(0, 2**63 - 1, 2**31 - 1, 2**63 - 1), b"abc"),
]

RAW_ALIKE = bytes.fromhex(
    "07000000"  # cid
    "34000000"  # 52 bytes of records
    "16000000"  # 22 bytes in this record
    "0807060504030201"  # mid
    "fdffffff"  # moid
    "00ca9a3b00000000"  # cap
    "6869"  # payload
    "16000000"  # 22 bytes in this record
    "ffffffffffffffff"  # mid
    "00000080"  # moid
    "0000000000000080"  # cap
    "6f6b"  # payload
)
RAW_DIFFERING = bytes.fromhex(
    "00000000"  # cid
    "33000000"  # 51 bytes of records
    "14000000"  # 20 bytes in this record
    "2a00000000000000"  # mid
    "05000000"  # moid
    "0600000000000000"  # cap
    "17000000"  # 23 bytes in this record
    "ffffffffffffff7f"  # mid
    "ffffff7f"  # moid
    "ffffffffffffff7f"  # cap
    "616263"  # payload
)

PUT_BEGIN = bytes.fromhex("05000000 0000000000000000")
END = bytes.fromhex("ffffffff")
EMPTY_BATCH = bytes.fromhex("09000000 00000000")

ALIKE_WITH_ACQ: list[Record] = [
    (Key(7, 0x0102030405060708, -3, 1_000_000_000, 9), b"hi"),
    (Key(7, -1, -(2**31), -(2**63), -1), b"ok"),
]
DIFFERING_WITH_ACQ: list[Record] = [
    (Key(0, 42, 5, 6, 2**63 - 1), b""),
    (Key(0, 2**63 - 1, 2**31 - 1, 2**63 - 1, -(2**63)), b"abc"),
]

RAW_ALIKE_WITH_ACQ = bytes.fromhex(
    "07000000"  # cid
    "44000000"  # 68 bytes of records
    "1e000000"  # 30 bytes in this record
    "0807060504030201"  # mid
    "fdffffff"  # moid
    "00ca9a3b00000000"  # cap
    "0900000000000000"  # acq
    "6869"  # payload
    "1e000000"  # 30 bytes in this record
    "ffffffffffffffff"  # mid
    "00000080"  # moid
    "0000000000000080"  # cap
    "ffffffffffffffff"  # acq
    "6f6b"  # payload
)
RAW_DIFFERING_WITH_ACQ = bytes.fromhex(
    "00000000"  # cid
    "43000000"  # 67 bytes of records
    "1c000000"  # 28 bytes in this record
    "2a00000000000000"  # mid
    "05000000"  # moid
    "0600000000000000"  # cap
    "ffffffffffffff7f"  # acq
    "1f000000"  # 31 bytes in this record
    "ffffffffffffff7f"  # mid
    "ffffff7f"  # moid
    "ffffffffffffff7f"  # cap
    "0000000000000080"  # acq
    "616263"  # payload
)

PUTA_BEGIN = bytes.fromhex("06000000 0000000000000000")

REQUESTS: dict[str, tuple[bytes, list[Any]]] = {
    "get": (GET, [Get(BOX)]),
    "get with more between": (GET_LONGER, [Get(BOX)]),
    "getacq": (GETACQ, [GetAcq(BOX)]),
    "getacq with more between": (GETACQ_LONGER, [GetAcq(BOX)]),
    "put of nothing": (PUT_BEGIN + END, [PutBegin(False), PutEnd()]),
    "put of an empty batch": (PUT_BEGIN + EMPTY_BATCH + END, [PutBegin(False), PutEnd()]),
    "put": (PUT_BEGIN + RAW_ALIKE + RAW_DIFFERING + END, [PutBegin(False), *ALIKE, *DIFFERING, PutEnd()]),
    "put of one cid in several batches": (
        PUT_BEGIN + RAW_ALIKE + EMPTY_BATCH + EMPTY_BATCH + RAW_DIFFERING + RAW_ALIKE + EMPTY_BATCH + END,
        [PutBegin(False), *ALIKE, *DIFFERING, *ALIKE, PutEnd()],
    ),
    "put with more between": (
        bytes.fromhex("05000000 0500000000000000 ffffffffff") + RAW_ALIKE + END,
        [PutBegin(False), *ALIKE, PutEnd()],
    ),
    "puta of nothing": (PUTA_BEGIN + END, [PutBegin(True), PutEnd()]),
    "puta": (
        PUTA_BEGIN + RAW_ALIKE_WITH_ACQ + RAW_DIFFERING_WITH_ACQ + END,
        [PutBegin(True), *ALIKE_WITH_ACQ, *DIFFERING_WITH_ACQ, PutEnd()],
    ),
}
"""Whole requests, and what they say."""

FOUND: list[Record] = [
    (Key(7, 0x0102030405060708, -3, 1_000_000_000, 9), b"hi"),
    (Key(0, -1, -(2**31), -(2**63), -(2**63)), b"ok"),
]
FOUND_DIFFERING: list[Record] = [
    (Key(2**31 - 1, 1, 2, 3, 4), b""),
    (Key(1, 5, 6, 7, 8), b"a"),
]

RAW_FOUND = bytes.fromhex(
    "22000000"  # 34 bytes in this record
    "07000000"  # cid
    "0807060504030201"  # mid
    "fdffffff"  # moid
    "00ca9a3b00000000"  # cap
    "0900000000000000"  # acq
    "6869"  # payload
    "22000000"  # 34 bytes in this record
    "00000000"  # cid
    "ffffffffffffffff"  # mid
    "00000080"  # moid
    "0000000000000080"  # cap
    "0000000000000080"  # acq
    "6f6b"  # payload
)
RAW_FOUND_DIFFERING = bytes.fromhex(
    "20000000"  # 32 bytes in this record
    "ffffff7f"  # cid
    "0100000000000000"  # mid
    "02000000"  # moid
    "0300000000000000"  # cap
    "0400000000000000"  # acq
    "21000000"  # 33 bytes in this record
    "01000000"  # cid
    "0500000000000000"  # mid
    "06000000"  # moid
    "0700000000000000"  # cap
    "0800000000000000"  # acq
    "61"  # payload
)

OK = bytes.fromhex("00000000 0000000000000000")
FAILURE = bytes.fromhex("ffffffff 0000000000000000")
GET_END = bytes.fromhex(
    "00000000"  # no more records
    "00000000 0800000000000000"  # status 0, 8 bytes to come
    "4d00000000000000"  # acq
)
GET_FAILED = bytes.fromhex(
    "00000000"  # no more records
    "ffffffff 0800000000000000"  # status -1, 8 bytes to come
    "ffffffffffffffff"  # acq
)
PUT_ANSWER = bytes.fromhex("00000000 1000000000000000 0500000000000000 0900000000000000")
"""The status, 16 bytes to come, the least acq, the greatest."""
PUTA_ANSWER = bytes.fromhex("00000000 1000000000000000 ffffffffffffffff ffffffffffffffff")
ACQ_ANSWER = bytes.fromhex("00000000 0800000000000000 fdffffffffffffff")

ANSWERS: dict[str, tuple[Command, bytes, list[Any]]] = {
    "put": (Command.PUT, PUT_ANSWER, [PutAnswer(0, 5, 9)]),
    "puta": (Command.PUTA, PUTA_ANSWER, [PutAnswer(0, -1, -1)]),
    "getacq": (Command.GETACQ, ACQ_ANSWER, [AcqAnswer(0, -3)]),
    "get of nothing": (Command.GET, OK + GET_END, [GetEnd(0, 77)]),
    "get": (Command.GET, OK + RAW_FOUND + GET_END, [*FOUND, GetEnd(0, 77)]),
    "get of differing sizes": (
        Command.GET,
        OK + RAW_FOUND_DIFFERING + RAW_FOUND + GET_END,
        [*FOUND_DIFFERING, *FOUND, GetEnd(0, 77)],
    ),
    "get that fails half-way": (Command.GET, OK + RAW_FOUND + GET_FAILED, [*FOUND, GetEnd(-1, -1)]),
    "get that fails half-way, and no acq": (
        Command.GET,
        OK + RAW_FOUND + bytes(4) + FAILURE,
        [*FOUND, GetEnd(-1, -1)],
    ),
    "failed put": (Command.PUT, FAILURE, [PutAnswer(-1, -1, -1)]),
    "failed puta": (Command.PUTA, FAILURE, [PutAnswer(-1, -1, -1)]),
    "failed getacq": (Command.GETACQ, FAILURE, [AcqAnswer(-1, -1)]),
    "failed get": (Command.GET, FAILURE, [GetEnd(-1, -1)]),
    "failed for another reason": (
        Command.GET,
        bytes.fromhex("83000000 0300000000000000 010203"),
        [GetEnd(131, -1)],
    ),
    "put with more at its end": (
        Command.PUT,
        bytes.fromhex("00000000 1200000000000000 0500000000000000 0900000000000000 aabb"),
        [PutAnswer(0, 5, 9)],
    ),
    "get with more between": (
        Command.GET,
        bytes.fromhex("00000000 0500000000000000 0000000000") + RAW_FOUND + GET_END,
        [*FOUND, GetEnd(0, 77)],
    ),
}
"""Whole answers: to what, and what they say."""


# The plainest ways to write and read


class Batch(NamedTuple):
    cid: int
    records: list[Record]


def number(value: int) -> bytes:
    """A 32-bit integer."""
    return struct.pack("<i", value)


def header(code: int, size: int) -> bytes:
    """What begins a request or an answer."""
    return struct.pack("<iQ", code, size)


def raw_batch(cid: int, records: Iterable[Record], with_acq: bool) -> bytes:
    """A batch of these records, whatever cid they have themselves."""
    body = b""
    for key, payload in records:
        fields = struct.pack("<qiqq", *key[1:])[: 28 if with_acq else 20]
        body += struct.pack("<i", len(fields) + len(payload)) + fields + payload
    return struct.pack("<ii", cid, len(body)) + body


def raw_found(records: Iterable[Record]) -> bytes:
    """Records of an answer."""
    return b"".join(struct.pack("<iiqiqq", 32 + len(payload), *key) + payload for key, payload in records)


def put_of(records: Iterable[Record]) -> bytes:
    """A put of these records, all with the cid 7."""
    return PUT_BEGIN + raw_batch(7, records, False) + END


def read_batch(data: bytes, with_acq: bool) -> Batch:
    """What one batch says."""
    cid, size = struct.unpack_from("<ii", data)
    assert len(data) == 8 + size
    records, at = [], 8
    while at < len(data):
        length, mid, moid, cap = struct.unpack_from("<iqiq", data, at)
        head = 4 + (28 if with_acq else 20)
        acq = struct.unpack_from("<q", data, at + 24)[0] if with_acq else 0
        records.append((Key(cid, mid, moid, cap, acq), data[at + head : at + 4 + length]))
        at += 4 + length
    assert at == len(data)
    return Batch(cid, records)


def listed(block: Block) -> list[Record]:
    """The records of a block."""
    return [(block.key(index), bytes(block.payload(index))) for index in range(len(block))]


# Readers

ENOUGH = 1 << 16
"""The capacity of a reader whose buffer holds everything."""

CUTS = st.lists(st.integers(1, 40) | st.integers(1, 5000), min_size=1, max_size=5)
"""Sizes of pieces."""


def expecting(command: Command, capacity: int = ENOUGH) -> ResponseReader:
    """A reader that expects the answer to this command."""
    reader = ResponseReader(capacity)
    reader.expect(command)
    return reader


def said(event: Any) -> list[Any]:
    """An event, or each record that it brings, since where blocks begin and end is of no meaning."""
    return list(listed(event.block)) if isinstance(event, (PutRecords, GetRecords)) else [event]


def events(reader: RequestReader | ResponseReader) -> Iterator[Any]:
    """What the bytes that it has say."""
    while (event := reader.next_event()) is not None:
        yield from said(event)


def receive(
    reader: RequestReader | ResponseReader,
    data: bytes,
    pieces: Iterable[int] | None = None,
    found: list[Any] | None = None,
) -> list[Any]:
    """Give bytes to a reader as a driver does, in pieces of these sizes over and over; answers what was said.

    ``found``, if given, has that even when the reader raises.
    """
    found = [] if found is None else found
    rest, sizes = memoryview(data), cycle(pieces or [len(data) or 1])
    found.extend(events(reader))
    while rest:
        piece, rest = rest[: (size := next(sizes))], rest[size:]
        while piece:
            space = reader.buffer()
            assert space, "a driver would take an empty buffer for the end of the stream"
            count = min(len(space), len(piece))
            space[:count] = piece[:count]
            piece = piece[count:]
            reader.received(count)
            found.extend(events(reader))
    return found

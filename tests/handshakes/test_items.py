from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.errors import LocalProtocolError, RemoteProtocolError, ValueNotSupported, ValueTooLarge
from handshakes.items import MOST_ITEMS, read_items, write_items
from handshakes.messages import Bytes, Items, Registry
from handshakes.values import Form, encode
from tests.handshakes.pair import DOCUMENTED

RAW, JSON, ARRAY, TREE = Form

CLASSES = Registry()


@CLASSES.register
@dataclass
class Pose:
    x: Any


def wire(
    form: int, value_head: bytes, idents: Sequence[int], payloads: Sequence[Bytes] | memoryview
) -> tuple[bytes, bytes]:
    """Head and body of a frame of items."""
    head, buffers, size = write_items(form, value_head, idents, payloads)
    body = b"".join(buffers)
    assert len(body) == size
    return head, body


def read(form: int, head: bytes, body: bytes, shared: bool = False) -> Items:
    return read_items(form, head, bytearray(body), shared, CLASSES)


def head(count: int, ident_column: int, size_column: int, first: int, size: int) -> bytes:
    """The description of items, written with nothing of the code under test."""
    return struct.pack("<IBBqI", count, ident_column, size_column, first, size)


def i64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


# Golden bytes

ARRAY_HEAD = b'["<u2",[2],"C"]'

CASES: list[tuple[int, bytes, list[int], list[bytes], bytes, bytes]] = [
    # form, head of values, idents, payloads; head and body on the wire
    (RAW, b"", [7], [b"abc"], b"\x01\0\0\0\0\0\x07\0\0\0\0\0\0\0\x03\0\0\0", b"abc"),
    (RAW, b"", [0, 1], [b"abc", b"def"], head(2, 0, 0, 0, 3), b"abcdef"),
    (RAW, b"", [0, 1, 2], [b"a", b"", b"cd"], head(3, 0, 1, 0, 1), u32(1, 0, 2) + b"acd"),
    (RAW, b"", [5, 3], [b"a", b"b"], head(2, 1, 0, 0, 1), i64(5, 3) + b"ab"),
    (RAW, b"", [0, 2, 2], [b"a", b"bb", b""], head(3, 1, 1, 0, 1), i64(0, 2, 2) + u32(1, 2, 0) + b"abb"),
    (RAW, b"", [-1, 0, 1], [b"", b"", b""], head(3, 0, 0, -1, 0), b""),
    (RAW, b"", [-(2**63), 2**63 - 1], [b"a", b"b"], head(2, 1, 0, 0, 1), i64(-(2**63), 2**63 - 1) + b"ab"),
    (
        RAW,
        b"",
        [4, 4],
        [b"a" * 3000, b"b" * 3000],
        head(2, 1, 0, 0, 3000),
        i64(4, 4) + b"a" * 3000 + b"b" * 3000,
    ),
    (JSON, b"", [1, 2], [b"[1]", b'"x"'], head(2, 0, 0, 1, 0), b'[[1],"x"]'),
    (JSON, b"", [9, 2], [b"null", b"1.5"], head(2, 1, 0, 0, 0), i64(9, 2) + b"[null,1.5]"),
    (ARRAY, ARRAY_HEAD, [0], [b"\x01\0\x02\0"], head(1, 0, 0, 0, 4) + ARRAY_HEAD, b"\x01\0\x02\0"),
    (
        ARRAY,
        ARRAY_HEAD,
        [8, 6],
        [b"\x01\0\x02\0", b"\x03\0\x04\0"],
        head(2, 1, 0, 0, 4) + ARRAY_HEAD,
        i64(8, 6) + b"\x01\0\x02\0\x03\0\x04\0",
    ),
    (
        TREE,
        b'["$",7,[[2,null]]]',
        [3],
        [b'{"$":0}ab'],
        head(1, 0, 0, 3, 9) + b'["$",7,[[2,null]]]',
        b'{"$":0}ab',
    ),
]


def plain(payloads: Sequence[Any]) -> list[Any]:
    return [each.tolist() if isinstance(each, numpy.ndarray) else each for each in payloads]


EXPECTED: list[list[Any]] = [
    *[
        [b"abc"],
        [b"abc", b"def"],
        [b"a", b"", b"cd"],
        [b"a", b"b"],
        [b"a", b"bb", b""],
        [b"", b"", b""],
        [b"a", b"b"],
    ],
    *[[b"a" * 3000, b"b" * 3000], [[1], "x"], [None, 1.5], [[1, 2]], [[1, 2], [3, 4]], [b"ab"]],
]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("case", "expected"), list(zip(CASES, EXPECTED, strict=True)))
def test_the_bytes_of_items(
    case: tuple[int, bytes, list[int], list[bytes], bytes, bytes], expected: Any, shared: bool
) -> None:
    form, value_head, idents, payloads, on_wire_head, on_wire_body = case
    assert wire(form, value_head, idents, payloads) == (on_wire_head, on_wire_body)
    items = read(form, on_wire_head, on_wire_body, shared)
    assert list(items.idents) == idents
    assert plain(items.payloads) == expected
    assert items.size == len(on_wire_body)


@pytest.mark.parametrize("case", CASES)
def test_items_cut_short_or_with_more_behind(
    case: tuple[int, bytes, list[int], list[bytes], bytes, bytes],
) -> None:
    form, _, _, _, on_wire_head, on_wire_body = case
    for cut in {*range(min(len(on_wire_body), 60)), max(0, len(on_wire_body) - 1)}:
        if on_wire_body[:cut] != on_wire_body:
            with pytest.raises(RemoteProtocolError):
                read(form, on_wire_head, on_wire_body[:cut])
    with pytest.raises(RemoteProtocolError):
        read(form, on_wire_head, on_wire_body + b"]")
    for cut in range(18):
        with pytest.raises(RemoteProtocolError, match="without its description"):
            read(form, on_wire_head[:cut], on_wire_body)


def test_shared_memory_is_copied_and_other_memory_is_viewed() -> None:
    body = bytearray(b"\x01\0\x02\0")
    (view,) = read_items(ARRAY, head(1, 0, 0, 0, 4) + ARRAY_HEAD, body, False, CLASSES).payloads
    (kept,) = read_items(ARRAY, head(1, 0, 0, 0, 4) + ARRAY_HEAD, body, True, CLASSES).payloads
    body[0] = 9
    assert (view.tolist(), kept.tolist()) == ([9, 2], [1, 2])
    kept[0] = 5


def test_large_payloads_are_not_copied() -> None:
    payloads = [b"a" * 3000, b"b" * 3000]
    _, buffers, _ = write_items(RAW, b"", [0, 1], payloads)
    assert [id(each) for each in buffers] == [id(each) for each in payloads]
    assert len(write_items(RAW, b"", [0, 1], [b"a", b"b"])[1]) == 1
    assert write_items(RAW, b"", [0], [payloads[0][:5]])[1] == [b"aaaaa"]


@pytest.mark.parametrize("idents", [[7, 8, 9], [3, 1, 2]])
def test_payloads_that_lie_together_are_passed_on_as_they_lie(idents: list[int]) -> None:
    apart = [b"ab", b"cd", b"ef"]
    together = memoryview(b"".join(apart))
    _, buffers, _ = write_items(RAW, b"", idents, together)
    assert buffers[-1] is together
    assert wire(RAW, b"", idents, together) == wire(RAW, b"", idents, apart)
    with pytest.raises(LocalProtocolError, match="3 idents and 5 payloads"):
        write_items(RAW, b"", idents, together[:5])


# Round trips

IDENTS = st.one_of(
    st.builds(lambda first, count: list(range(first, first + count)), st.integers(-5, 5), st.integers(1, 6)),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6),
)


@settings(max_examples=100)
@given(IDENTS, st.data(), st.booleans())
def test_raw_items_come_back(idents: list[int], data: st.DataObject, shared: bool) -> None:
    payloads = data.draw(st.lists(st.binary(max_size=5), min_size=len(idents), max_size=len(idents)))
    items = read(RAW, *wire(RAW, b"", idents, payloads), shared)
    assert (list(items.idents), list(items.payloads)) == (idents, payloads)


VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.lists(st.integers(0, 9), max_size=3)


@settings(max_examples=100)
@given(IDENTS, st.data(), st.booleans())
def test_json_items_come_back(idents: list[int], data: st.DataObject, shared: bool) -> None:
    values = data.draw(st.lists(VALUES, min_size=len(idents), max_size=len(idents)))
    items = read(JSON, *wire(JSON, b"", idents, [orjson.dumps(each) for each in values]), shared)
    assert (list(items.idents), items.payloads) == (idents, values)


@settings(max_examples=100)
@given(
    IDENTS,
    st.sampled_from(["<f8", ">i2", "|b1", "<M8[ns]"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.booleans(),
)
def test_arrays_come_back(idents: list[int], dtype: str, shape: list[int], shared: bool) -> None:
    made = [numpy.full(shape, number, dtype) for number in range(len(idents))]
    encoded = [encode(each) for each in made]
    items = read(ARRAY, *wire(ARRAY, encoded[0][1], idents, [bytes(each[2][0]) for each in encoded]), shared)
    assert list(items.idents) == idents
    for one, other in zip(made, items.payloads, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_a_tree_travels_alone() -> None:
    _, value_head, buffers, _ = encode(Pose(b"x"), CLASSES)
    on_wire = wire(TREE, value_head, [2], [b"".join(buffers)])
    assert read(TREE, *on_wire, True).payloads == [Pose(b"x")]
    with pytest.raises(ValueNotSupported, match="'Pose' arrived"):
        read_items(TREE, *on_wire, False, Registry())
    with pytest.raises(RemoteProtocolError, match="a form that is not allowed"):
        read(TREE, head(2, 0, 0, 0, 2) + b'["$",2,[]]', b"[][]")


# What can't be written


@pytest.mark.parametrize(
    ("idents", "payloads"),
    [([], []), ([1], []), ([], [b""]), ([1], [b"", b""]), (range(MOST_ITEMS + 1), [b""] * (MOST_ITEMS + 1))],
)
def test_a_number_of_items_that_no_frame_carries(idents: Sequence[int], payloads: list[bytes]) -> None:
    with pytest.raises(LocalProtocolError, match="make no frame of items"):
        write_items(RAW, b"", idents, payloads)


@pytest.mark.parametrize("idents", [[2**63], [-(2**63) - 1], [0, 2**63], ["a"], [None], [1.5], [1.0, 2.0], [0, "b"]])
def test_an_ident_that_is_no_integer_of_64_bits(idents: list[Any]) -> None:
    with pytest.raises(ValueNotSupported, match="an integer of 64 bits"):
        write_items(RAW, b"", idents, [b"a"] * len(idents))


def test_idents_may_be_integers_of_numpy() -> None:
    idents = list(numpy.arange(3))
    assert wire(RAW, b"", idents, [b"a"] * 3) == wire(RAW, b"", [0, 1, 2], [b"a"] * 3)
    assert wire(RAW, b"", idents[::-1], [b"a"] * 3) == wire(RAW, b"", [2, 1, 0], [b"a"] * 3)


def test_items_beyond_the_size_of_a_frame() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**32

    with pytest.raises(ValueTooLarge, match="items of 4294967297 bytes"):
        write_items(RAW, b"", [0, 1], [Huge(), b"x"])


def test_as_many_as_a_frame_carries() -> None:
    items = read(RAW, *wire(RAW, b"", range(MOST_ITEMS), [b"ab"] * MOST_ITEMS))
    assert items.idents == range(MOST_ITEMS)
    assert items.payloads == [b"ab"] * MOST_ITEMS


# What may arrive


@pytest.mark.parametrize(
    ("form", "on_wire_head", "body"),
    [
        (RAW, head(0, 0, 0, 0, 0), b""),
        (RAW, head(MOST_ITEMS + 1, 0, 0, 0, 0), b""),
        (RAW, head(2**32 - 1, 1, 1, 0, 2**32 - 1), bytes(100)),
        (RAW, head(1, 2, 0, 0, 0), bytes(16)),
        (RAW, head(1, 0, 2, 0, 0), bytes(8)),
        (RAW, head(2, 1, 0, 0, 0), bytes(15)),
        (RAW, head(2, 0, 1, 0, 0), bytes(7)),
        (RAW, head(2, 1, 1, 0, 0), bytes(23)),
        (RAW, head(2, 0, 1, 0, 0), u32(2**32 - 1, 2**32 - 1) + b"ab"),
        (RAW, head(2, 0, 1, 0, 0), u32(1, 2) + b"ab"),
        (RAW, head(2, 0, 0, 0, 2**32 - 1), b"ab"),
        (RAW, head(3, 0, 0, 0, 1), b"ab"),
        (JSON, head(2, 0, 0, 0, 0), b"[1]"),
        (JSON, head(2, 0, 0, 0, 0), b"[1,2,3]"),
        (JSON, head(2, 0, 0, 0, 0), b'{"a":1,"b":2}'),
        (JSON, head(2, 0, 0, 0, 0), b'"ab"'),
        (JSON, head(1, 0, 0, 0, 0), b"5"),
        (JSON, head(1, 0, 0, 0, 0), b"[" * 3000),
        (ARRAY, head(2, 0, 0, 0, 4) + ARRAY_HEAD, bytes(7)),
        (ARRAY, head(2, 0, 0, 0, 2) + ARRAY_HEAD, bytes(4)),
        (ARRAY, head(2, 0, 1, 0, 4) + ARRAY_HEAD, u32(4, 4) + bytes(8)),
        (ARRAY, head(2, 0, 0, 0, 4) + b"[", bytes(8)),
        (ARRAY, head(9, 0, 0, 0, 0) + b'["<f4",[4611686018427387904,0],"C"]', b""),
        (TREE, head(2, 0, 0, 0, 1) + b'["$",2,[]]', b"[]"),
        (TREE, head(1, 0, 0, 0, 2) + b'["$",3,[]]', b"[]"),
        (4, head(1, 0, 0, 0, 2), b"ab"),
        (255, head(1, 0, 0, 0, 2), b"ab"),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_malformed_items(form: int, on_wire_head: bytes, body: bytes, shared: bool) -> None:
    with pytest.raises(RemoteProtocolError):
        read(form, on_wire_head, body, shared)


HEADS = st.builds(
    lambda count, idents, sizes, first, size, rest: head(count, idents, sizes, first, size) + rest,
    st.integers(0, 5) | st.integers(0, 2**32 - 1),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 9) | st.integers(0, 2**32 - 1),
    st.sampled_from([b"", ARRAY_HEAD, b'["<f4",[],"C"]', b'["<f4",[0,9],"F"]', b'["$",2,[]]', b"["])
    | st.binary(max_size=9),
)
BODIES = st.binary(max_size=60) | st.lists(VALUES, max_size=4).map(orjson.dumps) | st.integers(0, 90).map(bytes)


@settings(max_examples=300)
@given(st.integers(0, 5), st.binary(max_size=20) | HEADS, BODIES, st.booleans())
def test_whatever_arrives_is_items_or_an_error(form: int, on_wire_head: bytes, body: bytes, shared: bool) -> None:
    try:
        items = read(form, on_wire_head, body, shared)
    except DOCUMENTED:
        return
    assert len(items.idents) == len(items.payloads) == int.from_bytes(on_wire_head[:4], "little")


def test_an_announced_count_takes_no_memory_before_it_is_checked() -> None:
    tracemalloc.start()
    try:
        for flags in ((0, 0), (0, 1), (1, 0), (1, 1)):
            with pytest.raises(RemoteProtocolError):
                read(RAW, head(2**32 - 1, *flags, 0, 2**32 - 1), bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()

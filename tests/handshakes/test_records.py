"""Keys, boxes of keys, and blocks of records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handshakes.records import (
    FIELDS,
    GREATEST,
    KEY,
    LEAST,
    Block,
    Key,
    KeyRange,
    Ragged,
    Rows,
    block_of,
    joined,
    row_type,
)
from tests.handshakes.series_blocks import ALIKE, BLOCKS, DIFFERING, KEYS, heads, ragged, rows
from tests.handshakes.tstorage_bytes import Record, listed

THREE: list[Record] = [
    (Key(1, -2, 3, 4, 5), b"one"),
    (Key(0, 2**63 - 1, -(2**31), -(2**63), 2**63 - 1), b"two"),
    (Key(2**31 - 1, 0, 2**31 - 1, 7, -8), b"six"),
]
OTHERS: list[Record] = [(Key(1, 1, 1, 1, 1), b""), (Key(2, 2, 2, 2, 2), b"abcd"), (Key(3, 3, 3, 3, 3), b"x")]
MAKE = {"rows": rows, "ragged": ragged}
makes = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


# Keys


def test_a_key_is_32_bytes() -> None:
    assert KEY.itemsize == row_type(0).itemsize == 32
    assert KEY.names == FIELDS == Key._fields
    raw = heads([(Key(1, -2, 3, 4, -5), b"")]).tobytes()
    assert raw == bytes.fromhex("01000000 feffffffffffffff 03000000 0400000000000000 fbffffffffffffff")


def test_the_least_and_the_greatest_key() -> None:
    assert Key.min() == LEAST == (0, -(2**63), -(2**31), -(2**63), -(2**63))
    assert Key.max() == GREATEST == (2**31 - 1, 2**63 - 1, 2**31 - 1, 2**63 - 1, 2**63 - 1)
    assert Key.min().valid()
    assert Key.max().valid()
    for name in FIELDS:
        below, beyond = getattr(LEAST, name) - 1, getattr(GREATEST, name) + 1
        assert not Key.min()._replace(**{name: below}).valid()
        assert not Key.max()._replace(**{name: beyond}).valid()


def test_a_key_of_other_things_is_invalid() -> None:
    assert Key(1, 2, 3).valid()
    assert Key(1, 2, 3) == Key(1, 2, 3, 0, 0)
    assert not Key(1, 2.0, 3).valid()  # type: ignore[arg-type]
    assert not Key("1", 2, 3).valid()  # type: ignore[arg-type]


def test_keys_are_ordered_from_left_to_right() -> None:
    ordered = [
        Key(0, 5, 5, 5, 5),
        Key(1, 0, 5, 5, 5),
        Key(1, 1, 0, 5, 5),
        Key(1, 1, 1, 0, 5),
        Key(1, 1, 1, 1, 0),
        Key(1, 1, 1, 1, 1),
    ]
    assert sorted([*ordered[3:], *ordered[:3]]) == ordered


# Boxes

BOX = KeyRange(Key(1, 1, 1, 1, 1), Key(3, 3, 3, 3, 3))


@pytest.mark.parametrize("name", FIELDS)
def test_a_box_is_half_open_in_each_field(name: str) -> None:
    inside = [Key(2, 2, 2, 2, 2)._replace(**{name: value}) for value in range(5)]
    assert [BOX.holds(key) for key in inside] == [False, True, True, False, False]
    for make in MAKE.values():
        assert BOX.mask(make([(key, b"p") for key in inside])).tolist() == [False, True, True, False, False]


def test_only_some_fields_are_looked_at() -> None:
    block = rows([(Key(2, 9, 2, 2, 2), b""), (Key(9, 2, 2, 2, 2), b""), (Key(9, 9, 2, 2, 2), b"")])
    assert BOX.mask(block, ("cid",)).tolist() == [True, False, False]
    assert BOX.mask(block, ("mid", "cap")).tolist() == [False, True, False]
    assert BOX.mask(block, ()).tolist() == [True, True, True]


@pytest.mark.parametrize("name", FIELDS)
def test_a_box_that_is_empty_or_invalid(name: str) -> None:
    for width, empty in ((-1, True), (0, True), (1, False)):
        most = BOX.min._replace(**{name: getattr(BOX.min, name) + width})
        box = KeyRange(BOX.min, BOX.max._replace(**{name: getattr(most, name)}))
        assert box.empty == empty
        assert box.valid
        assert box.holds(BOX.min) != empty
    beyond = BOX.min._replace(**{name: getattr(GREATEST, name) + 1})
    assert not KeyRange(beyond, BOX.max).valid
    assert not KeyRange(BOX.min, beyond).valid


def test_the_box_of_everything() -> None:
    everything = KeyRange.everything()
    assert everything == (LEAST, GREATEST)
    assert everything.valid
    assert not everything.empty
    nearly = Key(*(each - 1 for each in GREATEST))
    unaddressable = [nearly._replace(**{name: getattr(GREATEST, name)}) for name in FIELDS]
    negative = LEAST._replace(cid=-1)
    keys = [LEAST, nearly, *unaddressable, GREATEST, negative]
    expected = [True, True] + [False] * 7
    assert [everything.holds(key) for key in keys] == expected
    assert everything.mask(rows([(key, b"p") for key in keys])).tolist() == expected


@settings(max_examples=200)
@given(KEYS, KEYS, BLOCKS)
def test_the_mask_says_what_the_box_holds(least: Key, most: Key, block: Block) -> None:
    box = KeyRange(least, most)
    mask = box.mask(block)
    assert mask.dtype == numpy.bool_
    assert mask.tolist() == [box.holds(key) for key, _ in listed(block)]
    assert not (box.empty and mask.any())


# Blocks


@pytest.mark.parametrize("width", [0, 1, 7, 1000])
def test_the_type_of_a_row(width: int) -> None:
    kind = row_type(width)
    assert kind.itemsize == 32 + width
    assert kind.names == (*FIELDS, "payload")[: 6 if width else 5]
    assert [kind.fields[name][1] for name in kind.names] == [0, 4, 12, 16, 24, 32][: len(kind.names)]  # type: ignore[index]


@makes
def test_a_block(make: Callable[[list[Record]], Block]) -> None:
    block = make(THREE)
    assert len(block) == 3
    assert block.nbytes == 3 * 35
    assert block.width == (3 if make is rows else -1)
    assert block.sizes().tolist() == [3, 3, 3]
    assert block.sizes().dtype == numpy.int64
    assert [block.key(index) for index in range(3)] == [key for key, _ in THREE]
    assert all(type(value) is int for value in block.key(1))
    assert block.key(-1) == THREE[2][0]
    assert [bytes(block.payload(index)) for index in range(-3, 3)] == [b"one", b"two", b"six"] * 2
    assert list(map(bytes, block.payloads())) == [b"one", b"two", b"six"]
    for index, name in enumerate(FIELDS):
        assert block.column(name).tolist() == [key[index] for key, _ in THREE]
    with pytest.raises(IndexError):
        block.payload(3)
    with pytest.raises(IndexError):
        block.payload(-4)


def test_differing_sizes() -> None:
    block = ragged(OTHERS)
    assert block.sizes().tolist() == [0, 4, 1]
    assert block.nbytes == 3 * 32 + 5
    assert [bytes(block.payload(index)) for index in range(-3, 3)] == [b"", b"abcd", b"x"] * 2
    assert list(map(bytes, block.payloads())) == [b"", b"abcd", b"x"]


@makes
def test_the_keys_are_contiguous(make: Callable[[list[Record]], Block]) -> None:
    for found in (THREE, [(key, b"") for key, _ in THREE]):
        keys = make(found).keys()
        assert keys.dtype == KEY
        assert keys.flags.c_contiguous
        assert keys.tobytes() == heads(found).tobytes()


def test_columns_and_payloads_are_views() -> None:
    for block in (rows(THREE), Ragged(heads(THREE), numpy.frombuffer(bytearray(b"onetwosix"), numpy.uint8), ENDS)):
        held = block.rows if isinstance(block, Rows) else block.head
        assert numpy.shares_memory(block.column("mid"), held)
        block.payload(1)[:] = b"TWO"
        assert list(map(bytes, block.payloads())) == [b"one", b"TWO", b"six"]


ENDS = numpy.array([3, 6, 9])


@makes
def test_a_block_of_nothing(make: Callable[[list[Record]], Block]) -> None:
    block = Rows(numpy.empty(0, row_type(5))) if make is rows else ragged([])
    assert (len(block), block.nbytes) == (0, 0)
    assert block.keys().tobytes() == b""
    assert block.keys().dtype == KEY
    assert block.sizes().tolist() == listed(block) == []
    assert list(block.payloads()) == []
    for which in (slice(None), slice(0, 5), slice(None, None, 2), numpy.empty(0, numpy.bool_), numpy.empty(0, int)):
        assert listed(block.take(which)) == []
    assert listed(block.with_acq(5)) == []
    assert KeyRange.everything().mask(block).tolist() == []


SLICES = st.slices(12) | st.builds(slice, st.integers(-20, 20) | st.none(), st.integers(-20, 20) | st.none())
ANY_RECORDS = st.tuples(st.sampled_from([rows]), ALIKE) | st.tuples(st.sampled_from([ragged]), ALIKE | DIFFERING)


@settings(max_examples=200)
@given(ANY_RECORDS, SLICES)
def test_slices(made: tuple[Callable[[list[Record]], Block], list[Record]], which: slice) -> None:
    make, found = made
    block = make(found)
    part = block.take(which)
    assert type(part) is type(block)
    assert listed(part) == found[which]
    assert part.nbytes == sum(32 + len(payload) for _, payload in found[which])
    assert part.keys().tobytes() == heads(found[which]).tobytes()
    # What was taken is a block like any other.
    assert listed(part.take(slice(1, None))) == found[which][1:]
    assert listed(part.with_acq(3)) == [(key._replace(acq=3), payload) for key, payload in found[which]]


@makes
def test_a_slice_copies_no_record(make: Callable[[list[Record]], Any]) -> None:
    block = make(THREE)
    part = block.take(slice(1, 3))
    if make is rows:
        assert numpy.shares_memory(part.rows, block.rows)
    else:
        assert numpy.shares_memory(part.head, block.head)
        assert numpy.shares_memory(part.data, block.data)


@settings(max_examples=200)
@given(ANY_RECORDS, st.data())
def test_masks_and_indices(made: tuple[Callable[[list[Record]], Block], list[Record]], data: st.DataObject) -> None:
    make, found = made
    block, count = make(found), len(found)
    kept = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    masked = block.take(numpy.array(kept, numpy.bool_))
    assert listed(masked) == [record for record, keep in zip(found, kept, strict=True) if keep]
    places = data.draw(st.lists(st.integers(-count, count - 1), max_size=20)) if count else []
    picked = block.take(numpy.array(places, numpy.int64))
    assert type(picked) is type(masked) is type(block)
    assert listed(picked) == [found[place] for place in places]
    assert picked.keys().flags.c_contiguous


@makes
def test_other_times_of_acquisition(make: Callable[[list[Record]], Block]) -> None:
    block = make(THREE)
    assert [key.acq for key, _ in listed(block.with_acq(-1))] == [-1] * 3
    times = [-(2**63), 0, 2**63 - 1]
    changed = block.with_acq(numpy.array(times))
    assert listed(changed) == [
        (key._replace(acq=acq), payload) for (key, payload), acq in zip(THREE, times, strict=True)
    ]
    assert listed(block) == THREE


# Blocks from records, and from blocks


@settings(max_examples=100)
@given(ALIKE | DIFFERING)
def test_a_block_of_records(found: list[Record]) -> None:
    payloads = [payload for _, payload in found]
    block = block_of(heads(found), payloads)
    assert listed(block) == found
    assert isinstance(block, Rows) == (len(set(map(len, payloads))) == 1)
    views: list[Any] = [memoryview(bytearray(payload)) for payload in payloads]
    assert listed(block_of(heads(found), views)) == found


def test_a_block_of_keys_that_lie_apart() -> None:
    apart = heads([record for record in THREE for _ in range(2)])[::2]
    for payloads in ([b"one", b"two", b"six"], [b"", b"", b""], [b"a", b"", b"bc"]):
        block = block_of(apart, payloads)
        assert block.keys().flags.c_contiguous
        assert listed(block) == [(key, payload) for (key, _), payload in zip(THREE, payloads, strict=True)]


def test_a_block_needs_as_many_payloads_as_keys() -> None:
    with pytest.raises(ValueError, match="3 keys came with 2 payloads"):
        block_of(heads(THREE), [b"", b""])


@settings(max_examples=150)
@given(st.lists(BLOCKS, max_size=4))
def test_joined_blocks(blocks: list[Block]) -> None:
    whole = joined(blocks)
    assert listed(whole) == [record for block in blocks for record in listed(block)]
    widths = {block.width for block in blocks if len(block)}
    if len(widths) == 1:
        assert whole.width == widths.pop()


def test_what_is_joined() -> None:
    one = rows(THREE)
    assert joined([one]) is one
    assert joined([Rows(numpy.empty(0, row_type(9))), one, ragged([])]).width == 3
    assert joined([ragged([]), ragged([])]).width == -1
    nothing = joined([])
    assert isinstance(nothing, Rows)
    assert (len(nothing), nothing.width) == (0, 0)
    mixed = joined([one, ragged(OTHERS), rows([(Key(1, 2, 3), b"")])])
    assert isinstance(mixed, Ragged)
    assert listed(mixed) == [*THREE, *OTHERS, (Key(1, 2, 3), b"")]

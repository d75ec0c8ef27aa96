from __future__ import annotations

import numpy
import pytest

from handshakes.records import Ragged, Rows, row_type
from pynetwork.series.engine.contents import LARGEST, MOST_RECORDS, cuts, decode, decode_into, encode
from pynetwork.series.engine.schema import StoreDamaged
from tests.pynetwork.series.engine.small import block, records

EVEN = block(((0, 1, 2, 3, 4), b"ab"), ((5, -6, 7, 8, 9), b"cd"))
MIXED = block(((0, 1, 2, 3, 4), b""), ((5, -6, 7, 8, 9), b"cde"), ((5, -6, 7, 9, 9), b"f"))
BARE = block(((0, 1, 2, 3, 4), b""))


@pytest.mark.parametrize("given", [EVEN, MIXED, BARE, MIXED.take(slice(1, 3)), EVEN.take(slice(1, 2))])
def test_what_is_encoded_is_decoded(given: Rows | Ragged) -> None:
    data = bytes(encode(given))
    assert records(decode(data, len(given), given.width)) == records(given)
    later = decode(data, len(given), given.width, 1000)
    assert [key[4] for key, _ in records(later)] == [key[4] + 1000 for key, _ in records(given)]


def test_the_bytes_are_those_of_the_page() -> None:
    assert bytes(encode(BARE)) == bytes.fromhex("00000000 0100000000000000 02000000 0300000000000000 0400000000000000")
    first = MIXED.take(slice(1, 2))
    assert bytes(encode(first)) == bytes.fromhex(
        "0300000000000000 05000000 faffffffffffffff 07000000 0800000000000000 0900000000000000 636465"
    )


def test_rows_are_filled_in_place() -> None:
    rows = numpy.zeros(4, row_type(2))
    decode_into(bytes(encode(EVEN)), rows[1:3], 10)
    assert [key[4] for key, _ in records(Rows(rows))] == [0, 14, 19, 0]
    with pytest.raises(StoreDamaged):
        decode_into(bytes(encode(EVEN)), rows, 0)


@pytest.mark.parametrize("given", [EVEN, MIXED])
def test_every_cut_is_noticed(given: Rows | Ragged) -> None:
    data = bytes(encode(given))
    for size in range(len(data)):
        with pytest.raises(StoreDamaged):
            decode(data[:size], len(given), given.width)
    with pytest.raises(StoreDamaged):
        decode(data + b"x", len(given), given.width)


def test_blocks_are_bounded_in_records_and_in_bytes() -> None:
    small = Rows(numpy.zeros(2 * MOST_RECORDS + 1, row_type(16)))
    assert [end - begin for begin, end in cuts(small)] == [MOST_RECORDS, MOST_RECORDS, 1]
    wide = Rows(numpy.zeros(5, row_type(LARGEST // 2 - 32)))
    assert list(cuts(wide)) == [(0, 2), (2, 4), (4, 5)]
    huge = Rows(numpy.zeros(2, row_type(2 * LARGEST)))
    assert list(cuts(huge)) == [(0, 1), (1, 2)]
    mixed = block(*(((0, 0, 0, number, 0), bytes(size)) for number, size in enumerate((LARGEST, 10, LARGEST // 2, 10))))
    assert list(cuts(mixed)) == [(0, 1), (1, 4)]
    assert list(cuts(MIXED.take(slice(0, 0)))) == []


def test_what_is_picked_in_an_order_is_cut_as_if_it_lay_so() -> None:
    sizes = [LARGEST // 2, 10, LARGEST // 3, 20, LARGEST // 2, 30]
    given = block(*(((0, 0, 0, cap, 0), bytes(size)) for cap, size in enumerate(sizes)))
    order = numpy.array([4, 1, 0, 5])
    assert cuts(given, order) == cuts(given.take(order)) != cuts(given)
    assert cuts(EVEN, order) == [(0, 4)]

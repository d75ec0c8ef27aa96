"""Records, sets of them that are decoded when asked for, and the ranges of series."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes import records as wire
from handshakes.errors import ValueNotSupported
from handshakes.records import KEY, Block, block_of
from pynetwork.series.record import DecodedRecords, Key, KeyRange, Record, RecordsSet, SeriesKey, nanoseconds
from pynetwork.series.timestamps import Tstoragedatetime

keys = st.builds(
    Key,
    st.integers(0, 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
)
rows = st.lists(st.tuples(keys, st.binary(max_size=5)), max_size=8)


def block(given: list[tuple[Key, bytes]]) -> Block:
    return block_of(numpy.array([key for key, _ in given], KEY), [payload for _, payload in given])


def listed(*parts: list[tuple[Key, bytes]]) -> list[Record[bytes]]:
    return [Record(key, payload) for part in parts for key, payload in part]


# Records


def test_a_record_is_a_key_and_a_value() -> None:
    record = Record(Key(1, 2, 3, 4), "x")
    assert (record.key, record.value) == (Key(1, 2, 3, 4, 0), "x")
    key, value = record
    assert Record(key, value) == record == Record(key=key, value=value) == Record[str](key, value)
    assert hash(record) == hash(Record(key, value))
    assert record != Record(key, "y")
    assert repr(record) == "Record(key=Key(cid=1, mid=2, moid=3, cap=4, acq=0), value='x')"
    match record:
        case Record(key=Key(cid=1), value=found):
            assert found == "x"
        case _:
            pytest.fail("it does not match")


def test_a_record_can_not_be_changed() -> None:
    record = Record(Key(1, 2, 3), 1)
    for name in ("key", "value", "other"):
        with pytest.raises(AttributeError):
            setattr(record, name, 2)


def test_records_are_ordered_by_their_keys() -> None:
    assert sorted([Record(Key(2, 0, 0), "a"), Record(Key(1, 9, 9), "c"), Record(Key(1, 9, 9), "b")]) == [
        Record(Key(1, 9, 9), "b"),
        Record(Key(1, 9, 9), "c"),
        Record(Key(2, 0, 0), "a"),
    ]


def test_a_record_can_be_copied() -> None:
    record = Record(Key(1, 2, 3), [1])
    assert pickle.loads(pickle.dumps(record)) == copy.deepcopy(record) == record
    assert type(copy.copy(record)) is Record


def test_keys_are_those_of_the_wire() -> None:
    assert (Key, KeyRange) == (wire.Key, wire.KeyRange)


# Sets of records


def test_a_list_is_a_set_of_records() -> None:
    records: RecordsSet[int] = [Record(Key(1, 2, 3), 1)]
    assert isinstance(records, RecordsSet)
    assert isinstance(DecodedRecords(), RecordsSet)
    assert not isinstance(7, RecordsSet)


@given(st.lists(rows, max_size=4))
def test_decoded_records_are_the_list_of_them(parts: list[list[tuple[Key, bytes]]]) -> None:
    expected = listed(*parts)
    found: DecodedRecords[bytes] = DecodedRecords(map(block, parts))
    assert list(found) == expected
    assert found == expected
    assert len(found) == len(expected)
    assert bool(found) is bool(expected)
    assert [found[index] for index in range(-len(expected), len(expected))] == expected * 2
    assert all(type(record) is Record and type(record.key) is Key for record in found)


@given(st.lists(rows, max_size=3), st.slices(12))
def test_slices_are_those_of_the_list(parts: list[list[tuple[Key, bytes]]], which: slice) -> None:
    found: DecodedRecords[bytes] = DecodedRecords(map(block, parts))
    assert list(found[which]) == listed(*parts)[which]
    assert isinstance(found[which], DecodedRecords)


@given(rows, rows, rows)
def test_records_can_be_added(
    first: list[tuple[Key, bytes]], second: list[tuple[Key, bytes]], third: list[tuple[Key, bytes]]
) -> None:
    found: DecodedRecords[bytes] = DecodedRecords([block(first)])
    for record in listed(second):
        found.append(record)
    before = found[:]
    found.extend(DecodedRecords([block(third)]))
    found.extend(iter(listed(first)))
    assert list(found) == listed(first, second, third, first)
    assert before == listed(first, second)


def test_a_set_can_be_added_to_itself_and_its_slices_stay_as_they_are() -> None:
    records: DecodedRecords[int] = DecodedRecords()
    records.append(Record(Key(1, 2, 3), 1))
    part = records[:]
    records.extend(records)
    records.append(Record(Key(1, 2, 4), 2))
    assert [record.value for record in records] == [1, 1, 2]
    assert len(part) == 1


def test_an_index_beyond_the_end() -> None:
    found: DecodedRecords[bytes] = DecodedRecords([block([(Key(1, 2, 3), b"x")])])
    for index in (1, -2):
        with pytest.raises(IndexError):
            found[index]


def test_values_are_decoded_when_they_are_asked_for_and_only_those() -> None:
    asked: list[int] = []

    def decode(part: Block) -> list[int]:
        asked.append(len(part))
        return [payload[0] for payload in part.payloads()]

    count = 10_000
    head = numpy.zeros(count, KEY)
    head["cap"] = numpy.arange(count)
    found = DecodedRecords([block_of(head, [bytes([index % 256]) for index in range(count)])], decode)
    assert asked == []
    assert found[7777] == Record(Key(0, 0, 0, 7777), 7777 % 256)
    assert asked == [1]
    assert [record.value for record in found[300:303]] == [44, 45, 46]
    assert asked == [1, 3]
    first = next(iter(found))
    assert first == Record(Key(0, 0, 0, 0), 0)
    assert asked[2:] == [4096]
    assert [record.key.cap for record in found] == list(range(count))


def test_a_set_shows_a_few() -> None:
    records: DecodedRecords[Any] = DecodedRecords()
    assert repr(records) == "<0 records: >"
    records.extend([Record(Key(1, 2, 3), index) for index in range(4)])
    assert repr(records).startswith("<4 records: Record(key=Key(cid=1")
    assert repr(records).endswith("value=2), ...>")
    with pytest.raises(TypeError):
        hash(records)
    assert records != "something else"


# Series


@given(keys.filter(lambda key: key.cid < 2**31 - 1 and key.mid < 2**63 - 1 and key.moid < 2**31 - 1), keys)
def test_the_range_of_a_series_holds_its_records_alone(key: Key, other: Key) -> None:
    series = SeriesKey(*key[:3])
    box = series.range()
    assert box.valid
    assert box.holds(key) == (key.cap < 2**63 - 1 and key.acq < 2**63 - 1)
    if other[:3] != key[:3]:
        assert not box.holds(other)


def test_the_range_between_two_times() -> None:
    begin = dt.datetime(2001, 1, 1, 0, 0, 1, tzinfo=dt.timezone.utc)
    box = SeriesKey(1, 2, 3).range(begin, Tstoragedatetime(begin, 5))
    least, most = -(2**63), 2**63 - 1
    assert box == KeyRange(Key(1, 2, 3, 10**9, least), Key(2, 3, 4, 10**9 + 5, most))
    assert SeriesKey(1, 2, 3).range(end=7).max.cap == 7
    assert SeriesKey(1, 2, 3).key(begin, 9) == Key(1, 2, 3, 10**9, 9)


@pytest.mark.parametrize(
    ("series", "field"),
    [
        (SeriesKey(-1, 0, 0), "cid"),
        (SeriesKey(2**31 - 1, 0, 0), "cid"),
        (SeriesKey(0, 2**63 - 1, 0), "mid"),
        (SeriesKey(0, 0, 2**31 - 1), "moid"),
        (SeriesKey(1, 4, 1.5), "moid"),  # type: ignore[arg-type]
        (SeriesKey("1", 4, 1), "cid"),  # type: ignore[arg-type]
    ],
)
def test_a_series_that_no_box_holds(series: SeriesKey, field: str) -> None:
    with pytest.raises(ValueNotSupported, match=f"{field} must be"):
        series.range()


def test_moments_are_nanoseconds() -> None:
    assert nanoseconds(5) == 5
    assert nanoseconds(dt.datetime(2001, 1, 1, tzinfo=dt.timezone.utc)) == 0
    assert nanoseconds(Tstoragedatetime.from_tstorage_ns(-7)) == -7
    assert nanoseconds(numpy.int64(5)) == 5
    assert type(nanoseconds(numpy.int64(5))) is int
    assert nanoseconds(numpy.datetime64("2001-01-01T00:00:01")) == 10**9


@pytest.mark.parametrize("moment", ["2026-01-01", 1.5, None])
def test_what_is_no_moment(moment: Any) -> None:
    with pytest.raises(ValueNotSupported, match="is no time: give an integer of nanoseconds since 2001"):
        nanoseconds(moment)

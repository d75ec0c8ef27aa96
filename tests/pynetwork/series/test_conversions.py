"""Arrays, tables and records to blocks and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from handshakes.errors import ConfigurationError, ValueNotSupported, ValueTooLarge
from handshakes.messages import Registry
from handshakes.records import FIELDS, KEY, Block, Key, Ragged, Rows, block_of
from pynetwork.series.conversions import array_from, array_type, block_from, frame_from, records_from, table_from
from pynetwork.series.payloads import (
    BytesPayloadType,
    JsonPayloadType,
    NumpyPayloadType,
    PayloadType,
    RegisteredPayloadType,
    StructPayloadType,
    TuplePayloadType,
    UnitPayloadType,
)
from pynetwork.series.record import Record
from pynetwork.series.timestamps import to_datetime64

IID = NumpyPayloadType("i,i,d")
LEAST, MOST = -(2**63), 2**63 - 1
KEYS = st.builds(
    Key,
    st.integers(0, 2**31 - 1),
    st.integers(LEAST, MOST),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(LEAST, MOST),
    st.integers(LEAST, MOST),
)
VALUES = st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False))


def as_vendor(rows: Sequence[tuple[Key, tuple[int, int, float]]], acq: bool = True) -> Any:
    """As the vendor's example makes its arrays."""
    columns = [
        numpy.zeros(len(rows), numpy.int32),
        *(numpy.array([getattr(key, name) for key, _ in rows], KEY[name]) for name in (FIELDS if acq else FIELDS[:4])),
        *(numpy.array([value[at] for _, value in rows], ["i4", "i4", "f8"][at]) for at in range(3)),
    ]
    return numpy.rec.fromarrays(columns, names=["_size", *(FIELDS if acq else FIELDS[:4]), "f0", "f1", "f2"])


def ragged(block: Block) -> Ragged:
    payloads = [bytes(payload) for payload in block.payloads()]
    return Ragged(block.keys(), numpy.frombuffer(b"".join(payloads), numpy.uint8), numpy.cumsum(block.sizes()))


def content(block: Block) -> list[tuple[Key, bytes]]:
    return [(block.key(index), bytes(payload)) for index, payload in enumerate(block.payloads())]


# From arrays


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6), st.booleans(), st.data())
def test_columns_in_any_order_width_and_byte_order(
    rows: list[tuple[Key, tuple[int, int, float]]], with_acq: bool, data: st.DataObject
) -> None:
    array = as_vendor(rows, acq=with_acq)
    order = data.draw(st.permutations(array.dtype.names))
    widths = {name: data.draw(st.sampled_from([array.dtype[name].str, ">i8", "<i8"])) for name in order}
    mixed = numpy.zeros(len(array), [(name, array.dtype[name] if name == "f2" else widths[name]) for name in order])
    for name in order:
        mixed[name] = array[name]
    expected = [(key if with_acq else key._replace(acq=0), IID.to_bytes(value)) for key, value in rows]
    for given_ in (array, mixed, mixed[::-1][::-1], {name: mixed[name] for name in order}):
        block = block_from(given_, IID, with_acq=with_acq)
        assert isinstance(block, Rows)
        assert content(block) == expected


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6))
def test_arrays_come_back_bit_for_bit(rows: list[tuple[Key, tuple[int, int, float]]]) -> None:
    block = block_from(as_vendor(rows), IID, with_acq=True)
    array = array_from(block, IID)
    assert array.dtype == array_type(IID) == numpy.dtype([*KEY.descr, ("f0", "<i4"), ("f1", "<i4"), ("f2", "<f8")])
    assert array.tolist() == [(*key, *value) for key, value in rows]
    assert content(block_from(array, IID, with_acq=True)) == content(block)
    assert array_from(ragged(block), IID).tobytes() == array.tobytes()


def test_a_block_has_memory_of_its_own() -> None:
    array = array_from(block_from(as_vendor([(Key(1, 2, 3, 4), (5, 6, 7.0))] * 3), IID), IID).copy()
    for with_acq in (True, False):
        array["cap"] = 4
        block = block_from(array, IID, with_acq=with_acq)
        array["cap"] = 0
        assert block.key(1).cap == 4
    assert block_from(block, JsonPayloadType()) is block


def test_an_array_is_a_view_of_its_block() -> None:
    block = block_from(as_vendor([(Key(1, 2, 3, 4), (5, 6, 7.0))] * 3), IID)
    assert isinstance(block, Rows)
    for payload_type in (IID, TuplePayloadType("iid"), TuplePayloadType("<iid"), BytesPayloadType()):
        assert numpy.shares_memory(array_from(block, payload_type), block.rows)


def test_acq_is_of_those_who_give_it() -> None:
    array = as_vendor([(Key(1, 2, 3, 4, 5), (5, 6, 7.0))])
    assert block_from(array, IID).key(0).acq == 0
    assert block_from(array, IID, with_acq=True).key(0).acq == 5
    same = array_from(block_from(array, IID, with_acq=True), IID)
    assert block_from(same, IID).key(0).acq == 0
    records = [Record(Key(1, 2, 3, 4, 5), (5, 6, 7.0))]
    assert block_from(records, IID).key(0).acq == 0
    assert block_from(records, IID, with_acq=True).key(0).acq == 5
    with pytest.raises(ValueNotSupported, match="no column acq; there are cid, mid"):
        block_from({name: array[name] for name in ("cid", "mid", "moid", "cap", "f0", "f1", "f2")}, IID, with_acq=True)


def test_fields_of_the_payload_by_name_or_by_order() -> None:
    named = NumpyPayloadType([("a", "i4"), ("b", "f8")])
    keys: dict[str, Any] = {name: [1] for name in FIELDS[:4]}
    assert array_from(block_from({"b": [2.5], "a": [7], **keys}, named), named)[["a", "b"]].tolist() == [(7, 2.5)]
    assert array_from(block_from({"x": [7], "y": [2.5], **keys}, named), named)[["a", "b"]].tolist() == [(7, 2.5)]
    assert array_from(block_from({"b": [2.5], "a": [7], "note": ["-"], **keys}, named), named)["a"].tolist() == [7]
    with pytest.raises(ValueNotSupported, match="column a can't be converted to int32"):
        block_from({"x": [2.5], "y": [7], **keys}, named)
    with pytest.raises(ValueNotSupported, match=r"the columns x are not those of .*: a, b"):
        block_from({"x": [2.5], **keys}, named)
    with pytest.raises(ValueNotSupported, match="no column moid"):
        block_from({"cid": [1], "mid": [1], "cap": [1], "a": [1], "b": [1]}, named)


def test_nested_fields_and_sub_arrays() -> None:
    nested = NumpyPayloadType([("p", [("x", "f4"), ("y", "f4")]), ("m", "i2", (2, 2))])
    array = numpy.zeros(2, array_type(nested))
    array["p"]["x"] = [1, 2]
    array["m"] = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    block = block_from(array, nested, with_acq=True)
    assert array_from(block, nested).tobytes() == array.tobytes()
    for table in (frame_from(block, nested), table_from(block, nested)):
        assert content(block_from(table, nested, with_acq=True)) == content(block)
    lists = table_from(block, nested).to_pylist()
    assert content(block_from(pyarrow.Table.from_pylist(lists), nested, with_acq=True)) == content(block)
    with pytest.raises(ValueNotSupported, match=r"the columns p\.x, m, p\.q, r are not those of .*: p, m"):
        block_from(frame_from(block, nested).drop(columns="p.y").assign(q=1, r=2).rename(columns={"q": "p.q"}), nested)
    assert list(frame_from(block, nested).columns) == [*FIELDS, "p.x", "p.y", "m"]


def test_padding_is_of_zeros() -> None:
    padded = TuplePayloadType("?d")
    block = block_from({**{name: [1] * 50 for name in FIELDS[:4]}, "f0": [True] * 50, "f1": [1.0] * 50}, padded)
    assert {payload for _, payload in content(block)} == {padded.to_bytes((True, 1.0))}


def test_times_of_numpy_are_times() -> None:
    when = numpy.array(["2001-01-01T00:00:01", "2001-01-01T00:00:02"], "M8[s]")
    block = block_from(
        {"cid": [1, 1], "mid": [2, 2], "moid": [3, 3], "cap": when, "acq": when}, UnitPayloadType(), with_acq=True
    )
    assert block.column("cap").tolist() == [10**9, 2 * 10**9] == block.column("acq").tolist()
    with pytest.raises(ValueNotSupported, match=r"column cap: element 1 has no time"):
        block_from(
            {"cid": [1, 1], "mid": [2, 2], "moid": [3, 3], "cap": numpy.array([0, "NaT"], "M8[s]")}, UnitPayloadType()
        )


# What can't be put


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("cid", 2**31, "column cid, row 2: 2147483648 is outside what int32 holds"),
        ("cid", -1, "column cid, row 2: -1 is negative"),
        ("moid", -(2**31) - 1, "column moid, row 2"),
        ("mid", 2**63, "column mid, row 2: 9223372036854775808"),
        ("cap", 2**64 - 1, "column cap, row 2"),
        ("acq", 2**63, "column acq, row 2"),
        ("f0", 2**31, "column f0, row 2"),
    ],
)
def test_numbers_out_of_range(column: str, value: int, says: str) -> None:
    columns: dict[str, Any] = {name: numpy.ones(5, numpy.int64) for name in (*FIELDS, "f0", "f1")}
    columns["f2"] = numpy.arange(5.0)
    columns[column] = numpy.array([1, 1, value, 1, value], numpy.uint64 if value >= 2**63 else numpy.int64)
    with pytest.raises(ValueNotSupported, match=says):
        block_from(columns, IID, with_acq=True)
    block = block_from(columns, IID, with_acq=True, skip_invalid=True)
    assert array_from(block, IID)["f2"].tolist() == [0.0, 1.0, 3.0]


def test_many_rows_are_converted_in_pieces() -> None:
    count = 50_000
    columns: dict[str, Any] = {name: numpy.arange(count) for name in (*FIELDS, "f0", "f1")}
    columns["f2"] = numpy.arange(count) / 2
    found = array_from(block_from(columns, IID, with_acq=True), IID)
    assert all(numpy.array_equal(found[name], column) for name, column in columns.items())
    columns["moid"][40_000] = columns["cid"][49_500] = 2**31
    with pytest.raises(ValueNotSupported, match="column moid, row 40000: 2147483648 is outside"):
        block_from(columns, IID)
    found = array_from(block_from(columns, IID, skip_invalid=True), IID)
    assert sorted({*range(count)} - {*found["mid"].tolist()}) == [40_000, 49_500]


def test_the_same_rows_with_a_negative_cid() -> None:
    array = numpy.zeros(3, array_type(IID))
    array["cid"] = [0, -5, 1]
    with pytest.raises(ValueNotSupported, match="column cid, row 1: -5 is negative"):
        block_from(array, IID)
    assert block_from(array, IID, skip_invalid=True).column("cid").tolist() == [0, 1]
    assert array["cid"].tolist() == [0, -5, 1]


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (numpy.zeros(3), "float64 and shape"),
        (numpy.zeros((2, 2), array_type(IID)), "one dimension"),
        (numpy.ma.zeros(2, array_type(IID)), "mask"),
        (5, "int holds no records"),
        ([1, 2], "record 0 is int; give Record"),
        ([Record(Key(1, 2, 3), (1, 2, 3.0)), "x"], "record 1 is str"),
        ({"cid": [1]}, "no column mid"),
        ({"cid": [1], "mid": [1, 2]}, "one length"),
        ({"cid": 1}, "one length"),
        ({}, "no column cid; there are none"),
        ([Record(Key(-1, 2, 3), (1, 2, 3.0))], r"record 0 can't be put: cid=-1 of .* must be 0 to 2147483647"),
        ([Record(Key(1, 2**63, 3), (1, 2, 3.0))], "record 0 can't be put: mid=9223372036854775808"),
        ([Record(Key(1, 2, 3, 1.5), (1, 2, 3.0))], "cap of .* is float, not an integer"),  # type: ignore[arg-type]
        ([Record((1, 2, 3), (1, 2, 3.0))], r"\(1, 2, 3\) is no Key"),  # type: ignore[arg-type]
        (
            [Record(Key(1, 2, 3, 77), (1, 2))],
            r"record Key\(cid=1, mid=2, moid=3, cap=77, acq=0\) can't be put: \(1, 2\) does",
        ),
    ],
)
def test_what_can_not_be_put(records: Any, says: str) -> None:
    with pytest.raises(ValueNotSupported, match=says):
        block_from(records, IID)


def test_records_that_can_not_be_put_are_left_out() -> None:
    good = Record(Key(1, 2, 3, 4), (1, 2, 3.0))
    records = [
        good,
        Record(Key(-1, 2, 3), (1, 2, 3.0)),
        Record(Key(1, 2, 2**31), (1, 2, 3.0)),
        Record(Key(1, 2, 3), (1, 2)),
        Record(Key("1", 2, 3), (1, 2, 3.0)),  # type: ignore[arg-type]
        good,
    ]
    for payload_type in (IID, TuplePayloadType("iid")):
        assert (
            content(block_from(iter(records), payload_type, skip_invalid=True))
            == [(good.key, TuplePayloadType("iid").to_bytes(good.value))] * 2
        )
    assert len(block_from(records[1:5], IID, skip_invalid=True)) == 0


# Records


REGISTRY = Registry()
CASES: list[tuple[PayloadType[Any], st.SearchStrategy[Any]]] = [
    (TuplePayloadType("iid"), VALUES),
    (StructPayloadType("<q"), st.integers(LEAST, MOST)),
    (UnitPayloadType(), st.just(())),
    (BytesPayloadType(), st.binary(max_size=4)),
    (JsonPayloadType(), st.text() | st.lists(st.booleans())),
    (TuplePayloadType("5pb"), st.tuples(st.binary(max_size=4), st.integers(-128, 127))),
]


@given(st.data(), st.sampled_from(CASES))
def test_records_come_back(data: st.DataObject, case: tuple[PayloadType[Any], st.SearchStrategy[Any]]) -> None:
    payload_type, values = case
    records = data.draw(st.lists(st.builds(Record, KEYS, values), max_size=6))
    block = block_from(records, payload_type, with_acq=True)
    assert records_from(block, payload_type) == records
    assert records_from([block, ragged(block)], payload_type) == records * 2
    assert content(block_from(records_from(block, payload_type), payload_type, with_acq=True)) == content(block)
    assert content(block_from(tuple(records), payload_type)) == [
        (key._replace(acq=0), payload) for key, payload in content(block)
    ]


def test_no_records_at_all() -> None:
    for payload_type, _ in CASES:
        block = block_from([], payload_type)
        assert len(block) == 0
        assert records_from(block, payload_type) == []
    assert len(array_from(block_from([], IID), IID)) == 0
    assert array_from(
        Ragged(numpy.zeros(0, KEY), numpy.zeros(0, numpy.uint8), numpy.zeros(0, numpy.int64)), IID
    ).dtype == array_type(IID)


# Payloads of another type


def mixed_block() -> Block:
    keys = numpy.zeros(4, KEY)
    keys["cap"] = [10, 11, 12, 13]
    return block_of(keys, [b"\x01\0\0\0", b"12345", b"\x02\0\0\0", b""])


def test_a_payload_of_another_type_is_named_or_left_out() -> None:
    for payload_type in (StructPayloadType[int]("<i"), NumpyPayloadType("<i4")):
        with pytest.raises(ValueNotSupported, match=r"the payload of .*cap=11.* has 5 bytes; .* has 4"):
            records_from(mixed_block(), payload_type)
        with pytest.raises(ValueNotSupported, match="cap=11"):
            array_from(mixed_block(), payload_type)
        found = records_from([mixed_block(), mixed_block()], payload_type, skip_invalid=True)
        assert [record.value for record in found] == [1, 2, 1, 2]
        assert found.skipped == 4
        array = array_from(mixed_block(), payload_type, skip_invalid=True)
        assert array["cap"].tolist() == [10, 12]
        assert array[array.dtype.names[-1]].tolist() == [1, 2]
        assert len(frame_from(mixed_block(), payload_type, skip_invalid=True)) == 2
    json = block_from([Record(Key(1, 2, 3, 4), b"[1]"), Record(Key(1, 2, 3, 5), b"[")], BytesPayloadType())
    with pytest.raises(ValueNotSupported, match=r"cap=5.* no JSON"):
        records_from(json, JsonPayloadType())
    found = records_from(json, JsonPayloadType(), skip_invalid=True)
    assert (found.skipped, [record.value for record in found]) == (1, [[1]])


def test_without_fields_there_is_no_array() -> None:
    for payload_type in (JsonPayloadType(), TuplePayloadType("3p"), RegisteredPayloadType(Registry, REGISTRY)):
        with pytest.raises(ConfigurationError, match="have no array"):
            array_type(payload_type)
        with pytest.raises(ConfigurationError, match="have no array"):
            array_from(block_from([], UnitPayloadType()), payload_type, skip_invalid=True)
    with pytest.raises(ValueNotSupported, match=r"cap=10, .* has 4 bytes, .*cap=11, .* has 5"):
        array_from(mixed_block(), BytesPayloadType())


def test_bytes_of_one_size_are_a_field() -> None:
    block = block_from([Record(Key(1, 2, 3, 4), b"a\0"), Record(Key(1, 2, 3, 5), b"b\0")], BytesPayloadType())
    array = array_from(block, BytesPayloadType())
    assert array["payload"].tolist() == [b"a\0", b"b\0"]
    assert content(block_from(array, BytesPayloadType())) == content(block)
    assert array_from(ragged(block), BytesPayloadType()).tobytes() == array.tobytes()
    texts = {**{name: block.column(name) for name in FIELDS}, "payload": numpy.array([b"a\0", b"b\0"])}
    assert content(block_from({**texts, "payload": numpy.array([b"ab", b"c"])}, BytesPayloadType()))[1][1] == b"c\0"
    lists = {**texts, "payload": numpy.array([b"a", b"bcd"], object)}
    assert [payload for _, payload in content(block_from(lists, BytesPayloadType()))] == [b"a", b"bcd"]
    assert array_from(block_from([], BytesPayloadType()), BytesPayloadType()).dtype == KEY


def test_keys_alone() -> None:
    for block in (mixed_block(), block_from([Record(Key(1, 2, 3, 4), b"abc")], BytesPayloadType())):
        array = array_from(block, UnitPayloadType())
        assert array.dtype == KEY
        assert array["cap"].tolist() == block.column("cap").tolist()
    only = block_from(numpy.zeros(2, KEY), UnitPayloadType())
    assert (only.width, len(only)) == (0, 2)
    assert only.nbytes == 64
    assert block_from(numpy.zeros(2, KEY), BytesPayloadType()).width == 0


# Into given memory


def test_an_array_to_be_filled() -> None:
    block = block_from(as_vendor([(Key(1, 2, 3, cap), (5, 6, 7.0)) for cap in range(3)]), IID)
    expected = array_from(block, IID)
    wide = numpy.zeros(10, array_type(IID))
    for out in (wide[2:8], wide[::2], numpy.zeros(3, array_type(IID))):
        found = array_from(block, IID, out)
        assert numpy.shares_memory(found, out)
        assert found.tolist() == expected.tolist()
        assert len(found) == 3
    assert wide[9].tolist() == (0,) * 8
    with pytest.raises(ValueTooLarge, match=r"3 records .* room for 2"):
        array_from(block, IID, wide[:2])
    for other in (numpy.zeros(9, KEY), numpy.zeros((3, 3), array_type(IID))):
        with pytest.raises(ConfigurationError, match="out= must be"):
            array_from(block, IID, other)


# Tables


SCALARS = st.sampled_from(["?", "i1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8", "<S3", "<U3", "V2", "<M8[ms]"])


@given(st.data(), st.lists(SCALARS, min_size=1, max_size=4), st.booleans())
def test_tables_come_back(data: st.DataObject, kinds: list[str], times: bool) -> None:
    payload_type = NumpyPayloadType([(f"field {index}", kind) for index, kind in enumerate(kinds)])
    count = data.draw(st.integers(0, 4))
    array = numpy.zeros(count, array_type(payload_type))
    for name in FIELDS:
        bounds = (0, 2**31 - 1) if name == "cid" else (-(2**31), 2**31 - 1)
        array[name] = data.draw(arrays.arrays(KEY[name], count, elements=st.integers(*bounds)))
    for name, kind in zip(payload_type.dtype.names or (), kinds, strict=True):
        elements = (
            st.binary(min_size=2, max_size=2)
            if kind == "V2"
            else st.integers(-(2**50), 2**50)
            if "M8" in kind
            else None
        )
        text = st.text(st.characters(min_codepoint=1, max_codepoint=0x7F), max_size=3)
        elements = text if kind == "<U3" else text.map(str.encode) if kind == "<S3" else elements
        drawn = (
            data.draw(st.lists(elements, min_size=count, max_size=count))
            if elements is not None
            else data.draw(arrays.arrays(numpy.dtype(kind), count))
        )
        array[name] = drawn
    block = block_from(array, payload_type, with_acq=True)
    for table in (frame_from(block, payload_type, times=times), table_from(block, payload_type, times=times)):
        assert numpy.array_equal(
            array_from(block_from(table, payload_type, with_acq=True), payload_type).view("u1"), array.view("u1")
        ) or any(kind[1] == "f" for kind in kinds)  # a NaN may have other bits afterwards
        assert len(table) == count


def test_a_frame_of_times_and_values() -> None:
    array = as_vendor([(Key(1, 2, 3, 10**9, 2 * 10**9), (5, 6, 7.0))])
    block = block_from(array, IID, with_acq=True)
    plain = frame_from(block, IID)
    assert plain.to_dict("list") == {
        "cid": [1],
        "mid": [2],
        "moid": [3],
        "cap": [10**9],
        "acq": [2 * 10**9],
        "f0": [5],
        "f1": [6],
        "f2": [7.0],
    }
    timed = frame_from(block, IID, times=True)
    assert str(timed.dtypes["cap"]) == "datetime64[ns, UTC]"
    assert timed["acq"][0] == pandas.Timestamp("2001-01-01T00:00:02Z")
    local = timed.assign(cap=timed["cap"].dt.tz_convert("Asia/Tokyo"))
    assert content(block_from(local, IID, with_acq=True)) == content(block)
    with pytest.raises(ValueError, match="outside what 64 bits"):
        frame_from(block.with_acq(MOST), IID, times=True)


def test_a_table_of_times_and_values() -> None:
    block = block_from(as_vendor([(Key(1, 2, 3, 10**9, 2 * 10**9), (5, 6, 7.0))] * 3), IID, with_acq=True)
    table = table_from(block, IID, times=True)
    assert table.schema.field("cap").type == pyarrow.timestamp("ns", "UTC")
    assert table.column("cap")[0].as_py().replace(tzinfo=dt.timezone.utc) == dt.datetime(
        2001, 1, 1, 0, 0, 1, tzinfo=dt.timezone.utc
    )
    assert table.schema.field("f2").type == pyarrow.float64()
    (batch,) = table.to_batches()
    for given_ in (table, batch, pyarrow.concat_tables([table[:1], table[1:]])):
        assert content(block_from(given_, IID, with_acq=True)) == content(block)


def test_python_objects_are_the_column_value() -> None:
    records = [Record(Key(1, 2, 3, cap), {"a": cap}) for cap in range(3)]
    block = block_from(records, JsonPayloadType())
    for table in (frame_from(block, JsonPayloadType()), table_from(block, JsonPayloadType())):
        assert records_from(block_from(table, JsonPayloadType()), JsonPayloadType()) == records
    frame = frame_from(block, JsonPayloadType())
    with pytest.raises(ValueNotSupported, match="must be in a column value; there are one, two"):
        block_from(frame.rename(columns={"value": "one"}).assign(two=1), JsonPayloadType())
    assert len(block_from(frame.rename(columns={"value": "other"}), JsonPayloadType())) == 3
    frame.loc[1, "value"] = b"no JSON"
    with pytest.raises(ValueNotSupported, match=r"cap=1, .* can't be put: b'no JSON' does not fit"):
        block_from(frame, JsonPayloadType())
    assert block_from(frame, JsonPayloadType(), skip_invalid=True).column("cap").tolist() == [0, 2]
    frame.loc[0, "cid"] = -1
    assert block_from(frame, JsonPayloadType(), skip_invalid=True).column("cap").tolist() == [2]


def test_times_beyond_those_of_arrays_stay_numbers() -> None:
    block = block_from([Record(Key(1, 2, 3, MOST), ())], UnitPayloadType())
    assert frame_from(block, UnitPayloadType())["cap"].tolist() == [MOST]
    assert to_datetime64(block.column("acq")).tolist() == [978_307_200 * 10**9]


@pytest.mark.parametrize("with_acq", [False, True])
@pytest.mark.parametrize(
    ("payload_type", "value"),
    [(BytesPayloadType(), b""), (BytesPayloadType(), b"abc"), (StructPayloadType("<d"), 1.5), (UnitPayloadType(), ())],
)
def test_one_record_is_as_two_are(payload_type: PayloadType[Any], value: Any, with_acq: bool) -> None:
    record = Record(Key(1, -2, 3, -4, 5), value)
    one = block_from([record], payload_type, with_acq=with_acq)
    two = block_from([record, record], payload_type, with_acq=with_acq)
    assert isinstance(one, Rows)
    assert isinstance(two, Rows)
    assert one.rows.dtype == two.rows.dtype
    assert one.rows.tobytes() * 2 == two.rows.tobytes()
    assert one.rows.flags.writeable


@pytest.mark.parametrize(
    "record", [Record(Key(-1, 2, 3), 1.5), Record(Key(1, 2**63, 3), 1.5), Record(Key(1, 2, 3), "no float"), None]
)
def test_one_record_that_does_not_fit(record: Any) -> None:
    with pytest.raises(ValueNotSupported):
        block_from([record], StructPayloadType("<d"))
    assert len(block_from([record], StructPayloadType("<d"), skip_invalid=True) if record is not None else []) == 0

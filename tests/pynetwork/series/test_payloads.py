"""Payload types: values to bytes and back, one by one and all at once, and what does not fit."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from handshakes.errors import ConfigurationError, ValueNotSupported
from handshakes.messages import Registry
from handshakes.records import KEY, Block, Key, Ragged, block_of
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

CLASSES = Registry()


@CLASSES.register
@dataclass
class Reading:
    value: Any
    more: Any = None


@CLASSES.register
@dataclass
class Other:
    value: int = 0


@dataclass
class Unknown:
    value: int = 0


class Celsius(PayloadType[float]):
    """As a user writes one: two methods, and nothing else."""

    def to_bytes(self, value: float) -> bytes:
        return struct.pack("<h", round(value * 100))

    def from_bytes(self, buffer: bytes) -> float | None:
        return struct.unpack("<h", buffer)[0] / 100 if len(buffer) == 2 else None


def block(*payloads: bytes) -> Block:
    head = numpy.zeros(len(payloads), KEY)
    head["cap"] = numpy.arange(len(payloads)) + 100
    return block_of(head, payloads)


def ragged(*payloads: bytes) -> Block:
    whole = block(*payloads)
    return Ragged(whole.keys(), numpy.frombuffer(b"".join(payloads), numpy.uint8), numpy.cumsum(whole.sizes()))


def pieces(data: Any, sizes: Any) -> list[bytes]:
    """What `encode_all` made, payload by payload."""
    if isinstance(sizes, int):
        return [bytes(data[at : at + sizes]) for at in range(0, len(data), sizes)] if sizes else []
    ends = sizes.tolist()
    return [bytes(data[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        return isinstance(other, float) and (one == other or (math.isnan(one) and math.isnan(other)))
    if isinstance(one, (tuple, list)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


# Round trips, for every type

INT = st.integers(-(2**31), 2**31 - 1)
SINGLE = st.floats(width=32)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TYPES: list[tuple[PayloadType[Any], st.SearchStrategy[Any]]] = [
    (StructPayloadType("<i"), INT),
    (StructPayloadType("?"), st.booleans()),
    (StructPayloadType(">d"), st.floats()),
    (StructPayloadType("8s"), st.binary(min_size=8, max_size=8)),
    (StructPayloadType("8p"), st.binary(max_size=7)),
    (StructPayloadType("0s"), st.just(b"")),
    (TuplePayloadType("if?"), st.tuples(INT, SINGLE, st.booleans())),
    (TuplePayloadType("?d"), st.tuples(st.booleans(), st.floats())),
    (
        TuplePayloadType("<2hq3s"),
        st.tuples(st.integers(-9, 9), st.integers(-9, 9), INT, st.binary(min_size=3, max_size=3)),
    ),
    (TuplePayloadType(""), st.just(())),
    (UnitPayloadType(), st.just(())),
    (BytesPayloadType(), st.binary(max_size=9)),
    (JsonPayloadType(), JSON.filter(lambda value: value is not None)),
    (
        RegisteredPayloadType(Reading, CLASSES),
        st.builds(Reading, JSON, st.binary(max_size=4) | SINGLE.filter(math.isfinite)),
    ),
    (Celsius(), st.integers(-30000, 30000).map(lambda value: value / 100)),
]


@given(st.data(), st.sampled_from(TYPES))
def test_values_come_back(data: st.DataObject, case: tuple[PayloadType[Any], st.SearchStrategy[Any]]) -> None:
    payload_type, strategy = case
    values = data.draw(st.lists(strategy, max_size=6))
    payloads = [payload_type.to_bytes(value) for value in values]
    assert all(type(payload) is bytes for payload in payloads)
    assert all(len(payload) == payload_type.width for payload in payloads) or payload_type.width < 0
    assert same([payload_type.from_bytes(payload) for payload in payloads], values)
    assert same([payload_type.from_bytes(memoryview(payload)) for payload in payloads], values)  # type: ignore[arg-type]

    encoded, sizes = payload_type.encode_all(values)
    assert b"".join(payloads) == bytes(encoded)
    assert payload_type.width <= 0 or sizes == payload_type.width
    if len({len(payload) for payload in payloads}) == 1:
        assert sizes == len(payloads[0])
    if not isinstance(sizes, int) or sizes:
        assert pieces(encoded, sizes) == payloads
    for held in (block(*payloads), ragged(*payloads)):
        assert same(list(payload_type.decode_all(held)), values)
        assert payload_type.misfits(held) is None


DTYPES = st.one_of(
    arrays.scalar_dtypes(),
    arrays.array_dtypes(arrays.scalar_dtypes(), min_size=1, max_size=4, allow_subarrays=True).filter(
        lambda dtype: not {"cid", "mid", "moid", "cap", "acq", "_size"} & set(dtype.names or ())
    ),
    st.sampled_from(["i,i,d", "(3,)f4", "(2,2)i2", "S3", "M8[us]"]),
)


@given(st.data(), DTYPES)
def test_values_of_numpy_come_back(data: st.DataObject, dtype: Any) -> None:
    dtype = numpy.dtype(dtype)
    payload_type = NumpyPayloadType(dtype)
    base, shape = dtype.subdtype or (dtype, ())
    array = data.draw(
        arrays.arrays(base, (3, *shape), elements=arrays.from_dtype(base) if base.names is None else None)
    )
    payloads = [payload_type.to_bytes(each) for each in array]
    assert [len(payload) for payload in payloads] == [dtype.itemsize] * 3 == [payload_type.width] * 3
    assert b"".join(payloads) == array.tobytes() or dtype.kind in "SUV"
    encoded, sizes = payload_type.encode_all(list(array))
    assert (bytes(encoded), sizes) == (b"".join(payloads), dtype.itemsize)
    for held in (block(*payloads), ragged(*payloads)):
        again = payload_type.decode_all(held)
        assert [payload_type.to_bytes(each) for each in again] == payloads
        assert all(one.dtype == each.dtype and one.shape == each.shape for one, each in zip(again, array, strict=True))
    assert payload_type.to_bytes(payload_type.from_bytes(payloads[0])) == payloads[0]


# Bytes that the vendor's client writes and reads


@pytest.mark.parametrize(
    ("payload_type", "value", "payload"),
    [
        (StructPayloadType("<i"), 17, "11000000"),
        (StructPayloadType(">i"), 17, "00000011"),
        (StructPayloadType("<q"), 17, "1100000000000000"),
        (StructPayloadType("<d"), 3.14, "1f85eb51b81e0940"),
        (StructPayloadType("5s"), b"abc", "6162630000"),
        (TuplePayloadType("if?"), (10, 24.0, True), "0a0000000000c04101"),
        (TuplePayloadType("?d"), (True, 1.0), "0100000000000000" + "000000000000f03f"),
        (TuplePayloadType("<?d"), (True, 1.0), "01" + "000000000000f03f"),
        (TuplePayloadType("bl"), (1, -1), "0100000000000000" + "ff" * 8),
        (UnitPayloadType(), 17, ""),
        (BytesPayloadType(), bytearray(b"\x00\x14"), "0014"),
        (BytesPayloadType(), memoryview(b"\x00\x14\x01")[::2], "0001"),
        (BytesPayloadType(), numpy.array([1, 2], "<i2"), "01000200"),
        (NumpyPayloadType("i,i,d"), (1, 2, 1.0), "0100000002000000000000000000f03f"),
        (NumpyPayloadType([("a", "<u2"), ("b", ">u2")]), (1, 1), "01000001"),
        (NumpyPayloadType(numpy.dtype([("a", "?"), ("b", "<f8")], align=True)), (True, 1.0), "01000000000000f03f"),
        (NumpyPayloadType("f4"), 1, "0000803f"),
        (NumpyPayloadType(("u1", 3)), [1, 2, 3], "010203"),
        (NumpyPayloadType(None), (), ""),
        (JsonPayloadType(), {"a": [1, None]}, b'{"a":[1,null]}'.hex()),
    ],
)
def test_golden_bytes(payload_type: PayloadType[Any], value: Any, payload: str) -> None:
    assert payload_type.to_bytes(value).hex() == payload


def test_the_layout_of_a_registered_class() -> None:
    head, text = b'["$",43,[[2,null]]]', b'{"$":["Reading",{"value":1,"more":{"$":0}}]}'
    head = head.replace(b"43", str(len(text)).encode())
    payload = RegisteredPayloadType(Reading, CLASSES).to_bytes(Reading(1, b"xy"))
    assert payload == len(head).to_bytes(4, "little") + head + text + b"xy"


def test_a_payload_is_read_as_nothing_whatever_it_holds() -> None:
    assert UnitPayloadType().from_bytes(b"\0\0\0\0") == ()
    assert UnitPayloadType().decode_all(block(b"abc", b"")) == [(), ()]
    assert UnitPayloadType().misfits(block(b"abc", b"")) is None


# What does not fit


@pytest.mark.parametrize(
    ("payload_type", "value", "says"),
    [
        (StructPayloadType("<i"), 2**31, "2147483648 does not fit StructPayloadType\\('<i'\\)"),
        (StructPayloadType("<i"), 1.0, "integer"),
        (StructPayloadType("<f"), 1e300, "too large"),
        (StructPayloadType("<i"), "1", "integer"),
        (StructPayloadType("2s"), b"abc", "cut off to 2 bytes"),
        (StructPayloadType("3p"), b"abc", "cut off to 2 bytes"),
        (TuplePayloadType("if?"), (1, 2.0), "expected 3 items"),
        (TuplePayloadType("if?"), 5, "does not fit"),
        (TuplePayloadType("i2s"), (1, b"abc"), "cut off to 2 bytes"),
        (NumpyPayloadType("u1"), 256, "does not hold it"),
        (NumpyPayloadType("u1"), 1.5, "make it integers"),
        (NumpyPayloadType("f4"), 1e300, "does not hold it"),
        (NumpyPayloadType("i,i"), (1,), "a tuple of 2 values \\(f0, f1\\)"),
        (NumpyPayloadType("i,i"), (1, 2**31), "does not hold it"),
        (NumpyPayloadType("(2,)i4"), [1, 2, 3], "shape"),
        (NumpyPayloadType("f8"), (1.0, 2.0), "one value each"),
        (NumpyPayloadType("f8"), [], "one value each"),
        (NumpyPayloadType("f8"), numpy.zeros((1, 1)), "one value each"),
        (NumpyPayloadType("f4,f4"), ([1], 3), "one value each"),
        (NumpyPayloadType("S2"), b"abc", "does not hold it"),
        (NumpyPayloadType("V2"), b"abc", "does not hold it"),
        (BytesPayloadType(), "text", "str is not bytes"),
        (BytesPayloadType(), 5, "int is not bytes"),
        (JsonPayloadType(), math.nan, "it is not JSON"),
        (JsonPayloadType(), None, "it is not JSON"),
        (JsonPayloadType(), b"x", "it is not JSON"),
        (JsonPayloadType(), {"a": Reading(1)}, "no wire form"),
        (RegisteredPayloadType(Reading, CLASSES), Other(), "no Reading"),
        (RegisteredPayloadType(Unknown, CLASSES), Unknown(), "register the class"),
        (Celsius(), 1e9, "short|format"),
    ],
)
def test_values_that_do_not_fit(payload_type: PayloadType[Any], value: Any, says: str) -> None:
    if not isinstance(payload_type, Celsius):
        with pytest.raises(ValueNotSupported, match=says):
            payload_type.to_bytes(value)
    keys = [Key(1, 2, 3, 4)]
    with pytest.raises(
        ValueNotSupported, match=r"record Key\(cid=1, mid=2, moid=3, cap=4, acq=0\) can't be put: "
    ) as caught:
        payload_type.encode_all([value], keys)
    assert str(caught.value).count(f"does not fit {payload_type}") == 1
    with pytest.raises(ValueNotSupported, match="record 0 can't be put"):
        payload_type.encode_all([value])


def test_the_first_value_that_does_not_fit_is_named() -> None:
    for payload_type in (StructPayloadType[int]("<h"), NumpyPayloadType("<i2")):
        with pytest.raises(ValueNotSupported, match="record 2 can't be put: 40000 does not fit"):
            payload_type.encode_all([1, 2, 40000, 50000])


@pytest.mark.parametrize(
    ("payload_type", "payload"),
    [
        (StructPayloadType("<i"), b"abc"),
        (StructPayloadType("<i"), b"abcde"),
        (TuplePayloadType("?d"), b"123456789"),
        (NumpyPayloadType("i,i,d"), b""),
        (NumpyPayloadType(None), b"x"),
        (JsonPayloadType(), b"{"),
        (JsonPayloadType(), b""),
        (JsonPayloadType(), b"null"),
        (JsonPayloadType(), b"[NaN]"),
        (RegisteredPayloadType(Reading, CLASSES), b""),
        (RegisteredPayloadType(Reading, CLASSES), b"\xff\xff\xff\xff{}"),
        (RegisteredPayloadType(Reading, CLASSES), b"\x02\0\0\0{}[]"),
        (RegisteredPayloadType(Reading, CLASSES), RegisteredPayloadType(Other, CLASSES).to_bytes(Other())),
        (RegisteredPayloadType(Reading, Registry()), RegisteredPayloadType(Reading, CLASSES).to_bytes(Reading(1))),
        (Celsius(), b"abc"),
    ],
)
def test_bytes_that_do_not_fit(payload_type: PayloadType[Any], payload: bytes) -> None:
    assert payload_type.from_bytes(payload) is None
    with pytest.raises(ValueNotSupported):
        payload_type.read(payload)
    for held in (block(payload), ragged(payload)):
        with pytest.raises(ValueNotSupported, match=r"the payload of Key\(cid=0, mid=0, moid=0, cap=100, acq=0\)"):
            payload_type.decode_all(held)
        found = payload_type.misfits(held)
        assert found is not None
        assert found.tolist() == [True]


@pytest.mark.parametrize("payload_type", [StructPayloadType("<h"), NumpyPayloadType("<i2"), Celsius()])
def test_the_first_payload_that_does_not_fit_is_named(payload_type: PayloadType[Any]) -> None:
    held = block(b"ab", b"cd", b"x", b"ef", b"yyy")
    with pytest.raises(ValueNotSupported, match="cap=102"):
        payload_type.decode_all(held)
    found = payload_type.misfits(held)
    assert found is not None
    assert found.tolist() == [False, False, True, False, True]


@given(st.binary(max_size=40))
def test_no_bytes_are_more_than_refused(payload: bytes) -> None:
    for payload_type, _ in TYPES:
        if payload_type.from_bytes(payload) is None:
            assert payload_type.misfits(block(payload)) is not None
        else:
            assert payload_type.misfits(block(payload)) is None


def test_what_a_type_of_ones_own_raises_is_named() -> None:
    class Broken(PayloadType[int]):
        def to_bytes(self, value: int) -> bytes:
            return value  # type: ignore[return-value]

        def from_bytes(self, buffer: bytes) -> int:
            raise ZeroDivisionError("oh")

    with pytest.raises(ValueNotSupported, match=r"record 0 can't be put: 5 does not fit Broken\(\)"):
        Broken().encode_all([5])
    with pytest.raises(ValueNotSupported, match="ZeroDivisionError"):
        Broken().read(b"x")


# Arrays and types


def test_arrays_of_a_registered_class_are_writable_and_ones_own() -> None:
    payload_type = RegisteredPayloadType(Reading, CLASSES)
    payload = payload_type.to_bytes(Reading(numpy.arange(3), [b"x"]))
    found = payload_type.from_bytes(payload)
    assert found is not None
    found.value[0] = 9
    again = payload_type.from_bytes(payload)
    assert again is not None
    assert (again.value.tolist(), again.more) == ([0, 1, 2], [b"x"])


def test_structures_with_other_names_of_fields() -> None:
    array = numpy.array([(1, "2020-01-01T00:00:00.000000001")], [("x", "i8"), ("y", "M8[ns]")])
    found = NumpyPayloadType([("a", "i4"), ("b", "M8[ns]")]).to_bytes(array[0])
    assert found == array["x"].astype("<i4").tobytes() + array["y"].tobytes()


def test_a_numpy_type_without_bytes() -> None:
    assert NumpyPayloadType(None).from_bytes(b"").dtype == numpy.dtype([])
    assert len(NumpyPayloadType(None).decode_all(block(b"", b""))) == 2


def test_the_types_of_fields() -> None:
    assert StructPayloadType("<d").dtype == numpy.dtype([("value", "<f8")])
    assert TuplePayloadType("if?").dtype == numpy.dtype([("f0", "<i4"), ("f1", "<f4"), ("f2", "?")])
    assert TuplePayloadType("?d").dtype == numpy.dtype(
        {"names": ["f0", "f1"], "formats": ["?", "<f8"], "offsets": [0, 8], "itemsize": 16}
    )
    assert TuplePayloadType("3p").dtype is None
    assert NumpyPayloadType("f4").dtype == numpy.dtype([("v0", "<f4")])
    assert NumpyPayloadType("i,i,d").dtype == numpy.dtype([("f0", "<i4"), ("f1", "<i4"), ("f2", "<f8")])
    assert NumpyPayloadType([("a", "?"), ("b", "f8", (2,))]).width == 17
    assert NumpyPayloadType(numpy.dtype([("a", "?"), ("b", "f8")], align=True)).width == 9
    assert UnitPayloadType().dtype == numpy.dtype([])
    assert JsonPayloadType().dtype is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: StructPayloadType("ii"), "2 values, not one"),
        (lambda: StructPayloadType(""), "0 values"),
        (lambda: TuplePayloadType("k"), "no format"),
        (lambda: NumpyPayloadType("O"), "Python objects"),
        (lambda: NumpyPayloadType([("cap", "i4")]), "'cap' is a field of the key"),
        (lambda: NumpyPayloadType([("_size", "i4")]), "'_size' is a field"),
        (lambda: NumpyPayloadType("nonsense"), "no type that NumPy knows"),
        (lambda: RegisteredPayloadType(Reading(1)), "no class"),  # type: ignore[arg-type]
    ],
)
def test_types_that_can_not_be(make: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make()


def test_types_show_what_they_are() -> None:
    assert repr(TuplePayloadType("if?")) == "TuplePayloadType('if?')"
    assert repr(NumpyPayloadType("<i,<d")) == "NumpyPayloadType([('f0', '<i4'), ('f1', '<f8')])"
    assert repr(NumpyPayloadType("<f4")) == "NumpyPayloadType(<f4)"
    assert repr(NumpyPayloadType("3<f8")) == "NumpyPayloadType((3,)<f8)"
    assert repr(RegisteredPayloadType(Reading)) == "RegisteredPayloadType(Reading)"
    assert repr(BytesPayloadType()) == "BytesPayloadType()"

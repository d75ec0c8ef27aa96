from __future__ import annotations

import contextlib
import datetime
import enum
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from handshakes.errors import RemoteProtocolError, ValueNotSupported
from handshakes.messages import Registry
from handshakes.values import Form, array_head, array_memory, decode, encode, read_array_head
from tests.handshakes.pair import DOCUMENTED

RAW, JSON, ARRAY, TREE = Form

CLASSES = Registry()


@CLASSES.register
@dataclass
class Reading:
    value: Any
    more: Any = None
    count: int = field(default=0, init=False)


class Colour(enum.Enum):
    RED = "red"
    NOTHING = math.nan


def trip(value: object, *, shared: bool = False, writable: bool = True) -> Any:
    """Encode, join, decode; the size must be that of the buffers."""
    form, head, buffers, size = encode(value, CLASSES)
    body: bytes | bytearray = bytearray().join(buffers)
    assert len(body) == size
    assert all(memoryview(each).itemsize == 1 and memoryview(each).ndim == 1 for each in buffers)
    return decode(form, head, body if writable else bytes(body), CLASSES, shared)


def same(one: Any, other: Any) -> bool:
    """Whether `other` is what `one` arrives as."""
    if isinstance(one, numpy.ndarray):
        return (
            type(other) is numpy.ndarray
            and one.dtype == other.dtype
            and one.shape == other.shape
            and numpy.asarray(one).tobytes() == other.tobytes()
        )
    if isinstance(one, (bytes, bytearray, memoryview)):
        return type(other) is bytes and bytes(one) == other
    if isinstance(one, float):
        return type(other) is float and (one == other or (math.isnan(one) and math.isnan(other)))
    if isinstance(one, (list, tuple)):
        return type(other) is list and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return type(other) is dict and list(one) == list(other) and all(map(same, one.values(), other.values()))
    if isinstance(one, Reading):
        names = ("value", "more", "count")
        return type(other) is Reading and all(same(vars(one).get(name, 0), vars(other)[name]) for name in names)
    return type(one) is type(other) and bool(one == other)


# Golden bytes


@pytest.mark.parametrize(
    ("value", "form", "head", "body"),
    [
        (b"raw", 0, b"", b"raw"),
        (bytearray(b"raw"), 0, b"", b"raw"),
        (memoryview(b"raw")[::-1], 0, b"", b"war"),
        ({"a": [1, None, True, "é"]}, 1, b"", '{"a":[1,null,true,"é"]}'.encode()),
        ((1, 2), 1, b"", b"[1,2]"),
        (None, 1, b"", b"null"),
        (numpy.array([[1, 2]], "<i2"), 2, b'["<i2",[1,2],"C"]', b"\x01\0\x02\0"),
        (
            numpy.array([[1, 2], [3, 4]], ">u2", order="F"),
            2,
            b'[">u2",[2,2],"F"]',
            b"\0\x01\0\x03\0\x02\0\x04",
        ),
        (numpy.array(True), 2, b'["|b1",[],"C"]', b"\x01"),
        (math.nan, 3, b'["$",11,[]]', b'{"$":"nan"}'),
        ([math.inf, -math.inf], 3, b'["$",26,[]]', b'[{"$":"inf"},{"$":"-inf"}]'),
        ([b"ab", b"c"], 3, b'["$",17,[[2,null],[1,null]]]', b'[{"$":0},{"$":1}]abc'),
        (
            ["$", b"c"],
            3,
            b'["$300ae1408917eb3622613d10",37,[[1,null]]]',
            b'["$",{"$300ae1408917eb3622613d10":0}]c',
        ),
        (
            [numpy.array([7], "<u4")],
            3,
            b'["$",9,[[4,"[\\"<u4\\",[1],\\"C\\"]"]]]',
            b'[{"$":0}]\x07\0\0\0',
        ),
        (
            Reading(1, b"x"),
            3,
            b'["$",54,[[1,null]]]',
            b'{"$":["Reading",{"value":1,"more":{"$":0},"count":0}]}x',
        ),
    ],
)
def test_the_bytes_of_a_value(value: object, form: int, head: bytes, body: bytes) -> None:
    got_form, got_head, buffers, size = encode(value, CLASSES)
    assert (got_form, got_head, b"".join(buffers), size) == (form, head, body, len(body))
    assert same(value, decode(form, head, body, CLASSES))


def test_the_shared_memory_of_a_body_is_copied() -> None:
    form, head, buffers, _ = encode([numpy.array([1, 2]), b"raw"])
    body = bytearray().join(buffers)
    kept, view = decode(form, head, body, shared=True), decode(form, head, body)
    body[-19:] = bytes(19)
    assert kept[0].tolist() == [1, 2]
    assert view[0].tolist() == [0, 0]
    assert kept[1] == view[1] == b"raw"
    kept[0][0] = 5


def test_an_array_is_a_view_on_what_was_received() -> None:
    body = bytearray(8)
    array = decode(ARRAY, b'["<i4",[2],"C"]', body)
    body[0] = 9
    array[1] = 1
    assert array.tolist() == [9, 1]
    assert body == b"\x09\0\0\0\x01\0\0\0"
    assert decode(ARRAY, b'["<i4",[2],"C"]', bytearray(body), shared=True).flags.writeable
    assert not decode(ARRAY, b'["<i4",[2],"C"]', bytes(body)).flags.writeable


# Round trips

DTYPES = st.one_of(
    arrays.scalar_dtypes(), arrays.array_dtypes(max_size=3), arrays.nested_dtypes(max_itemsize=400)
).filter(lambda dtype: dtype.itemsize > 0 and dtype.subdtype is None)


@st.composite
def any_array(draw: st.DrawFn) -> Any:
    dtype = draw(DTYPES)
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    size = dtype.itemsize * math.prod(shape)
    data = draw(st.binary(min_size=min(size, 64), max_size=min(size, 64)))
    plain = numpy.frombuffer((data * (size // max(1, len(data)) + 1))[:size], numpy.uint8).copy()
    array = numpy.ndarray(shape, dtype, plain, order=draw(st.sampled_from("CF")))
    cut = draw(st.sampled_from(["whole", "backwards", "thin", "turned"]))
    if cut == "backwards" and array.ndim:
        return array[::-1]
    if cut == "thin" and array.ndim:
        return array[..., ::2]
    return array.T if cut == "turned" else array


TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(["$", "$1", '"$"', '\\"$\\"', "nan"]))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    TEXTS,
    st.binary(max_size=8),
    st.binary(max_size=8).map(bytearray),
    any_array(),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(TEXTS, inner, max_size=4),
        st.builds(Reading, inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=120)
@given(VALUES, st.booleans(), st.booleans())
def test_a_value_comes_back(value: object, shared: bool, writable: bool) -> None:
    assert same(value, trip(value, shared=shared, writable=writable))


@settings(max_examples=100)
@given(any_array(), st.booleans())
def test_an_array_comes_back(array: Any, shared: bool) -> None:
    twin = trip(array, shared=shared)
    assert same(array, twin)
    assert twin.flags.writeable


def test_memory_order_is_kept() -> None:
    twin = trip(numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)))
    assert twin.flags.f_contiguous
    assert not twin.flags.c_contiguous


def test_contiguous_memory_is_not_copied() -> None:
    array = numpy.arange(6.0).reshape(2, 3)
    for each in (array, array.T, numpy.asfortranarray(array), array[1:]):
        assert numpy.shares_memory(numpy.asarray(array_memory(each)), each)
    data = bytearray(8)
    (buffer,) = encode(data)[2]
    data[0] = 7
    assert bytes(buffer)[0] == 7


@pytest.mark.parametrize(
    "value",
    [
        numpy.rec.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
        numpy.zeros(2, numpy.dtype([("a", "i1"), ("b", "f8")], align=True)),
        numpy.zeros(2, [(("title", "name"), "<i4")]),
        numpy.zeros(2, [("a", [("x", "<i4", (2,)), ("y", "<f8")], (2, 3))]),
        numpy.zeros(2, [("a", numpy.dtype((numpy.dtype(("<f4", (2,))), (3,))))]),
        numpy.zeros(1, [("a", [("b", "<i4")])]),
        numpy.array(["2020-01-01", "NaT"], "M8[D]"),
        numpy.array([5], "m8[7s]"),
        numpy.array(["é", ""], "U2"),
        numpy.ones((1,) * 32),
        numpy.zeros((0, 5)),
    ],
    ids=lambda value: str(value.dtype),
)
def test_unusual_arrays_come_back(value: Any) -> None:
    assert same(value, trip(value))


def test_a_subclass_arrives_as_a_plain_array() -> None:
    class Matrix(numpy.ndarray):  # type: ignore[type-arg]
        def reshape(self, *shape: Any, **_options: Any) -> Any:
            return super().reshape(1, -1)  # as that of numpy.matrix does

    matrix = numpy.arange(6).reshape(2, 3).view(Matrix)
    assert same(numpy.arange(6).reshape(2, 3), trip(matrix))
    assert same([numpy.arange(6).reshape(2, 3)], trip([matrix]))


@pytest.mark.parametrize("data", [numpy.arange(3, dtype=">i4"), numpy.zeros((0, 3)), numpy.eye(2), numpy.eye(2).T[1:]])
def test_memory_of_any_layout_arrives_as_its_bytes(data: Any) -> None:
    assert trip(memoryview(data)) == data.tobytes()
    assert trip([memoryview(data)]) == [data.tobytes()]


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (numpy.float64(1.5), 1.5),
        (numpy.float16("inf"), math.inf),
        ([numpy.float32("nan"), numpy.uint64(2**64 - 1), numpy.bool_(True)], [math.nan, 2**64 - 1, True]),
        (numpy.str_("word"), "word"),
        (numpy.bytes_(b"ab"), b"ab"),
        (Colour.RED, "red"),
        ([Colour.RED, math.nan], ["red", math.nan]),
        ([Colour.NOTHING], [math.nan]),
        ([None, (1.0, 2)], [None, [1.0, 2]]),
        ([None, {"a": math.nan, "b": (1, -math.inf)}], [None, {"a": math.nan, "b": [1, -math.inf]}]),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc), "2020-01-02T00:00:00+00:00"),
        ([Reading((1, math.nan), Reading(b"x"))], [Reading([1, math.nan], Reading(b"x"))]),
    ],
    ids=repr,
)
def test_some_values_arrive_as_something_else(value: object, arrives: object) -> None:
    assert same(arrives, trip(value))


def endless() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def deep(depth: int, leaf: object) -> object:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


@dataclass
class Unknown:
    x: int = 1


class Sneaky:
    def __init__(self) -> None:
        self.state = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__" and object.__getattribute__(self, "state") == 2:
            raise OSError("whatever the user's code raises")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Unknown(),
        [Unknown()],
        2**64,
        "\ud800",
        {1: 2},
        {1, 2},
        1j,
        numpy.complex64(1),
        numpy.longdouble(1),
        numpy.datetime64(1, "s"),
        numpy.array([None]),
        [numpy.array([None])],
        numpy.ma.array([1]),
        [numpy.ma.array([1])],
        numpy.zeros(2, "longdouble"),
        numpy.zeros(2, [("a", "clongdouble")]),
        numpy.zeros(2, "V0"),
        numpy.zeros(2, [("a", "S0")]),
        numpy.zeros(2, []),
        numpy.zeros(2, [("\ud800", "i4")]),
        numpy.zeros(2, {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}),
        endless(),
        [endless(), math.nan],
        deep(300, 1.0),
        Reading(endless()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_is_named(value: object) -> None:
    with pytest.raises(ValueNotSupported):
        encode(value, CLASSES)


def test_an_attribute_that_fails_is_no_value() -> None:
    classes = Registry()
    classes.register(Sneaky)
    sneaky = Sneaky()
    sneaky.state = 2
    with pytest.raises(ValueNotSupported):
        encode(sneaky, classes)


def test_as_deep_as_it_may_be_written_it_can_be_read() -> None:
    assert same(deep(240, math.nan), trip(deep(240, math.nan)))
    assert same(deep(240, 1), trip(deep(240, 1)))


def test_a_class_that_is_only_known_to_the_sender() -> None:
    form, head, buffers, _ = encode([Reading(1)], CLASSES)
    with pytest.raises(ValueNotSupported, match="'Reading' arrived"):
        decode(form, head, b"".join(buffers), Registry())


# What may arrive


def tree(text: bytes, parts: object = (), rest: bytes = b"", mark: object = "$") -> Any:
    return decode(TREE, orjson.dumps([mark, len(text), parts]), text + rest, CLASSES)


@pytest.mark.parametrize(
    "text",
    [
        b'{"$":0}',
        b'{"$":-1}',
        b'{"$":true}',
        b'{"$":0.0}',
        b'{"$":null}',
        b'{"$":"NaN"}',
        b'{"$":{}}',
        b'{"$":[]}',
        b'{"$":["Reading"]}',
        b'{"$":["Reading",{},1]}',
        b'{"$":["Reading",[]]}',
        b'{"$":[["Reading"],{}]}',
        b'{"$":[{},{}]}',
        b'{"$":[null,{}]}',
        b'[{"$":{"$":0}}]',
        b"",
        b"{",
        b"nan",
        b'"\\ud800"',
        b"\xff",
        b"[" * 900 + b"]" * 900,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b"[" * 5000,
    ],
)
def test_a_tree_that_means_nothing(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        tree(text)


def test_a_mark_with_company_is_a_word_of_the_user() -> None:
    assert tree(b'{"$":0,"a":1}') == {"$": 0, "a": 1}


ARRAY_HEAD = '["<u2",[1],"C"]'


@pytest.mark.parametrize(
    "parts",
    [
        [[1, None]],
        [[3, None]],
        [[-1, None]],
        [[True, None], [1, None]],
        [[2.0, None]],
        [["2", None]],
        [[None, None]],
        [[2, 5]],
        [[2, []]],
        [[2, "x"]],
        [[2, "[]"]],
        [[2, '["<u4",[1],"C"]']],
        [[2, '["<u2",[0,4611686018427387904,4611686018427387904],"C"]']],
        [[1, ARRAY_HEAD], [1, None]],
        [[2]],
        [[2, None, 1]],
        [2],
        ["ab"],
        5,
        None,
        {"a": 1},
        [[2, None], [2**63, None]],
        [[2**64 - 1, None]],
    ],
    ids=repr,
)
def test_parts_that_do_not_add_up(parts: object) -> None:
    assert tree(b"[]", [[2, None]], b"ab") == []
    with pytest.raises(RemoteProtocolError):
        tree(b"[]", parts, b"ab")


@pytest.mark.parametrize(
    "head",
    [b"", b"[", b"[]", b"5", b"null", b'"abc"', b'{"a":1}', b'["$",2]', b'["$",2,[],1]']
    + [orjson.dumps(["$", size, []]) for size in (-2, -1, 0, 1, 3, 2.0, "2", None, [], 2**64 - 1)]
    + [orjson.dumps([mark, 2, []]) for mark in (None, 1, [], {})],
)
def test_a_malformed_head_of_a_tree(head: bytes) -> None:
    assert decode(TREE, b'["$",2,[]]', b"[]") == []
    with pytest.raises(RemoteProtocolError):
        decode(TREE, head, b"[]")


DESCRIPTIONS = [
    *[
        "",
        "O",
        "|O",
        "|O8",
        "V",
        "|V0",
        "|S0",
        "<U0",
        "<f16",
        "<c32",
        "<f3",
        "|b2",
        "float",
        "object",
        "str",
        "T",
    ],
    *[
        "i4",
        "<i4,<i4",
        "2<i4",
        "(2,3)<f8",
        "a5",
        "|a5",
        "p",
        "<M8[0s",
        "<M8[1\0s]",
        "<M8[xx]",
        "<M8[99999999999s]",
    ],
    *["|V99999999999", "|S9999999999", "<U999999999", "<i4\0", "<i٤", "{'names':['a'],'formats':['O']}"],
    *[
        None,
        5,
        1.5,
        True,
        {},
        {"a": 1},
        [],
        [[]],
        ["<f4"],
        ["<f4", [2]],
        ["<f4", "ab"],
        ["<f4", 3],
        ["<f4", [0]],
    ],
    *[
        [["a"]],
        [["a", "|O"]],
        [["a", 5]],
        [["a", None]],
        [["a", []]],
        [["a", "<f4"], ["a", "<f4"]],
        [[5, "<f4"]],
    ],
    *[
        [["a", "<f4", [-1]]],
        [["a", "<f4", [1.5]]],
        [["a", "<f4", "xy"]],
        [["a", "<f4", 2]],
        [["a", "<f4", [2], 3]],
    ],
    *[
        [["a", "<f4", [2**40]]],
        [["a", "<f4", [0]]],
        [["a", ["<f4", [2**31]]]],
        [[["t"], "<f4"]],
        [[[1, 2], "<f4"]],
    ],
    *[[[{}, "<f4"]], [[None, "<f4"]], [["a", "<f4", [1] * 70]]],
]


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=repr)
def test_a_type_of_elements_that_may_not_travel(description: object) -> None:
    with pytest.raises(RemoteProtocolError):
        read_array_head(orjson.dumps([description, [1], "C"]))


NOTED = numpy.dtype("<f4", metadata={"unit": "m"})


@pytest.mark.parametrize(
    "dtype",
    [
        NOTED,
        numpy.dtype([("x", NOTED), ("y", NOTED, (2,)), ("z", "<i2")]),
        numpy.dtype([("x", [("y", NOTED), (("title", "z"), NOTED)], (3,))], metadata={"made": "here"}),
        numpy.dtype([("x", numpy.dtype((NOTED, (2,))), (3,))]),
        numpy.dtype({"names": ["x"], "formats": [NOTED], "offsets": [4], "itemsize": 12}),
    ],
    ids=str,
)
@pytest.mark.parametrize("wrap", [lambda array: array, lambda array: [array]])
def test_metadata_stay_behind_in_silence(dtype: Any, wrap: Callable[[Any], Any]) -> None:
    """Warnings are errors here; numpy gives one where it describes a dtype with metadata."""
    array = numpy.zeros((1, 2, 1, 1, 1), dtype)  # a shape of no other test: descriptions are kept
    back = trip(wrap(array))
    assert same(wrap(array), back)
    assert (back[0] if isinstance(back, list) else back).dtype.metadata is None


def test_types_nested_without_end() -> None:
    nested = b'[["a",' * 480 + b'"<f4"' + b"]]" * 480
    with pytest.raises(RemoteProtocolError):
        read_array_head(b"[" + nested + b',[1],"C"]')


@pytest.mark.parametrize(
    "shape",
    [[-1], [2**63], [2**64 - 1], [True], [1.0], ["1"], [None], [[1]], 5, "ab", None, [1] * 65],
    ids=repr,
)
def test_a_shape_that_is_not_allowed(shape: object) -> None:
    with pytest.raises(RemoteProtocolError):
        read_array_head(orjson.dumps(["<f4", shape, "C"]))


@pytest.mark.parametrize("order", ["A", "K", "c", "", None, 1, [], {}], ids=repr)
def test_an_order_that_is_not_allowed(order: object) -> None:
    with pytest.raises(RemoteProtocolError):
        read_array_head(orjson.dumps(["<f4", [1], order]))


@pytest.mark.parametrize("head", [b"", b"[]", b"5", b"{}", b'["<f4",[1]]', b'["<f4",[1],"C",1]', b"\xff", b"[" * 3000])
def test_a_malformed_head_of_an_array(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(ARRAY, head, bytes(4))


@pytest.mark.parametrize("body", [b"", bytes(3), bytes(5), bytes(4096)])
def test_an_array_of_another_size(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="an array of 4 bytes came with"):
        decode(ARRAY, b'["<f4",[1],"C"]', body)


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [0, 2**63 - 1], [2**32, 2**32, 0]])
@pytest.mark.parametrize("order", "CF")
def test_an_empty_array_with_extents_beyond_all_memory(shape: list[int], order: str) -> None:
    head = orjson.dumps(["<f4", shape, order])
    with pytest.raises(RemoteProtocolError, match="a shape that can't be made"):
        decode(ARRAY, head, b"")
    with pytest.raises(RemoteProtocolError, match="a shape that can't be made"):
        read_array_head(head).rows(b"", 3)


# Rows: many arrays in one body


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0, 2), (1,) * 32])
@pytest.mark.parametrize("order", "CF")
def test_rows_are_views_one_after_the_other(shape: tuple[int, ...], order: Any) -> None:
    made = [numpy.full(shape, number, "<f4", order=order) for number in range(3)]
    for each in made:
        each.ravel(order)[:1] += 0.5
    body = bytearray().join(bytes(array_memory(each)) for each in made)
    rows = read_array_head(array_head(made[0])).rows(body, 3)
    assert all(map(same, made, rows))
    if body:
        rows[2][...] = 9
        assert numpy.frombuffer(body, "<f4")[-1] == 9


@pytest.mark.skipif(numpy.__version__ < "2", reason="64 dimensions came with numpy 2")
def test_rows_of_as_many_dimensions_as_there_are() -> None:
    array = numpy.ones((1,) * 64, "<f4")
    assert all(map(same, [array, array], read_array_head(array_head(array)).rows(bytes(array_memory(array)) * 2, 2)))


@pytest.mark.parametrize("size", [0, 8, 11, 13])
def test_rows_of_another_size(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match="3 arrays of 4 bytes came with"):
        read_array_head(b'["<f4",[1],"C"]').rows(bytes(size), 3)


# Fuzz


def test_an_unknown_form() -> None:
    with pytest.raises(RemoteProtocolError, match="unknown form 4"):
        decode(4, b"", b"")


@pytest.mark.parametrize("body", [b"", b"{", b"[1,]", b"NaN", b"1e999", b"\xff", b"[" * 5000, b'"\\ud800"'])
def test_json_that_is_none(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not well-formed JSON"):
        decode(JSON, b"", body)


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**64 - 1)
    | st.floats(-2, 2)
    | TEXTS
    | st.sampled_from(["C", "<f4", "Reading"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
).map(orjson.dumps)
HEADS = st.one_of(
    st.binary(max_size=30),
    JSONS,
    st.builds(
        lambda description, shape, order: orjson.dumps([description, shape, order]),
        st.sampled_from(DESCRIPTIONS) | st.sampled_from(["<f4", "|u1", ">M8[ns]", [["a", "<f4"]]]),
        st.lists(st.integers(-1, 4) | st.integers(0, 2**63), max_size=4),
        st.sampled_from("CF"),
    ),
    st.builds(
        lambda size, parts: orjson.dumps(["$", size, parts]),
        st.integers(0, 40),
        st.lists(st.tuples(st.integers(-2, 20), st.sampled_from([None, ARRAY_HEAD, "", 3])), max_size=3),
    ),
)
BODIES = st.one_of(st.binary(max_size=40), JSONS, st.builds(bytes.__add__, JSONS, st.binary(max_size=20)))


@settings(max_examples=300)
@given(st.integers(0, 5), HEADS, BODIES, st.booleans())
def test_whatever_arrives_raises_nothing_else(form: int, head: bytes, body: bytes, shared: bool) -> None:
    with contextlib.suppress(*DOCUMENTED):
        decode(form, head, body, CLASSES, shared)


@settings(max_examples=100)
@given(VALUES, st.data())
def test_one_wrong_byte_raises_nothing_else(value: object, data: st.DataObject) -> None:
    form, head, buffers, _ = encode(value, CLASSES)
    whole = bytearray(head + b"".join(buffers))
    if whole:
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(*DOCUMENTED):
        decode(form, bytes(whole[: len(head)]), bytes(whole[len(head) :]), CLASSES)


def test_a_named_tuple_arrives_as_a_list_like_any_other() -> None:
    class Pair(NamedTuple):
        x: int
        y: bytes

    form, value_head, buffers, _ = encode({"at": Pair(1, b"two")})
    assert decode(form, value_head, b"".join(buffers)) == {"at": [1, b"two"]}

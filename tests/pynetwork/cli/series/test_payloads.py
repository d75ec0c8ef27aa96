from __future__ import annotations

import argparse
from typing import Any

import pytest

from pynetwork.cli.series.payloads import Payload, numbers_payload, payload_of
from pynetwork.series.conversions import block_from
from pynetwork.series.record import Record
from tests.pynetwork.cli.series.stores import ROOM, texts


def block(payload: Payload, *values: Any) -> Any:
    return block_from([Record(ROOM.key(at), value) for at, value in enumerate(values)], payload.type)


@pytest.mark.parametrize(
    ("text", "names", "width"),
    [
        ("if?", ["f0", "f1", "f2"], 9),
        ("d", ["f0"], 8),
        ("?d", ["f0", "f1"], 16),
        ("<?d", ["f0", "f1"], 9),
        ("4i", ["f0", "f1", "f2", "f3"], 16),
        ("f8", ["v0"], 8),
        ("f8,f8", ["f0", "f1"], 16),
        ("(3,)f4,i2", ["f0", "f1"], 14),
        (" x:f8 , y:i2 ", ["x", "y"], 10),
        ("name:S8,ok:?", ["name", "ok"], 9),
        ("json", ["value"], -1),
        ("bytes", ["value"], -1),
    ],
)
def test_payloads(text: str, names: list[str], width: int) -> None:
    payload = payload_of(text)
    assert (payload.names, payload.type.width) == (names, width)
    assert payload.has_fields == (width >= 0)


@pytest.mark.parametrize("text", ["", "f8,g8", "x:", ":f8", "x:f8,y", "cap:f8", "O", "10p", "x:f8,x:f8"])
def test_what_is_no_payload(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"write 'if\?'"):
        payload_of(text)


def test_columns() -> None:
    payload = payload_of("if?")
    columns = payload.columns(block(payload, (1, 0.5, True), (2, -1.5, False)))
    assert [column.tolist() for column in columns] == [[1, 2], [0.5, -1.5], [True, False]]
    json = payload_of("json")
    assert json.columns(block(json, {"a": 1}, [2]))[0].tolist() == [{"a": 1}, [2]]
    plain = payload_of("bytes")
    assert plain.columns(texts(ROOM, b"", b"xy"))[0].tolist() == [b"", b"xy"]


def test_what_is_not_of_the_type_is_found() -> None:
    mixed = texts(ROOM, b"12345678", b"123", b"87654321")
    assert [mixed.key(0), mixed.key(2)] == [payload_of("d").fitting(mixed).key(index) for index in range(2)]
    alike = texts(ROOM, b"12345678", b"87654321")
    assert payload_of("d").fitting(alike) is alike
    assert len(payload_of("json").fitting(texts(ROOM, b"{", b"[1]"))) == 1


def test_numbers() -> None:
    payload = payload_of("name:S2,ok:?,acc:(2,)f4,n:u1")
    found = payload.numbers(block(payload, (b"a", True, (1, 2), 3), (b"b", False, (4, 5), 6)))
    assert {name: column.tolist() for name, column in found.items()} == {
        "ok": [True, False],
        "acc[0]": [1.0, 4.0],
        "acc[1]": [2.0, 5.0],
        "n": [3, 6],
    }


def test_numbers_of_json() -> None:
    json = payload_of("json")
    found = json.numbers(block(json, {"a": 1, "b": "x"}, 7, {"a": True}, "text"))
    assert {name: [str(each) for each in column.tolist()] for name, column in found.items()} == {
        "a": ["1.0", "nan", "1.0", "nan"],
        "value": ["nan", "7.0", "nan", "nan"],
    }
    assert payload_of("bytes").numbers(texts(ROOM, b"12345678")) == {}


def test_a_double_for_each_column() -> None:
    assert numbers_payload(["watt", "volt"]).type.width == 16

from __future__ import annotations

import io
import struct
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from handshakes.errors import ConnectionLost, NotFound, PynetworkError, RemoteProtocolError, ValueNotSupported
from pynetwork import backend2
from pynetwork.backend2 import DataType
from tests.serving import PATIENCE

# What pynetwork 2.4 wrote for these values on a little-endian machine.
WRITTEN_BY_24 = [
    (DataType.char, b"x", "78"),
    (DataType.bool, True, "01"),
    (DataType.bool, False, "00"),
    (DataType.int, -2, "feffffff"),
    (DataType.int, 1857, "41070000"),
    (DataType.int_unsigned, 4294967295, "ffffffff"),
    (DataType.long, -3, "fdffffffffffffff"),
    (DataType.long, 1099511627781, "0500000000010000"),
    (DataType.long_unsigned, 18446744073709551615, "ffffffffffffffff"),
    (DataType.float, 0.25, "0000803e"),
    (DataType.float, -1.5, "0000c0bf"),
    (DataType.double, 0.1, "9a9999999999b93f"),
    (DataType.string, "Grad é€", "4772616420c3a9e282ac"),
    (DataType.list, [1, "é", None, 2.5, [True]], "5b312c20225c7530306539222c206e756c6c2c20322e352c205b747275655d5d"),
    (DataType.tuple, (1, "b"), "5b312c202262225d"),
    (
        DataType.dict,
        {"a": 1, "b": [2, {"c": "€"}]},
        "7b2261223a20312c202262223a205b322c207b2263223a20225c7532306163227d5d7d",
    ),
    (DataType.none, None, "6e756c6c"),
]

# What pynetwork 2.1 wrote: the value, as an int, as a long, with header_size=8.
WRITTEN_BY_21 = [
    (0, "00000000", "0000000000000000", "0000000000000000"),
    (1, "00000001", "0000000000000001", "0000000000000001"),
    (1857, "00000741", "0000000000000741", "0000000000000741"),
    (4294967295, "ffffffff", "00000000ffffffff", "00000000ffffffff"),
]


class Reading:
    """As 2.x wanted classes: it can be made without arguments."""

    def __init__(self, name: str = "", value: float = 0.0) -> None:
        self.name = name
        self.value = value


READING_BY_24 = 'Reading:{\n "name": "t\\u00e9mp",\n "value": 21.5\n}'


@pytest.mark.parametrize(("data_type", "value", "written"), WRITTEN_BY_24)
def test_typed_values_have_the_bytes_of_24(data_type: DataType, value: Any, written: str) -> None:
    assert backend2.to_bytes(data_type, value).hex() == written
    read = backend2.from_bytes(data_type, bytes.fromhex(written))
    assert (read, type(read)) == (value, type(value))
    assert backend2.from_bytes(data_type=data_type, bytes=memoryview(bytes.fromhex(written))) == value


def test_every_data_type_is_among_them() -> None:
    assert {data_type for data_type, _, _ in WRITTEN_BY_24} == set(DataType)


@pytest.mark.parametrize(("number", "as_int", "as_long", "wide"), WRITTEN_BY_21)
def test_integers_have_the_bytes_of_21(number: int, as_int: str, as_long: str, wide: str) -> None:
    assert backend2.int_to_bytes(number).hex() == as_int
    assert backend2.long_to_bytes(number).hex() == as_long
    assert backend2.int_to_bytes(number, header_size=8).hex() == wide
    assert {backend2.bytes_to_int(bytes.fromhex(each)) for each in (as_int, as_long, wide)} == {number}


def test_text_is_utf8() -> None:
    assert backend2.str_to_bytes("Grad é").hex() == "4772616420c3a9"
    assert backend2.bytes_to_str(b"\xc3\xa9") == "é"
    assert backend2.bytes_to_str(bytearray(b"\xc3\xa9")) == "é"


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_integers_that_do_not_fit(number: int) -> None:
    with pytest.raises(OverflowError):
        backend2.int_to_bytes(number)


@pytest.mark.parametrize(
    ("data_type", "value"), [(DataType.int, 1 << 31), (DataType.int_unsigned, -1), (DataType.long, "1")]
)
def test_numbers_that_do_not_fit(data_type: DataType, value: Any) -> None:
    with pytest.raises(struct.error):
        backend2.to_bytes(data_type, value)


def test_bytes_that_were_written_as_something_else() -> None:
    with pytest.raises(struct.error):
        backend2.from_bytes(DataType.int, b"12345678")
    with pytest.raises(ValueError, match="Expecting value"):
        backend2.from_bytes(DataType.dict, b"no json")


# Objects


def test_objects_of_registered_classes_come_back() -> None:
    assert backend2.register_class_for_serialization(Reading) is Reading
    reading = Reading("témp", 21.5)
    assert backend2.serialize_obj(reading) == READING_BY_24
    again = backend2.de_serialize_obj(READING_BY_24)
    assert type(again) is Reading
    assert vars(again) == vars(reading)


def test_attributes_that_the_constructor_does_not_make_come_back_too() -> None:
    backend2.register_class_for_serialization(Reading)
    reading = Reading()
    reading.unit = "C"  # type: ignore[attr-defined]
    assert vars(backend2.de_serialize_obj(backend2.serialize_obj(reading))) == {"name": "", "value": 0.0, "unit": "C"}


@dataclass
class Stranger:
    value: int = 1


def test_objects_of_other_classes_do_not() -> None:
    text = backend2.serialize_obj(Stranger())
    with pytest.raises(ValueNotSupported, match="Stranger"):
        backend2.de_serialize_obj(text)
    with pytest.raises(ValueNotSupported):
        backend2.de_serialize_obj('Path:{"x": 1}')


@pytest.mark.parametrize("text", ["", "Reading", "Reading:", "Reading:[1]", "Reading:{"])
def test_text_that_is_no_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"no object|Expecting"):
        backend2.de_serialize_obj(text)


def test_errors_of_2x_catch_those_of_now() -> None:
    assert issubclass(NotFound, backend2.RemoteException)
    assert issubclass(ConnectionLost, backend2.RemoteException)
    assert str(backend2.RemoteException("a text")) == "a text"
    assert backend2.RemoteException is PynetworkError
    assert backend2.SignallingError is RemoteProtocolError


# Printing


def test_safe_print_prints() -> None:
    file = io.StringIO()
    backend2.safe_print("a", 1, sep="-", end="!", file=file)
    assert file.getvalue() == "a-1!"


def test_safe_print_lets_one_thread_print_at_a_time() -> None:
    class Meeting(io.StringIO):
        """In the middle of the first line, another thread is given its chance to print."""

        def write(self, text: str) -> int:
            written = super().write(text)
            if text == "first":
                second.start()
                second.join(0.2)
            return written

    file = Meeting()
    second = threading.Thread(target=backend2.safe_print, args=("second", "line"), kwargs={"file": file})
    backend2.safe_print("first", "line", file=file)
    second.join(PATIENCE)
    assert file.getvalue() == "first line\nsecond line\n"


def test_safe_print_goes_where_print_goes(capsys: pytest.CaptureFixture[str]) -> None:
    backend2.safe_print("usage", 0.5)
    backend2.safe_print("wrong", file=sys.stderr)
    assert capsys.readouterr() == ("usage 0.5\n", "wrong\n")

from __future__ import annotations

import enum
from dataclasses import InitVar, dataclass, field
from typing import Any, NamedTuple

import pytest

from handshakes.errors import ConfigurationError, ValueNotSupported
from handshakes.messages import Kind, Registry, Rights, register, registry


def test_the_kinds_are_the_first_byte_of_frames() -> None:
    assert {kind.name: kind.value for kind in Kind} == {
        "HELLO": 1,
        "PROOF": 2,
        "WELCOME": 3,
        "REFUSAL": 4,
        "GOODBYE": 5,
        "OPEN": 6,
        "MESSAGE": 7,
        "ITEMS": 8,
        "CREDIT": 9,
        "ABORT": 10,
        "RESULT": 11,
        "FAULT": 12,
    }


# Rights


def test_the_bits_of_rights_are_on_the_wire() -> None:
    bits = [Rights.CALL, Rights.STREAM, Rights.READ, Rights.WRITE, Rights.STATS, Rights.STOP, Rights.REMOVE]
    assert [right.value for right in bits] == [1, 2, 4, 8, 16, 32, 64]


def test_default_is_everything_but_removing_files_and_stopping_the_gateway() -> None:
    assert Rights.ALL == Rights.DEFAULT | Rights.STOP | Rights.REMOVE
    assert not (Rights.STOP | Rights.REMOVE) & Rights.DEFAULT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Rights.READ, Rights.READ),
        ("read", Rights.READ),
        ("Call, READ", Rights.CALL | Rights.READ),
        ("call read,,write", Rights.CALL | Rights.READ | Rights.WRITE),
        ("default", Rights.DEFAULT),
        ("", Rights.NONE),
    ],
)
def test_rights_from_words(given: Rights | str, expected: Rights) -> None:
    assert Rights.of(given) == expected


def test_an_unknown_right_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'fly' is no right; the rights are none, call, stream"):
        Rights.of("read, fly")


# Registered classes


@dataclass
class Pose:
    x: float
    y: float = 2.0
    moves: int = field(default=0, init=False)


@dataclass(frozen=True)
class Fixed:
    name: str
    size: int = field(default=1, init=False)


class Plain:
    def __init__(self, speed: int = 1) -> None:
        self.speed = speed
        self.label = "plain"
        self._cache = object()


def trip(classes: Registry, value: object, **changes: Any) -> Any:
    taken = classes.take_apart(value)
    assert taken is not None
    name, fields = taken
    return classes.build(name, {**fields, **changes})


def test_a_dataclass_comes_back_with_all_its_fields() -> None:
    classes = Registry()
    assert classes.register(Pose) is Pose
    pose = Pose(1.5)
    pose.moves = 7
    assert classes.take_apart(pose) == ("Pose", {"x": 1.5, "y": 2.0, "moves": 7})
    twin = trip(classes, pose)
    assert type(twin) is Pose
    assert twin == pose


def test_a_frozen_dataclass_comes_back() -> None:
    classes = Registry()
    classes.register(Fixed)
    assert trip(classes, Fixed("a"), size=9).size == 9


def test_fields_are_matched_by_name() -> None:
    classes = Registry()
    classes.register(Pose)
    assert classes.build("Pose", {"x": 1.0, "unknown": 5}) == Pose(1.0)


def test_a_plain_class_keeps_its_public_attributes() -> None:
    classes = Registry()
    classes.register(Plain)
    plain = Plain(5)
    assert classes.take_apart(plain) == ("Plain", {"speed": 5, "label": "plain"})
    assert trip(classes, plain).speed == 5
    assert classes.build("Plain", {}).speed == 1  # type: ignore[attr-defined]


def test_the_wire_sets_no_attribute_that_the_class_does_not_have() -> None:
    classes = Registry()
    classes.register(Plain)
    hostile = {"speed": 2, "__class__": 1, "_cache": 2, "trip": 3, "__dict__": {}}
    twin = classes.build("Plain", hostile)
    assert type(twin) is Plain
    assert set(vars(twin)) == {"speed", "label", "_cache"}
    assert not isinstance(twin._cache, int)


def test_what_is_not_registered_is_not_taken_apart() -> None:
    class Derived(Pose):
        pass

    classes = Registry()
    classes.register(Pose)
    assert classes.take_apart(Derived(1.0)) is None
    assert classes.take_apart(5) is None


def test_another_name() -> None:
    classes = Registry()
    classes.register(Pose, "robot.Pose")
    assert classes.take_apart(Pose(1.0)) == ("robot.Pose", {"x": 1.0, "y": 2.0, "moves": 0})
    with pytest.raises(ValueNotSupported, match="no class is registered here under that name"):
        classes.build("Pose", {})


def test_a_name_is_taken_once() -> None:
    classes = Registry()
    classes.register(Pose)
    classes.register(Pose)
    with pytest.raises(ConfigurationError, match="the name 'Pose' is taken"):
        classes.register(Plain, "Pose")
    assert classes.take_apart(Plain()) is None


class Needy:
    def __init__(self, given: int) -> None:
        self.given = given


class Slotted:
    __slots__ = ("x",)


class Colour(enum.Enum):
    RED = 1


class Place(NamedTuple):
    x: int


class Words(dict):  # type: ignore[type-arg]
    pass


@dataclass
class Table(list):  # type: ignore[type-arg]
    x: int = 1


@pytest.mark.parametrize("cls", [Needy, Slotted, Colour, Place, Words, Table, int])
def test_a_class_that_could_not_come_back_whole_is_not_registered(cls: type) -> None:
    classes = Registry()
    with pytest.raises(ConfigurationError, match=f"{cls.__name__} can't be registered"):
        classes.register(cls)
    with pytest.raises(ValueNotSupported):
        classes.build(cls.__name__, {})


@dataclass
class Extra:
    x: int
    factor: InitVar[int]


class Checked:
    def __init__(self) -> None:
        self.level = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if type(value) is not int:
            raise RecursionError("whatever the user's code raises")
        super().__setattr__(name, value)


@pytest.mark.parametrize(
    ("cls", "fields"),
    [(Pose, {}), (Extra, {"x": 1}), (Extra, {"x": 1, "factor": 1}), (Checked, {"level": "high"})],
)
def test_an_instance_that_cannot_be_built_is_not_supported(cls: type, fields: dict[str, Any]) -> None:
    classes = Registry()
    classes.register(cls)
    with pytest.raises(ValueNotSupported, match="can't be built from its fields"):
        classes.build(cls.__name__, fields)


def test_the_shared_registry_is_what_register_fills() -> None:
    assert register == registry.register

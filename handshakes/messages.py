"""What the two sides of a pair say to each other, and the classes that users may put into values.

Each message is one frame (see `handshakes.frames`); `handshakes.connection` says which may follow which.
`Registry` holds the users' own classes: an instance travels as the class's registered name and its fields,
and is built again on the other side from the class that is registered there under that name. Fields are
matched by name, so a side that knows more of them fills its own defaults, and one that knows fewer passes
over the rest.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from handshakes.errors import ConfigurationError, ValueNotSupported

__all__ = [
    "MAGIC",
    "Abort",
    "Credit",
    "Event",
    "Fault",
    "Goodbye",
    "Hello",
    "Items",
    "Kind",
    "Message",
    "Open",
    "Registry",
    "Result",
    "Rights",
    "Welcome",
    "register",
    "registry",
]

MAGIC = b"pynetwork"
"""The head of a hello, by which this protocol is known."""

Bytes = bytes | bytearray | memoryview


class Kind(enum.IntEnum):
    """The first byte of every frame. TLS starts with 20 to 23 and HTTP with a letter: none is a kind."""

    HELLO = 1
    PROOF = 2
    WELCOME = 3
    REFUSAL = 4
    GOODBYE = 5
    OPEN = 6
    MESSAGE = 7
    ITEMS = 8
    CREDIT = 9
    ABORT = 10
    RESULT = 11
    FAULT = 12


class Rights(enum.Flag):
    """What a caller may do. ``DEFAULT`` is everything but removing what is shared and stopping the gateway."""

    NONE = 0
    CALL = 1
    STREAM = 2
    READ = 4
    WRITE = 8
    STATS = 16
    STOP = 32
    REMOVE = 64
    DEFAULT = 31
    ALL = 127

    @classmethod
    def of(cls, given: Rights | str) -> Rights:
        """Rights from a flag or words like ``"call, read"``; `ConfigurationError` names an unknown word."""
        if isinstance(given, Rights):
            return given
        rights = cls.NONE
        for word in given.replace(",", " ").split():
            try:
                rights |= cls[word.upper()]
            except KeyError:
                known = ", ".join(name.lower() for name in cls.__members__)
                raise ConfigurationError(f"{word!r} is no right; the rights are {known}") from None
        return rights


@dataclass(slots=True)
class Hello:
    """Either side's first message.

    ``versions`` are the lowest and highest protocol version spoken, ``limit`` the largest frame body in bytes
    that this side accepts, ``nonce`` 32 fresh random bytes, ``keyed`` whether this side has a key to prove,
    ``bound`` whether it knows the TLS certificate that the connection shows, ``agent`` a name for people and
    logs.
    """

    versions: tuple[int, int]
    limit: int
    nonce: bytes
    keyed: bool
    bound: bool
    agent: str


@dataclass(slots=True)
class Welcome:
    """The gateway serves this pair: what the key grants, and its own proof (empty without a key)."""

    rights: Rights
    proof: bytes


@dataclass(slots=True)
class Goodbye:
    """The sender has ended the pair and sends nothing more."""


@dataclass(slots=True)
class Open:
    """A client opens an operation. ``problem`` is set in place of parameters that could not be decoded."""

    operation: int
    verb: str
    parameters: list[Any]
    problem: ValueNotSupported | None = None


@dataclass(slots=True)
class Message:
    """A message within an operation, in the words of its service: a code, a small head, a body of bytes."""

    code: int
    head: bytes
    body: Bytes


@dataclass(slots=True)
class Items:
    """Items of a stream, in the order of production: ``idents[i]`` belongs to ``payloads[i]``."""

    idents: Sequence[int]
    payloads: Sequence[Any]
    size: int


@dataclass(slots=True)
class Credit:
    """The consumer allows so many further items and bytes of them."""

    items: int
    size: int


@dataclass(slots=True)
class Abort:
    """The client leaves the running operation."""


@dataclass(slots=True)
class Result:
    """The operation ended well, with this value."""

    value: Any


@dataclass(slots=True)
class Fault:
    """The operation ended with an error: ``status`` 0 for remote code that raised, else as in `Refused`."""

    status: int
    type_name: str
    message: str
    traceback: str


Event = Hello | Welcome | Goodbye | Open | Message | Items | Credit | Abort | Result | Fault

AnyClass = TypeVar("AnyClass", bound=type)

# What an instance of a class derived from these holds is more than its attributes.
_CONTAINERS = (str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset)


class _Entry(NamedTuple):
    """How instances of one registered class are taken apart and built."""

    cls: type
    name: str
    take: Callable[[Any], dict[str, Any]]
    build: Callable[[Mapping[str, Any]], Any]


class Registry:
    """The classes whose instances may travel. Register at start-up; look-ups are safe from any thread."""

    def __init__(self) -> None:
        self._by_name: dict[str, _Entry] = {}
        self._by_class: dict[type, _Entry] = {}

    def register(self, cls: AnyClass, name: str | None = None) -> AnyClass:
        """Let instances of ``cls`` travel under ``name`` (default: the class's own); usable as a decorator.

        ``cls`` is a dataclass, or a plain class that can be made without arguments and keeps its state in
        attributes; attributes that start with an underscore stay at home. Raises `ConfigurationError` when
        the name is taken by another class, when a plain class needs arguments, or when ``cls`` derives from a
        built-in value such as dict, whose content would stay behind.
        """
        name = name or cls.__name__
        if issubclass(cls, _CONTAINERS):
            raise ConfigurationError(
                f"{cls.__name__} can't be registered: it derives from a built-in value; keep that in an attribute"
            )
        held = self._by_name.get(name)
        if held is not None and held.cls is not cls:
            raise ConfigurationError(
                f"the name {name!r} is taken by {held.cls!r}; give another: register({cls.__name__}, name=...)"
            )
        take, build = _dataclass_codec(cls) if dataclasses.is_dataclass(cls) else _plain_codec(cls)
        self._by_name[name] = self._by_class[cls] = _Entry(cls, name, take, build)
        return cls

    def take_apart(self, value: object) -> tuple[str, dict[str, Any]] | None:
        """The registered name and the fields of ``value``, or None when its class is not registered."""
        entry = self._by_class.get(type(value))
        return None if entry is None else (entry.name, entry.take(value))

    def build(self, name: str, fields: Mapping[str, Any]) -> object:
        """An instance of the class registered as ``name``. Raises `ValueNotSupported` when there is none."""
        entry = self._by_name.get(name)
        if entry is None:
            raise ValueNotSupported(
                f"an instance of {name!r} arrived, but no class is registered here under that name; "
                f"call pynetwork.register({name}) on this side too"
            )
        try:
            return entry.build(fields)
        except Exception as error:
            raise ValueNotSupported(f"an instance of {name!r} can't be built from its fields: {error}") from error


def _dataclass_codec(
    cls: Any,
) -> tuple[Callable[[Any], dict[str, Any]], Callable[[Mapping[str, Any]], Any]]:
    names = [field.name for field in dataclasses.fields(cls)]
    arguments = {field.name for field in dataclasses.fields(cls) if field.init}

    def take(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in names}

    def build(fields: Mapping[str, Any]) -> Any:
        instance = cls(**{name: fields[name] for name in arguments if name in fields})
        for name in names:
            if name not in arguments and name in fields:
                object.__setattr__(instance, name, fields[name])
        return instance

    return take, build


def _plain_codec(cls: Any) -> tuple[Callable[[Any], dict[str, Any]], Callable[[Mapping[str, Any]], Any]]:
    try:
        vars(cls())
    except TypeError as error:
        raise ConfigurationError(
            f"{cls.__name__} can't be registered: make it a dataclass, or give every argument of its "
            f"constructor a default and keep its state in attributes ({error})"
        ) from error

    def take(value: Any) -> dict[str, Any]:
        return {name: field for name, field in vars(value).items() if not name.startswith("_")}

    def build(fields: Mapping[str, Any]) -> Any:
        instance = cls()
        for name in take(instance):
            if name in fields:
                setattr(instance, name, fields[name])
        return instance

    return take, build


registry = Registry()
register = registry.register

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy
import pytest

from handshakes.errors import BadRequest, ConfigurationError, NotFound, RemoteFault
from handshakes.messages import Registry
from pynetwork.subroutines import Subroutine, SubroutineService
from tests.serving import PATIENCE, controller_of, paired, serving


def add(first: int, second: int = 2, *, scale: int = 1) -> int:
    """Add two numbers."""
    return (first + second) * scale


def counting(stop: int, *, step: int = 1) -> Iterator[int]:
    """Count."""
    yield from range(0, stop, step)


# The three modes


def test_call_with_positional_and_keyword_arguments() -> None:
    with paired(add) as (_, client):
        assert client.call("add", 1) == 3
        assert client.call("add", 1, second=4) == 5
        assert client.call("add", 1, 2, scale=10) == 30


def test_names_of_the_clients_own_parameters_are_free_for_the_subroutine() -> None:
    def names(name: str, verb: str = "", self: str = "") -> list[str]:
        return [name, verb, self]

    with paired(names) as (_, client):
        assert client.call("names", name="n", verb="v", self="s") == ["n", "v", "s"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**64 - 1,
        1.5,
        "text",
        b"",
        b"bytes",
        [1, [2, {"three": None}]],
        {},
        {"k": [b"part", 1.0]},
    ],
    ids=repr,
)
def test_results_arrive_as_they_were(value: Any) -> None:
    def echo(given: Any) -> Any:
        return given

    with paired(echo) as (_, client):
        found = client.call("echo", value)
        assert found == value
        assert type(found) is type(value)


def test_arrays_and_registered_classes_as_arguments_and_results() -> None:
    registry = Registry()

    @registry.register
    @dataclasses.dataclass
    class Reading:
        values: Any
        unit: str = "m"

    def scaled(reading: Reading, by: float) -> Reading:
        return Reading(reading.values * by, reading.unit)

    with (
        serving(scaled, registry=registry) as gateway,
        controller_of(gateway, registry=registry).get_client() as client,
    ):
        found = client.call("scaled", Reading(numpy.arange(6.0).reshape(2, 3), "s"), 2)
        assert type(found) is Reading
        assert found.unit == "s"
        assert (found.values == numpy.arange(6.0).reshape(2, 3) * 2).all()
        found.values[0, 0] = 7  # a view on what was received, and writable


def test_an_instance_that_the_gateway_does_not_know() -> None:
    registry = Registry()

    @registry.register
    @dataclasses.dataclass
    class Unknown:
        field: int = 1

    with serving(add) as gateway, controller_of(gateway, registry=registry).get_client() as client:
        with pytest.raises(BadRequest, match="'Unknown' arrived, but no class is registered"):
            client.call("add", Unknown())
        assert client.call("add", 1) == 3


@pytest.mark.parametrize("buffer", [b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]])
def test_send_hands_over_a_buffer(buffer: Any) -> None:
    got: list[Any] = []

    def put(channel: int, flag: bool, *, buffer: bytes, extra: str = "") -> int:
        got.append((channel, flag, bytes(buffer), extra))
        return len(buffer)

    with paired(put) as (_, client):
        assert client.send("put", buffer, 2, True, extra="e") == 3
        assert got == [(2, True, b"abc", "e")]


@pytest.mark.parametrize(("returned", "found"), [(None, 0), (True, 1), (numpy.int64(7), 7), (-3, -3)])
def test_send_answers_an_int(returned: Any, found: int) -> None:
    def put(**keywords: Any) -> Any:
        assert (keywords["buffer"] == numpy.arange(3)).all()
        return returned

    with paired(put) as (_, client):
        answer = client.send("put", numpy.arange(3))
        assert (answer, type(answer)) == (found, int)


def test_send_to_a_function_that_answers_no_int() -> None:
    def put(buffer: Any) -> str:
        return "text"

    with paired(put, add) as (_, client):
        with pytest.raises(BadRequest, match="'put' returned str"):
            client.send("put", b"")
        with pytest.raises(BadRequest, match=r"add.*can't take these arguments.*buffer"):
            client.send("add", b"", 1)


def test_stream_with_arguments() -> None:
    with paired(counting) as (_, client):
        assert list(client.stream("counting", 6, step=2)) == [(0, 0), (1, 2), (2, 4)]


def test_a_function_that_returns_an_iterator_is_a_stream_when_asked_so() -> None:
    class Numbers:
        """An iterator without ``close``."""

        def __init__(self) -> None:
            self.left = 3

        def __iter__(self) -> Numbers:
            return self

        def __next__(self) -> int:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

    def iterates() -> Numbers:
        return Numbers()

    with paired(iterates) as (_, client):
        assert [value for _, value in client.stream("iterates")] == [2, 1, 0]


# What goes wrong, each as its own error; the connection stays usable


def test_a_wrong_name() -> None:
    with paired(add, counting) as (_, client):
        for use in (client.call, client.stream, lambda name: client.send(name, b"")):
            with pytest.raises(NotFound, match=r"no subroutine 'nope'; it has: 'add', 'counting'"):
                list(use("nope"))  # type: ignore[operator]
        assert client.call("add", 1) == 3


def test_arguments_that_do_not_fit() -> None:
    with paired(add, counting) as (_, client):
        for arguments, keywords in (((), {}), ((1, 2, 3), {}), ((1,), {"third": 3}), ((1,), {"first": 1})):
            with pytest.raises(BadRequest, match=r"add\(first.*can't take these arguments"):
                client.call("add", *arguments, **keywords)
        with pytest.raises(BadRequest, match=r"counting\(stop"):
            list(client.stream("counting"))
        with pytest.raises(BadRequest, match=r"counting\(stop"):
            list(client.stream("counting", 1, stride=2))
        assert client.call("add", 1) == 3


def test_a_type_error_inside_the_function_is_its_own() -> None:
    def deep(value: Any) -> Any:
        return add(value, "x")  # type: ignore[arg-type]

    def shallow(value: Any) -> Any:
        return value + 1

    def miscalls(value: Any) -> Any:
        return add()  # type: ignore[call-arg]

    with paired(deep, shallow, miscalls) as (_, client):
        for name in ("deep", "shallow", "miscalls"):
            with pytest.raises(RemoteFault) as caught:
                client.call(name, "text" if name == "shallow" else 1)
            assert caught.value.type_name == "TypeError"
            assert f"in {name}" in caught.value.traceback


def test_a_built_in_function_that_is_called_wrongly() -> None:
    with serving() as gateway, controller_of(gateway).get_client() as client:
        gateway.add_subroutine("len", len)
        gateway.add_subroutine("max", max)  # has no signature to be had
        assert client.call("len", [1, 2]) == 2
        assert client.call("max", 3, 9) == 9
        with pytest.raises(BadRequest):
            client.call("len")
        with pytest.raises(RemoteFault, match="TypeError"):
            client.call("max")


def test_a_fault_carries_type_message_and_traceback() -> None:
    class Broken(LookupError):
        pass

    def fails(what: str) -> None:
        raise Broken(f"no {what}") from ValueError("the cause")

    with paired(fails) as (_, client):
        with pytest.raises(RemoteFault) as caught:
            client.call("fails", "ünïcode")
        assert caught.value.type_name.endswith("Broken")
        assert caught.value.type_name.startswith(__name__)
        assert caught.value.message == "no ünïcode"
        assert "in fails" in caught.value.traceback
        assert "ValueError: the cause" in caught.value.traceback
        assert "pynetwork/handler" not in caught.value.traceback
        assert client.ping()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError])
def test_even_exceptions_that_end_programs_are_faults(kind: type[BaseException]) -> None:
    def fails() -> None:
        raise kind

    def stream() -> Iterator[int]:
        yield 1
        raise kind

    with paired(fails, stream) as (_, client):
        with pytest.raises(RemoteFault, match=kind.__name__):
            client.call("fails")
        found = []
        with pytest.raises(RemoteFault):
            found.extend(client.stream("stream"))
        assert found == [(0, 1)]
        assert client.ping()


def test_an_exception_whose_text_can_not_be_had() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def fails() -> None:
        raise Silent

    with paired(fails) as (_, client):
        with pytest.raises(RemoteFault, match="its text can't be had: RuntimeError"):
            client.call("fails")
        assert client.ping()


def test_a_result_that_can_not_be_encoded() -> None:
    def returns() -> Any:
        return {"an": object()}

    with paired(returns) as (_, client):
        with pytest.raises(RemoteFault) as caught:
            client.call("returns")
        assert caught.value.type_name.endswith("ValueNotSupported")
        assert "object has no wire form" in caught.value.message
        assert client.ping()


def test_each_mode_names_the_one_that_fits() -> None:
    with paired(add, counting) as (_, client):
        with pytest.raises(BadRequest, match=r"use client\.stream\('counting'"):
            client.call("counting", 3)
        with pytest.raises(BadRequest, match=r"use client\.call\('add'"):
            list(client.stream("add", 3))
        assert client.ping()


def test_a_generator_that_fails_while_it_is_closed() -> None:
    closed = threading.Event()

    def stubborn() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()
            raise LookupError("in finally")

    with paired(stubborn) as (_, client):
        for _ in client.stream("stubborn"):
            break
        assert closed.wait(PATIENCE)
        assert client.ping()


# The registry


def test_descriptions() -> None:
    with paired(add, counting) as (gateway, client):
        gateway.add_subroutine("max", max)
        described = {each["name"]: each for each in client.subroutines()}
        assert described["add"]["kind"] == "batch"
        assert described["add"]["doc"] == "Add two numbers."
        assert "second" in described["add"]["signature"]
        assert described["counting"]["kind"] == "stream"
        assert described["max"]["signature"] == "(...)"


def test_added_replaced_and_removed_while_it_runs() -> None:
    with paired() as (gateway, client):
        with pytest.raises(NotFound, match="it has: none"):
            client.call("late")
        gateway.add_subroutine("late", lambda: 1)
        assert client.call("late") == 1
        gateway.add_subroutine("late", lambda: 2)
        assert client.call("late") == 2
        gateway.remove_subroutine("late")
        with pytest.raises(NotFound):
            client.call("late")
        with pytest.raises(NotFound):
            gateway.remove_subroutine("late")


def test_the_service_lists_its_names_and_holds_nothing() -> None:
    service = SubroutineService()
    service.add("one", add)
    assert service.names() == ["one"]
    service.close()
    assert set(service.verbs) == {"call", "send", "stream", "subroutines"}


async def coroutine() -> None: ...


async def asynchronous() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("x", 7, "must be a function, not int"),
        ("", add, "needs a name"),
        (5, add, "needs a name"),
        ("x", coroutine, "is asynchronous"),
        ("x", asynchronous, "is asynchronous"),
    ],
)
def test_what_can_not_be_offered(name: Any, function: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Subroutine.of(name, function)


def test_wrapped_and_bound_functions_are_what_they_wrap() -> None:
    @functools.wraps(counting)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        return counting(*arguments, **keywords)

    class Sensor:
        def read(self, lane: int, lanes: int) -> Iterator[int]:
            yield lane + lanes

    assert Subroutine.of("x", wrapped).kind == "stream"
    assert Subroutine.of("x", Sensor().read).kind == "stream"
    assert Subroutine.of("x", Sensor().read).takes_share
    assert not Subroutine.of("x", counting).takes_share
    assert not Subroutine.of("x", max).takes_share
    assert Subroutine.of("x", functools.partial(add, 1)).kind == "batch"

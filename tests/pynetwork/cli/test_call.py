from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy
import pytest

import handshakes
from pynetwork.cli import main
from pynetwork.cli.call import parse_words
from tests.pynetwork.cli.commands import Commands, address, interrupt, process
from tests.serving import serving
from tests.waiting import wait_until


def add(a: Any, b: Any = 2) -> Any:
    return a + b


def nothing() -> None:
    return None


def blob() -> bytes:
    return bytes(range(256))


def grid() -> Any:
    return numpy.eye(2)


def length(*, buffer: bytes) -> int:
    return len(buffer)


def fail() -> None:
    raise KeyError("missing")


def ticks() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], ((), {})),
        (["4", "-5", "1.5", "true", "null", "text", "007"], ((4, -5, 1.5, True, None, "text", "007"), {})),
        (["[1, 2]", '{"a": 1}', '"4"'], (([1, 2], {"a": 1}, "4"), {})),
        (["on=true", "name=door", "empty=", "a=b=c"], ((), {"on": True, "name": "door", "empty": "", "a": "b=c"})),
        (['"a=b"', "1=2", "a-b=c"], (("a=b", "1=2", "a-b=c"), {})),
    ],
)
def test_words(words: list[str], wanted: Any) -> None:
    assert parse_words(words) == wanted


def test_results(command: Commands) -> None:
    with serving(add, nothing, grid) as gateway:
        to = address(gateway)
        assert command("call", to, "add", 1).out == "3\n"
        assert command("call", to, "add", 1, "b=-4").out == "-3\n"
        assert command("call", to, "add", "a", "--timeout", 5, "b").out == "ab\n"
        assert command("call", to, "add", "--timeout", 5, 1, -5).out == "-4\n"
        assert command("call", to, "nothing").out == ""
        assert json.loads(
            command("call", to, "add", '{"x":1}'.replace("{", "[").replace("}", "]").replace(":", ","), "[]").out
        ) == ["x", 1]
        assert command("call", to, "grid").out.splitlines()[0] == "float64[2, 2] 1 0 0 1"
        assert command("call", to, "grid", "--json").object("result")["value"] == [[1, 0], [0, 1]]


def test_bytes_go_into_a_pipe_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with serving(blob) as gateway:
        assert main(["call", address(gateway), "blob"]) == 0
        assert capfdbinary.readouterr().out == bytes(range(256))


def test_a_buffer(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 1000)
    with serving(length) as gateway:
        assert command("call", address(gateway), "length", "--buffer", tmp_path / "data").out == "1000\n"
        assert command("call", address(gateway), "length", "--buffer", tmp_path / "none").code == 4


def test_what_goes_wrong(command: Commands) -> None:
    with serving(add, fail, ticks) as gateway:
        to = address(gateway)
        assert command("call", to, "nope").code == 3
        assert command("call", to, "add").code == 2
        streamed = command("call", to, "ticks")
        assert streamed.code == 2
        assert f"pynetwork stream {to} ticks" in streamed.err
        failed = command("call", to, "fail")
        assert failed.code == 1
        assert failed.err.startswith("pynetwork: KeyError: 'missing'")
        assert "Traceback" not in failed.err
        assert "in fail" in command("call", to, "fail", "-v").err
        told = json.loads(command("call", to, "fail", "--json").err)
        assert (told["error"], told["code"]) == ("RemoteFault", 1)


def test_a_class_that_is_unknown_here(command: Commands) -> None:
    registry = handshakes.Registry()

    class Point:
        def __init__(self, x: int = 0) -> None:
            self.x = x

    registry.register(Point)

    def point() -> Point:
        return Point(7)

    with serving(point, registry=registry) as gateway:
        value = command("call", address(gateway), "point", "--json").object("result")["value"]
    assert value == {"class": "Point", "x": 7}


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of a process is a POSIX signal here")
def test_ctrl_c_while_a_function_runs() -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(30)

    with serving(hang) as gateway, process("call", address(gateway), "hang", "--timeout", 0) as started:
        wait_until(lambda: [each for each in gateway.stats()["handlers"] if each["running"]])
        code, seconds, err = interrupt(started)
        release.set()
    assert (code, err) == (130, "")
    assert seconds < 1.0


def test_a_function_that_takes_too_long(command: Commands) -> None:
    release = threading.Event()

    def hang() -> None:
        release.wait(30)

    with serving(hang) as gateway:
        outcome = command("call", address(gateway), "hang", "--timeout", 0.2)
        release.set()
    assert outcome.code == 5
    assert "--timeout" in outcome.err

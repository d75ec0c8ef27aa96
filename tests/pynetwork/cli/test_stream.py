from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy

from tests.pynetwork.cli.commands import Commands, address, interrupt, process
from tests.serving import serving
from tests.waiting import wait_until


def count(n: int = 3) -> Iterator[tuple[int, Any]]:
    for number in range(n):
        yield number, {"n": number}


def arrays() -> Iterator[Any]:
    yield numpy.arange(20.0)
    yield b"\x00\xff"


def add(a: int) -> int:
    return a


def broken() -> Iterator[int]:
    yield 1
    raise ValueError("spoilt")


def test_items_are_lines(command: Commands) -> None:
    with serving(count, arrays) as gateway:
        assert command("stream", address(gateway), "count").out == '0\t{"n":0}\n1\t{"n":1}\n2\t{"n":2}\n'
        assert command("stream", address(gateway), "arrays").out.splitlines() == [
            "0\tfloat64[20] min 0 mean 9.5 max 19",
            "1\t<2 bytes: 00 ff>",
        ]


def test_json(command: Commands) -> None:
    with serving(count, arrays) as gateway:
        outcome = command("stream", address(gateway), "arrays", "--json")
        items = [each for each in outcome.objects() if each["message_type"] == "item"]
        assert items[0]["value"] == list(range(20))
        assert items[1]["value"] == {"base64": "AP8="}
        assert outcome.object("summary")["items"] == 2


def test_count_grants_no_more_than_that(command: Commands) -> None:
    produced = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            produced.append(number)
            yield number

    with serving(endless) as gateway:
        outcome = command("stream", address(gateway), "endless", "--count", 5)
        wait_until(lambda: not gateway.stats()["handlers"])
    assert len(outcome.out.splitlines()) == 5
    # A gateway may be a frame ahead of what it was granted, no more.
    assert len(produced) < 50000


def test_a_long_stream_is_granted_more_and_more(command: Commands) -> None:
    with serving(count) as gateway:
        lines = command("stream", address(gateway), "count", "n=150000").out.splitlines()
        assert len(lines) == 150000
        some = command("stream", address(gateway), "count", "n=150000", "--count", 100001).out.splitlines()
    assert some == lines[:100001]


def test_seconds_end_a_stream_that_is_silent(command: Commands) -> None:
    release = threading.Event()

    def silent() -> Iterator[int]:
        yield 1
        release.wait(30)

    with serving(silent) as gateway:
        outcome = command("stream", address(gateway), "silent", "--seconds", 0.2)
        release.set()
    assert (outcome.code, outcome.out) == (0, "0\t1\n")


def test_what_goes_wrong(command: Commands) -> None:
    with serving(count, add, broken) as gateway:
        to = address(gateway)
        assert command("stream", to, "nope").code == 3
        assert command("stream", to, "count", "x=1").code == 2
        function = command("stream", to, "add", 1)
        assert (function.code, f"pynetwork call {to} add" in function.err) == (2, True)
        spoilt = command("stream", to, "broken")
        assert (spoilt.code, spoilt.out) == (1, "0\t1\n")
        assert "ValueError: spoilt" in spoilt.err


def test_ctrl_c_closes_the_generator() -> None:
    closed = threading.Event()

    def slow() -> Iterator[int]:
        try:
            for number in itertools.count():
                yield number
                closed.wait(0.02)
        finally:
            closed.set()

    with serving(slow) as gateway, process("stream", address(gateway), "slow") as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "0\t0\n"
        code, seconds, err = interrupt(started)
        assert closed.wait(5)
    assert (code, err) == (130, "")
    assert seconds < 1.0

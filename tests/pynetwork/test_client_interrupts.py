"""Ctrl-C while a client waits."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import ConnectionLost
from pynetwork.client import Client
from tests.serving import PATIENCE, Background, operating, paired
from tests.waiting import wait_until

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much was received")


class Waiting:
    """Whether the main thread waits for bytes: it was seen in the same call again and again. Seen once, it may just as
    well be taking some that are there.
    """

    def __init__(self) -> None:
        self._frame: object = None
        self._looks = 0

    def __call__(self) -> bool:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        self._looks = self._looks + 1 if frame is self._frame else 0
        self._frame = frame
        return self._looks >= 10 and frame.f_code.co_name == "receive_into"


def press_ctrl_c(ready: threading.Event) -> None:
    assert ready.wait(PATIENCE)
    wait_until(Waiting(), PATIENCE, "a client that waits")
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@linux
@pytest.mark.parametrize("kind", ["call", "stream"])
def test_a_client_whose_wait_was_interrupted_is_usable(kind: str) -> None:
    entered, release, closed = threading.Event(), threading.Event(), threading.Event()

    def block() -> str:
        entered.set()
        assert release.wait(PATIENCE)
        return "an answer that nobody waits for any more"

    def some() -> Iterator[int]:
        try:
            yield from range(3)
            entered.set()
            assert release.wait(PATIENCE)
            for number in itertools.count(3):
                yield number
                time.sleep(0.001)
        finally:
            closed.set()

    def add(first: int) -> int:
        return first + 1

    with paired(block, some, add) as (_, client):
        pressing = Background(press_ctrl_c, entered)
        uses = {"call": lambda: client.call("block"), "stream": lambda: list(client.stream("some"))}
        with pytest.raises(KeyboardInterrupt):
            uses[kind]()
        pressing.result()
        assert client.usable
        release.set()
        assert client.call("add", 1) == 2
        assert kind == "call" or closed.wait(PATIENCE)
        assert [next(client.stream("some"))[0] for _ in range(2)] == [0, 0]


def test_a_client_of_which_nobody_knows_what_it_lost_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with operating() as (client, operation, _):

        def interrupt(*_arguments: Any) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(client.link.stream, "receive_into", interrupt)
        with pytest.raises(KeyboardInterrupt):
            operation.result(PATIENCE)
        assert isinstance(client, Client)
        assert not client.usable
        with pytest.raises(ConnectionLost, match="lost before: KeyboardInterrupt"):
            client.ping()

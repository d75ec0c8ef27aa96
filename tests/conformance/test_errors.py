from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import (
    BadRequest,
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    NotFound,
    RemoteFault,
)
from handshakes.messages import Rights
from tests.conformance.breaking import break_mine
from tests.conformance.drivers import Driver
from tests.serving import PATIENCE, Background


def add(first: int, second: int = 1) -> int:
    return first + second


def counting() -> Iterator[int]:
    yield from itertools.count()


def causes(error: BaseException | None) -> list[BaseException]:
    """The error, its cause, and so on."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


# The gateway says no


def test_not_found(driver: Driver) -> None:
    with driver.paired(add) as (_, client):
        for use in (
            lambda: client.call("substract"),
            lambda: client.send("substract", b""),
            lambda: list(client.stream("substract")),
        ):
            with pytest.raises(NotFound, match="no subroutine 'substract'; it has: 'add'") as caught:
                use()
            assert caught.value.status == 404
        with pytest.raises(NotFound, match="does not know how to 'dance'"):
            client.request("dance")
        assert client.call("add", 1) == 2


def test_bad_request(driver: Driver) -> None:
    with driver.paired(add, counting) as (_, client):
        with pytest.raises(BadRequest, match=r"add\(first.*can't take these arguments"):
            client.call("add")
        with pytest.raises(BadRequest, match="can't take these arguments"):
            client.send("add", b"")
        with pytest.raises(BadRequest, match="can't take these arguments"):
            list(client.stream("counting", 1))
        with pytest.raises(BadRequest, match="parameters that do not fit"):
            client.request("ping", 1, 2, 3)
        assert client.call("add", 1) == 2


def test_forbidden(driver: Driver) -> None:
    with driver.serving(add, counting, rights="call") as gateway, driver.controller(gateway).get_client() as client:
        assert client.rights == Rights.CALL
        for right, use in (("stream", lambda: list(client.stream("counting"))), ("stats", client.stats)):
            with pytest.raises(Forbidden, match=f"needs the right '{right}'") as caught:
                use()
            assert caught.value.status == 403
        assert client.call("add", 1) == 2


# The function fails


def test_remote_fault(driver: Driver) -> None:
    class PumpError(Exception):
        pass

    def fail(*, buffer: bytes = b"") -> None:
        raise PumpError("dry", 7)

    def fail_at_once() -> Iterator[Any]:
        raise PumpError("dry", 7)
        yield

    with driver.paired(fail, fail_at_once, add) as (_, client):
        for use in (
            lambda: client.call("fail"),
            lambda: client.send("fail", b"x"),
            lambda: list(client.stream("fail_at_once")),
        ):
            with pytest.raises(RemoteFault) as caught:
                use()
            fault = caught.value
            assert fault.type_name.endswith("PumpError")
            assert fault.message == "('dry', 7)"
            assert "in fail" in fault.traceback
            assert "test_errors.py" in fault.traceback
            assert "pynetwork" not in fault.traceback.partition("test_errors.py")[0]
        assert client.call("add", 1) == 2


# Time


def test_a_call_that_takes_too_long_leaves_the_client_usable(driver: Driver) -> None:
    release = threading.Event()

    def slow() -> str:
        assert release.wait(PATIENCE)
        return "late"

    with driver.paired(slow, add) as (_, client):
        with pytest.raises(DeadlineExceeded, match="'call' was not answered by") as caught:
            client.call("slow", timeout=0.05)
        assert isinstance(caught.value, TimeoutError)
        release.set()
        # The late answer is dropped, it is not taken for this one's.
        assert [client.call("add", number) for number in range(5)] == [1, 2, 3, 4, 5]
        assert client.usable


def test_the_controllers_timeout_is_that_of_every_call(driver: Driver) -> None:
    release = threading.Event()

    def slow(*, buffer: bytes = b"") -> None:
        release.wait(PATIENCE)

    with driver.serving(slow) as gateway, driver.controller(gateway, timeout=0.1).get_client() as client:
        with pytest.raises(DeadlineExceeded):
            client.call("slow")
        with pytest.raises(DeadlineExceeded):
            client.send("slow", b"")
        release.set()
        assert client.call("slow", timeout=None) is None


# The link breaks


def test_a_gateway_that_stops(driver: Driver) -> None:
    with driver.serving(add) as gateway:
        client = driver.controller(gateway).get_client()
        gateway.stop()
        with pytest.raises(ConnectionLost) as caught:
            client.call("add", 1)
        assert isinstance(causes(caught.value)[-1], OSError)
        assert not client.usable
        with pytest.raises(ConnectionLost, match="was lost before"):
            client.call("add", 1)
        client.close()
        with pytest.raises(Closed, match="this client is closed"):
            client.call("add", 1)


def test_a_connection_that_breaks_in_the_middle_of_a_call(driver: Driver) -> None:
    with driver.serving() as gateway:

        def cut() -> str:
            break_mine(gateway)
            return "never"

        gateway.add_subroutine("cut", cut)
        with driver.controller(gateway).get_client() as client:
            with pytest.raises(ConnectionLost) as caught:
                client.call("cut")
            assert isinstance(causes(caught.value)[-1], OSError)
            assert not client.usable


def test_a_lost_connection_never_ends_a_stream(driver: Driver) -> None:
    with driver.serving() as gateway:

        def cut() -> Iterator[Any]:
            for number in range(1000):
                yield number, b"item"
            break_mine(gateway)
            yield 1000, b"never"

        gateway.add_subroutine("cut", cut)
        controller = driver.controller(gateway)
        with controller.get_client() as client:
            stream = client.stream("cut", timeout=PATIENCE)
            with pytest.raises(ConnectionLost):
                for _ in stream:
                    pass
            assert not stream.ended
        ended: list[int] = []
        with controller.get_client() as client:
            with pytest.raises(ConnectionLost):
                client.stream("cut", callback=lambda *_item: None, eos_callback=lambda: ended.append(1))
            assert not ended


def test_a_gateway_lets_what_runs_end_before_it_stops(driver: Driver) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow() -> bytes:
        entered.set()
        assert release.wait(PATIENCE)
        return b"x" * 5_000_000

    with driver.serving(slow) as gateway:
        client = driver.controller(gateway).get_client()
        calling = Background(client.call, "slow")
        assert entered.wait(PATIENCE)
        stopping = Background(gateway.stop, PATIENCE)
        release.set()
        assert len(calling.result()) == 5_000_000
        stopping.result()
        client.close()


def test_all_items_that_were_sent_before_the_gateway_stopped_arrive(driver: Driver) -> None:
    """Also where they lie in layers that see the end of the connection before they are asked for them."""
    ended = threading.Event()

    def items() -> Iterator[Any]:
        for number in range(1000):
            yield number, bytes(120)
        ended.set()

    with driver.serving(items) as gateway, driver.controller(gateway).get_client() as client:
        stream = client.stream("items", timeout=PATIENCE)
        frames = stream.frames()
        first = next(frames)
        assert ended.wait(PATIENCE)
        gateway.stop()
        found = [*first.idents, *itertools.chain.from_iterable(frame.idents for frame in frames)]
        assert found == list(range(1000))
        assert stream.ended


# Closing


def test_a_closed_client_says_so(driver: Driver) -> None:
    with driver.paired(add) as (_, client):
        client.close()
        client.close()
        assert not client.usable
        for use in (client.ping, client.subroutines, lambda: client.call("add", 1), lambda: client.stream("x")):
            with pytest.raises(Closed, match="this client is closed"):
                use()


def test_closing_frees_the_handler_before_it_returns(driver: Driver) -> None:
    with driver.serving(add, max_poolsize=1) as gateway:
        controller = driver.controller(gateway)
        for number in range(20):
            client = controller.get_client()
            assert client.call("add", number) == number + 1
            client.close()


def test_closing_in_the_middle_of_a_stream_ends_the_generator(driver: Driver) -> None:
    closed = threading.Event()

    def endless() -> Iterator[Any]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    with driver.serving(endless, max_poolsize=1) as gateway:
        controller = driver.controller(gateway)
        client = controller.get_client()
        stream = client.stream("endless")
        next(stream)
        client.close()
        assert closed.wait(PATIENCE)
        with pytest.raises(Closed):
            for _ in stream:
                pass
        controller.get_client(wait=PATIENCE).close()


def test_closing_wakes_who_waits(driver: Driver) -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        release.wait(PATIENCE)

    with driver.serving(block) as gateway:
        client = driver.controller(gateway, timeout=None).get_client()
        calling = Background(client.call, "block")
        assert entered.wait(PATIENCE)
        client.close()
        with pytest.raises(Closed):
            calling.result()
        release.set()

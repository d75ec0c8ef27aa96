from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import (
    Busy,
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    OperationAborted,
    RemoteFault,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
)
from handshakes.messages import Rights
from pynetwork import transport
from pynetwork.client import Client
from tests.serving import PATIENCE, PROOF, Background, controller_of, frame, linked, operating, paired, serving
from tests.waiting import wait_until


def add(first: int, second: int = 1) -> int:
    return first + second


def counting() -> Iterator[int]:
    yield from itertools.count()


def test_ping_takes_time_and_any_message() -> None:
    with paired() as (_, client):
        assert 0 < client.ping() < PATIENCE
        assert client.ping({"any": [1, b"thing"]}) > 0


def test_what_a_client_says_of_itself() -> None:
    with paired() as (gateway, client):
        assert client.peer == f"127.0.0.1:{gateway.port}"
        assert client.rights == Rights.DEFAULT
        assert client.usable
    assert not client.usable


# One operation at a time


def test_a_second_operation_is_refused_here_and_from_other_threads() -> None:
    with paired(add, counting) as (_, client):
        stream = client.stream("counting")
        assert next(stream) == (0, 0)
        with pytest.raises(Busy, match=r"still runs 'stream'.*another client for 'call'"):
            client.call("add", 1)
        with pytest.raises(Busy):
            Background(client.stream, "counting").result()
        assert next(stream) == (1, 1)
        stream.close()
        assert client.call("add", 1) == 2


def test_two_threads_never_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call either runs alone or is told Busy."""

    def hammer(client: Client) -> int:
        served = 0
        for number in range(300):
            try:
                assert client.call("add", number) == number + 1
            except Busy:
                continue
            served += 1
        return served

    with paired(add) as (_, client):
        threads = [Background(hammer, client) for _ in range(4)]
        assert sum(thread.result() for thread in threads) > 0
        assert client.call("add", 1) == 2


# The end of a client


def test_closing_frees_the_handler_before_it_returns() -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        for number in range(50):
            client = controller.get_client()
            assert client.call("add", number) == number + 1
            client.close()
            client.close()


def test_closing_in_the_middle_of_a_stream_ends_the_generator() -> None:
    closed = threading.Event()

    def endless() -> Iterator[Any]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    with serving(endless, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        client = controller.get_client()
        stream = client.stream("endless")
        next(stream)
        client.close()
        assert closed.wait(PATIENCE)
        with pytest.raises(Closed):
            for _ in stream:
                pass
        controller.get_client(wait=PATIENCE).close()


def test_a_closed_client_says_so() -> None:
    with paired(add) as (_, client):
        client.close()
        for use in (client.ping, client.subroutines, lambda: client.call("add", 1), lambda: client.stream("x")):
            with pytest.raises(Closed, match="this client is closed"):
                use()


def test_closing_wakes_a_call_on_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only at the next look at the peer's health."""
    monkeypatch.setattr(transport, "KEEPALIVE_INTERVAL", 100)
    entered, release = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        release.wait(PATIENCE)

    with serving(block) as gateway:
        client = controller_of(gateway, timeout=None).get_client()
        calling = Background(client.call, "block")
        assert entered.wait(PATIENCE)
        client.close()
        with pytest.raises(Closed):
            calling.result()
        release.set()


def test_a_lost_client_says_so_and_why() -> None:
    with serving(add) as gateway:
        client = controller_of(gateway).get_client()
        gateway.stop()
        with pytest.raises(ConnectionLost) as caught:
            client.call("add", 1)
        assert isinstance(caught.value.__cause__, OSError)
        assert not client.usable
        with pytest.raises(ConnectionLost, match="was lost before"):
            client.call("add", 1)
        client.close()
        with pytest.raises(Closed):
            client.call("add", 1)


def test_a_lost_connection_never_ends_a_stream() -> None:
    with serving(max_poolsize=2) as gateway:

        def cut() -> Iterator[Any]:
            for number in range(1000):
                yield number, b"item"
            (handler,) = gateway._pool.handlers()
            handler.link.stream.shutdown()
            yield 1000, b"never"

        gateway.add_subroutine("cut", cut)
        ended = []
        with controller_of(gateway).get_client() as client:
            stream = client.stream("cut", timeout=PATIENCE)
            with pytest.raises(ConnectionLost):
                for _ in stream:
                    pass
            assert not stream.ended
            with pytest.raises(ConnectionLost):
                client.stream("cut", callback=print, eos_callback=lambda: ended.append(1))
            assert not ended


# Time


def test_a_call_that_takes_too_long_leaves_the_client_usable() -> None:
    release = threading.Event()

    def slow() -> str:
        assert release.wait(PATIENCE)
        return "late"

    with paired(slow, add) as (_, client):
        with pytest.raises(DeadlineExceeded, match=r"'call' was not answered by 127.0.0.1") as caught:
            client.call("slow", timeout=0.05)
        assert isinstance(caught.value, TimeoutError)
        release.set()
        # The late answer is dropped, it is not taken for this one's.
        assert [client.call("add", number) for number in range(5)] == [1, 2, 3, 4, 5]


def test_the_controllers_timeout_is_that_of_every_call() -> None:
    release = threading.Event()

    def slow() -> None:
        release.wait(PATIENCE)

    with serving(slow) as gateway, controller_of(gateway, timeout=0.1).get_client() as client:
        with pytest.raises(DeadlineExceeded):
            client.call("slow")
        release.set()
        assert client.call("slow", timeout=None) is None


def test_a_stream_that_pauses_too_long() -> None:
    release = threading.Event()
    closed = threading.Event()

    def pausing() -> Iterator[Any]:
        try:
            yield "first"
            release.wait(PATIENCE)
            yield "second"
        finally:
            closed.set()

    with paired(pausing, add) as (_, client):
        found = []
        with pytest.raises(DeadlineExceeded):
            found.extend(client.stream("pausing", timeout=0.1))
        assert found == [(0, "first")]
        release.set()
        assert client.call("add", 4) == 5
        assert closed.is_set()


# Streams


@pytest.mark.parametrize("left_by", ["break", "close", "with", "exception", "forgotten", "callback"])
def test_leaving_a_stream_closes_the_generator(left_by: str) -> None:
    closed = threading.Event()

    def endless() -> Iterator[Any]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    with paired(endless, add) as (_, client):
        if left_by == "break":
            for _, value in client.stream("endless"):
                if value == 10:
                    break
        elif left_by == "close":
            stream = client.stream("endless")
            next(stream)
            stream.close()
            stream.close()
            assert list(stream) == []
            assert not stream.ended
        elif left_by == "with":
            with client.stream("endless") as stream:
                next(stream)
        elif left_by == "exception":
            with pytest.raises(KeyError):  # noqa: PT012 - the loop is what is tested
                for _, value in client.stream("endless"):
                    if value == 10:
                        raise KeyError(value)
        elif left_by == "forgotten":
            client.stream("endless")
        else:
            seen = []
            client.stream("endless", callback=lambda ident, value: seen.append(ident) if ident < 10 else False)
            assert seen == list(range(10))
        assert client.call("add", 1) == 2
        assert closed.wait(PATIENCE)


def test_callbacks_get_every_item_then_the_end() -> None:
    def three() -> Iterator[Any]:
        yield from "abc"

    with paired(three) as (_, client):
        heard: list[Any] = []
        stream = client.stream(
            "three",
            callback=lambda ident, value: heard.append((ident, value)),
            eos_callback=lambda: heard.append("end"),
        )
        assert heard == [(0, "a"), (1, "b"), (2, "c"), "end"]
        assert stream.ended
        heard.clear()
        stream = client.stream("three", callback=lambda *_item: False, eos_callback=lambda: heard.append("end"))
        assert heard == []
        assert not stream.ended
        with pytest.raises(ZeroDivisionError):
            client.stream("three", callback=lambda *_item: 1 / 0)
        assert client.ping()


def test_frames_bring_the_same_items() -> None:
    def some() -> Iterator[Any]:
        for number in range(5000):
            yield number, b"%d" % number

    with paired(some) as (_, client), client.stream("some") as stream:
        items = [item for frame_ in stream.frames() for item in zip(frame_.idents, frame_.payloads, strict=True)]
        assert items == [(number, b"%d" % number) for number in range(5000)]
        assert stream.ended


def test_an_answer_that_is_no_stream() -> None:
    with linked() as (near, far):
        client = Client(near)
        stream = client.stream("x")
        far.next_event(PATIENCE)
        far.next_event(PATIENCE)
        far.send(far.connection.message(1, b"", [b"a message"]))
        with pytest.raises(RemoteProtocolError, match="no item"):
            next(stream)


# Values


def test_what_can_not_be_sent_leaves_the_client_usable() -> None:
    with serving(add, limit=1 << 20) as gateway, controller_of(gateway).get_client() as client:
        with pytest.raises(ValueNotSupported, match="object has no wire form"):
            client.call("add", object())
        with pytest.raises(ValueTooLarge, match="more than the other side accepts"):
            client.call("add", b"x" * (2 << 20))
        assert client.call("add", 1) == 2


def test_an_answer_larger_than_this_side_accepts_is_an_error_of_the_call() -> None:
    def large() -> bytes:
        return b"x" * 100_000

    with serving(large, add) as gateway, controller_of(gateway, limit=50_000).get_client() as client:
        with pytest.raises(RemoteFault, match="ValueTooLarge"):
            client.call("large")
        assert client.call("add", 1) == 2


# Operations of any service


def test_an_operation_is_left_by_the_end_of_its_block() -> None:
    with operating() as (client, operation, served):
        with operation:
            operation.send(1)
            assert served.receive(PATIENCE).code == 1
        operation.abort()
        with pytest.raises(OperationAborted):
            served.receive(PATIENCE)
        with client.open("another") as another:
            assert not another.ended


def test_messages_end_with_the_result() -> None:
    with operating() as (_, operation, served):
        served.send(1, b"", b"message")
        served.link.send(served.link.connection.result({"the": "end"}))
        assert bytes(operation.receive(PATIENCE).body) == b"message"
        assert operation.receive(PATIENCE) is None
        assert operation.receive(PATIENCE) is None
        assert operation.result() == {"the": "end"}
        assert operation.ended


def test_a_message_in_place_of_a_result() -> None:
    with operating() as (_, operation, served):
        served.send(1)
        with pytest.raises(RemoteProtocolError, match="in place of a result"):
            operation.result(PATIENCE)


def test_items_in_place_of_a_message() -> None:
    with operating() as (client, operation, served):
        client.say(client.link.connection.credit(5, 500))
        served.link.next_event(PATIENCE)
        served.link.send(served.link.connection.items(0, b"", [1], [b"x"]))
        with pytest.raises(RemoteProtocolError, match="Items is no part"):
            operation.receive(PATIENCE)


def test_the_gateway_says_goodbye_in_the_middle() -> None:
    with operating() as (client, operation, served):
        served.link.close()
        with pytest.raises(ConnectionLost, match="in the middle of an operation"):
            operation.receive(PATIENCE)
        assert operation.ended
        assert not client.usable


def test_a_gateway_that_breaks_the_protocol() -> None:
    with operating() as (client, operation, served):
        served.link.stream.send([frame(2)])
        with pytest.raises(RemoteProtocolError):
            operation.receive(PATIENCE)
        assert not client.usable


def test_leaving_an_operation_whose_connection_is_gone() -> None:
    with operating() as (client, operation, served):
        served.link.stream.close()
        wait_until(client.link.stream.ready, PATIENCE)
        operation.abort()
        with pytest.raises(ConnectionLost):
            client.ping()


def test_sending_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell how much of the message has left, so the client is of no more use."""
    with paired(add) as (_, client):

        def interrupted(*_arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(client.link.stream, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.call("add", 1)
        monkeypatch.undo()
        with pytest.raises(ConnectionLost):
            client.call("add", 1)


def test_much_may_be_sent_after_much_was_left() -> None:
    def gen() -> Iterator[Any]:
        yield 0, bytes(1_000_000)
        yield 1, bytes(20_000_000)

    def swallow(*, buffer: bytes) -> int:
        return len(buffer)

    with paired(gen, swallow) as (_, client):
        for _item in client.stream("gen"):
            break
        assert client.send("swallow", bytes(20_000_000), timeout=PATIENCE) == 20_000_000


def test_much_is_not_sent_to_one_who_has_not_ended_what_was_left() -> None:
    going_on = threading.Event()

    def wait() -> None:
        going_on.wait(PATIENCE)

    def swallow(*, buffer: bytes) -> int:
        return len(buffer)

    with paired(wait, swallow) as (_, client):
        with pytest.raises(DeadlineExceeded):
            client.call("wait", timeout=0.01)
        with pytest.raises(DeadlineExceeded, match="left before"):
            client.send("swallow", bytes(1_000_000), timeout=0.01)
        going_on.set()
        assert client.send("swallow", bytes(1_000_000), timeout=PATIENCE) == 1_000_000


def test_named_tuples_arrive_as_lists() -> None:
    def usage() -> Any:
        return {"size": os.terminal_size((3, 4))}

    with paired(usage) as (_, client):
        assert client.call("usage") == {"size": [3, 4]}


@pytest.mark.parametrize(("instead", "error"), [("goodbye", ConnectionLost), ("nonsense", RemoteProtocolError)])
def test_a_pair_that_ends_while_a_large_opening_waits(instead: str, error: type[Exception]) -> None:
    with operating() as (client, operation, served):
        operation.abort()
        connection = served.link.connection
        served.link.stream.send(connection.goodbye() if instead == "goodbye" else [frame(PROOF)])
        with pytest.raises(error):
            client.send("swallow", bytes(1_000_000))
        assert not client.usable
        with pytest.raises(ConnectionLost, match="was lost before"):
            client.ping()


def test_a_client_that_was_closed_in_the_middle_says_so_rather_than_busy() -> None:
    with operating() as (client, operation, _):
        client.close()
        with pytest.raises(Closed, match="this client is closed"):
            client.open("another")
        assert not operation.ended

from __future__ import annotations

import threading

import numpy
import pytest

from handshakes.connection import Connection, Phase, Role
from handshakes.errors import Closed, ConnectionLost, DeadlineExceeded, RemoteProtocolError
from handshakes.messages import Goodbye, Message, Open, Rights
from pynetwork import link as link_module
from pynetwork.link import Link
from pynetwork.pacing import Bottleneck
from pynetwork.transport import MemoryStream
from tests.serving import PATIENCE, Background, frame, linked, opening, operating


def test_an_event_is_waited_for() -> None:
    with linked() as (near, far):
        waiting = Background(far.next_event)
        near.send(near.connection.open("verb", [1]))
        event = waiting.result()
        assert type(event) is Open
        assert (event.verb, event.parameters) == ("verb", [1])


def test_events_that_came_together_come_one_by_one() -> None:
    with linked() as (near, far):
        words = near.connection.open("verb", [])
        near.send([*words, *near.connection.message(1, b"", [b"x"]), *near.connection.goodbye()])
        assert [type(far.next_event(PATIENCE)) for _ in range(3)] == [Open, Message, Goodbye]


def test_waiting_for_an_event_ends_in_time() -> None:
    with linked() as (near, _), pytest.raises(DeadlineExceeded):
        near.next_event(0.01)


def test_a_deadline_spans_the_parts_of_a_frame() -> None:
    with linked() as (near, far):
        near.stream.send([opening("verb")[:5]])
        with pytest.raises(DeadlineExceeded):
            far.next_event(0.05)
        near.stream.send([opening("verb")[5:]])
        assert type(far.next_event(PATIENCE)) is Open


@pytest.mark.parametrize("begun", [b"", opening("verb")[:7]])
def test_the_end_of_the_stream_is_a_lost_connection(begun: bytes) -> None:
    with linked() as (near, far):
        near.stream.send([begun])
        near.stream.close()
        with pytest.raises(ConnectionLost) as caught:
            far.next_event(PATIENCE)
        assert isinstance(caught.value.__cause__, OSError)


def test_a_peer_that_stops_in_the_middle_of_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "STALL_TIMEOUT", 0.05)
    with linked() as (near, far):
        near.stream.send([opening("verb")[:7]])
        with pytest.raises(ConnectionLost, match="stopped in the middle of a message"):
            far.next_event()


def test_polling_takes_what_is_there_and_waits_for_nothing() -> None:
    with linked() as (near, far):
        assert far.poll_event() is None
        near.stream.send([opening("verb")[:7]])
        assert far.poll_event() is None
        near.stream.send([opening("verb")[7:]])
        assert type(far.poll_event()) is Open
        near.stream.close()
        with pytest.raises(ConnectionLost):
            far.poll_event()


def test_polling_survives_a_stream_that_promised_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS: part of a record makes the socket readable, and yet there is nothing to read."""
    with linked() as (_, far):
        monkeypatch.setattr(far.stream, "ready", lambda: True)
        assert far.poll_event() is None


def test_the_last_word_reaches_the_peer() -> None:
    near, far = MemoryStream.pair()
    gateway = Link(far, Connection(Role.GATEWAY, nonce=b"g" * 32, rights=Rights.DEFAULT))
    near.send([frame(5)])
    with pytest.raises(RemoteProtocolError) as caught:
        gateway.next_event(PATIENCE)
    gateway.break_off(caught.value)
    gateway.break_off(caught.value)
    word = memoryview(bytearray(1000))
    said = bytes(word[: near.receive_into(word, PATIENCE)])
    assert said.count(str(caught.value).encode()) == 1
    near.close()
    gateway.break_off(caught.value)
    gateway.close()


def test_closing_says_goodbye_once() -> None:
    with linked() as (near, far):
        near.close()
        near.close()
        assert near.connection.phase is Phase.CLOSED
        assert type(far.next_event(PATIENCE)) is Goodbye
        with pytest.raises(Closed):
            near.next_event(PATIENCE)


def test_closing_while_the_peer_has_gone() -> None:
    with linked() as (near, far):
        far.stream.close()
        near.close()
        with pytest.raises(Closed):
            near.next_event(PATIENCE)


def test_messages_in_both_directions() -> None:
    with operating() as (_, caller, served):
        caller.send(7, b"head", b"bo", bytearray(b"dy"))
        got = served.receive(PATIENCE)
        assert (got.code, got.head, bytes(got.body)) == (7, b"head", b"body")
        served.send(255)
        got = caller.receive(PATIENCE)
        assert (got.code, got.head, bytes(got.body)) == (255, b"", b"")


@pytest.mark.parametrize("count", [3, 50_000])
def test_a_view_of_larger_elements_is_sent_whole(count: int) -> None:
    values = numpy.arange(count, dtype=numpy.float64)
    with operating() as (_, caller, served):
        caller.send(1, b"", memoryview(values), b"end")
        assert bytes(served.receive(PATIENCE).body) == values.tobytes() + b"end"


def test_memory_that_is_given_back_receives_the_next_body() -> None:
    with operating() as (_, caller, served):
        first = None
        for number in range(4):
            sending = Background(caller.send, 1, b"", bytes([number]) * 300_000)
            got = served.receive(PATIENCE)
            sending.result()
            assert bytes(got.body) == bytes([number]) * 300_000
            address = numpy.frombuffer(got.body, numpy.uint8).ctypes.data
            first = first or address
            assert address == first
            served.recycle(got.body)


def test_ready_is_a_hint_that_something_has_come() -> None:
    with operating() as (_, caller, served):
        assert not served.ready()
        caller.send(1)
        assert served.ready()
        served.receive(PATIENCE)
        assert not served.ready()


def test_an_operation_knows_its_peer_and_what_it_may() -> None:
    with operating() as (_, caller, served):
        assert served.peer == "memory:b"
        assert caller.peer == "memory:a"
        assert served.rights == caller.rights == Rights.DEFAULT
        assert served.send_limit > 1 << 20


def test_one_thread_sends_while_another_receives() -> None:
    with operating() as (_, caller, served):
        started = threading.Event()

        def receive() -> int:
            started.set()
            return sum(len(caller.receive(PATIENCE).body) for _ in range(20))

        receiving = Background(receive)
        assert started.wait(PATIENCE)
        for _ in range(20):
            caller.send(1, b"", b"x" * 1000)
            served.receive(PATIENCE)
            served.send(2, b"", b"y" * 1000)
        assert receiving.result() == 20_000


def test_an_operation_gives_way_by_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    bottleneck = Bottleneck()
    asked: list[object] = []
    with operating() as (_, caller, served):
        monkeypatch.setattr(MemoryStream, "giving_way", lambda self, given: asked.append((self, given)))
        caller.giving_way(bottleneck)
        served.giving_way(bottleneck)
        assert asked == [(caller._link.stream, bottleneck), (served._link.stream, bottleneck)]

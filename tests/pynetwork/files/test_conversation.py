from __future__ import annotations

from collections.abc import Iterator

import pytest

from handshakes.errors import (
    BadRequest,
    ConnectionLost,
    LocalProtocolError,
    NotFound,
    OperationAborted,
    RemoteProtocolError,
)
from handshakes.messages import Message, Open
from pynetwork.client import Client
from pynetwork.files import conversation as module
from pynetwork.files.conversation import Begin, Conversation, End, Hear, Request, Say, await_end, converse, next_answer
from pynetwork.service import ServedOperation
from tests.serving import PATIENCE, Background, linked, operating, paired


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_TIMEOUT", 0.05)


@pytest.fixture
def sides() -> Iterator[tuple[Client, ServedOperation]]:
    """A client and what serves the operation that it begins next."""
    with linked() as (near, far):
        yield Client(near), ServedOperation(far)


def test_steps_are_done_in_order_and_answered(sides: tuple[Client, ServedOperation]) -> None:
    client, served = sides
    heard = []

    def talk() -> Conversation:
        assert (yield Begin("verb", ("one", 2))) is None
        assert (yield Say(3, b"question")) is None
        answer = yield Hear()
        heard.append((answer.code, bytes(answer.body)))
        yield Say(5)
        heard.append((yield End()))

    talking = Background(converse, client, talk())
    opening = served.link.next_event(PATIENCE)
    assert isinstance(opening, Open)
    assert list(opening.parameters) == ["one", 2]
    question = served.receive(PATIENCE)
    assert (question.code, bytes(question.body)) == (3, b"question")
    served.send(4, b"", b"answer")
    assert served.receive(PATIENCE).code == 5
    served.link.send(served.link.connection.result(None))
    talking.result()
    assert heard == [(4, b"answer"), None]
    assert client.usable


def test_a_request_is_an_operation_of_its_own() -> None:
    found = []

    def talk() -> Conversation:
        found.append((yield Request("ping", ("hello",))))
        found.append((yield Request("ping", (5,))))

    with paired() as (_, client):
        converse(client, talk())
    assert found == ["hello", 5]


def test_an_operation_that_is_left_in_the_middle_is_aborted(sides: tuple[Client, ServedOperation]) -> None:
    client, served = sides
    closed = []

    def talk() -> Conversation:
        try:
            yield Begin("verb", ())
            raise BadRequest("not that way")
        finally:
            closed.append(True)

    with pytest.raises(BadRequest, match="not that way"):
        converse(client, talk())
    assert closed == [True]
    served.link.next_event(PATIENCE)
    with pytest.raises(OperationAborted):
        served.receive(PATIENCE)


def test_what_the_gateway_raises_closes_the_conversation() -> None:
    closed = []

    def talk() -> Conversation:
        try:
            yield Request("no such verb", ())
        finally:
            closed.append(True)

    with paired() as (_, client):
        with pytest.raises(NotFound, match="no such verb"):
            converse(client, talk())
        assert closed == [True]
        assert client.ping() > 0


@pytest.mark.parametrize("step", [Say(1), Hear(), End()], ids=lambda each: type(each).__name__)
def test_nothing_is_said_before_the_beginning(step: module.Step) -> None:
    def talk() -> Conversation:
        yield step

    with paired() as (_, client), pytest.raises(LocalProtocolError, match="nothing has begun"):
        converse(client, talk())


def test_the_answer_or_the_end() -> None:
    with operating() as (_, operation, served):
        served.send(1, b"", b"answer")
        answer = next_answer(operation)
        assert isinstance(answer, Message)
        assert bytes(answer.body) == b"answer"
        served.link.send(served.link.connection.result(None))
        assert next_answer(operation) is None


def test_a_gateway_that_owes_an_answer_and_says_nothing_is_lost(impatient: None) -> None:
    with operating() as (client, operation, _served):
        with pytest.raises(ConnectionLost, match=r"owes an answer and has said nothing for 0\.05 s"):
            next_answer(operation)
        assert client.usable


def test_a_gateway_that_is_slow_but_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large answer over a slow link arrives in pieces: none of them is the whole, all are signs of life."""
    with operating() as (_, operation, served):
        pieces = b"".join(bytes(each) for each in served.link.connection.message(1, b"", [b"large" * 1000]))
        rest = [pieces[:3000], pieces[3000:]]
        waits = []
        receive = operation.receive

        def receive_late(timeout: float | None = None) -> Message | None:
            waits.append(timeout)
            if rest:
                served.link.stream.send([rest.pop(0)])
            return receive(timeout)

        monkeypatch.setattr(module, "SILENCE_TIMEOUT", 0.05)
        monkeypatch.setattr(operation, "receive", receive_late)
        answer = next_answer(operation)
        assert answer is not None
        assert bytes(answer.body) == b"large" * 1000
        assert waits == [0.05, 0.05]


def test_the_end_is_awaited() -> None:
    with operating() as (_, operation, served):
        served.link.send(served.link.connection.result(None))
        await_end(operation)
        assert operation.ended


def test_a_message_is_no_end() -> None:
    with operating() as (_, operation, served):
        served.send(1)
        with pytest.raises(RemoteProtocolError, match="in place of a result"):
            await_end(operation)

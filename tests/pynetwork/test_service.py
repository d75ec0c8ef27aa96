from __future__ import annotations

import dataclasses

import pytest

from handshakes.errors import ConnectionLost, DeadlineExceeded, OperationAborted, RemoteProtocolError
from handshakes.messages import Rights
from pynetwork.service import Verb
from tests.serving import PATIENCE, frame, operating


def test_messages_come_with_credit_passed_over() -> None:
    with operating() as (client, caller, served):
        client.say(client.link.connection.credit(1, 1))
        caller.send(3, b"", b"three")
        assert served.receive(PATIENCE).code == 3
        assert served.link is served._link


def test_waiting_for_a_message_ends_in_time() -> None:
    with operating() as (_, caller, served):
        with pytest.raises(DeadlineExceeded):
            served.receive(0.01)
        caller.send(1)
        assert served.receive(PATIENCE).code == 1


def test_the_caller_left() -> None:
    with operating() as (_, caller, served):
        caller.abort()
        for _ in range(2):  # a service that goes on asking hears the same, and does not hang
            with pytest.raises(OperationAborted):
                served.receive(PATIENCE)


def test_the_caller_closed_its_client() -> None:
    with operating() as (client, _, served):
        client.link.close()
        with pytest.raises(ConnectionLost, match="goodbye in the middle"):
            served.receive(PATIENCE)


def test_the_caller_has_gone() -> None:
    with operating() as (client, _, served):
        client.link.stream.close()
        with pytest.raises(ConnectionLost):
            served.receive(PATIENCE)


def test_the_caller_says_what_has_no_place_here() -> None:
    with operating() as (client, _, served):
        client.link.stream.send([frame(6, 1, 2, b"", b'["again"]')])
        with pytest.raises(RemoteProtocolError):
            served.receive(PATIENCE)


def test_a_verb_does_not_change() -> None:
    verb = Verb(len, Rights.CALL)
    assert Verb(len).right is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        verb.right = None  # type: ignore[misc]

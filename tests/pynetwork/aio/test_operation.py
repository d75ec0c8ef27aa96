from __future__ import annotations

import asyncio

import pytest

from handshakes.errors import ConnectionLost, RemoteProtocolError
from pynetwork.aio import link as link_module
from tests.pynetwork.aio.looping import on_loop, operating
from tests.serving import PATIENCE, opening


@on_loop
async def test_messages_end_with_the_result() -> None:
    async with operating() as (client, operation, served):
        await operation.send(1, b"head", b"body")
        assert bytes(served.receive(PATIENCE).body) == b"body"
        served.send(1, b"", b"message")
        served.link.send(served.link.connection.result({"the": "end"}))
        assert bytes((await operation.receive(PATIENCE)).body) == b"message"
        for _ in range(2):
            assert await operation.receive(PATIENCE) is None
        assert await operation.result() == {"the": "end"}
        assert (operation.send_limit, operation.peer) == (client.connection.send_limit, client.peer)


@on_loop
async def test_words_that_do_not_fit() -> None:
    async with operating() as (client, operation, served):
        await operation.say(client.connection.credit(5, 500))
        served.link.next_event(PATIENCE)
        served.link.send(served.link.connection.items(0, b"", [1], [b"x"]))
        with pytest.raises(RemoteProtocolError, match="Items is no part of this operation"):
            await operation.receive(PATIENCE)
    async with operating() as (_, operation, served):
        served.send(1)
        with pytest.raises(RemoteProtocolError, match="a message arrived in place of a result"):
            await operation.result(PATIENCE)


@on_loop
async def test_a_gateway_that_stops_in_the_middle_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "STALL_TIMEOUT", 0.1)
    async with operating() as (client, operation, served):
        answer = b"".join(served.link.connection.result("an answer"))
        served.link.stream.send([answer[:-1]])
        with pytest.raises(ConnectionLost, match="stopped in the middle of a message for"):
            await operation.result()
        assert operation.ended
        assert not client.usable
        with pytest.raises(ConnectionLost, match=r"was lost before: .* stopped in the middle"):
            await client.ping()


@on_loop
async def test_a_gateway_that_says_goodbye_or_nonsense_in_the_middle() -> None:
    async with operating() as (client, operation, served):
        served.link.close()
        with pytest.raises(ConnectionLost, match="ended the pair in the middle of an operation"):
            await operation.receive(PATIENCE)
        assert operation.ended
        assert not client.usable
    async with operating() as (client, operation, served):
        served.link.stream.send([opening("verb")])
        with pytest.raises(RemoteProtocolError):
            await operation.receive(PATIENCE)
        assert not client.usable


@on_loop
async def test_leaving_an_operation_whose_connection_is_gone() -> None:
    async with operating() as (client, operation, served):
        served.link.stream.close()
        waiting = asyncio.ensure_future(operation.receive())
        with pytest.raises(ConnectionLost):
            await waiting
        operation.abort()
        with pytest.raises(ConnectionLost):
            await client.ping()

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from handshakes.errors import Closed, ConnectionLost, DeadlineExceeded, OperationAborted
from handshakes.messages import Message
from pynetwork.aio import link as link_module
from pynetwork.aio.link import AsyncLink, run_on
from tests.pynetwork.aio.looping import a_turn, happened, joined, linked, on_loop, until
from tests.serving import MESSAGE, PATIENCE, Background, frame, opening


async def opened(link: AsyncLink, served: Any) -> None:
    """An operation has begun."""
    link.write(link.connection.open("verb", ()))
    served.next_event(PATIENCE)


# Receiving


@on_loop
async def test_a_message_in_pieces() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        waiting = asyncio.ensure_future(link.next_event(PATIENCE))
        for byte in b"".join(map(bytes, served.connection.message(7, b"head", [b"body"]))):
            served.stream.send([bytes([byte])])
            await a_turn()
        event = await waiting
        assert isinstance(event, Message)
        assert (event.code, bytes(event.head), bytes(event.body)) == (7, b"head", b"body")


@on_loop
async def test_nothing_is_read_while_nobody_waits() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        before = link.received
        sending = Background(served.send, served.connection.message(1, b"", [bytes(20_000_000)]))
        ping = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.1, ping.set_result, None)
        await ping
        assert not sending.done
        assert link.received == before
        event = await link.next_event(PATIENCE)
        assert len(event.body) == 20_000_000
        sending.result()


@on_loop
async def test_waiting_ends_in_time_and_may_begin_again() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        for timeout in (0.0, 0.05):
            with pytest.raises(DeadlineExceeded, match="the gateway did not get ready in time") as caught:
                await link.next_event(timeout)
            assert isinstance(caught.value, TimeoutError)
        served.send(served.connection.message(1, b"", []))
        assert isinstance(await link.next_event(PATIENCE), Message)


# The end


@on_loop
async def test_a_peer_that_stops_in_the_middle_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "STALL_TIMEOUT", 0.1)
    async with linked() as (link, served):
        await opened(link, served)
        # Between messages it may take its time.
        with pytest.raises(DeadlineExceeded):
            await link.next_event(0.3)
        whole = b"".join(map(bytes, served.connection.message(1, b"head", [b"body"])))
        served.stream.send([whole[:-1]])
        with pytest.raises(ConnectionLost, match="the gateway stopped in the middle of a message"):
            await link.next_event()


@on_loop
async def test_what_arrived_before_the_end_is_still_to_be_had() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        for number in range(3):
            served.send(served.connection.message(number, b"", [b"body"]))
        served.stream.close()
        assert [(await link.next_event(PATIENCE)).code for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="the gateway ended the connection") as caught:
                await link.next_event(PATIENCE)
            assert isinstance(caught.value.__cause__, OSError)
        with pytest.raises(ConnectionLost):
            link.write([b"x"])


@on_loop
async def test_closing_wakes_who_waits() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        waiting = asyncio.ensure_future(link.next_event())
        await a_turn()
        assert link.waited_for
        link.close()
        link.close()
        with pytest.raises(Closed, match="is closed"):
            await waiting
        await link.wait_closed()
        await link.wait_closed()
        assert served.stream.receive_into(memoryview(bytearray(1)), PATIENCE) == 0


@on_loop
async def test_a_peer_that_is_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "KEEPALIVE_INTERVAL", 0.05)
    monkeypatch.setattr(link_module, "peer_is_silent", lambda _sock: True)
    async with linked() as (link, served):
        await opened(link, served)
        with pytest.raises(ConnectionLost, match="has not acknowledged anything") as caught:
            await link.next_event()
        assert isinstance(caught.value.__cause__, TimeoutError)


# Sending


@on_loop
async def test_sending_waits_for_a_peer_that_does_not_read() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        link.write(link.connection.message(1, b"", [bytes(20_000_000)]))
        with pytest.raises(DeadlineExceeded):
            await link.drain(0.05)
        draining = asyncio.ensure_future(link.drain())
        reading = Background(served.next_event, PATIENCE)
        await draining
        assert len((await until(lambda: reading.done and reading.result())).body) == 20_000_000


@on_loop
async def test_closing_wakes_who_sends() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        link.write(link.connection.message(1, b"", [bytes(20_000_000)]))
        draining = asyncio.ensure_future(link.drain())
        await a_turn()
        link.close()
        with pytest.raises(Closed):
            await draining


# Leaving


@on_loop
async def test_whoever_waits_for_an_operation_that_is_left_learns_that() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        waiting = asyncio.ensure_future(link.next_event())
        await a_turn()
        link.write(link.connection.abort())
        link.interrupt()
        with pytest.raises(OperationAborted, match="left by another task"):
            await waiting


@on_loop
async def test_what_comes_late_is_dropped_without_anybody_waiting() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        late = [*served.connection.message(1, b"", [bytes(20_000_000)]), *served.connection.result("late")]
        link.write(link.connection.abort())
        link.interrupt()
        sending = Background(served.send, late)
        await until(lambda: not link.connection.leaving)
        sending.result()
        assert not link.waited_for
        assert link.lost is None


@on_loop
@pytest.mark.parametrize("word", ["goodbye", "nonsense"])
async def test_a_peer_that_ends_the_pair_instead(word: str) -> None:
    async with linked() as (link, served):
        await opened(link, served)
        link.write(link.connection.abort())
        link.interrupt()
        served.stream.send(served.connection.goodbye() if word == "goodbye" else [opening("verb")])
        await until(lambda: link.lost)
        assert ("ended the pair" in str(link.lost)) == (word == "goodbye")


@on_loop
async def test_a_goodbye_waits_for_the_peer_to_hang_up() -> None:
    async with linked() as (link, served):
        leaving = asyncio.ensure_future(link.leave(PATIENCE))
        await a_turn()
        assert type(served.next_event(PATIENCE)).__name__ == "Goodbye"
        assert not leaving.done()
        # What is still under way holds nobody up.
        served.stream.send([frame(MESSAGE, body=bytes(100_000))])
        served.stream.close()
        await leaving


@on_loop
async def test_a_goodbye_waits_only_so_long() -> None:
    async with linked() as (link, _):
        await link.leave(0.05)
        assert link.lost is None


@on_loop
async def test_a_connection_without_tls_has_no_certificate() -> None:
    async with joined() as (link, _):
        assert link.certificate == b""
        assert link.lost is None


# Finalizers


@on_loop
async def test_an_action_runs_on_its_own_loop() -> None:
    loop, done = asyncio.get_running_loop(), threading.Event()
    ran_on = []

    def note() -> None:
        ran_on.append(threading.current_thread())
        done.set()

    run_on(loop, note)
    assert ran_on == [threading.current_thread()]
    done.clear()
    await asyncio.to_thread(run_on, loop, note)
    await happened(done)
    assert ran_on == [threading.current_thread()] * 2


def test_on_a_closed_loop_nothing_is_done() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    ran: list[int] = []
    run_on(loop, lambda: ran.append(1))
    assert not ran

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from handshakes.errors import Closed, ConnectionLost, DeadlineExceeded, OperationAborted
from handshakes.messages import Message
from pynetwork.aio import link as link_module
from pynetwork.aio.link import AsyncLink, run_on, to_the_end
from tests.certificates import Certificates
from tests.pynetwork.aio.looping import LARGE, Endless, a_turn, controller_of, happened, joined, linked, on_loop, until
from tests.serving import MESSAGE, PATIENCE, Background, frame, opening, serving


@pytest.fixture
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is woken by what happens, not by the next look at the peer's health."""
    monkeypatch.setattr(link_module, "KEEPALIVE_INTERVAL", 1000)
    monkeypatch.setattr(link_module, "STALL_TIMEOUT", 1000)


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
        before, sock = link.received, served.stream._sock
        data = memoryview(b"".join(map(bytes, served.connection.message(1, b"", [LARGE]))))
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                data = data[sock.send(data) :]
        for _ in range(10):
            await a_turn()
        assert link.received == before
        sock.settimeout(PATIENCE)
        sending = Background(sock.sendall, data)
        event = await link.next_event(PATIENCE)
        assert len(event.body) == len(LARGE)
        sending.result()


@on_loop
async def test_much_at_once_arrives_whole() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        bodies = [bytes([number]) * number**3 for number in range(100)]
        messages = [piece for body in bodies for piece in served.connection.message(1, b"", [body])]
        sending = Background(served.send, messages)
        for body in bodies:
            event = await link.next_event(PATIENCE)
            assert bytes(event.body) == body
        sending.result()


@on_loop
async def test_waiting_ends_in_time_and_may_begin_again() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        for timeout in (0.0, 0.05):
            with pytest.raises(DeadlineExceeded, match="the gateway did not answer in time") as caught:
                await link.next_event(timeout)
            assert isinstance(caught.value, TimeoutError)
        served.send(served.connection.message(1, b"", []))
        assert isinstance(await link.next_event(PATIENCE), Message)


@on_loop
async def test_what_arrives_in_time_is_not_what_was_waited_for() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        whole = served.connection.message(1, b"", [b"body"])[0]
        served.stream.send([whole[:5]])
        with pytest.raises(DeadlineExceeded, match="the gateway sent much, but not what was waited for, in time"):
            await link.next_event(0.0)
        served.stream.send([whole[5:-1]])
        link.write(link.connection.abort())
        link.interrupt()
        with pytest.raises(DeadlineExceeded, match="has not ended the operation that was left before"):
            await link.settle(0.0)


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
@pytest.mark.usefixtures("_unwatched")
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
@pytest.mark.usefixtures("_unwatched")
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
@pytest.mark.usefixtures("_unwatched")
async def test_sending_waits_for_a_peer_that_does_not_read() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        link.write(link.connection.message(1, b"", [LARGE]))
        with pytest.raises(DeadlineExceeded):
            await link.drain(0.05)
        draining = asyncio.ensure_future(link.drain())
        reading = Background(served.next_event, PATIENCE)
        await draining
        assert len((await until(lambda: reading.done and reading.result())).body) == len(LARGE)


@on_loop
@pytest.mark.usefixtures("_unwatched")
async def test_closing_wakes_who_sends() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        link.write(link.connection.message(1, b"", [LARGE]))
        draining = asyncio.ensure_future(link.drain())
        await a_turn()
        link.close()
        with pytest.raises(Closed):
            await draining


@on_loop
async def test_much_is_sent_to_a_peer_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """Before the loop could tell; nothing is said about it meanwhile."""
    async with linked() as (link, served):
        await opened(link, served)
        served.stream.close()
        for _ in range(20):
            link.write(link.connection.message(1, b"", [b"body"]))
        with pytest.raises(ConnectionLost):
            await link.next_event(PATIENCE)
        assert not [record for record in caplog.records if record.name == "asyncio"]


# Leaving


@on_loop
@pytest.mark.usefixtures("_unwatched")
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
        late = [*served.connection.message(1, b"", [LARGE]), *served.connection.result("late")]
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
        link.close()
        await link.leave(PATIENCE)


@on_loop
async def test_a_connection_without_tls_has_no_certificate() -> None:
    async with joined() as (link, _):
        assert link.certificate == b""
        assert link.lost is None


@on_loop
async def test_what_was_left_is_waited_for() -> None:
    async with linked() as (link, served):
        await opened(link, served)
        link.write(link.connection.abort())
        link.interrupt()
        with pytest.raises(DeadlineExceeded):
            await link.settle(0.05)
        settling = asyncio.ensure_future(link.settle(PATIENCE))
        for late in (served.connection.message(1, b"", [bytes(1000)]), served.connection.result("late")):
            assert not settling.done()
            served.send(late)
            await a_turn()
        await settling
        await link.settle(0.0)
        assert not link.connection.leaving


# Waiting for either


@on_loop
async def test_idle_until_something_arrives_or_somebody_wakes() -> None:
    loop = asyncio.get_running_loop()
    async with linked() as (link, served):
        await opened(link, served)
        wake = loop.create_future()
        idling = asyncio.ensure_future(link.idle(wake))
        await a_turn()
        assert link.waited_for
        wake.set_result(True)
        await idling
        assert not link.pending

        wake = loop.create_future()
        served.stream.send([served.connection.message(1, b"", [b"body"])[0][:-1]])
        await link.idle(wake)
        assert wake.done()
        assert link.pending

        idling = asyncio.ensure_future(link.idle(loop.create_future()))
        await a_turn()
        link.close()
        await idling
        with pytest.raises(Closed):
            await link.idle(loop.create_future())


# The transport


class Transport(asyncio.Transport):
    """One that does nothing but count how often it was aborted."""

    aborted = 0

    def pause_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted += 1


@on_loop
async def test_a_transport_that_is_lost_is_not_forgotten() -> None:
    """Over TLS, Python 3.10 warns of one that nobody closed, be it lost or not."""
    link, transport = AsyncLink("the gateway"), Transport()
    link.connection_made(transport)
    link.connection_lost(ConnectionResetError("reset"))
    assert transport.aborted == 1
    await link.wait_closed()
    link.close()
    assert transport.aborted == 1
    assert str(link.lost) == "the connection to the gateway was lost: reset"


# TLS


@on_loop
async def test_over_tls_no_more_is_read_ahead_than_a_little(certificates: Certificates) -> None:
    """Nor is anything of it lost."""
    endless = Endless(100_000)
    with serving(endless.function, tls=certificates.gateway) as gateway:
        async with controller_of(gateway, tls=certificates.controller).get_client() as client:
            assert len(client.link.certificate) > 100
            stream = await client.stream("endless")
            assert (await anext(stream))[0] == 0
            await until(lambda: endless.produced > 10)
            before = client.link.received
            for _ in range(100):
                await a_turn()
            assert client.link.received - before < 1 << 20
            async for ident, payload in stream:
                assert payload == bytes(100_000)
                if ident == 100:
                    break
            stream.close()
            await endless.ended()


# Waiting to the end


@on_loop
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("outcome", ["a result", "an error", "cancelled"])
async def test_to_the_end_however_often_it_is_cancelled(times: int, outcome: str) -> None:
    running: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(to_the_end(running))
    for _ in range(times):
        await a_turn()
        waiting.cancel()
    await a_turn()
    assert not waiting.done()
    if outcome == "a result":
        running.set_result(5)
    elif outcome == "an error":
        running.set_exception(LookupError())
    else:
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@on_loop
async def test_to_the_end_without_being_cancelled() -> None:
    running: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(to_the_end(running))
    await a_turn()
    running.set_result(5)
    assert await waiting == 5
    assert await to_the_end(running) == 5
    failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    failed.set_exception(LookupError("why"))
    with pytest.raises(LookupError, match="why"):
        await to_the_end(failed)


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

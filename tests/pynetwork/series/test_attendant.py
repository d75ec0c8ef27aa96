from __future__ import annotations

import contextlib
import os
import socket
import struct

import pytest

from handshakes.errors import ValueNotSupported
from pynetwork.series.server import SeriesServer
from tests.pynetwork.series.memory_store import MemoryStore
from tests.pynetwork.series.raw import (
    FAILURE,
    GET,
    GETACQ,
    RawClient,
    batch,
    box,
    put,
    put_records,
    record,
)
from tests.pynetwork.series.served import ours, serving
from tests.serving import PATIENCE
from tests.waiting import wait_until

# Many, large and slow


def test_puts_of_many_connections_are_committed_together() -> None:
    store = MemoryStore()
    with serving(store) as (server, _), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.port)) for _ in range(30)]
        store.gate.clear()
        clients[0].say(put_records(((0, 0, 0, 0, 0), b"first")))
        for number, client in enumerate(clients[1:]):
            client.say(put_records(((1, number, 0, 0, 0), b"x")))
        wait_until(lambda: server.stats()["connections"] == 30)
        store.gate.set()
        spans = [client.put_answer() for client in clients]
        assert len(set(spans)) == 30
        assert sum(store.groups) == 30
        assert max(store.groups) > 5


def test_a_large_put_is_staged_and_nothing_of_it_is_seen_before_its_end() -> None:
    store = MemoryStore()
    records = [record((4, number, 0, 0, 0), b"p" * 1000) for number in range(5000)]
    with serving(store) as (server, _), RawClient(server.port) as client, RawClient(server.port) as other:
        client.say(struct.pack("<iQ", 5, 0) + batch(4, *records))
        wait_until(lambda: store.staged)
        assert other.say(box(GET)).get_answer()[0] == []
        client.say(struct.pack("<i", -1))
        first, last = client.put_answer()
        assert last - first == 4999
        assert len(other.say(box(GET)).get_answer()[0]) == 5000
        assert client.say(put_records(((1, 2, 3, 4, 5), b""))).put_answer() == (last + 1, last + 1)


def test_nothing_is_kept_of_a_large_put_that_breaks_off() -> None:
    store = MemoryStore()
    records = [record((4, number, 0, 0, 0), b"p" * 1000) for number in range(3000)]
    with serving(store) as (server, _):
        with RawClient(server.port) as client:
            client.say(struct.pack("<iQ", 5, 0) + batch(4, *records))
            wait_until(lambda: store.staged)
        wait_until(lambda: store.aborted)
        wait_until(lambda: server.stats()["connections"] == 0)
        assert not store.rows
        assert server.stats()["memory_in_use"] == 0


def test_a_payload_of_32_mib_comes_back() -> None:
    payload = os.urandom(32 << 20)
    with serving() as (server, _), RawClient(server.port) as client:
        client.say(put_records(((1, 2, 3, 4, 5), payload), with_acq=True)).put_answer()
        ((_, got),), _ = client.say(box(GET)).get_answer()
        assert got == payload
        wait_until(lambda: server.stats()["memory_in_use"] == 0)


def test_a_slow_reader_holds_back_only_itself() -> None:
    store = MemoryStore()
    with serving(store) as (server, _), RawClient(server.port) as slow, RawClient(server.port) as other:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        for number in range(20):
            records = [record((1, number, each, 0, 0), b"p" * 1000) for each in range(1000)]
            other.say(put(batch(1, *records))).put_answer()
        slow.say(box(GET))
        assert slow.sock.recv(1, socket.MSG_PEEK)
        for number in range(50):
            other.say(put_records(((2, number, 0, 0, 0), b"x"))).put_answer()
            assert len(other.say(box(GET, (2, number, 0, 0, 0), (3, number + 1, 1, 1, 2**62))).get_answer()[0]) == 1
        found, _ = slow.get_answer()
        assert len(found) == 20_000


def test_who_does_not_read_answers_is_waited_for_apart() -> None:
    with serving() as (server, _), RawClient(server.port) as slow, RawClient(server.port) as other:
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        slow.sock.settimeout(0.5)
        question = box(GETACQ) * 1000
        asked = 0
        with contextlib.suppress(TimeoutError):
            while True:
                asked += slow.sock.send(question[asked % len(question) :])
        slow.sock.settimeout(PATIENCE)
        assert other.say(box(GETACQ)).acq_answer()
        for _ in range(asked // 76):
            slow.acq_answer()


def test_who_stands_still_in_the_middle_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pynetwork.series.attendant.STALL_TIMEOUT", 0.1)
    monkeypatch.setattr("pynetwork.series.session.STALL_TIMEOUT", 0.1)
    large = b"".join(record((4, number, 0, 0, 0), b"p" * 1000) for number in range(100))
    with serving() as (server, store), RawClient(server.port) as one, RawClient(server.port) as other:
        one.say(put_records(((1, 2, 3, 4, 5), b""))[:-1])
        other.say(struct.pack("<iQii", 5, 0, 4, len(large)) + large[:-1])
        assert one.rest() == FAILURE
        assert other.rest() == FAILURE
        assert not store.rows


def test_beyond_max_connections_callers_are_turned_away(caplog: pytest.LogCaptureFixture) -> None:
    with serving(max_connections=2) as (server, _):
        with RawClient(server.port) as one, RawClient(server.port) as two:
            assert one.say(box(GETACQ)).acq_answer()
            assert two.say(box(GETACQ)).acq_answer()
            for _ in range(3):
                with RawClient(server.port) as third:
                    assert third.rest() == FAILURE
            assert caplog.text.count("raise max_connections=") == 1
        wait_until(lambda: server.stats()["connections"] == 0)
        with RawClient(server.port) as one:
            assert one.say(box(GETACQ)).acq_answer()


# When the store fails


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueNotSupported("no"), KeyError("odd")])
@pytest.mark.parametrize("size", [1, 100_000, 2_000_000])
def test_whatever_the_store_has_against_a_put_is_a_failure(error: Exception, size: int) -> None:
    store = MemoryStore()
    store.failure = error
    with serving(store) as (server, _):
        with RawClient(server.port) as client:
            with contextlib.suppress(ConnectionError):
                client.say(put_records(((1, 1, 1, 1, 1), bytes(size))))
            assert client.rest() == FAILURE
        wait_until(lambda: server.stats()["connections"] == 0)
        assert server.stats()["failures"] == 1
        assert server.stats()["memory_in_use"] == 0


def test_a_put_that_the_store_refuses_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    with serving(store) as (server, _), RawClient(server.port) as one:
        one.say(put_records(((1, 1, 1, 1, 1), b""), with_acq=True)).put_answer()
        store.failure = OSError(28, "No space left on device")
        with RawClient(server.port) as two:
            two.say(put_records(((2, 2, 2, 2, 2), b""), with_acq=True))
            assert two.rest() == FAILURE
        assert "No space left on device" in caplog.text
        assert [key for key, _ in one.say(box(GET)).get_answer()[0]] == [(1, 1, 1, 1, 1)]
        store.failure = None
        assert one.say(put_records(((3, 3, 3, 3, 3), b""), with_acq=True)).put_answer() == (-1, -1)


def test_a_large_put_that_the_store_refuses() -> None:
    store = MemoryStore()
    store.failure = OSError(28, "No space left on device")
    records = [record((4, number, 0, 0, 0), b"p" * 1000) for number in range(3000)]
    with serving(store) as (server, _), RawClient(server.port) as client:
        with contextlib.suppress(ConnectionError):
            client.say(put(batch(4, *records)))
        assert client.rest() == FAILURE
        assert store.aborted == 1


def test_a_get_that_fails_half_way_says_so_at_its_end() -> None:
    store = MemoryStore(block_size=1000)
    with serving(store) as (server, _):
        with RawClient(server.port) as client:
            records = [record((1, number, 0, 0, 0), b"p" * 1000) for number in range(4000)]
            client.say(put(batch(1, *records))).put_answer()
            store.read_failure = (2, OSError(5, "Input/output error"))
            found, status, _ = client.say(box(GET)).get_to_end()
            assert (len(found), status) == (2000, -1)
            assert client.rest() == b""
        store.read_failure = (0, OSError(5, "Input/output error"))
        with RawClient(server.port) as client:
            assert client.say(box(GET)).rest() == FAILURE
        store.read_failure = None
        with RawClient(server.port) as client:
            assert len(client.say(box(GET)).get_answer()[0]) == 4000


# Its end


def test_stopping_ends_connections_of_every_kind_and_frees_the_port() -> None:
    store = MemoryStore()
    server = SeriesServer(store, name="a series server").start()
    with contextlib.ExitStack() as stack:
        idle, partial, slow, large, lingering = (stack.enter_context(RawClient(server.port)) for _ in range(5))
        idle.say(box(GETACQ)).acq_answer()
        partial.say(put()[:-1])
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        for number in range(10):
            records = [record((1, number, each, 0, 0), b"p" * 1000) for each in range(1000)]
            idle.say(put(batch(1, *records))).put_answer()
        slow.say(box(GET))
        large.say(struct.pack("<iQ", 5, 0) + batch(4, *records))
        lingering.say(box(GET, (7, 7, 7, 7, 7), (8, 8, 8, 8, 8))).get_answer()
        wait_until(lambda: server.stats()["memory_in_use"] > 6_000_000)
        server.stop()
        server.stop()
        assert not ours(server)
        assert idle.rest() == b""
        assert partial.rest() in (b"", FAILURE)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
    assert server.stats()["connections"] == 0

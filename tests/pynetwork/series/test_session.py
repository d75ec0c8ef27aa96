from __future__ import annotations

import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from pynetwork.series.memory import Budget
from pynetwork.series.session import Session
from pynetwork.transport import TcpStream
from tests.pynetwork.series.memory_store import MemoryStore
from tests.pynetwork.series.raw import (
    FAILURE,
    GET,
    GETACQ,
    GREATEST,
    LEAST,
    RawClient,
    batch,
    box,
    put,
    put_records,
    record,
)
from tests.pynetwork.series.served import serving
from tests.serving import Background

Way = Callable[..., contextlib.AbstractContextManager[tuple[Callable[[], RawClient], MemoryStore]]]


@contextlib.contextmanager
def by_a_server(store: MemoryStore | None = None) -> Iterator[tuple[Callable[[], RawClient], MemoryStore]]:
    """Connections to a server, whose attendant answers what is small."""
    with serving(store) as (server, used):
        yield lambda: RawClient(server.port), used


@contextlib.contextmanager
def by_sessions(store: MemoryStore | None = None) -> Iterator[tuple[Callable[[], RawClient], MemoryStore]]:
    """Connections that each have a session in a thread of its own, as on a gateway."""
    store = store or MemoryStore()
    budget = Budget(48 << 20, 256)
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:

        def connect() -> RawClient:
            client = RawClient(listener.getsockname()[1])
            stream = TcpStream(listener.accept()[0])
            stack.callback(stream.close)
            stack.callback(Background(lambda: serve(stream)).result)
            return client

        def serve(stream: TcpStream) -> None:
            assert not Session(store, stream, budget).serve()
            stream.close()

        yield connect, store


@pytest.fixture(params=[by_a_server, by_sessions])
def way(request: pytest.FixtureRequest) -> Way:
    """How requests are served."""
    found: Way = request.param
    return found


# What the page says


def test_a_put_is_answered_with_the_times_that_were_given(way: Way) -> None:
    with way() as (connect, store), connect() as client:
        clock = store.clock
        client.say(put(batch(1, record((1, 2, 3, 4, 0), b"a"), record((1, 2, 3, 5, 0), b"bc")), batch(7)))
        assert client.put_answer() == (clock, clock + 1)
        assert store.rows == {(1, 2, 3, 4, clock): b"a", (1, 2, 3, 5, clock + 1): b"bc"}


def test_a_put_with_times_is_answered_with_none(way: Way) -> None:
    with way() as (connect, store), connect() as client:
        client.say(put_records(((1, 2, 3, 4, 5), b"a"), ((9, -2, -3, -4, -5), b""), with_acq=True))
        assert client.put_answer() == (-1, -1)
        assert store.rows == {(1, 2, 3, 4, 5): b"a", (9, -2, -3, -4, -5): b""}


def test_a_cid_may_come_in_several_batches_and_a_batch_may_be_empty(way: Way) -> None:
    with way() as (connect, store), connect() as client:
        one, other = record((1, 2, 3, 4, 5), b"a", with_acq=True), record((1, 2, 3, 6, 5), b"b", with_acq=True)
        client.say(put(batch(1, one), batch(2), batch(1, other), with_acq=True)).put_answer()
        assert sorted(store.rows) == [(1, 2, 3, 4, 5), (1, 2, 3, 6, 5)]


def test_a_put_without_any_batch(way: Way) -> None:
    with way() as (connect, store), connect() as client:
        client.say(put())
        assert client.put_answer() == (-1, -1)
        assert not store.rows


def test_what_follows_the_header_before_the_keys_is_passed_over(way: Way) -> None:
    with way() as (connect, _), connect() as client:
        whole = box(GETACQ, LEAST, (*GREATEST[:4], 17))
        client.say(struct.pack("<iQ", GETACQ, 64 + 1000) + b"x" * 1000 + whole[12:])
        assert client.acq_answer() == 17


def test_a_get_answers_what_is_in_the_box_and_nothing_else(way: Way) -> None:
    with way(MemoryStore(block_size=7)) as (connect, store), connect() as client:
        records = [((1, mid, 3, cap, 9), b"%d" % cap) for mid in range(3) for cap in range(30)]
        client.say(put_records(*records, with_acq=True)).put_answer()
        client.say(box(GET, (1, 1, 3, 10, 0), (2, 2, 4, 20, 10)))
        found, acq = client.get_answer()
        assert found == [each for each in records if each[0][1] == 1 and 10 <= each[0][3] < 20]
        assert acq == 10
        client.say(box(GET))
        found, acq = client.get_answer()
        assert found == records
        assert acq == store.horizon(2**63 - 1)


def test_a_get_of_nothing(way: Way) -> None:
    with way() as (connect, store), connect() as client:
        client.say(box(GET))
        assert client.get_answer() == ([], store.clock)


@pytest.mark.parametrize("field", range(5))
def test_a_get_of_an_empty_box_fails(way: Way, field: int) -> None:
    with way() as (connect, _), connect() as client:
        least, greatest = [1, 1, 1, 1, 1], [2, 2, 2, 2, 2]
        greatest[field] = least[field]
        client.say(box(GET, tuple(least), tuple(greatest)))  # type: ignore[arg-type]
        assert client.rest() == FAILURE


@pytest.mark.parametrize("command", [GET, GETACQ])
def test_a_negative_cid_fails(way: Way, command: int) -> None:
    with way() as (connect, _), connect() as client:
        client.say(box(command, (-1, *LEAST[1:])))
        assert client.rest() == FAILURE


def test_the_time_of_an_empty_box_is_fine_and_never_above_the_box(way: Way) -> None:
    with way() as (connect, store), connect() as client:
        client.say(box(GETACQ, (5, 5, 5, 5, 5), (5, 5, 5, 5, 6)))
        assert client.acq_answer() == 6
        client.say(box(GETACQ, (5, 5, 5, 5, 5), (5, 5, 5, 5, 2**62)))
        assert client.acq_answer() == store.clock


def test_what_a_put_confirmed_a_get_on_another_connection_sees(way: Way) -> None:
    with way() as (connect, _), connect() as one, connect() as other:
        for number in range(20):
            first, _ = one.say(put_records(((1, number, 0, 0, 0), b"x"))).put_answer()
            found, acq = other.say(box(GET, (1, number, 0, 0, 0), (2, number + 1, 1, 1, 2**62))).get_answer()
            assert found == [((1, number, 0, 0, first), b"x")]
            assert acq > first


def test_a_record_that_no_box_can_hold_is_dropped_and_the_put_succeeds(way: Way) -> None:
    with way() as (connect, store), connect() as client:
        client.say(put_records(((1, 2**63 - 1, 0, 0, 0), b"x"), (LEAST, b"y"), with_acq=True))
        assert client.put_answer() == (-1, -1)
        assert store.rows == {LEAST: b"y"}


def test_the_same_full_key_replaces(way: Way) -> None:
    with way() as (connect, _), connect() as client:
        for payload in (b"a", b"bc"):
            client.say(put_records(((1, 2, 3, 4, 5), payload), with_acq=True)).put_answer()
        assert client.say(box(GET)).get_answer()[0] == [((1, 2, 3, 4, 5), b"bc")]


GOOD = record((1, 2, 3, 4, 5), b"payload")


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(struct.pack("<iQ", 2, 0), id="unknown command"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", id="another protocol"),
        pytest.param(struct.pack("<iQ", GET, 63) + b"x" * 63, id="no room for two keys"),
        pytest.param(struct.pack("<iQ", 5, 0) + batch(-2, GOOD), id="negative cid"),
        pytest.param(struct.pack("<iQii", 5, 0, 1, -5), id="negative batch"),
        pytest.param(struct.pack("<iQiii", 5, 0, 1, 100, 19) + b"x" * 40, id="record too small"),
        pytest.param(struct.pack("<iQiii", 6, 0, 1, 100, 27) + b"x" * 40, id="record with time too small"),
        pytest.param(struct.pack("<iQiii", 5, 0, 1, 2**31 - 1, (32 << 20) + 21), id="payload too large"),
        pytest.param(struct.pack("<iQii", 5, 0, 1, 30) + GOOD, id="record longer than its batch"),
        pytest.param(struct.pack("<iQii", 5, 0, 1, len(GOOD) + 2) + GOOD + b"xx", id="batch longer than its records"),
        pytest.param(struct.pack("<iQiii", 5, 0, 1, 100, -7), id="negative record"),
    ],
)
def test_a_failure_is_answered_and_ends_the_connection_and_nothing_is_kept(
    way: Way, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    before = put_records(((1, 1, 1, 1, 1), b"before"), with_acq=True)
    good_begin = struct.pack("<iQ", 5, 0) + batch(3, record((3, 3, 3, 3, 3), b"not kept"))
    cut = request_bytes[12:] if request_bytes[:4] == struct.pack("<i", 5) else None
    with way() as (connect, store), caplog.at_level(logging.WARNING, "pynetwork.series"):
        with connect() as client:
            client.say(before).put_answer()
            client.say(request_bytes)
            assert client.rest() == FAILURE
        if cut is not None:
            with connect() as client:
                client.say(good_begin + cut)
                assert client.rest() == FAILURE
        assert store.rows == {(1, 1, 1, 1, 1): b"before"}
        assert "a request failed" in caplog.text
        with connect() as client:
            assert client.say(box(GET)).get_answer()[0] == [((1, 1, 1, 1, 1), b"before")]


def test_requests_byte_by_byte(way: Way) -> None:
    with way() as (connect, _), connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = put_records(((1, 2, 3, 4, 5), b"a"), ((1, 2, 3, 5, 5), b"bc"), with_acq=True)
        client.say(whole[at : at + 1] for at in range(len(whole)))
        assert client.put_answer() == (-1, -1)
        whole = box(GET)
        client.say(whole[at : at + 1] for at in range(len(whole)))
        assert client.get_answer()[0] == [((1, 2, 3, 4, 5), b"a"), ((1, 2, 3, 5, 5), b"bc")]


def test_requests_that_were_sent_ahead_are_answered_in_order(way: Way) -> None:
    with way() as (connect, _), connect() as client:
        puts = [put_records(((1, number, 0, 0, 0), b"x" * 100)) for number in range(500)]
        client.say(b"".join([*puts, box(GETACQ), box(GET), *puts, box(GETACQ)]))
        times = [client.put_answer()[0] for _ in range(500)]
        assert times == sorted(set(times))
        assert times[-1] < client.acq_answer()
        assert len(client.get_answer()[0]) == 500
        later = [client.put_answer()[0] for _ in range(500)]
        assert later == sorted({*later} - {*times})
        client.acq_answer()

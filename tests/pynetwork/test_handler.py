from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from handshakes.connection import Connection, Role
from handshakes.errors import (
    BadRequest,
    ConnectionLost,
    Forbidden,
    NotFound,
    PoolFull,
    PynetworkError,
    Refused,
    RemoteFault,
    RemoteProtocolError,
)
from handshakes.messages import Rights
from pynetwork.client import Client
from pynetwork.handler import Counters, Pool
from pynetwork.link import Link
from pynetwork.service import ServedOperation, Verb
from pynetwork.transport import MemoryStream
from tests.serving import PATIENCE, Background, frame, opening
from tests.waiting import wait_until


def echo(_operation: ServedOperation, value: Any = None) -> Any:
    return value


def join(pool: Pool, rights: Rights = Rights.DEFAULT) -> Client:
    """A client in memory, served by the pool."""
    near, far = MemoryStream.pair()
    caller = Link(near, Connection(Role.CLIENT, nonce=b"c" * 32, agent="tester"))
    gateway = Connection(Role.GATEWAY, nonce=b"g" * 32, rights=rights)
    caller.send(caller.connection.start())
    Link(far, gateway).next_event(PATIENCE)
    far.send(gateway.data_to_send())
    try:
        pool.serve(far, gateway)
    except BaseException:
        near.close()
        far.close()
        raise
    caller.next_event(PATIENCE)
    return Client(caller)


@contextmanager
def pool_of(size: int = 2, **verbs: Any) -> Iterator[Pool]:
    made = {name: each if isinstance(each, Verb) else Verb(each) for name, each in verbs.items()}
    pool = Pool(size, {"echo": Verb(echo), **made}, "test")
    yield pool
    pool.stop(0)


def test_one_operation_after_the_other() -> None:
    with pool_of() as pool, join(pool) as client:
        assert [client.request("echo", number) for number in range(10)] == list(range(10))
        (handler,) = pool.handlers()
        wait_until(lambda: handler.running is None)
        described = handler.describe()
        assert described["peer"] == "memory:b"
        assert described["agent"] == "tester"
        assert (described["operations"], described["errors"], described["running"]) == (10, 0, None)
        assert described["received"]
        assert described["sent"]


def test_unknown_verbs_and_parameters_that_do_not_fit() -> None:
    with pool_of() as pool, join(pool) as client:
        with pytest.raises(NotFound, match="does not know how to 'dance'"):
            client.request("dance")
        with pytest.raises(BadRequest, match="'echo' came with parameters that do not fit"):
            client.request("echo", 1, 2, 3)
        assert client.request("echo", 5) == 5
        wait_until(lambda: pool.counters().errors == 2)


def test_a_type_error_within_a_verb_is_a_fault() -> None:
    def wrong(_operation: ServedOperation) -> int:
        return len(5)  # type: ignore[arg-type]

    def deeper(_operation: ServedOperation) -> int:
        return wrong(_operation)

    with pool_of(deeper=deeper) as pool, join(pool) as client, pytest.raises(RemoteFault, match="TypeError"):
        client.request("deeper")


@pytest.mark.parametrize("granted", [Rights.NONE, Rights.CALL, Rights.ALL ^ Rights.STOP])
def test_rights_are_asked_for_each_verb(granted: Rights) -> None:
    with pool_of(halt=Verb(echo, Rights.STOP), free=Verb(echo)) as pool, join(pool, granted) as client:
        for _ in range(2):
            with pytest.raises(Forbidden, match="'halt' needs the right 'stop'"):
                client.request("halt")
        assert client.request("free", 1) == 1


def test_refusals_arrive_as_themselves_and_other_errors_as_faults(caplog: pytest.LogCaptureFixture) -> None:
    def refuses(_operation: ServedOperation, status: int) -> None:
        raise Refused("because", status)

    def fails(_operation: ServedOperation, *_whatever: object) -> None:
        raise OSError(2, "gone", "file")

    with pool_of(refuses=refuses, fails=fails) as pool, join(pool) as client:
        with pytest.raises(NotFound):
            client.request("refuses", 404)
        with pytest.raises(Refused) as caught:
            client.request("refuses", 507)
        assert (caught.value.status, caught.value.message) == (507, "because")
        with pytest.raises(RemoteFault) as fault:
            client.request("fails", "the name", "more")
        assert fault.value.type_name == "FileNotFoundError"
        assert "in fails" in fault.value.traceback
    assert "fails('the name') failed with FileNotFoundError: [Errno 2] gone" in caplog.text


def test_an_exception_that_has_no_traceback_to_show() -> None:
    class Odd(Exception):
        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("no cause either")

    def fails(_operation: ServedOperation) -> None:
        raise Odd("odd")

    with pool_of(fails=fails) as pool, join(pool) as client:
        with pytest.raises(RemoteFault) as fault:
            client.request("fails")
        assert fault.value.message == "odd"
        assert client.request("echo", 1) == 1


def test_full_at_once_and_free_when_a_client_closes() -> None:
    with pool_of(1) as pool:
        client = join(pool)
        with pytest.raises(PoolFull, match=r"all 1 handlers.*max_poolsize"):
            join(pool)
        client.close()
        join(pool).close()
        assert pool.counters().connections == 2


def test_figures_of_past_and_present_are_added() -> None:
    with pool_of() as pool:
        for _ in range(3):
            with join(pool) as client:
                client.request("echo")
        with join(pool) as client:
            client.request("echo")
            total = pool.counters()
            assert (total.connections, total.operations, total.errors) == (4, 4, 0)
            assert total.sent > 0
    some = Counters(1, 2, 3, 4, 5)
    some.add(Counters(1, 1, 1, 1, 1))
    assert some == Counters(2, 3, 4, 5, 6)


def test_a_peer_that_breaks_the_protocol_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pool_of() as pool:
        client = join(pool)
        client.link.stream.send([frame(8)])
        with pytest.raises(Refused):
            client.ping()
        wait_until(lambda: not pool.handlers())
        (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert "memory:b: closed, as it broke the protocol" in record.getMessage()


def test_a_caller_whose_message_makes_no_sense_to_the_service_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def read(_operation: ServedOperation) -> None:
        raise RemoteProtocolError("a shoe size is no text")

    with pool_of(read=read) as pool, join(pool) as client:
        with pytest.raises(BadRequest, match="a shoe size is no text"):
            client.request("read")
        assert not client.usable
        wait_until(lambda: not pool.handlers(), PATIENCE)
    assert "closed, as it broke the protocol: a shoe size is no text" in caplog.text


def test_late_words_for_an_operation_that_ended_are_dropped() -> None:
    with pool_of() as pool, join(pool) as client:
        stream = client.link.stream
        stream.send([opening("echo", 1)])
        stream.send([frame(7, 0, 1), frame(9, 0, 1, b"\1\0\0\0" + b"\1" + bytes(7)), frame(10, 0, 1)])
        (handler,) = pool.handlers()
        wait_until(lambda: handler.counters.operations == 1 and handler.running is None)
        stream.send([opening("echo", 2, operation=2)])
        wait_until(lambda: handler.counters.operations == 2)


def test_an_error_in_the_gateway_itself_ends_the_pair_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pool_of() as pool:
        client = join(pool)
        (handler,) = pool.handlers()

        def broken(_event: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(handler, "_operate", broken)
        with pytest.raises(ConnectionLost):
            client.request("echo")
        wait_until(lambda: not pool.handlers())
        assert "error in the gateway itself" in caplog.text
        join(pool).close()


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with pool_of(1) as pool:

        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(PynetworkError, match="can't start new thread"):
            join(pool)
        monkeypatch.undo()
        assert not pool.handlers()
        join(pool).close()


def test_a_caller_that_goes_before_it_is_welcomed() -> None:
    with pool_of(1) as pool:
        near, far = MemoryStream.pair()
        caller = Connection(Role.CLIENT, nonce=b"c" * 32)
        gateway = Connection(Role.GATEWAY, nonce=b"g" * 32)
        near.send(caller.start())
        Link(far, gateway).next_event(PATIENCE)
        near.close()
        with pytest.raises(ConnectionLost):
            pool.serve(far, gateway)
        far.close()
        assert not pool.handlers()


# Stopping


def blocking(entered: threading.Event, release: threading.Event) -> Callable[[ServedOperation], str]:
    def block(_operation: ServedOperation) -> str:
        entered.set()
        release.wait(PATIENCE)
        return "x" * 5_000_000

    return block


def test_stopping_lets_a_running_operation_end_and_its_answer_out() -> None:
    entered, release = threading.Event(), threading.Event()
    with pool_of(block=blocking(entered, release)) as pool:
        client, idle = join(pool), join(pool)
        calling = Background(client.request, "block")
        assert entered.wait(PATIENCE)
        stopping = Background(pool.stop, PATIENCE)
        wait_until(lambda: len(pool.handlers()) == 1)
        with pytest.raises(ConnectionLost):
            idle.request("echo")
        with pytest.raises(PoolFull, match="is stopping"):
            join(pool)
        assert not stopping.done
        release.set()
        assert calling.result() == "x" * 5_000_000
        stopping.result()
        assert not pool.handlers()


def test_stopping_ends_what_takes_too_long() -> None:
    entered, release = threading.Event(), threading.Event()
    with pool_of(block=blocking(entered, release)) as pool:
        client = join(pool)
        calling = Background(client.request, "block")
        assert entered.wait(PATIENCE)
        Background(pool.stop, 0.05).result()
        with pytest.raises(ConnectionLost):
            calling.result()
        release.set()
        wait_until(lambda: not pool.handlers())


def test_a_verb_may_stop_its_own_pool() -> None:
    made: list[Pool] = []

    def stop(_operation: ServedOperation) -> str:
        made[0].stop(0.05)
        return "stopped"

    with pool_of(stop=stop) as pool:
        made.append(pool)
        client = join(pool)
        with pytest.raises(ConnectionLost):
            client.request("stop")


# Verbs that take the pair over


def shouting(operation: ServedOperation) -> None:
    """A protocol of its own: answers each line in capitals, until there is none."""
    stream, buffer = operation.link.stream, memoryview(bytearray(100))
    while count := stream.receive_into(buffer, PATIENCE):
        stream.send([bytes(buffer[:count]).upper()])


def given_over(client: Client) -> None:
    """Open it, and hear the one message that says so."""
    go = client.open("shout").receive(PATIENCE)
    assert go is not None
    assert (go.code, bytes(go.head), bytes(go.body)) == (0, b"", b"")


def heard(client: Client) -> bytes:
    buffer = memoryview(bytearray(100))
    return bytes(buffer[: client.link.stream.receive_into(buffer, PATIENCE)])


def test_a_verb_may_take_the_pair_over() -> None:
    with pool_of(shout=Verb(shouting, takes_over=True)) as pool:
        client = join(pool)
        given_over(client)
        client.link.stream.send([b"hello"])
        assert heard(client) == b"HELLO"
        (handler,) = pool.handlers()
        assert handler.describe()["running"] == "shout"
        client.link.stream.close()
        wait_until(lambda: not pool.handlers())


@pytest.mark.parametrize("error", [OSError("broken"), NotFound("nothing"), ConnectionLost("gone")])
def test_when_it_fails_the_pair_ends_without_a_word_of_our_own(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_operation: ServedOperation) -> None:
        raise error

    with pool_of(shout=Verb(fail, takes_over=True)) as pool:
        client = join(pool)
        given_over(client)
        assert heard(client) == b""
        client.link.stream.close()
        wait_until(lambda: not pool.handlers())
        assert str(error) in caplog.text


def test_before_it_takes_over_a_caller_may_be_refused_and_goes_on() -> None:
    verb = Verb(shouting, Rights.READ | Rights.WRITE, takes_over=True)
    with pool_of(shout=verb) as pool:
        with join(pool, Rights.CALL) as client:
            with pytest.raises(Forbidden, match="needs the right 'read' or 'write', which you were not granted"):
                client.request("shout")
            assert client.request("echo", 5) == 5
        with join(pool, Rights.WRITE) as client:
            with pytest.raises(BadRequest, match="'shout' takes no parameters"):
                client.request("shout", 5)
            given_over(client)
            client.link.stream.send([b"hello"])
            assert heard(client) == b"HELLO"
            client.lose(ConnectionLost("the test is over"))


def test_stopping_ends_an_operation_that_rests() -> None:
    entered, release = threading.Event(), threading.Event()

    def rest(operation: ServedOperation) -> None:
        operation.resting = True
        entered.set()
        assert operation.link.stream.receive_into(memoryview(bytearray(1)), PATIENCE) == 0
        release.set()

    with pool_of(rest=Verb(rest, takes_over=True)) as pool:
        client = join(pool)
        client.open("rest")
        assert entered.wait(PATIENCE)
        pool.stop(10 * PATIENCE)
        assert release.wait(PATIENCE)
        client.link.stream.close()

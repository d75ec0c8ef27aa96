from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConfigurationError, ConnectionLost, Forbidden, LocalProtocolError, NotFound
from handshakes.messages import Rights
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from pynetwork.service import ServedOperation, Verb
from pynetwork.tls import TLS
from tests.certificates import Certificates
from tests.serving import KEY, PATIENCE, Background, controller_of, paired, serving
from tests.waiting import wait_until


def add(first: int, second: int = 1) -> int:
    return first + second


# Where it listens


def test_a_free_port_on_both_families() -> None:
    gateway = Gateway(0)
    assert gateway.port == 0
    with gateway:
        assert gateway.port > 0
        for host in ("127.0.0.1", "::1", "localhost"):
            with Controller(host, gateway.port).get_client() as client:
                assert client.ping()


def test_a_busy_port() -> None:
    with serving() as first:
        second = Gateway(first.port)
        with pytest.raises(ConfigurationError, match=f"port {first.port} of 127.0.0.1 can't be listened on"):
            second.start()
        controller_of(first).get_client().close()


def test_several_gateways_in_one_process_keep_their_own_options() -> None:
    with serving(max_poolsize=1, name="one") as one, serving(max_poolsize=2, name="two") as two:
        assert one.port != two.port
        assert [each.stats()["max_poolsize"] for each in (one, two)] == [1, 2]
        assert [each.stats()["name"] for each in (one, two)] == ["one", "two"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_protection_only_this_machine_is_served(host: str, certificates: Certificates) -> None:
    with pytest.raises(ConfigurationError, match=r"would let anyone who reaches this machine.*give key="):
        Gateway(0, host)
    Gateway(0, host, key=KEY)
    Gateway(0, host, tls=certificates.gateway)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_protection(host: str) -> None:
    gateway = Gateway(0, host)
    with gateway, Controller(host, gateway.port).get_client() as client:
        assert client.ping()


def test_with_a_key_every_address_is_served() -> None:
    with serving(key=KEY) as gateway:
        addresses = [each.getsockname()[0] for each in gateway._admission._listeners]  # type: ignore[union-attr]
        assert addresses == ["0.0.0.0", "::"]


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 70_000}, "70000 is no port"),
        ({"port": "1857"}, "'1857' is no port: ports are numbers"),
        ({"max_poolsize": 0}, "would serve nobody"),
        ({"key": {}}, "names no key"),
        ({"key": "short"}, "can be guessed"),
        ({"key": {"a good long key": "fly"}}, "'fly' is no right"),
        ({"rights": "everything"}, "is no right"),
        ({"share": "/var/log"}, "must be a mapping"),
        ({"tls": TLS()}, "needs certificate="),
    ],
)
def test_options_that_can_not_be(options: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Gateway(**options)


def test_folders_are_shared_by_name_or_by_path(tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    for share, names in (({"logs": tmp_path}, ["logs"]), ([tmp_path, other], [str(tmp_path), other])):
        with Gateway(0, share=share) as gateway, controller_of(gateway).get_client() as client:
            assert sorted(client.request("files.shares")) == names


def test_a_context_of_the_users_own(certificates: Certificates) -> None:
    with (
        serving(add, tls=certificates.gateway.server_context()) as gateway,
        controller_of(gateway, tls=certificates.controller).get_client() as client,
    ):
        assert client.call("add", 1) == 2


# What it offers


def test_the_decorator_in_both_forms() -> None:
    gateway = Gateway(0)

    @gateway.subroutine
    def plain() -> str:
        return "plain"

    @gateway.subroutine("other")
    def named() -> str:
        return "named"

    @gateway.subroutine()
    def called() -> str:
        return "called"

    assert [plain(), named(), called()] == ["plain", "named", "called"]
    with gateway, controller_of(gateway).get_client() as client:
        assert [client.call(name) for name in ("plain", "other", "called")] == ["plain", "named", "called"]


class Greeter:
    """A service of a user's own."""

    def __init__(self) -> None:
        self.closed = 0

    @property
    def verbs(self) -> Mapping[str, Verb]:
        return {"greet": Verb(self.greet), "halt": Verb(self.greet, Rights.STOP)}

    def greet(self, operation: ServedOperation, name: str) -> str:
        message = operation.receive(PATIENCE)
        operation.send(message.code + 1, b"", message.body)
        return f"hello {name}"

    def close(self) -> None:
        self.closed += 1


def test_services_are_mounted_and_closed() -> None:
    greeter = Greeter()
    gateway = Gateway(0)
    gateway.add_service("greeter", greeter)
    with pytest.raises(ConfigurationError, match="service 'again' brings 'greet'"):
        gateway.add_service("again", greeter)
    with gateway, controller_of(gateway).get_client() as client:
        with client.open("greet", "you") as operation:
            operation.send(1, b"", b"body")
            answer = operation.receive(PATIENCE)
            assert (answer.code, bytes(answer.body)) == (2, b"body")
            assert operation.result(PATIENCE) == "hello you"
        with pytest.raises(Forbidden):
            client.request("halt", "you")
    assert greeter.closed == 1


# Its life


def test_a_gateway_starts_once() -> None:
    gateway = Gateway(0)
    with gateway, gateway:
        pass
    with pytest.raises(LocalProtocolError, match="make a new one"):
        gateway.start()
    gateway.stop()
    never_started = Gateway(0)
    with pytest.raises(LocalProtocolError, match="was not started"):
        never_started.wait()
    never_started.stop()


def test_the_port_is_free_when_stop_returns() -> None:
    with serving(add) as gateway:
        port = gateway.port
        clients = [controller_of(gateway).get_client() for _ in range(3)]
        assert clients[0].call("add", 1) == 2
        gateway.stop()
        again = Gateway(port)
        again.add_subroutine("add", add)
        with again, controller_of(again).get_client() as client:
            assert client.call("add", 1) == 2
        for client in clients:
            with pytest.raises(ConnectionLost):
                client.ping()
            client.close()


def test_stop_lets_running_operations_end() -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> str:
        entered.set()
        assert release.wait(PATIENCE)
        return "done"

    with serving(block) as gateway:
        client = controller_of(gateway, timeout=None).get_client()
        calling = Background(client.call, "block")
        assert entered.wait(PATIENCE)
        stopping = Background(gateway.stop, PATIENCE)
        wait_until(lambda: cannot_connect(gateway))
        release.set()
        assert calling.result() == "done"
        stopping.result()
        client.close()


def cannot_connect(gateway: Gateway) -> bool:
    try:
        socket.create_connection(("127.0.0.1", gateway.port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    except OSError as error:
        if error.errno != errno.ECONNRESET:
            raise
    return False


def test_stop_ends_what_does_not_end() -> None:
    entered, release, freed = threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        release.wait(PATIENCE)
        freed.set()

    def endless() -> Any:
        try:
            while True:
                yield b"x" * 1000
        finally:
            freed.set()

    with serving(block, endless) as gateway:
        client = controller_of(gateway, timeout=None).get_client()
        calling = Background(client.call, "block")
        assert entered.wait(PATIENCE)
        streaming = controller_of(gateway).get_client()
        stream = streaming.stream("endless")
        next(stream)
        gateway.stop(0.1)
        with pytest.raises(ConnectionLost):
            calling.result()
        assert freed.wait(PATIENCE)  # the generator's
        with pytest.raises(ConnectionLost):
            for _ in stream:
                pass
        release.set()
        client.close()
        streaming.close()


def test_a_subroutine_may_stop_its_gateway() -> None:
    with serving() as gateway:
        gateway.add_subroutine("stop", lambda: gateway.stop(0.1))
        with controller_of(gateway).get_client() as client, pytest.raises(ConnectionLost):
            client.call("stop")
        gateway.wait()


def test_blocking_until_it_is_stopped_from_another_thread() -> None:
    gateway = Gateway(0)
    blocking = Background(gateway.start, True)
    wait_until(lambda: gateway.port)
    wait_until(lambda: gateway._admission)
    controller_of(gateway).get_client().close()
    gateway.stop()
    assert blocking.result() is gateway


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_blocking_until_a_signal(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    gateway = Gateway(0)

    def kill() -> None:
        wait_until(lambda: gateway._admission is not None and gateway.port, PATIENCE)
        wait_until(lambda: signal.getsignal(signal.SIGTERM) is not before, PATIENCE)
        controller_of(gateway).get_client().close()
        os.kill(os.getpid(), number)

    killing = Background(kill)
    with contextlib.ExitStack() as stack:
        stack.callback(gateway.stop)
        gateway.start(blocking=True)
    killing.result()
    assert signal.getsignal(signal.SIGTERM) is before
    assert cannot_connect(gateway)


# What it knows of itself


def test_figures() -> None:
    with paired(add, name="pi") as (gateway, client):
        client.call("add", 1)
        with pytest.raises(NotFound):
            client.call("nope")
        figures = client.stats()
        assert figures["name"] == "pi"
        assert (figures["connections"], figures["operations"], figures["errors"]) == (1, 3, 1)
        assert figures["received"] > 0
        assert figures["sent"] > 0
        (handler,) = figures["handlers"]
        assert handler["running"] == "stats"
        assert handler["agent"].startswith("pynetwork ")
        assert figures["waiting"] == 0
        assert figures["max_poolsize"] == 5
        assert figures["process"]["memory"] > 1 << 20
        assert figures["machine"]["cpus"] == os.cpu_count()
        assert figures["seconds"] >= 0
        client.close()
        wait_until(lambda: gateway.stats()["handlers"] == [])
        assert gateway.stats()["operations"] == 3
    assert Gateway(0).stats()["waiting"] == 0


def test_figures_are_a_right() -> None:
    with (
        serving(rights="call") as gateway,
        controller_of(gateway).get_client() as client,
        pytest.raises(Forbidden, match="'stats'"),
    ):
        client.stats()

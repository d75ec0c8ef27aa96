from __future__ import annotations

import threading
from typing import Any

import pytest

from handshakes.errors import BadRequest, NotFound
from handshakes.messages import Rights
from tests.conformance.drivers import Driver
from tests.serving import PATIENCE, Background


def add(first: int, second: int = 1) -> int:
    """Their sum."""
    return first + second


def echo(value: Any = None, *rest: Any, **keywords: Any) -> Any:
    return [value, *rest, keywords] if rest or keywords else value


def count_bytes(*, buffer: Any, times: int = 1) -> int:
    return len(buffer) * times


def test_ping(driver: Driver) -> None:
    with driver.paired() as (_, client):
        assert 0 < client.ping() < PATIENCE
        assert 0 < client.ping({"any": [1, b"thing"]}) < PATIENCE


def test_call(driver: Driver) -> None:
    with driver.paired(add, echo) as (_, client):
        assert client.call("add", 1) == 2
        assert client.call("add", 1, second=5) == 6
        assert client.call("echo", 1, 2, name=3, timeout=PATIENCE) == [1, 2, {"name": 3}]
        assert [client.call("add", number) for number in range(200)] == list(range(1, 201))


def test_send(driver: Driver) -> None:
    def nothing(*, buffer: bytes) -> None:
        assert buffer == b"some"

    with driver.paired(count_bytes, nothing) as (_, client):
        assert client.send("count_bytes", b"four") == 4
        assert client.send("count_bytes", memoryview(bytearray(50)), times=3) == 150
        assert client.send("nothing", b"some") == 0


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
def test_sizes_around_the_buffers(driver: Driver, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    with driver.paired(echo, count_bytes) as (_, client):
        assert bytes(client.call("echo", data)) == data
        assert client.send("count_bytes", data) == size
        assert client.ping() > 0


def test_what_a_gateway_offers(driver: Driver) -> None:
    def numbers() -> Any:
        yield 1

    with driver.paired(add, numbers) as (_, client):
        assert client.subroutines() == [
            {
                "name": "add",
                "kind": "batch",
                "signature": "(first: 'int', second: 'int' = 1) -> 'int'",
                "doc": add.__doc__,
            },
            {"name": "numbers", "kind": "stream", "signature": "() -> 'Any'", "doc": ""},
        ]


def test_stats(driver: Driver) -> None:
    with driver.paired(add, name="the-pi") as (_, client):
        client.call("add", 1)
        found = client.stats()
        assert found["name"] == "the-pi"
        (handler,) = found["handlers"]
        assert (handler["running"], handler["operations"], found["errors"]) == ("stats", 2, 0)
        assert handler["received"] > 0


def test_what_a_client_says_of_itself(driver: Driver) -> None:
    with driver.paired() as (gateway, client):
        assert driver.stream == "memory" or client.peer == f"127.0.0.1:{gateway.port}"
        assert client.rights == Rights.DEFAULT
        assert client.usable
    assert not client.usable


def test_subroutines_that_come_and_go(driver: Driver) -> None:
    with driver.paired() as (gateway, client):
        with pytest.raises(NotFound):
            client.call("add", 1)
        gateway.add_subroutine("add", add)
        assert client.call("add", 1) == 2
        gateway.remove_subroutine("add")
        with pytest.raises(NotFound):
            client.call("add", 1)


def test_the_wrong_kind_of_subroutine(driver: Driver) -> None:
    def numbers() -> Any:
        yield 1

    def text(*, buffer: bytes) -> str:
        return "no number"

    with driver.paired(add, numbers, text) as (_, client):
        with pytest.raises(BadRequest, match=r"is a stream; use client\.stream\('numbers'"):
            client.call("numbers")
        with pytest.raises(BadRequest, match=r"is no stream; use client\.call\('add'"):
            list(client.stream("add", 1))
        with pytest.raises(BadRequest, match="returned str"):
            client.send("text", b"")
        assert client.call("add", 1) == 2


def test_many_clients_at_once(driver: Driver) -> None:
    together = threading.Barrier(4, timeout=PATIENCE)

    def meet(number: int) -> int:
        together.wait()
        return number

    with driver.serving(meet) as gateway:
        controller = driver.controller(gateway)
        clients = [controller.get_client() for _ in range(4)]
        calls = [Background(client.call, "meet", number) for number, client in enumerate(clients)]
        assert [call.result() for call in calls] == [0, 1, 2, 3]
        for client in clients:
            client.close()

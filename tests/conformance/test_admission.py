"""Getting in: places in the pool, keys and their rights."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from handshakes.errors import AuthenticationFailed, ConfigurationError, Forbidden, PoolFull
from handshakes.messages import Rights
from tests.conformance.drivers import Driver
from tests.serving import KEY, PATIENCE, Background
from tests.waiting import wait_until


def add(first: int, second: int = 1) -> int:
    return first + second


def test_a_full_pool_says_so_at_once(driver: Driver) -> None:
    with driver.serving(add, max_poolsize=1) as gateway:
        controller = driver.controller(gateway)
        with controller.get_client() as client:
            with pytest.raises(PoolFull, match=r"all 1 handlers.*get_client\(wait=SECONDS\)") as caught:
                controller.get_client()
            assert caught.value.status == 503
            assert client.call("add", 1) == 2
        controller.get_client().close()


def test_waiting_for_a_place_until_it_frees(driver: Driver) -> None:
    with driver.serving(add, max_poolsize=1) as gateway:
        controller = driver.controller(gateway)
        holder = controller.get_client()
        waiting = Background(controller.get_client, PATIENCE)
        wait_until(waiting.thread.is_alive)
        holder.close()
        client = waiting.result()
        assert client.call("add", 1) == 2
        client.close()


def test_waiting_for_a_place_in_vain(driver: Driver) -> None:
    with driver.serving(max_poolsize=1) as gateway:
        controller = driver.controller(gateway)
        with controller.get_client(), pytest.raises(PoolFull):
            controller.get_client(wait=0.1)


def test_a_swarm_is_dialled_as_a_whole_or_not_at_all(driver: Driver) -> None:
    with driver.serving(add, max_poolsize=3) as gateway:
        controller = driver.controller(gateway)
        with pytest.raises(PoolFull, match="4 connections were asked for, and only 3 found a free handler"):
            controller.get_swarm(4)
        wait_until(lambda: not gateway._pool.handlers())
        with controller.get_swarm(3) as swarm:
            assert len(swarm) == len(swarm.clients) == 3
            assert [client.call("add", 2) for client in swarm.clients] == [3, 3, 3]
            with pytest.raises(PoolFull):
                controller.get_client()
        controller.get_swarm(3).close()
        with pytest.raises(ConfigurationError, match="a swarm of 0 lanes"):
            controller.get_swarm(0)


# Keys


def test_both_know_the_key(driver: Driver) -> None:
    with driver.serving(add, key=KEY) as gateway:
        with driver.controller(gateway, key=KEY).get_client() as client:
            assert client.call("add", 1) == 2
        with driver.controller(gateway, key=KEY).get_swarm(2) as swarm:
            assert list(swarm.map("add", [1, 2])) == [2, 3]


def test_a_wrong_key_says_just_that(driver: Driver) -> None:
    with driver.serving(add, key=KEY) as gateway:
        with pytest.raises(AuthenticationFailed, match=r"^wrong key$") as caught:
            driver.controller(gateway, key="another key").get_client()
        assert caught.value.status == 401
        driver.controller(gateway, key=KEY).get_client().close()


def test_no_key_where_one_is_asked_for(driver: Driver) -> None:
    with driver.serving(add, key=KEY) as gateway, pytest.raises(AuthenticationFailed, match="asks for a key"):
        driver.controller(gateway).get_client()


def test_a_gateway_that_does_not_know_the_key_is_refused(driver: Driver) -> None:
    with driver.serving(add) as gateway, pytest.raises(AuthenticationFailed, match="does not ask for one"):
        driver.controller(gateway, key=KEY).get_client()


def test_each_key_grants_its_own_rights(driver: Driver) -> None:
    def count() -> Iterator[int]:
        yield 1

    keys = {"key of the caller": "call", "key of the streamer": "stream, stats", b"key of the boss": Rights.ALL}
    with driver.serving(add, count, key=keys) as gateway:
        with driver.controller(gateway, key="key of the caller").get_client() as client:
            assert client.rights == Rights.CALL
            assert client.call("add", 1) == 2
            with pytest.raises(Forbidden, match="needs the right 'stream'"):
                list(client.stream("count"))
        with driver.controller(gateway, key="key of the streamer").get_client() as client:
            assert list(client.stream("count")) == [(0, 1)]
            assert client.stats()["name"]
            with pytest.raises(Forbidden, match="'call'"):
                client.call("add", 1)
        with driver.controller(gateway, key=b"key of the boss").get_client() as client:
            assert client.rights == Rights.ALL


def test_stopping_a_gateway_is_a_right(driver: Driver) -> None:
    with driver.serving() as gateway:
        with pytest.raises(Forbidden, match="'stop' needs the right 'stop'"):
            driver.controller(gateway).stop_gateway()
        driver.controller(gateway).get_client().close()
    stopped = threading.Event()
    with driver.serving(rights=Rights.ALL) as gateway:
        driver.controller(gateway).stop_gateway()
        Background(lambda: (gateway.wait(), stopped.set())).result()
        assert stopped.is_set()

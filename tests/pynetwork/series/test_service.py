from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from handshakes.errors import Closed, ConfigurationError, Forbidden, NotFound
from handshakes.records import Key
from handshakes.tstorage import Status
from pynetwork.aio import AsyncController
from pynetwork.gateway import Gateway
from pynetwork.series.payloads import StructPayloadType
from pynetwork.series.record import Record, SeriesKey
from pynetwork.series.service import SeriesService
from tests.certificates import Certificates
from tests.pynetwork.series.memory_store import MemoryStore
from tests.serving import KEY, Background, controller_of
from tests.waiting import wait_until

IMU = SeriesKey(1, 2, 3)
EVERYTHING = (Key.min(), Key.max())


@contextlib.contextmanager
def mounted(store: Any = None, **options: Any) -> Iterator[tuple[Gateway, Any, SeriesService]]:
    store = store or MemoryStore()
    gateway = Gateway(0, **options)
    service = SeriesService(store, interval=0.02)
    gateway.add_service("series", service)
    with gateway:
        yield gateway, store, service


def test_a_channel_through_a_gateway() -> None:
    with mounted() as (gateway, store, _), controller_of(gateway).get_client() as client:
        with client.series(StructPayloadType("<d")) as channel:
            channel.put([Record(Key(1, 2, 3, 4), 1.5), Record(Key(1, 2, 3, 5), 2.5)]).raise_for_status()
            assert [record.value for record in channel.get(*EVERYTHING).data] == [1.5, 2.5]
        assert len(store.rows) == 2
        wait_until(lambda: not gateway.stats()["handlers"])


def test_the_client_is_given_up_for_its_channel() -> None:
    with mounted() as (gateway, _, _), controller_of(gateway).get_client() as client:
        channel = client.series()
        assert not client.usable
        with pytest.raises(Closed, match="given up for a series channel"):
            client.ping()
        assert channel.get_acq(*EVERYTHING)
        client.close()
        assert not channel.get_acq(*EVERYTHING)
        channel.close()


def test_a_large_answer_and_a_large_put_through_a_gateway_with_key_and_tls(certificates: Certificates) -> None:
    with mounted(key=KEY, tls=certificates.gateway) as (gateway, store, _):
        records = [Record(Key(1, 2, 3, cap, 7), b"p" * 1000) for cap in range(5000)]
        controller = controller_of(gateway, key=KEY, tls=certificates.controller)
        with controller.get_client() as client, client.series() as channel:
            channel.puta(records).raise_for_status()
            assert list(channel.get(*EVERYTHING).data) == records
        assert store.staged == 1


def test_the_rights_of_a_key() -> None:
    keys = {"key of a reader": "read", "key of a caller": "call, stats"}
    with mounted(key=keys) as (gateway, store, _):
        with controller_of(gateway, key="key of a reader").get_client() as client, client.series() as channel:
            assert channel.get(*EVERYTHING)
            assert not channel.put([Record(Key(1, 2, 3, 4), b"x")])
            assert not store.rows
        with controller_of(gateway, key="key of a caller").get_client() as client:
            with pytest.raises(Forbidden, match="'read' or 'write'"):
                client.series()
            assert client.ping() > 0


def test_a_gateway_without_a_store() -> None:
    with Gateway(0) as gateway, controller_of(gateway).get_client() as client:
        with pytest.raises(NotFound, match=r'has no series service; gateway.add_service\("series"'):
            client.series()
        assert client.ping() > 0


def test_a_gateway_without_a_store_through_asyncio() -> None:
    async def ask(gateway: Gateway) -> None:
        async with AsyncController("127.0.0.1", gateway.port).get_client() as client:
            with pytest.raises(NotFound, match=r'has no series service; gateway.add_service\("series"'):
                await client.series()
            assert await client.ping() > 0

    with Gateway(0) as gateway:
        asyncio.run(ask(gateway))


def test_a_gateway_stops_at_once_while_a_channel_is_idle() -> None:
    with mounted() as (gateway, _, _), controller_of(gateway).get_client() as client:
        channel = client.series()
        assert channel.get_acq(*EVERYTHING)
        Background(gateway.stop, 60.0).result()
        assert not channel.get_acq(*EVERYTHING)
        channel.close()


def test_a_gateway_waits_for_a_put_that_is_running() -> None:
    store = MemoryStore()
    with mounted(store) as (gateway, _, _), controller_of(gateway).get_client() as client, client.series() as channel:
        store.gate.clear()
        putting = Background(channel.put, [Record(Key(1, 2, 3, 4), b"x")])
        wait_until(lambda: store.asked)
        stopping = Background(gateway.stop, 20.0)
        wait_until(lambda: gateway._pool._stopping)
        assert not putting.done
        assert not stopping.done
        store.gate.set()
        stopping.result()
        assert putting.result()
        assert list(store.rows.values()) == [b"x"]


async def through_asyncio(gateway: Gateway) -> None:
    controller = AsyncController("127.0.0.1", gateway.port)
    async with controller.get_client() as client, client.series(StructPayloadType("<q")) as channel:
        with pytest.raises(Closed, match="given up for a series channel"):
            await client.ping()
        (await channel.put([Record(Key(1, 2, 3, cap), cap) for cap in range(5000)])).raise_for_status()
        found = await channel.get(*EVERYTHING)
        assert [record.value for record in found.data] == list(range(5000))


def test_a_channel_through_a_gateway_on_an_event_loop() -> None:
    with mounted() as (gateway, _, _):
        asyncio.run(through_asyncio(gateway))
        wait_until(lambda: not gateway.stats()["handlers"])


async def left_open(gateway: Gateway) -> None:
    async with await AsyncController("127.0.0.1", gateway.port).get_client() as client:
        channel = await client.series()
        assert await channel.get_acq(*EVERYTHING)
        await client.close()
        assert (await channel.get_acq(*EVERYTHING)).status is Status.DISCONNECTED
        assert not channel.connected
        await channel.close()


def test_closing_an_asyncio_client_closes_its_channel() -> None:
    with mounted() as (gateway, _, _):
        asyncio.run(left_open(gateway))
        wait_until(lambda: not gateway.stats()["handlers"])


async def refused(gateway: Gateway) -> float:
    async with await AsyncController("127.0.0.1", gateway.port).get_client() as client:
        with pytest.raises(NotFound, match="series"):
            await client.series()
        return await client.ping()


def test_an_asyncio_client_of_a_gateway_without_a_store() -> None:
    with Gateway(0) as gateway:
        assert asyncio.run(refused(gateway)) > 0


# Recording


def test_a_stream_is_recorded_and_its_caller_gets_the_same() -> None:
    def read_imu(count: int) -> Iterator[Any]:
        for number in range(count):
            yield number, number / 2

    with mounted() as (gateway, store, _), controller_of(gateway).get_client() as client:
        gateway.add_subroutine("imu", read_imu, series=IMU)
        assert list(client.stream("imu", 100)) == [(number, number / 2) for number in range(100)]
        payload = StructPayloadType("<d")
        assert [payload.read(store.rows[key]) for key in sorted(store.rows)] == [number / 2 for number in range(100)]
        assert client.subroutines()[0]["signature"] == "(count: 'int') -> 'Iterator[Any]'"
        assert client.subroutines()[0]["kind"] == "stream"


def test_the_decorator_takes_a_series() -> None:
    with mounted() as (gateway, store, _), controller_of(gateway).get_client() as client:

        @gateway.subroutine("temperature", series=IMU)
        def read_temperature() -> float:
            return 21.5

        assert read_temperature() == 21.5
        assert client.call("temperature") == 21.5
        assert list(store.rows.values()) == [StructPayloadType("<d").to_bytes(21.5)]


def test_recording_needs_a_service_that_can() -> None:
    gateway = Gateway(0)
    with pytest.raises(ConfigurationError, match=r"add_service\(\"series\", SeriesService"):
        gateway.add_subroutine("imu", lambda: 1, series=IMU)
    with pytest.raises(ConfigurationError, match="give series= too"):
        gateway.add_subroutine("imu", lambda: 1, payload=StructPayloadType("<d"))
    gateway.stop()


def test_a_gateway_that_stops_ends_what_is_recorded() -> None:
    def tick() -> Iterator[int]:
        number = 0
        while True:
            number += 1
            yield number
            time.sleep(0.001)

    with mounted() as (_, store, service):
        recording = service.record("tick", tick, IMU)
        wait_until(lambda: len(store.rows) > 5)
    assert not recording.running
    assert len(store.rows) == recording.count

"""The page about time series says what is so: its programs run as printed but for the port, its tables are complete."""

from __future__ import annotations

import inspect
import itertools
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy
import pytest

from handshakes.records import row_type
from pynetwork import Controller, Gateway
from pynetwork.series import (
    AsyncChannel,
    Channel,
    Key,
    NumpyPayloadType,
    Record,
    SeriesKey,
    SeriesServer,
    SeriesService,
    SeriesStore,
    StructPayloadType,
    TuplePayloadType,
    payloads,
)
from tests.serving import PATIENCE
from tests.waiting import wait_until

PAGE = (Path(__file__).parent.parent / "docs" / "series.md").read_text(encoding="utf-8")
FIRST, LARGE, NEW, MOUNTED, SENSORS = range(5)
XY = numpy.dtype([*row_type(0).descr, ("x", "<f8"), ("y", "<f8")])


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def run(number: int, port: int = 0, **names: Any) -> dict[str, Any]:
    """Run a block of the page with these names; answers the names that there are then."""
    text = blocks()[number].replace("2025", str(port))
    exec(compile(text, "docs/series.md", "exec"), names)
    return names


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeriesStore]:
    with SeriesStore(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def server(store: SeriesStore) -> Iterator[SeriesServer]:
    with SeriesServer(store) as serving:
        yield serving


def test_the_first_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    # Port 0 is any: the channel asks the server which it was.
    text = (
        blocks()[FIRST]
        .replace("port=2025)", "port=0) as server")
        .replace('"127.0.0.1", 2025', '"127.0.0.1", server.port')
    )
    exec(compile(text, "docs/series.md", "exec"), {})
    assert re.fullmatch(r"Key\(cid=1, mid=4, moid=7, .*\) \(21\.5, 0\.4\)\n", capsys.readouterr().out)
    assert (tmp_path / "data" / "series.sqlite").exists()


def test_arrays_in_and_out(server: SeriesServer, capsys: pytest.CaptureFixture[str]) -> None:
    array = numpy.zeros(5000, XY)
    array["cap"] = numpy.arange(5000)
    run(
        LARGE,
        server.port,
        Channel=Channel,
        NumpyPayloadType=NumpyPayloadType,
        array=array,
        key_min=Key.min(),
        key_max=Key.max(),
    )
    assert sum(map(int, capsys.readouterr().out.split())) == 5000


def test_reading_what_is_new(server: SeriesServer) -> None:
    class Enough(Exception):
        pass

    handled: list[float] = []
    rounds = itertools.count()
    with Channel("127.0.0.1", server.port, StructPayloadType[float]("<d")) as channel:

        def handle(data: Any) -> None:
            handled.extend(record.value for record in data)
            number = next(rounds)
            if number == 3:
                raise Enough
            channel.put([Record(Key(1, 2, 3, number), float(number))]).raise_for_status()

        with pytest.raises(Enough):
            run(NEW, Key=Key, channel=channel, handle=handle)
    assert handled == [0.0, 1.0, 2.0]


def test_on_a_gateway(store: SeriesStore) -> None:
    # What is done with the channel is left open there.
    text = blocks()[MOUNTED].replace("...", "response = channel.put([record])")
    with Gateway(0) as gateway, Controller(port=gateway.port).get_client() as client:
        names: dict[str, Any] = {"gateway": gateway, "client": client, "store": store}
        names |= {"SeriesService": SeriesService, "TuplePayloadType": TuplePayloadType}
        names["record"] = Record(Key(1, 4, 7), (21.5, 0.4))
        exec(compile(text, "docs/series.md", "exec"), names)
    names["response"].raise_for_status()
    assert store.count() == 1


def test_from_sensors(store: SeriesStore) -> None:
    def read_imu() -> Iterator[Any]:
        yield from numpy.ones((3, 3))

    with Gateway(0) as gateway:
        service = SeriesService(store)
        gateway.add_service("series", service)
        run(
            SENSORS,
            gateway=gateway,
            service=service,
            read_imu=read_imu,
            read_power=lambda: iter([1.5, 2.5]),
            SeriesKey=SeriesKey,
            NumpyPayloadType=NumpyPayloadType,
            StructPayloadType=StructPayloadType,
        )
        with Controller(port=gateway.port).get_client() as client:
            assert len(list(client.stream("imu"))) == 3
        assert store.count(SeriesKey(1, 4, 7).range()) == 3
        wait_until(lambda: store.count(SeriesKey(1, 4, 8).range()) == 2, PATIENCE)


def test_every_payload_type_is_named() -> None:
    for name in payloads.__all__:
        assert name == "PayloadType" or f"`{name}(" in PAGE


def test_the_methods_of_channels() -> None:
    table = PAGE.split("| method | what it does |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)\(", table))
    for kind in (Channel, AsyncChannel):
        public = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        assert named <= public
        assert public - named <= {"over"}


def test_the_methods_of_the_store() -> None:
    chapter = PAGE.split("\n## The store\n")[1].split("\n### ")[0]
    named = set(re.findall(r"`(\w+)[(`]", chapter))
    public = {name for name, _ in inspect.getmembers(SeriesStore, inspect.isfunction) if not name.startswith("_")}
    assert public - named <= {"close", "put_group", "stage", "snapshot", "horizon"}


def test_the_tables_on_the_disk(store: SeriesStore) -> None:
    chapter = PAGE.split("\n### Layout on disk\n")[1].split("\n### ")[0]
    with closing(sqlite3.connect(store.path / "series.sqlite")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        (page,) = connection.execute("PRAGMA page_size").fetchone()
    assert set(re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE)) == tables
    assert f"pages of {page // 1024} KiB" in chapter
    assert sorted(path.name for path in store.path.iterdir() if "-" not in path.name) == ["lock", "series.sqlite"]

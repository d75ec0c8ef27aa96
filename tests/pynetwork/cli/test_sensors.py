from __future__ import annotations

import itertools
from pathlib import Path

import numpy

from pynetwork.cli.sensors import LogWriter, add_sensors, find_sensors, machine, record_cpu, sensors
from tests.serving import paired
from tests.waiting import wait_until


def test_every_machine_has_a_cpu_and_memory() -> None:
    found = {sensor.name: sensor for sensor in find_sensors()}
    assert {"cpu", "memory"} <= set(found)
    for sensor in found.values():
        values = sensor.read()
        assert values
        assert all(isinstance(each, (int, float)) for each in values.values())
    assert all(0 <= each <= 100 for each in found["cpu"].read().values())
    assert 0 < found["memory"].read()["used"] < 100


def test_lanes_share_the_sensors() -> None:
    count = len(find_sensors())
    idents: list[int] = []
    for lane in range(3):
        stream = sensors(1000.0, lane=lane, lanes=3)
        mine = len(range(lane, count, 3))
        idents += [ident for ident, _ in itertools.islice(stream, 2 * mine)]
        stream.close()
    assert sorted(idents) == list(range(2 * count))


def test_a_lane_without_a_sensor_ends() -> None:
    assert list(sensors(lane=99, lanes=100)) == []


def test_a_recording_has_a_row_a_reading() -> None:
    rows = record_cpu(5, 0.001)
    assert rows.dtype == numpy.float64
    assert rows.shape == (5, machine()["cores"])
    assert ((rows >= 0) & (rows <= 100)).all()


def test_they_can_be_had_from_a_gateway() -> None:
    with paired() as (gateway, client):
        add_sensors(gateway)
        assert client.call("machine")["cores"] >= 1
        with client.stream("sensors", 100.0) as stream:
            assert next(stream)[1]["sensor"] == "cpu"


def test_logs_begin_with_some_readings_and_go_on(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "logs", first=3, rate=100.0)
    writer.start()
    try:
        log = tmp_path / "logs" / "cpu.log"
        assert len(log.read_text().splitlines()) >= 3
        wait_until(lambda: len(log.read_text().splitlines()) >= 6)
    finally:
        writer.stop()
    assert "cpu" in log.read_text().split()[1]

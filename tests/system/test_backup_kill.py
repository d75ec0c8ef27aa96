"""kill -9 of a backup in the middle: what had arrived is not moved again, and nothing half-done has a final name."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.manifest import CHUNK_SIZE
from pynetwork.backup import runs, verify_destination
from pynetwork.controller import Controller
from tests.serving import PATIENCE
from tests.system.processes import gateway_process, running
from tests.waiting import wait_until
from tools.proxy import Proxy, Weather

pytestmark = pytest.mark.system
MEGABYTES = 64
ROOM = 4 << 20

BACKUP = """
import sys
from pynetwork import Controller

port, to = int(sys.argv[1]), sys.argv[2]
Controller(port=port, timeout=60).backup("data", to, lanes=2, progress=False)
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "big.log").write_bytes(os.urandom(MEGABYTES << 20))
    for number in range(300):
        (folder / f"sub/{number}.log").write_bytes(os.urandom(1000))
    yield folder
    for path in tmp_path.rglob("big.log"):
        path.unlink()


def arrived(to: Path) -> int:
    """Bytes on the disk of what a backup has brought."""
    return sum(
        path.stat().st_blocks * 512 for path in to.rglob("*") if path.is_file() and ".pynetwork" not in path.parts
    )


def missing(to: Path, data: Path) -> int:
    """Bytes of the chunks that are not in the partial file of the large one."""
    partial, whole = to / ".big.log.partial", (data / "big.log").read_bytes()
    held = partial.read_bytes() if partial.exists() else b""
    places = range(0, len(whole), CHUNK_SIZE)
    return sum(CHUNK_SIZE for at in places if held[at : at + CHUNK_SIZE] != whole[at : at + CHUNK_SIZE])


def test_a_backup_is_killed_and_goes_on(tmp_path: Path, data: Path) -> None:
    to = tmp_path / "to"
    with gateway_process(tmp_path) as (_, port):
        with Proxy(port, Weather(rate=100e6)) as proxy, running(BACKUP, proxy.port, to) as backup:
            wait_until(lambda: to.exists() and arrived(to) > MEGABYTES << 19, PATIENCE, "half of it")
            backup.kill()
            backup.wait()
        assert not (to / "big.log").exists()
        for path in (to / "sub").glob("[0-9]*.log"):
            assert path.read_bytes() == (data / "sub" / path.name).read_bytes()
        small = sum(1000 for number in range(300) if not (to / f"sub/{number}.log").exists())
        left = missing(to, data) + small
        assert left < (MEGABYTES << 20) * 0.75
        report = Controller(port=port).backup("data", to, progress=False)
    assert report.complete
    assert report.received <= left + ROOM
    assert (to / "big.log").read_bytes() == (data / "big.log").read_bytes()
    assert not list(to.rglob("*.partial"))
    assert not verify_destination(to).bad
    assert [run.outcome for run in runs(to)] == ["interrupted", "complete"]


def test_a_gateway_is_killed_and_another_takes_its_place(tmp_path: Path, data: Path) -> None:
    to = tmp_path / "to"
    with (
        gateway_process(tmp_path) as (first, port),
        Proxy(port, Weather(rate=100e6)) as proxy,
        running(BACKUP, proxy.port, to) as backup,
    ):
        wait_until(lambda: to.exists() and arrived(to) > MEGABYTES << 19, PATIENCE, "half of it")
        first.kill()
        proxy.close()
        assert backup.wait(3 * PATIENCE) == 1
        assert backup.stderr is not None
        assert "ConnectionLost" in backup.stderr.read()
    left = missing(to, data)
    with gateway_process(tmp_path) as (_, port):
        report = Controller(port=port).backup("data", to, progress=False)
    assert report.complete
    assert report.received <= left + 300_000 + ROOM
    assert (to / "big.log").read_bytes() == (data / "big.log").read_bytes()


def test_the_catalogue_of_a_killed_backup_is_one(tmp_path: Path, data: Path) -> None:
    to = tmp_path / "to"
    with gateway_process(tmp_path) as (_, port):
        for _ in range(3):
            with running(BACKUP, port, to) as backup:
                wait_until((to / ".pynetwork/catalogue.sqlite").exists, PATIENCE)
                backup.kill()
                backup.wait()
            connection = sqlite3.connect(to / ".pynetwork/catalogue.sqlite")
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()
        report = Controller(port=port).backup("data", to, progress=False)
    assert report.complete
    assert report.catalogue_aside == ""
    assert not verify_destination(to).bad

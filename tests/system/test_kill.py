"""kill -9 of either side in the middle of everything: the other notices, and nothing half-done looks done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost
from pynetwork import lanes
from pynetwork.controller import Controller
from pynetwork.swarm import Swarm
from tests.serving import PATIENCE, Background
from tests.system.processes import CONTROLLER, gateway_process, running
from tests.waiting import wait_until

pytestmark = pytest.mark.system
MEGABYTES = 300


@pytest.fixture
def big_file(tmp_path: Path) -> Iterator[Path]:
    """A shared file whose way over the wire takes a while."""
    path = tmp_path / "data" / "big.bin"
    path.parent.mkdir()
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(MEGABYTES):
            file.write(block)
    yield path
    path.unlink()
    for partial in tmp_path.rglob("*.partial"):
        partial.unlink()


@pytest.mark.parametrize("kind", ["fast", "slow"])
def test_the_gateway_dies_in_the_middle_of_a_stream(tmp_path: Path, kind: str) -> None:
    ended: list[str] = []
    with gateway_process(tmp_path) as (process, port), Controller(port=port).get_client() as client:
        stream = client.stream(kind, timeout=PATIENCE)
        for _ in range(50):
            next(stream)
        process.kill()
        with pytest.raises(ConnectionLost) as caught:
            for _ in stream:
                pass
        assert isinstance(caught.value.__cause__, OSError)
        assert not stream.ended
        with pytest.raises(ConnectionLost):
            client.stream(kind, eos_callback=lambda: ended.append("end"), callback=print)
        assert not ended


def test_the_gateway_dies_in_the_middle_of_a_call(tmp_path: Path) -> None:
    with gateway_process(tmp_path) as (process, port), Controller(port=port, timeout=None).get_client() as client:
        calling = Background(client.call, "block")
        wait_until((tmp_path / "entered").exists, PATIENCE)
        process.kill()
        with pytest.raises(ConnectionLost):
            calling.result()


@pytest.mark.parametrize("job", ["map", "stream", "ordered"])
def test_the_gateway_dies_in_the_middle_of_a_swarms_job(
    tmp_path: Path, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "REDIALS", 1)
    with gateway_process(tmp_path) as (process, port), Controller(port=port).get_swarm(3) as swarm:
        running_job = swarm.map("add", range(10**9)) if job == "map" else swarm.stream("fast", ordered=job == "ordered")
        for _ in range(50):
            next(running_job)
        process.kill()
        with pytest.raises(ConnectionLost):
            Background(lambda: [None for _ in running_job]).result()


def visible(folder: Path) -> list[Path]:
    """Files under their own names: a partial file has a name that starts with a dot."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_the_gateway_dies_in_the_middle_of_a_transfer(
    tmp_path: Path, big_file: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "REDIALS", 1)
    transfer: Callable[[Swarm], Any]
    if direction == "download":
        target = tmp_path / "copy"
        transfer = lambda swarm: swarm.download("data", to=target)  # noqa: E731
    else:
        target = tmp_path / "incoming"
        transfer = lambda swarm: swarm.upload([tmp_path / "data"], "sent")  # noqa: E731
    with gateway_process(tmp_path) as (process, port), Controller(port=port).get_swarm(2) as swarm:
        job = Background(transfer, swarm)
        wait_until(lambda: moved(swarm) > 8 << 20, PATIENCE)
        process.kill()
        with pytest.raises(ConnectionLost):
            job.result()
    assert visible(target) == []


def moved(swarm: Swarm) -> int:
    return sum(client.link.stream.received + client.link.stream.sent for client in swarm.clients)


@pytest.mark.parametrize("kind", ["fast", "slow", "call"])
def test_the_controller_dies(tmp_path: Path, kind: str) -> None:
    """The generator is closed, and the handler serves the next."""
    with gateway_process(tmp_path) as (_, port):
        with running(CONTROLLER, port, kind, tmp_path) as process:
            begun(process)
            process.kill()
        if kind != "call":
            wait_until((tmp_path / "finally").exists, PATIENCE, "the generator's finally")
        handlers_are_free(port)


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_the_controller_dies_in_the_middle_of_a_transfer(tmp_path: Path, big_file: Path, direction: str) -> None:
    with gateway_process(tmp_path) as (_, port):
        with Controller(port=port).get_client() as watcher, running(CONTROLLER, port, direction, tmp_path) as process:
            begun(process)
            wait_until(
                lambda: (figures := watcher.stats())["sent"] + figures["received"] > 8 << 20,
                PATIENCE,
                "the transfer to get going",
            )
            process.kill()
            assert process.wait(PATIENCE) != 7, "the transfer was over before it was interrupted"
        handlers_are_free(port)
        assert visible(tmp_path / "copy") == []
        assert visible(tmp_path / "incoming") == []


def begun(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n", process.communicate()[1]


def handlers_are_free(port: int) -> None:
    """All four places of the pool can be had."""
    with Controller(port=port).get_swarm(4, wait=PATIENCE) as swarm:
        assert list(swarm.map("add", range(20))) == list(range(1, 21))

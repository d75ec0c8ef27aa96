"""The README's examples do what they say: the first one typed as printed but for the port, the others with what they
need around them.
"""

from __future__ import annotations

import ast
import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from pynetwork import AsyncController, Controller, Gateway, series
from tests.waiting import wait_until

README = Path(__file__).parent.parent / "README.md"
STREAM, CALLS, SWARM, FILES, BACKUPS, SERIES, CHANNEL, ASYNC = range(2, 10)


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_gateway_and_a_controller_stand_in_the_first_lines() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    gateway = next(number for number, line in enumerate(lines) if "Gateway(1857" in line)
    controller = next(number for number, line in enumerate(lines) if "Controller(" in line)
    assert gateway < controller < 30


@pytest.mark.skipif(not Path("/var/log").is_dir(), reason="this machine has no /var/log to share")
def test_the_first_example_runs(tmp_path: Path) -> None:
    port = free_port()
    gateway, controller = (block.replace("1857", str(port)) for block in python_blocks()[:2])
    (tmp_path / "gateway.py").write_text(gateway)
    (tmp_path / "controller.py").write_text(controller)
    server = subprocess.Popen([sys.executable, "gateway.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: answers(port) or server.poll() is not None, timeout=20, what="the gateway")
        assert server.poll() is None, server.communicate()[1]
        done = subprocess.run(
            [sys.executable, "controller.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert [int(line.split()[0]) for line in lines[:101]] == list(range(101))
        assert "TransferReport" in lines[101]
        logs = [path for path in Path("/var/log").rglob("*.log") if path.is_file() and not path.is_symlink()]
        assert len(list((tmp_path / "backup").rglob("*.log"))) == len(logs)
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=10)
    assert server.returncode == 0, errors


# The features


def camera(fps: float) -> Iterator[Any]:
    yield from numpy.arange(6.0).reshape(3, 2) * fps


def disk_usage(path: str) -> str:
    return f"the disk of {path}"


def set_pins(port: int, *, buffer: bytes) -> int:
    return port * len(buffer)


def resize(picture: int) -> int:
    return picture // 2


def scan(lane: int, lanes: int) -> Iterator[tuple[int, str]]:
    for row in range(lane, 20, lanes):
        yield row, f"row {row}"


def imu(rate: float) -> Iterator[float]:
    yield from (rate, rate / 2)


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.chdir(tmp_path)
    for file in ("shared/nginx/access.log", "shared/other.log", "model.bin", "settings/one"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("a line\n")
    with Gateway(0, share={"logs": tmp_path / "shared"}, download_dir=tmp_path / "uploads") as gateway:
        for function in (camera, disk_usage, set_pins, resize, scan, imu):
            gateway.add_subroutine(function.__name__, function)
        yield gateway


def execute(number: int, **names: Any) -> dict[str, Any]:
    """Run an example with these names; answers the names that there are then."""
    exec(compile(python_blocks()[number], str(README), "exec"), names)
    return names


def test_streams_and_calls(gateway: Gateway) -> None:
    shown: list[Any] = []
    with Controller(port=gateway.port).get_client() as client:
        execute(STREAM, client=client, show=shown.append)
        names = execute(CALLS, client=client)
    assert numpy.array_equal(shown, [[0, 30], [60, 90], [120, 150]])
    assert names["usage"] == "the disk of /"
    assert names["written"] == 6


def test_swarms(gateway: Gateway) -> None:
    stored: list[str] = []
    names = execute(SWARM, controller=Controller(port=gateway.port), pictures=[2, 4, 6], store=stored.append)
    assert names["thumbnails"] == [1, 2, 3]
    assert stored == [f"row {row}" for row in range(20)]


def test_files(gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Controller(port=gateway.port).get_swarm(2) as swarm:
        execute(FILES, swarm=swarm)
    assert list((tmp_path / "backup").rglob("*.log")) == [tmp_path / "backup" / "nginx" / "access.log"]
    incoming = tmp_path / "uploads" / "incoming"
    uploaded = {path.relative_to(incoming).as_posix() for path in incoming.rglob("*") if path.is_file()}
    assert uploaded == {"model.bin", "settings/one"}
    assert capsys.readouterr().out.startswith("1 7 ")


def test_backups(gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        execute(BACKUPS, controller=Controller(port=gateway.port))
    assert capsys.readouterr().out.splitlines() == ["2 0 0 0", "0 0 0 2"]
    assert (tmp_path / "backup" / "pi" / "nginx" / "access.log").read_text() == "a line\n"


def test_time_series(gateway: Gateway, tmp_path: Path) -> None:
    def read_imu() -> Iterator[Any]:
        yield from numpy.arange(12.0).reshape(4, 3)

    yesterday = series.now_ns() - 86_400 * 10**9
    names = execute(SERIES, gateway=gateway, read_imu=read_imu, **public(series))
    try:
        with Controller(port=gateway.port).get_client() as client:
            assert len(list(client.stream("imu"))) == 4
        with Controller(port=gateway.port).get_client() as client:
            answer = execute(CHANNEL, client=client, yesterday=yesterday, **public(series))["answer"]
        values = sorted(answer.data["v0"].tolist())
        assert values == numpy.arange(12.0).reshape(4, 3).tolist()
    finally:
        gateway.stop()
        names["store"].close()
    assert (tmp_path / "data").is_dir()


def public(module: Any) -> dict[str, Any]:
    return {name: getattr(module, name) for name in module.__all__}


def test_asyncio(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    code = compile(python_blocks()[ASYNC], str(README), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(eval(code, {"controller": AsyncController(port=gateway.port)}))
    assert capsys.readouterr().out.splitlines() == ["0 100", "1 50.0"]

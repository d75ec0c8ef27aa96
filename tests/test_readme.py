"""The README's first example does what it says, typed as printed but for the port."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

README = Path(__file__).parent.parent / "README.md"


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

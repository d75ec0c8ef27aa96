"""Ctrl-C and SIGTERM end a blocking gateway cleanly, whatever it is doing."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from handshakes.errors import ConnectionLost
from pynetwork.controller import Controller
from tests.serving import PATIENCE, Background
from tests.system.processes import gateway_process
from tests.waiting import wait_until

pytestmark = pytest.mark.system
ALLOWED = 1.0 + 4.0  # a second, and what a busy machine adds


def end(process: subprocess.Popen[str], port: int, number: signal.Signals) -> None:
    began = time.monotonic()
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == "ended\n"
    assert process.wait(PATIENCE) == 0
    assert time.monotonic() - began < ALLOWED
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("doing", ["nothing", "idle client", "fast", "slow", "block"])
def test_a_signal_ends_a_gateway(tmp_path: Path, number: signal.Signals, doing: str) -> None:
    with gateway_process(tmp_path) as (process, port):
        if doing == "nothing":
            end(process, port, number)
            return
        with Controller(port=port, timeout=None).get_client() as client:
            if doing == "idle client":
                client.ping()
                end(process, port, number)
            elif doing == "block":
                calling = Background(client.call, "block")
                wait_until((tmp_path / "entered").exists, PATIENCE)
                end(process, port, number)
                with pytest.raises(ConnectionLost):
                    calling.result()
            else:
                stream = client.stream(doing)
                next(stream)
                end(process, port, number)
                with pytest.raises(ConnectionLost):
                    for _ in stream:
                        pass
                assert (tmp_path / "finally").exists()


def test_many_signals_are_as_good_as_one(tmp_path: Path) -> None:
    with gateway_process(tmp_path) as (process, port):
        for _ in range(5):
            process.send_signal(signal.SIGTERM)
        end(process, port, signal.SIGTERM)

"""Programs that serve."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tools.bench.needs import Program
from tools.bench.peers.programs import ended, free_port, path_of, serving

LISTENS = "import socket, sys; sock = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nwhile sock.accept(): pass"
IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"


def test_a_program_serves_as_long_as_the_context_lasts():
    port = free_port()
    with serving([sys.executable, "-c", LISTENS, str(port)], port):
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_program_that_fails_says_why():
    with (
        pytest.raises(OSError, match="the disk is full"),
        serving([sys.executable, "-c", "import sys; sys.exit('the disk is full')"], free_port()),
    ):
        pass


def test_a_program_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr("tools.bench.peers.programs._END_SECONDS", 0.1)
    process = subprocess.Popen([sys.executable, "-c", IGNORES], stdout=subprocess.PIPE)
    with process.stdout, ended(process):
        assert process.stdout.readline() == b"1\n"
    assert process.returncode == -9


def test_no_program():
    with pytest.raises(FileNotFoundError, match="apt install nothing"):
        path_of(Program("no-such-program-at-all", "apt install nothing"))

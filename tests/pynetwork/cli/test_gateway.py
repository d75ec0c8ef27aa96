from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from pynetwork.controller import Controller
from tests.pynetwork.cli.commands import Commands, interrupt, process

PLAIN = """
    from pynetwork import Gateway

    gateway = Gateway(0, name="plain")

    @gateway.subroutine
    def add(a, b=2):
        return a + b
"""
MADE = """
    from pynetwork import Gateway

    def make_gateway(port=0, name="made"):
        return Gateway(port, name=name)
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "gate.py"
    file.write_text(dedent(text))
    return file


def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    with process("gateway", written(tmp_path, PLAIN), "--json") as started:
        assert started.stdout is not None
        told = json.loads(started.stdout.readline())
        assert (told["message_type"], told["name"]) == ("listening", "plain")
        with Controller(port=told["port"]).get_client() as client:
            assert client.call("add", 1) == 3
        code, seconds, err = interrupt(started)
    assert code == 130
    assert seconds < 1.0
    assert "listens on" in err
    assert "has stopped" in err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_sigterm_ends_it_well(tmp_path: Path) -> None:
    with process("gateway", written(tmp_path, MADE), "--json", "--port", 0) as started:
        assert started.stdout is not None
        assert json.loads(started.stdout.readline())["name"] == "made"
        started.send_signal(signal.SIGTERM)
        _, err = started.communicate(timeout=20)
    assert started.returncode == 0
    assert "has stopped" in err


def test_the_end_of_standard_input_ends_it(tmp_path: Path) -> None:
    with process("gateway", written(tmp_path, PLAIN), "--json", "--stop-on-eof") as started:
        assert started.stdout is not None
        started.stdout.readline()
        out, _ = started.communicate(timeout=20)
    assert (started.returncode, out) == (0, "")


def test_a_module_beside_the_file_can_be_imported(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_gate.py").write_text("raise SystemExit('imported')")
    outcome = command("gateway", written(tmp_path, "import neighbour_of_gate"))
    assert outcome.code == 1
    assert "SystemExit: imported (line 1)" in outcome.err
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("text", "options", "code", "words"),
    [
        ("x = 1", [], 2, "defines no gateway"),
        ("import nothing_of_that_name", [], 1, "ModuleNotFoundError"),
        ("x = 1\ny =", [], 1, "(line 2)"),
        ("def f():\n    1 / 0\nf()", [], 1, "ZeroDivisionError: division by zero (line 2)"),
        (PLAIN, ["--port", "5"], 2, "def make_gateway(port)"),
        (PLAIN, ["--name", "other"], 3, "it has: gateway"),
        (PLAIN + "    second = Gateway(0)\n", [], 2, "--name"),
        (MADE, ["--host", "::1"], 2, "host"),
        ("def make_gateway():\n    return 5", [], 2, "int"),
        ("def make_gateway():\n    1 / 0", [], 1, "(line 2)"),
        (PLAIN + "    gateway.start()\n", [], 2, "__main__"),
        ("from pynetwork import Gateway\ngateway = Gateway(host='0.0.0.0')", [], 1, "key="),
    ],
)
def test_what_can_not_be_run(
    command: Commands, tmp_path: Path, text: str, options: list[str], code: int, words: str
) -> None:
    outcome = command("gateway", written(tmp_path, text), *options)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_aliases_are_one_gateway(tmp_path: Path) -> None:
    with process("gateway", written(tmp_path, PLAIN + "    alias = gateway\n"), "--json", "--stop-on-eof") as started:
        started.communicate(timeout=20)
    assert started.returncode == 0


def test_no_file(command: Commands, tmp_path: Path) -> None:
    assert command("gateway", tmp_path / "none.py").code == 4
    (tmp_path / "text.txt").touch()
    assert command("gateway", tmp_path / "text.txt").code == 2


def test_a_busy_port(command: Commands, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = command("gateway", written(tmp_path, MADE), "--port", taken.getsockname()[1])
    assert outcome.code == 2
    assert "can't be listened on" in outcome.err
    assert "has stopped" not in outcome.err


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C of a process is a POSIX signal here")
def test_ctrl_c_while_the_file_is_read(tmp_path: Path) -> None:
    text = "print('here', flush=True)\nimport time\ntime.sleep(30)\n"
    with process("gateway", written(tmp_path, text)) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "here\n"
        code, seconds, err = interrupt(started)
    assert (code, err) == (130, "")
    assert seconds < 1.0

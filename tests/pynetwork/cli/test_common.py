from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from handshakes import errors
from pynetwork.cli import COMMANDS, make_parser
from pynetwork.cli.common import (
    Address,
    CommandFailed,
    Exit,
    FolderAddress,
    Output,
    exit_code,
    explain,
    parse_address,
    parse_folder_address,
    read_key,
    run_guarded,
)
from tests.pynetwork.cli.commands import ROOT, Commands, address, interrupt, process, seen_enough
from tests.serving import KEY, controller_of, serving
from tests.waiting import wait_until

SILENT = argparse.Namespace(json=False, verbose=False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pi", Address("pi", 1857)),
        ("pi:2000", Address("pi", 2000)),
        ("10.0.0.7:1", Address("10.0.0.7", 1)),
        ("[::1]:1857", Address("::1", 1857)),
        ("[::1]", Address("::1", 1857)),
        ("::1", Address("::1", 1857)),
        ("[fe80::1%eth0]:9", Address("fe80::1%eth0", 9)),
    ],
)
def test_addresses(text: str, wanted: Address) -> None:
    assert parse_address(text) == wanted
    assert parse_address(str(wanted)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pi:logs", FolderAddress(Address("pi", 1857), "logs")),
        ("pi:2000:logs", FolderAddress(Address("pi", 2000), "logs")),
        ("pi:/var/log", FolderAddress(Address("pi", 1857), "/var/log")),
        ("10.0.0.7:1:a b", FolderAddress(Address("10.0.0.7", 1), "a b")),
        ("[::1]:1857:logs", FolderAddress(Address("::1", 1857), "logs")),
        ("[::1]:logs", FolderAddress(Address("::1", 1857), "logs")),
    ],
)
def test_addresses_of_folders(text: str, wanted: FolderAddress) -> None:
    assert parse_folder_address(text) == wanted
    assert parse_folder_address(str(wanted)) == wanted


@pytest.mark.parametrize("text", ["", "logs", "pi:", ":logs", "[::1]", "[::1]:", "pi:0:logs", "pi:x:logs", "a b:logs"])
def test_what_is_no_address_of_a_folder(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_folder_address(text)


@pytest.mark.parametrize(
    "text",
    ["", ":1857", "pi:", "pi:logs", "pi:0", "pi:65536", "pi:+1", "a:1:2", "[::1", "[::1]x", "[x]:1", "a b", "a/b"],
)
def test_what_is_no_address(text: str) -> None:
    if text == "pi:":
        assert parse_address(text) == Address("pi")
        return
    with pytest.raises(argparse.ArgumentTypeError):
        parse_address(text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound(""), 3),
        (FileNotFoundError(), 4),
        (errors.BadRequest(""), 2),
        (errors.ConfigurationError(""), 2),
        (errors.ConnectionLost(""), 5),
        (errors.DeadlineExceeded(""), 5),
        (errors.PoolFull(""), 5),
        (errors.AuthenticationFailed(""), 7),
        (errors.Forbidden(""), 7),
        (errors.VersionMismatch(""), 7),
        (errors.RemoteProtocolError(""), 7),
        (errors.RemoteFault("KeyError", "x"), 1),
        (PermissionError(), 1),
        (CommandFailed("", Exit.NOTHING), 9),
        (ZeroDivisionError(), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_an_item_that_failed_counts_as_its_cause() -> None:
    error = errors.ItemFailed(0, 1, errors.NotFound("x"))
    error.__cause__ = errors.NotFound("x")
    assert exit_code(error) == 3


def test_errors_are_told_without_traceback_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_arguments: argparse.Namespace) -> int:
        raise ZeroDivisionError("by zero")

    assert run_guarded(fail, SILENT) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "ZeroDivisionError: by zero" in told
    assert run_guarded(fail, argparse.Namespace(json=False, verbose=True)) == 1
    assert "Traceback" in capsys.readouterr().err


def test_control_letters_of_a_remote_error_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output(SILENT).failure(errors.RemoteFault("E", "\x1b[2Jgone"), 1)
    assert "\x1b" not in capsys.readouterr().err


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def leave(_arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    assert run_guarded(leave, SILENT) == 130
    assert capsys.readouterr() == ("", "")


def test_an_os_error_names_its_file() -> None:
    assert explain(PermissionError(13, "Permission denied", "/x"))[0] == "Permission denied: '/x'"
    assert "--key-file" in explain(errors.AuthenticationFailed("the gateway does not know this key"))[1]
    assert "--tls-ca" in explain(errors.AuthenticationFailed("the certificate of x is not trusted"))[1]


def test_key_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("the key\n")
    file.chmod(0o600)
    output = Output(SILENT)
    monkeypatch.setenv("PYNETWORK_KEY", "another")
    assert read_key(str(file), output) == "the key"
    assert read_key(None, output) == "another"
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    assert read_key(str(file), output) == "the key"
    told = capsys.readouterr().err
    assert "chmod 600" in told
    assert "the key" not in told.replace("the key file", "")


def test_key_files_that_are_none(tmp_path: Path) -> None:
    output = Output(SILENT)
    with pytest.raises(CommandFailed) as caught:
        read_key(str(tmp_path / "none"), output)
    assert caught.value.code == 4
    (tmp_path / "empty").touch(0o600)
    with pytest.raises(CommandFailed) as caught:
        read_key(str(tmp_path / "empty"), output)
    assert caught.value.code == 2
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(CommandFailed):
        read_key(str(tmp_path / "bytes"), output)


def test_the_key_opens_the_door(command: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(key=KEY) as gateway:
        refused = command("ls", address(gateway))
        assert (refused.code, refused.out) == (7, "")
        assert "PYNETWORK_KEY" in refused.err
        monkeypatch.setenv("PYNETWORK_KEY", "not this one")
        assert command("ls", address(gateway)).code == 7
        (tmp_path / "key").write_text(KEY)
        (tmp_path / "key").chmod(0o600)
        assert command("ls", address(gateway), "--key-file", tmp_path / "key").code == 0


def test_an_unreachable_gateway_may_come_back(command: Commands) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        outcome = command("ls", f"127.0.0.1:{taken.getsockname()[1]}", "--json")
    assert (outcome.code, outcome.out) == (5, "")
    told = json.loads(outcome.err)
    assert (told["message_type"], told["code"], told["error"]) == ("error", 5, "ConnectionLost")


def test_a_full_gateway_may_have_room_later(command: Commands) -> None:
    with serving(max_poolsize=1) as gateway, controller_of(gateway).get_client():
        full = command("ls", address(gateway))
        assert full.code == 5
        assert "--wait" in full.err
        assert command("ls", address(gateway), "--wait", "0.1").code == 5


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["ls"],
        ["ls", "pi:logs"],
        ["ls", "pi", "--timeout", "-1"],
        ["ls", "pi", "--timeout", "nan"],
        ["get", "pi", "logs", "--lanes", "0"],
        ["get", "pi", "logs", "--pattern", "x", "--file", "y"],
        ["call", "pi", "f", "--bogus"],
        ["get", "pi", "logs", "to", "--lanes", "2", "more"],
    ],
)
def test_usage(command: Commands, words: list[str]) -> None:
    outcome = command(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "usage:" in outcome.err


def test_nothing_said_is_answered_with_help(command: Commands) -> None:
    outcome = command()
    assert (outcome.code, outcome.out) == (2, "")
    assert "pynetwork COMMAND -h explains one command" in outcome.err


@pytest.mark.parametrize("words", [["-h"], ["--version"], *([each.__name__.split(".")[-1], "-h"] for each in COMMANDS)])
def test_help(command: Commands, words: list[str]) -> None:
    outcome = command(*words)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out


_WORDS: dict[str, list[str]] = {
    "demo": [],
    "gateway": ["f.py"],
    "backup": ["pi:logs", "x"],
    "restore": ["x", "pi:logs"],
    "verify": ["x"],
    "backups": ["x"],
    "series": ["stats", "pi"],
}


def test_every_command_has_its_parser() -> None:
    for module in COMMANDS:
        name = module.__name__.split(".")[-1]  # type: ignore[attr-defined]
        words = _WORDS.get(name, ["pi", "x"])
        arguments = make_parser().parse_args([name, *words])
        assert arguments.run is module.run
        assert (arguments.json, arguments.verbose) == (False, False)


def test_a_closed_pipe_ends_quietly() -> None:
    def endless():  # type: ignore[no-untyped-def]
        while True:
            yield b"x" * 100

    with serving(endless) as gateway, process("stream", address(gateway), "endless") as started:
        assert seen_enough(started) == (0, "")
        wait_until(lambda: not gateway.stats()["handlers"])


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


_TELLING = """
import sys
from argparse import Namespace
from pynetwork.cli.common import Output, run_guarded

def run(arguments):
    output = Output(arguments, wanted=sys.argv[1] == "wanted")
    for number in range(3):
        output.note("x" * 100)
        output.event("progress", "y" * 100, number=number)
    output.result("rest", "z")
    if len(sys.argv) > 2:
        open(sys.argv[2], "x").close()
    if len(sys.argv) > 3:
        raise OSError(5, "broken")
    return 9

sys.exit(run_guarded(run, Namespace(json=False, verbose=False)))
"""


def told(*words: object, out: int, err: int) -> tuple[int, str]:
    """The exit code and, where that is a pipe, the stderr of a command that tells something and then makes a file."""
    with subprocess.Popen(
        [sys.executable, "-c", _TELLING, *map(str, words)], cwd=ROOT, stdout=out, stderr=err, text=True
    ) as started:
        _, text = started.communicate(timeout=20)
        return started.returncode, text or ""


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_work_goes_on_when_nobody_listens(tmp_path: Path) -> None:
    nobody = closed_pipe()
    try:
        assert told("unwanted", tmp_path / "one", out=nobody, err=nobody) == (9, "")
        assert told("unwanted", tmp_path / "two", "fail", out=nobody, err=nobody) == (1, "")
        code, err = told("unwanted", tmp_path / "three", "fail", out=nobody, err=subprocess.PIPE)
        assert (code, len(err.splitlines()), err.splitlines()[-1]) == (1, 4, "pynetwork: broken")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "two"]
        # What is wanted and not read ends the command; what is only remarked does not.
        assert told("wanted", tmp_path / "four", out=nobody, err=subprocess.DEVNULL) == (0, "")
        assert not (tmp_path / "four").exists()
        assert told("wanted", tmp_path / "five", out=subprocess.DEVNULL, err=nobody) == (9, "")
        assert (tmp_path / "five").exists()
    finally:
        os.close(nobody)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_transfers_go_on_when_nobody_listens(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "a.log").write_text("a line")
    nobody = closed_pipe()
    try:
        with serving(share={"logs": str(tmp_path / "share")}) as gateway:
            words = (
                "get",
                address(gateway),
                "logs",
                tmp_path / "to",
                "--file",
                "a.log",
                "--file",
                "none.log",
                *options,
            )
            done = subprocess.run(
                [sys.executable, "-m", "pynetwork", *map(str, words)],
                cwd=ROOT,
                stdout=nobody,
                stderr=nobody,
                timeout=20,
                check=False,
            )
    finally:
        os.close(nobody)
    assert done.returncode == 4
    assert (tmp_path / "to" / "a.log").read_text() == "a line"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no /dev/full")
def test_work_goes_on_when_what_is_told_does_not_fit(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        code, err = told("unwanted", tmp_path / "one", out=full.fileno(), err=subprocess.PIPE)
    assert (code, err.count("standard output can't be written: No space left on device")) == (9, 1)
    assert (tmp_path / "one").exists()


def test_without_standard_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(arguments: argparse.Namespace) -> int:
        Output(arguments, wanted=False).event("x", "y")
        Output(arguments)
        raise AssertionError

    monkeypatch.setattr(sys, "stdout", None)
    assert run_guarded(tell, SILENT) == 2
    assert "standard output is closed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", None)
    assert run_guarded(tell, SILENT) == 2


def test_ctrl_c_while_a_silent_host_is_dialled() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        for words in (["ls", host], ["get", host, "logs", "--lanes", "2"]):
            with process(*words, "--timeout", "60") as started:
                connection, _ = silent.accept()
                with connection:
                    code, seconds, err = interrupt(started)
            assert code == 130, words
            assert seconds < 1.5, words
            assert err == ""


def test_python_m_pynetwork() -> None:
    with process("--version") as started:
        out, err = started.communicate(timeout=20)
    assert (started.returncode, err) == (0, "")
    assert out.startswith("pynetwork ")
    assert os.linesep in out

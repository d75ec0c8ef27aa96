from __future__ import annotations

import argparse
import json
import os
import socket
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
    age,
    byte_count,
    exit_code,
    explain,
    parse_address,
    parse_folder_address,
    read_key,
    run_guarded,
    time_span,
)
from tests.pynetwork.cli.commands import Commands, address, interrupt, process
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
    ("text", "wanted"),
    [
        ("0", 0), ("500", 500), ("64k", 64_000), ("64K", 64_000), ("64KiB", 65_536), ("64ki", 65_536),
        ("2M", 2_000_000), ("1.5G", 1_500_000_000), ("1.5Gi", 1_610_612_736), ("2T", 2 * 10**12),
        ("10 MB", 10_000_000), (" 5b ", 5),
    ],
)  # fmt: skip
def test_numbers_of_bytes(text: str, wanted: int) -> None:
    assert byte_count(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "1e3", "5x", "1,5M", "1.M", "M5", "9" * 20, "99999999T", "2Ti", "\u0665"]
)
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no number of bytes"):
        byte_count(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("12h", 43_200),
        ("7d", 604_800),
        ("2W", 1_209_600),
        (" 5 m ", 300),
    ],
)
def test_spans_of_time(text: str, wanted: float) -> None:
    assert time_span(text) == wanted


@pytest.mark.parametrize("text", ["", "d", "-1d", "soon", "5y", "1h30m", "9" * 12, "1e3"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no span of time"):
        time_span(text)


def test_an_age_has_a_unit() -> None:
    assert age("90d") == 90 * 86400
    for text in ("90", "1.5", "0"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' has no unit; write {text}d for days"):
            age(text)
    with pytest.raises(argparse.ArgumentTypeError, match="is no span of time"):
        age("soon")


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
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.readline()
        started.stdout.close()
        assert started.wait(20) == 0
        assert started.stderr.read() == ""
        wait_until(lambda: not gateway.stats()["handlers"])


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

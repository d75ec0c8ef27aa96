"""The example program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pynetwork.series.example import main
from pynetwork.series.server import SeriesServer
from pynetwork.series.store import SeriesStore
from tests.playing import Heard, header, playing
from tests.serving import PATIENCE

Captured = pytest.CaptureFixture[str]

CSV = """cid,mid,moid,cap,level
1,4,7,2016-08-09T12:34:00.123456789Z,10.5
2,5,8,2016-08-09T12:35:00Z,11
3,6,9,7890,-12.25
"""


@pytest.fixture
def records(tmp_path: Path) -> str:
    """A file of three records."""
    path = tmp_path / "records.csv"
    path.write_text(CSV, encoding="utf-8")
    return str(path)


def test_a_newcomer_sees_it_work(capsys: Captured) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "36 records of three sensors were put to 127.0.0.1:" in out
    assert "temperature     humidity" in out
    assert "... and 16 more" in out
    assert len(out.splitlines()) == 4 + 20 + 1


def test_as_a_program() -> None:
    command = [sys.executable, "-m", "pynetwork.series", "--rows", "1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "... and 35 more" in found.stdout
    assert found.stderr == ""


def test_ones_own_file_and_server(records: str, tmp_path: Path, capsys: Captured) -> None:
    with SeriesStore(tmp_path / "store") as store, SeriesServer(store) as server:
        for _ in range(2):
            assert main(["--host", "127.0.0.1", "--port", str(server.port), "--csv", records]) == 0
            lines = capsys.readouterr().out.splitlines()
            # Only what was put now, not what was put before.
            assert [line.split() for line in sorted(lines[4:])] == [
                ["1", "4", "7", "2016-08-09T12:34:00.123456789+00:00", "10.5"],
                ["2", "5", "8", "2016-08-09T12:35:00.000000000+00:00", "11"],
                ["3", "6", "9", "2001-01-01T00:00:00.000007890+00:00", "-12.25"],
            ]
        assert store.count() == 6


def test_a_file_without_records(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("cid,mid,moid,cap,level\n", encoding="utf-8")
    assert main(["--csv", str(path)]) == 0
    assert capsys.readouterr().out.startswith("0 records of")


@pytest.mark.parametrize(
    ("content", "code", "what"),
    [
        (None, 4, "No such file"),
        ("cid,mid,moid,cap\n1,2,3,4\n", 2, "no column but those of the key"),
        ("cid,mid,moid,level\n1,2,3,4\n", 2, "no column 'cap'"),
        ("cid,mid,moid,cap,level\n1,2,3,4,high\n", 2, "line 2"),
        ("cid,mid,moid,cap,level\n-1,2,3,4,5\n", 2, "negative"),
    ],
)
def test_files_that_are_not_as_they_should_be(
    tmp_path: Path, capsys: Captured, content: str | None, code: int, what: str
) -> None:
    path = tmp_path / "records.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert main(["--csv", str(path)]) == code
    assert what in capsys.readouterr().err


def test_servers_that_fail(records: str, capsys: Captured) -> None:
    def say(answer: bytes) -> int:
        with playing(lambda heard: heard.answer(answer, 12).rest()) as server:
            return main(["--host", "127.0.0.1", "--port", str(server.port), "--csv", records])

    assert say(header(-1, 0)) == 1
    assert "status -1" in capsys.readouterr().err
    assert say(header(0, 2**40)) == 7
    assert "PYNETWORK_KEY" in capsys.readouterr().err
    assert main(["--host", "127.0.0.1", "--port", "1", "--csv", records]) == 5


def test_a_key_from_the_environment(records: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SeriesStore(tmp_path / "store") as store, SeriesServer(store, key="a key for the tests") as server:
        arguments = ["--host", "127.0.0.1", "--port", str(server.port), "--csv", records]
        monkeypatch.setenv("PYNETWORK_KEY", "a key for the tests")
        assert main(arguments) == 0
        monkeypatch.setenv("PYNETWORK_KEY", "some other key")
        assert main(arguments) == 7


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c(records: str) -> None:
    def play(heard: Heard) -> None:
        heard.hear(12)
        os.kill(os.getpid(), signal.SIGINT)
        heard.rest()

    with playing(play) as server:
        assert main(["--host", "127.0.0.1", "--port", str(server.port), "--csv", records]) == 130


def test_arguments_that_are_none() -> None:
    with pytest.raises(SystemExit) as end:
        main(["--port", "x"])
    assert end.value.code == 2
    assert main(["--host", "127.0.0.1", "--port", "0"]) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--port", "1858"], "--port is of a server: give --host, too"),
        (["--tls-ca", "ca.pem"], "--tls-ca is of a server: give --host, too"),
        (["--rows", "-1"], "is no number of 0 to"),
        (["--rows", "many"], "is no number of 0 to"),
    ],
)
def test_arguments_that_would_do_nothing(words: list[str], reason: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("content", [bytes(range(256)), b"cid,mid,moid,cap,x\n1,2,3,4,\xff\n", b"cid,mid\xff\n"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, capsys: Captured, content: bytes) -> None:
    path = tmp_path / "rand.csv"
    path.write_bytes(content)
    assert main(["--csv", str(path)]) == 2
    told = capsys.readouterr().err
    assert "rand.csv" in told
    assert told[:-1].isprintable()

from __future__ import annotations

import contextlib
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pynetwork.cli.series import serving
from pynetwork.series.record import SeriesKey
from pynetwork.series.store import SeriesStore
from pynetwork.series.timestamps import now_ns
from tests.pynetwork.cli.commands import Commands, interrupt, process
from tests.pynetwork.cli.series.stores import HALL, ROOM, SECOND, made, pairs
from tests.waiting import wait_until

KEY = "a key for the tests"
LINES = "cid,mid,moid,cap,x\n1,4,7,2026-11-21,5\n"


@contextlib.contextmanager
def running(*words: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    with process("series", "serve", *words, "--json", "--port", 0, **environment) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        line = started.stdout.readline()
        assert line, started.stderr.read()
        told = json.loads(line)
        assert told["message_type"] == "listening"
        yield started, f"127.0.0.1:{told['port']}"


@pytest.mark.parametrize("ending", ["interrupt", "terminate"])
def test_it_serves_until_it_is_told_to_stop(command: Commands, tmp_path: Path, ending: str) -> None:
    file = tmp_path / "records.csv"
    file.write_text(LINES)
    with running(tmp_path / "data") as (started, address):
        assert command("series", "put", address, file).code == 0
        assert "1 record" in command("series", "stats", address).out
        if ending == "interrupt":
            code, seconds, err = interrupt(started)
            assert seconds < 1.5
        else:
            started.send_signal(signal.SIGTERM)
            _, err = started.communicate(timeout=20)
            code = started.returncode
    assert code == (130 if ending == "interrupt" else 0)
    assert "listens on" in err
    assert "has stopped" in err
    assert "Traceback" not in err
    with SeriesStore(tmp_path / "data") as store:
        assert store.count() == 1


def test_a_key(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "data")
    with running(tmp_path / "data", "--host", "127.0.0.1", PYNETWORK_KEY=KEY) as (_, address):
        refused = command("series", "stats", address, "--timeout", 5)
        # It hears what it does not understand, or that the connection is over.
        assert refused.code in (5, 7)
        assert refused.out == ""
        monkeypatch.setenv("PYNETWORK_KEY", KEY)
        assert "5 records" in command("series", "stats", address).out
        assert command("series", "stats", address, "--key-file", tmp_path / "none").code == 4


def test_tls(command: Commands, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made(tmp_path / "data")
    options = ("--tls-certificate", tmp_path / "cert.pem", "--tls-private-key", tmp_path / "key.pem")
    with running(tmp_path / "data", "--host", "127.0.0.1", *options) as (_, address):
        assert "5 records" in command("series", "stats", address, "--tls-ca", tmp_path / "ca.pem").out
        assert command("series", "stats", address, "--tls").code == 7


def test_what_can_not_be_served(command: Commands, tmp_path: Path) -> None:
    data = tmp_path / "data"
    outcome = command("series", "serve", data, "--host", "0.0.0.0", "--port", 0)
    assert (outcome.code, outcome.out) == (2, "")
    assert "key=" in outcome.err
    assert command("series", "serve", data, "--tls-ca", "x", "--port", 0).code == 2
    with SeriesStore(data):
        busy = command("series", "serve", data, "--port", 0)
    assert (busy.code, busy.out) == (5, "")
    assert "already open" in busy.err


def test_what_is_too_old_is_removed(tmp_path: Path) -> None:
    now = now_ns()
    made(tmp_path / "data", pairs(2, ROOM, now - 8 * 86_400 * SECOND), pairs(3, HALL, now - 3600 * SECOND))
    with running(tmp_path / "data", "--max-age", "7d") as (started, _):
        assert started.stderr is not None
        removed = next(line for line in started.stderr if "removed" in line)
        assert "removed 2 records" in removed
        assert interrupt(started)[0] == 130
    with SeriesStore(tmp_path / "data") as store:
        assert [SeriesKey(*row[:3]) for row in store.series().tolist()] == [HALL]


class Sparse:
    """A store whose room is always too little, and whose disk fails the first time."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def retain(self, **limits: Any) -> Any:
        self.asked.append(limits)
        if len(self.asked) == 1:
            raise OSError(5, "Input/output error")
        return type("Retained", (), {"records": 7, "bytes": 336})


def test_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(serving, "_EVERY", 0.01)
    store: Any = Sparse()
    with caplog.at_level(logging.INFO, "pynetwork.series"), serving._retaining(store, None, 10**9):
        wait_until(lambda: len(store.asked) >= 3)
    assert store.asked[0] == {"age": None, "size": 10**9}
    assert "could not be removed: Input/output error" in caplog.messages[0]
    assert caplog.messages[1] == "removed 7 records, 336 B, as --max-age and --max-size say"


def test_nothing_is_removed_unless_it_is_said() -> None:
    store: Any = Sparse()
    with serving._retaining(store, None, None):
        pass
    assert store.asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of a process is a POSIX signal here")
def test_a_client_in_the_middle_of_something_does_not_hold_it_up(tmp_path: Path) -> None:
    made(tmp_path / "data", pairs(200_000))
    with (
        running(tmp_path / "data") as (started, address),
        process("series", "get", address, "--json") as reading,
    ):
        assert reading.stdout is not None
        reading.stdout.readline()
        code, seconds, _ = interrupt(started)
        assert code == 130
        assert seconds < 2.0
        reading.kill()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_changes_nothing(tmp_path: Path, first: int, second: int) -> None:
    with running(tmp_path / "data") as (started, _):
        started.send_signal(first)
        started.send_signal(second)
        _, err = started.communicate(timeout=20)
    # Of two that are there at once, the system hands out the lower first.
    assert started.returncode in ({130, 0} if first != second else {130 if first == signal.SIGINT else 0})
    assert "Traceback" not in err
    assert "error" not in err


class Library:
    """A C library, as far as it is asked for."""

    def __init__(self, answer: int) -> None:
        self.told: list[tuple[int, int]] = []
        self._answer = answer

    def mallopt(self, option: int, value: int) -> int:
        self.told.append((option, value))
        return self._answer


@pytest.mark.parametrize("answer", [0, 1])
def test_threads_share_memory(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    library = Library(answer)
    monkeypatch.setattr(serving.ctypes, "CDLL", lambda _name: library)
    assert serving.share_memory() is bool(answer)
    assert library.told == [(-8, 1)]


def test_where_threads_can_not_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.ctypes, "CDLL", lambda _name: object())
    assert not serving.share_memory()

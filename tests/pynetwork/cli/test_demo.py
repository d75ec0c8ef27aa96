from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from pynetwork.cli import demo
from tests.pynetwork.cli.commands import Commands, Outcome, interrupt, process

pytestmark = pytest.mark.system


def left_behind() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("pynetwork-demo-")}


def test_end_to_end() -> None:
    before = left_behind()
    with process("demo", "--seconds", "1", "--json") as started:
        out, err = started.communicate(timeout=60)
    outcome = Outcome(started.returncode, out, err)
    assert (outcome.code, err) == (0, "")
    kinds = [each["message_type"] for each in outcome.objects()]
    assert kinds == ["gateway", "batches", "stream", "download", "verified", "summary"]
    stream = outcome.object("stream")
    assert stream["missing"] == 0
    assert stream["readings"] > 20
    assert set(stream["last"]) == set(outcome.object("gateway")["sensors"])
    assert outcome.object("gateway")["process"] != started.pid
    verified = outcome.object("verified")
    assert verified["same"] + len(verified["grown"]) + len(verified["changed"]) == outcome.object("download")["files"]
    assert outcome.object("summary") == {"message_type": "summary", "held": True, "failures": []}
    assert left_behind() <= before


def test_without_logs_it_writes_its_own(command: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "LOG_FOLDERS", ())
    outcome = command("demo", "--seconds", "0.3", "--lanes", 2)
    assert outcome.code == 0, outcome.out + outcome.err
    assert "logs: written while this runs" in outcome.out
    assert "over 2 lanes" in outcome.out
    assert outcome.out.endswith("\nAll held.\n")


def test_another_folder(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(5_000_000))
    (tmp_path / "empty").touch()
    outcome = command("demo", "--seconds", "0.1", "--folder", tmp_path, "--json")
    assert outcome.code == 0
    assert outcome.object("download")["bytes"] == 5_000_000
    assert outcome.object("verified")["same"] == 2
    assert command("demo", "--folder", tmp_path / "none").code == 4


def test_of_many_logs_the_smallest_are_chosen(
    command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "LOG_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(demo, "MOST_BYTES", 1000)
    (tmp_path / "big").write_bytes(bytes(2000))
    (tmp_path / "small").write_bytes(bytes(10))
    outcome = command("demo", "--seconds", "0.1", "--json")
    assert outcome.code == 0
    download = outcome.object("download")
    assert (download["files"], download["bytes"], download["complete"]) == (1, 10, False)


def test_a_demo_that_moved_nothing_has_not_held(command: Commands, tmp_path: Path) -> None:
    outcome = command("demo", "--seconds", "0.1", "--folder", tmp_path, "--json")
    assert outcome.code == 1
    assert outcome.object("summary")["failures"] == ["nothing was downloaded"]


def test_a_copy_that_is_wrong_is_a_failure(command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"as it was")
    verify = demo.verify

    def spoiling(source, copy, wanted, left_out):  # type: ignore[no-untyped-def]
        (copy / "file").write_bytes(b"as it is?")
        return verify(source, copy, wanted, left_out)

    monkeypatch.setattr(demo, "verify", spoiling)
    outcome = command("demo", "--seconds", "0.1", "--folder", tmp_path)
    assert outcome.code == 1
    assert "Did not hold:\n  the copy of file is not what is in the file" in outcome.out


def test_a_busy_port(command: Commands) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = command("demo", "--port", taken.getsockname()[1])
    assert outcome.code == 1
    assert "can't be listened on" in outcome.err


def test_ctrl_c_while_it_streams() -> None:
    before = left_behind()
    with process("demo", "--seconds", "60") as started:
        assert started.stderr is not None
        # The first line of the live view, a second after the stream began.
        assert "cpu" in started.stderr.readline()
        code, seconds, err = interrupt(started)
    assert code == 130
    assert seconds < 1.5
    assert "Traceback" not in err
    assert left_behind() <= before

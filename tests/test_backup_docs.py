"""The pages about backups say what is so: their programs run, their units are units, their tables are complete."""

from __future__ import annotations

import argparse
import ast
import configparser
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import orjson
import pytest

from pynetwork import Controller, Gateway
from pynetwork.backup import BackupReport
from pynetwork.cli import COMMANDS
from tests.serving import PATIENCE, serving

DOCS = Path(__file__).parent.parent / "docs"
HOWTO = (DOCS / "howto-nightly-backup.md").read_text(encoding="utf-8")
PAGE = (DOCS / "backup.md").read_text(encoding="utf-8")
LONG_AGO = 1_700_000_000
PROGRAM = "/opt/pynetwork/bin/pynetwork"
FINGERPRINT = "3A:9C:5E:41:...:07"
PLACED = re.compile(r"`/etc/systemd/system/([^`]+)`.*?^```ini\n(.*?)^```", re.DOTALL | re.MULTILINE)


def units() -> dict[str, str]:
    """The units of the how-to, by their paths below /etc/systemd/system."""
    return dict(PLACED.findall(HOWTO))


def sections(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def commands(text: str) -> list[str]:
    """What is typed in the console blocks of a page."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


# The units


def test_the_units_are_those_that_the_page_speaks_of() -> None:
    assert len(units()) == HOWTO.count("```ini") == 8
    named = set(re.findall(r"pynetwork-\w+\.(?:service|timer)", HOWTO))
    assert named == {name for name in units() if "/" not in name and "@" not in name}


def test_the_units_can_be_parsed() -> None:
    for name, text in units().items():
        found = sections(text)
        unit, _, kind = name.partition(".")
        if "/" not in name:
            assert found["Unit"]["Description"]
        if kind == "timer":
            assert f"{unit}.service" in units()
            assert found["Timer"]["Persistent"] == "true"
            assert found["Install"]["WantedBy"] == "timers.target"
        else:
            assert found["Service"].get("ExecStart", "/").startswith("/")


def test_whoever_fails_tells_it() -> None:
    for name in ("pynetwork-backup.service", "pynetwork-verify.service"):
        told = sections(units()[name])["Unit"]["OnFailure"]
        assert told.replace("%N", "") in units()


def test_codes_that_are_not_tried_again_are_those_of_the_table() -> None:
    service = sections(units()["pynetwork-backup.service"])["Service"]
    codes = {
        cell for row in re.findall(r"^\| ([\d, ]+)(?:, or killed)? \|", HOWTO, re.MULTILINE) for cell in row.split(", ")
    }
    prevented = set(service["RestartPreventExitStatus"].split())
    assert codes - {"0", "5", service["SuccessExitStatus"]} == prevented


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd to ask")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for name, text in units().items():
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text.replace(PROGRAM, sys.executable))
    names = sorted(name for name in units() if "/" not in name)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        cwd=tmp_path,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = [line for line in checked.stderr.splitlines() if "pynetwork" in line]
    assert not told
    assert checked.returncode == 0, checked.stderr


# The commands of the how-to, with everything in one folder and both machines in one


class Machines:
    """The Pi and the machine at home: the page's paths, host, port and fingerprint as they are here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "var" / "log"
        self.etc = folder / "etc" / "pynetwork"
        self.backup = folder / "srv" / "backup" / "pi"
        for each in (self.logs, self.etc, self.backup.parent):
            each.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port: int = server.getsockname()[1]
        self.fingerprint = ""

    def here(self, text: str) -> str:
        """A line of the page, for here."""
        for there, here in (
            ("sudo -u pynetwork ", ""),
            ("sudo ", ""),
            (PROGRAM, shlex.join([sys.executable, "-m", "pynetwork"])),
            ("/etc/pynetwork", str(self.etc)),
            ("/srv/backup", str(self.backup.parent)),
            ("/var/log", str(self.logs)),
            ("raspberrypi.local:", f"127.0.0.1:{self.port}:"),
            ("1857", str(self.port)),
            (FINGERPRINT, self.fingerprint),
        ):
            text = text.replace(there, here)
        return text

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """What the page says is typed, or run by systemd."""
        return subprocess.run(
            ["sh", "-c", self.here(command)],
            cwd=self.etc,
            env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    """Both, with the key and certificate that the page's commands make."""
    machines = Machines(tmp_path)
    (machines.logs / "apt").mkdir()
    (machines.logs / "apt" / "history.log").write_text("installed\n")
    (machines.logs / "syslog").write_text("a line\n")
    (machines.logs / "syslog.2.gz").write_bytes(b"an old one")
    os.utime(machines.logs / "syslog.2.gz", (LONG_AGO, LONG_AGO))
    made = [command for command in commands(HOWTO) if "umask" in command or "openssl" in command]
    assert len(made) == 3
    for command in made:
        done = machines.run(command.replace("python3", sys.executable))
        assert done.returncode == 0, done.stderr
    machines.fingerprint = done.stdout.strip().partition("=")[2]
    return machines


@pytest.fixture
def gateway(machines: Machines) -> Iterator[subprocess.Popen[str]]:
    """The gateway of the page, as its service runs it; it may remove as far as the last chapter says."""
    (code,) = re.findall(r"^```python\n(.*?)^```", HOWTO, re.DOTALL | re.MULTILINE)
    rights = re.findall(r'`key=(\{KEY: "read, remove"\})`', HOWTO)
    (machines.etc / "gateway.py").write_text(machines.here(code).replace('{KEY: "read"}', rights[0]))
    command = machines.here(sections(units()["pynetwork-gateway.service"])["Service"]["ExecStart"])
    process = subprocess.Popen(
        shlex.split(command),
        cwd=machines.folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert f"port {machines.port}" in line, line
    yield process
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.skipif(not shutil.which("openssl"), reason="this machine has no openssl")
def test_a_night(machines: Machines, gateway: subprocess.Popen[str]) -> None:
    backup, verify = (
        sections(units()[f"pynetwork-{name}.service"])["Service"]["ExecStart"] for name in ("backup", "verify")
    )
    byhand = [command for command in commands(HOWTO) if f"{PROGRAM} backup " in command]
    assert byhand == [f"sudo -u pynetwork {backup}"]
    for command in (*byhand, backup, verify):
        done = machines.run(command)
        assert (done.returncode, done.stderr) == (0, "")
    assert (machines.backup / "apt" / "history.log").read_text() == "installed\n"
    assert not (machines.folder / "Downloads").exists()

    (machines.backup / "syslog").write_text("b line\n")
    looked = [command for command in commands(HOWTO) if command.startswith(f"sudo -u pynetwork {PROGRAM} verify")]
    results = [machines.run(command) for command in looked]
    assert [done.returncode for done in results] == [1, 0], results
    listed = machines.run(f"{PROGRAM} backups /srv/backup/pi").stdout
    assert listed.count("complete") == 3

    removing = sections(units()["pynetwork-backup.service.d/remove.conf"])["Service"]["ExecStart"]
    first, second = machines.run(removing), machines.run(removing)
    assert "would remove syslog.2.gz" in first.stdout
    assert "removed syslog.2.gz" in second.stdout
    assert sorted(path.name for path in machines.logs.iterdir()) == ["apt", "syslog"]
    assert (machines.backup / "syslog.2.gz").exists()


@pytest.mark.skipif(not shutil.which("openssl"), reason="this machine has no openssl")
def test_a_night_on_which_the_pi_is_off(machines: Machines) -> None:
    done = machines.run(sections(units()["pynetwork-backup.service"])["Service"]["ExecStart"])
    assert done.returncode == 5, done.stderr


# The page


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "app.log").write_text("a line\n")
    os.mkfifo(folder / "pipe")
    return folder


def test_the_first_program(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(share={"logs": logs}) as gateway:
        exec(blocks()[0].replace('"pi", 1857', f'"127.0.0.1", {gateway.port}'), {})
    assert capsys.readouterr().out.splitlines() == ["1 1 0 0 0 0 38", "pipe named pipe"]
    assert Path("backup/pi/app.log").read_text() == "a line\n"


def test_names_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks()[1], {})
    assert capsys.readouterr().out.strip() == blocks()[1].rpartition("# ")[2].strip()
    assert len(blocks()) == 2


def test_the_report_is_described_whole() -> None:
    table = PAGE.partition("## The report")[2].partition("## ")[0]
    described = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert described == {each.name for each in fields(BackupReport)} | {"complete"}


def test_what_runs_brought_can_be_asked(logs: Path) -> None:
    with serving(share={"logs": logs}) as gateway:
        Controller("127.0.0.1", gateway.port).backup("logs", "backup/pi")
    (query,) = re.findall(r'sqlite3 (\S+) "(.*?)"', PAGE)
    with closing(sqlite3.connect(query[0])) as catalogue:
        assert catalogue.execute(query[1].replace("run = 7", "run = 1")).fetchall() == [("app.log", "new", 7)]


def test_what_stands_in_a_destination(logs: Path) -> None:
    with serving(share={"logs": logs}) as gateway:
        Controller("127.0.0.1", gateway.port).backup("logs", "copy")
    shown = re.findall(r"^    (\S+?)/?  ", PAGE.partition("## The destination")[2], re.MULTILINE)
    assert {path.name for path in Path("copy/.pynetwork").iterdir()} <= set(shown)


def options_of(command: str) -> set[str]:
    """The options of a command, as its parser has them."""
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for module in COMMANDS:
        module.add_parser(subparsers)
    return set(subparsers.choices[command]._option_string_actions)


def test_the_options_that_the_pages_name_are_options() -> None:
    known = set().union(*(options_of(command) for command in ("backup", "verify", "backups")))
    named = set(re.findall(r"`(--[a-z-]+)", PAGE)) | set(re.findall(r" (--[a-z-]+)", " ".join(commands(PAGE))))
    assert named
    assert named <= known


class Told:
    """What the commands say with --json."""

    def __init__(self) -> None:
        self.fields: dict[tuple[str, str], set[str]] = {}

    def run(self, command: str, *arguments: object) -> None:
        line = [sys.executable, "-m", "pynetwork", command, *map(str, arguments), "--json"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        for each in map(orjson.loads, done.stdout.splitlines()):
            self.fields[command, each["message_type"]] = set(each) - {"message_type"}


def described() -> dict[str, set[str]]:
    """The table of messages: the fields of each, from the row where it stands first."""
    table = PAGE.rpartition("| command | `message_type`")[2]
    found: dict[str, set[str]] = {}
    for types, told in re.findall(r"^\|[^|]*\|([^|]*)\|([^|]*)\|$", table, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", types):
            found.setdefault(name, set(re.findall(r"`(\w+)`", told)))
    return found


def test_every_message_is_described(logs: Path) -> None:
    told = Told()
    (logs / "a%41").write_text("the name of an escape\n")
    for name in ("a%41", "app.log"):
        os.utime(logs / name, (LONG_AGO, LONG_AGO))
    with Gateway(0, share={"logs": logs}, rights="read, remove") as gateway:
        source = f"127.0.0.1:{gateway.port}:logs"
        told.run("backup", source, "copy", "--delete-after-verify", "--older-than", "1d")
        Path("copy/app.log").write_text("b line\n")
        os.utime("copy/app.log", (LONG_AGO, LONG_AGO))
        told.run("verify", "copy")
        told.run("backup", source, "copy", "--delete-after-verify", "--older-than", "1d")
        told.run("backups", "copy")
    report = {each.name for each in fields(BackupReport)}
    assert told.fields.pop(("backup", "summary")) == report
    assert told.fields.pop(("backups", "run")) >= {"id", "began", "ended", "gateway", "share", "outcome"} | (
        report - {"run"}
    )
    known = described()
    assert {name for _, name in told.fields} <= known.keys()
    for (_, name), fields_ in told.fields.items():
        assert fields_ == known[name], name
    assert {"would_remove", "removed", "kept", "pruned", "bad", "verified", "escaped", "skipped"} <= {
        name for _, name in told.fields
    }


def test_every_module_has_its_place_in_the_architecture() -> None:
    chapter = (
        (DOCS / "architecture.md").read_text(encoding="utf-8").partition("  backup/ ")[2].partition("\n  names2x")[0]
    )
    modules = {path.stem for path in (DOCS.parent / "pynetwork" / "backup").glob("[a-z]*.py")}
    assert modules == set(re.findall(r"\w+", " ".join(re.findall(r"^ *([a-z, ]+):", chapter, re.MULTILINE))))


# All of them


@pytest.mark.parametrize(
    "page", ["backup.md", "howto-nightly-backup.md", "guide.md", "command-line.md", "architecture.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", text):
        path = (DOCS / target).resolve() if target else DOCS / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, anchor


def test_the_python_of_the_how_to_is_python() -> None:
    for block in re.findall(r"^```python\n(.*?)^```", HOWTO, re.DOTALL | re.MULTILINE):
        ast.parse(block)

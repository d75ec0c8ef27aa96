from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pynetwork.cli.commands import ROOT, Commands
from tests.pynetwork.cli.series.stores import NOON, ROOM, SECOND, pairs, served


def test_put_look_and_export(command: Commands, tmp_path: Path) -> None:
    file, store = tmp_path / "power.csv", tmp_path / "data"
    lines = [f"1,4,7,{1795262400 + at / 10:.1f},{at}" for at in range(100)]
    file.write_text("\n".join(["cid,mid,moid,cap,watt", *lines]))
    assert command("series", "put", "--store", store, file).code == 0
    last = command("series", "last", "--store", store, "--payload", "watt:f8").out
    assert last.splitlines()[1].split() == ["2026-11-21T12:00:09.900Z", "1/4/7", "99"]
    assert "1 series, 100 records" in command("series", "stats", "--store", store).out
    assert command("series", "export", "--store", store, tmp_path / "out.csv", "--payload", "watt:f8").code == 0
    again = tmp_path / "again"
    assert command("series", "put", "--store", again, tmp_path / "out.csv").code == 0
    words = ("--payload", "watt:f8", "--csv")
    assert command("series", "get", "--store", again, *words).out == (tmp_path / "out.csv").read_text()


def test_errors_keep_their_exit_codes(command: Commands, tmp_path: Path) -> None:
    assert command("series", "get", "--store", tmp_path / "none").code == 4
    assert command("series", "get", "127.0.0.1:1", "--timeout", "5").code == 5
    assert command("series", "get").code == 2
    told = command("series", "get", "--store", tmp_path / "none", "--json")
    assert '"code":4' in told.err


_MEASURED = """
import sys
from pynetwork.cli import main
from pynetwork.cli.series import exporting, getting, putting, summary

def most():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

before = most()
code = main(sys.argv[1:])
print(code, most() - before, file=sys.stderr)
"""


def kibibytes(*words: object) -> int:
    """How much memory an action takes beyond what its modules do."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "series", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    code, size = map(int, done.stderr.split())
    assert code == 0
    return size


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    payload = ("--payload", "x:f8,n:i4")
    # As Python objects these records would take a hundred megabytes.
    blocks = [pairs(65536, ROOM, NOON + at * 65536 * SECOND) for at in range(2)]
    file = tmp_path / "records.csv"
    with served(tmp_path / "data", *blocks) as address:
        sizes = {
            "csv": kibibytes("get", address, *payload, "--csv"),
            "plot": kibibytes("get", address, *payload, "--plot"),
            "newest": kibibytes("get", address, *payload, "--newest", "--limit", 10),
            "last": kibibytes("last", address, *payload),
            "stats": kibibytes("stats", address),
            "export": kibibytes("export", address, file, *payload),
            "put": kibibytes("put", "--store", tmp_path / "copy", file, *payload),
        }
    assert file.stat().st_size > 10_000_000
    assert max(sizes.values()) < 40 * 1024, sizes

"""Distributions and programs: which version is there, and how to get them."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys

import pytest

from tools.bench.needs import Apart, Package, Program, Sqlite


def program(folder, text):
    path = folder / "tool"
    path.write_text(f"#!{sys.executable}\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_a_package():
    assert Package("numpy").version()
    assert Package("no-such-package-at-all").version() == ""
    assert Package("no-such-package-at-all").hint == "pip install no-such-package-at-all"


def test_a_program_says_its_version(place):
    program(place, "import sys; print('tool', sys.argv[1], 'version v1.20.3-x')")
    assert Program("tool", "apt install tool").version() == "1.20.3"
    assert Program("tool", "apt install tool").path() == str(place / "tool")


def test_a_program_may_say_it_on_standard_error_and_fail(place):
    program(place, "import sys; sys.exit('OpenTool 7')")
    assert Program("tool", "", "-h", r"OpenTool (\d+)").version() == "7"


def test_another_program_of_the_name_does_not_count(place):
    program(place, "print('GNU tool, without a number')")
    assert Program("tool", "").version() == ""


def test_no_program():
    assert Program("no-such-program-at-all", "").path() is None
    assert Program("no-such-program-at-all", "").version() == ""


def test_a_program_that_cannot_be_started(place):
    (place / "tool").write_text("#!/no/such/interpreter\n", encoding="utf-8")
    (place / "tool").chmod(0o755)
    assert Program("tool", "").version() == ""


def test_a_distribution_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    apart = Apart("pynetwork", "0.1")
    assert apart.version() == ""
    assert apart.hint == "pip install --no-deps --target peers/pynetwork-0.1 pynetwork==0.1"
    metadata = apart.folder / "pynetwork-0.1.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: pynetwork\nVersion: 0.1\n", encoding="utf-8")
    assert apart.version() == "0.1"
    assert apart.name == "pynetwork 0.1"


def test_the_library_that_comes_with_python():
    assert Sqlite().version() == sqlite3.sqlite_version
    assert Sqlite().hint

"""Every module can be the first one imported: no circle, no reliance on what something else has imported.

And the package imports little: what not everybody needs comes when it is first asked for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pynetwork

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("handshakes", "pynetwork")


def module_names() -> list[str]:
    paths = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    names = (".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return sorted(name for name in names if not name.endswith(".__main__"))


@pytest.mark.parametrize("name", module_names())
def test_imports_alone(name: str) -> None:
    command = [sys.executable, "-W", "error", "-c", f"import {name}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def brought_by(program: str) -> set[str]:
    """The modules that are there when ``program`` has run in an interpreter of its own."""
    command = [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_the_package_needs_little() -> None:
    brought = brought_by("import pynetwork") - brought_by("import numpy, orjson")
    assert {name.partition(".")[0] for name in brought} - sys.stdlib_module_names == {"handshakes", "pynetwork"}
    assert not brought & {"asyncio", "logging", "ssl"}


def test_who_has_no_tls_needs_no_ssl() -> None:
    without = "import pynetwork\nwith pynetwork.Gateway(0) as gateway:\n    {}"
    dial = "pynetwork.Controller('127.0.0.1', gateway.port).get_client().close()"
    assert "ssl" not in brought_by(without.format(dial))
    assert "ssl" in brought_by(without.format("pynetwork.TLS"))


def test_names_that_come_later_are_listed() -> None:
    assert set(pynetwork.__all__) <= set(dir(pynetwork))
    assert {"Gateway", "backend2", "__name__"} <= set(dir(pynetwork))

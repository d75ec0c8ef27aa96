"""Every module can be the first one imported: no circle, no reliance on what something else has imported.

And the package imports little: what not everybody needs comes when it is first asked for.
"""

from __future__ import annotations

import ast
import os
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


# Imports each module in a process of its own, which is forked when the package that the module is in has been imported,
# as that comes first in any case, and nothing else has. Tells of each how its process ended and what that printed.
PROGRAM = """
import os, sys

def import_all(names, package):
    for name in names:
        if name.rpartition(".")[0] != package:
            continue
        ours, its = os.pipe()
        process = os.fork()
        if not process:
            os.close(ours)
            os.dup2(its, 1)
            os.dup2(its, 2)
            os.close(its)
            __import__(name)
            import_all(names, name)
            sys.exit()
        os.close(its)
        with open(ours, encoding="utf-8") as file:
            printed = file.read()
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        os.write(report, f"{(name, code, printed)!r}\\n".encode())

report = os.dup(1)
import_all(sys.argv[1:], "")
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, tuple[int, str]]:
    """Of each module the exit code of its process, and what that printed."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *module_names()]
    # A process with threads, of which numpy has some, had better not fork.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=100, check=True)
    assert not done.stderr
    told = map(ast.literal_eval, done.stdout.splitlines())
    return {name: (code, printed) for name, code, printed in told}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", module_names())
def test_imports_alone(name: str, imported: dict[str, tuple[int, str]]) -> None:
    code, printed = imported.get(name, (1, "its package can't be imported"))
    assert code == 0, printed
    assert printed == ""


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

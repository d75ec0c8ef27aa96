"""Every module can be the first one imported: no circle, no reliance on what something else has imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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

"""What is printed below the tables."""

from __future__ import annotations

from tools.bench.machine import describe
from tools.bench.needs import Apart, Package


def test_versions_are_named_once():
    found = describe([Package("numpy"), Package("numpy"), Package("no-such-package-at-all"), Apart("none", "1.0")])
    assert found["peers"] == f"numpy {Package('numpy').version()}"
    assert "psutil" in found["packages"]
    assert describe()["peers"] == "none"

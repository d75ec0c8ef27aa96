"""tests/ mirrors the tree: each module has its test file, each test file in a mirrored folder has its module.

pynetwork/cli/ls.py is tested by tests/pynetwork/cli/test_ls.py, and what does not fit there by files named
test_ls_SOMETHING.py beside it; what a package's own __init__.py holds is tested by test_PACKAGE.py beside that
of its siblings. Modules whose name starts with an underscore hold no behaviour of their own.
What belongs to no single module is at the top of tests/ or in tests/system/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TESTED = ("handshakes", "pynetwork")
MIRRORED = (*TESTED, "tools")


def modules(root: Path, package: str) -> Iterator[Path]:
    """Yield the paths, relative to root, of the modules of a package that should have a test file."""
    for path in sorted((root / package).rglob("*.py")):
        if not path.name.startswith("_"):
            yield path.relative_to(root)


def has_module(root: Path, test: Path) -> bool:
    """True when a module or package stands where this test file (relative to root/tests) says."""
    words = test.stem.removeprefix("test_").split("_")
    names = ("_".join(words[:count]) for count in range(len(words), 0, -1))
    places = [root / test.parent / name for name in names]
    return any(place.with_suffix(".py").exists() or (place / "__init__.py").exists() for place in places)


def find(root: Path) -> list[str]:
    """Return the modules without a test file and the test files without a module."""
    findings = []
    for package in TESTED:
        for module in modules(root, package):
            test = Path("tests") / module.parent / f"test_{module.name}"
            if not (root / test).exists():
                findings.append(f"{module}: has no {test}")
    for package in MIRRORED:
        for path in sorted((root / "tests" / package).rglob("test_*.py")):
            if not has_module(root, path.relative_to(root / "tests")):
                findings.append(f"{path.relative_to(root)}: tests no module of its name")
    return findings

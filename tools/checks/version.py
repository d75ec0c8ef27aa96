"""The version that is built is the one that the changelog describes."""

from __future__ import annotations

import re
from pathlib import Path

VERSION = re.compile(r'^__version__ = "([^"]+)"$', flags=re.MULTILINE)
HEADING = re.compile(r"^## \[([^\]]+)\]", flags=re.MULTILINE)


def find(root: Path) -> list[str]:
    """Compare pynetwork/_version.py with the newest heading of CHANGELOG.md; return what is wrong."""
    written = VERSION.search((root / "pynetwork" / "_version.py").read_text(encoding="utf-8"))
    described = HEADING.search((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if written is None:
        return ['pynetwork/_version.py: no line like __version__ = "1.2.3"']
    if described is None:
        return ["CHANGELOG.md: no heading like ## [1.2.3] - date"]
    if written[1] != described[1]:
        return [f"CHANGELOG.md: newest version is {described[1]}, pynetwork/_version.py says {written[1]}"]
    return []

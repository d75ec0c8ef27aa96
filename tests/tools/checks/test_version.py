from __future__ import annotations

from pathlib import Path

import pytest

from tools.checks import version


@pytest.mark.parametrize(
    ("written", "changelog", "finding"),
    [
        ('__version__ = "3.0.0"\n', "# Log\n\n## [3.0.0] - today\n\n## [2.0.0]\n", None),
        ('__version__ = "3.0.1"\n', "## [3.0.0] - today\n", "newest version is 3.0.0"),
        ("", "## [3.0.0]\n", "no line like"),
        ('__version__ = "3.0.0"\n', "# Log\n", "no heading like"),
    ],
)
def test_find(tmp_path: Path, written: str, changelog: str, finding: str | None) -> None:
    (tmp_path / "pynetwork").mkdir()
    (tmp_path / "pynetwork" / "_version.py").write_text(written)
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    found = version.find(tmp_path)
    assert found == [] if finding is None else finding in found[0]

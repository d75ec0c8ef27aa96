"""A page shows the whole code of its tutorial, leads to what exists, and gives options that there are."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.tutorials.programs import PAGES, ROOT, TUTORIALS

FOLDERS = {
    "log-backup.md": "log_backup",
    "robot.md": "robot",
    "camera.md": "camera",
    "many-gateways.md": "many_gateways",
    "series.md": "series",
}
PIECE = re.compile(r"^## [^\n]*`(?P<file>\w+\.py)`$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(page: str) -> dict[str, list[str]]:
    """The code below each heading that names a file, as lines; blank ones are left out."""
    code: dict[str, list[str]] = defaultdict(list)
    file = "code before the first heading with a file"
    for found in PIECE.finditer((PAGES / page).read_text(encoding="utf-8")):
        file = found["file"] or file
        code[file] += [line for line in (found["code"] or "").splitlines() if line]
    return dict(code)


def test_every_tutorial_has_a_page() -> None:
    assert sorted(FOLDERS) == sorted(path.name for path in PAGES.glob("*.md") if path.name != "README.md")
    assert sorted(FOLDERS.values()) == sorted(path.parent.name for path in TUTORIALS.glob("*/gateway.py"))


@pytest.mark.parametrize("page", FOLDERS)
def test_the_code_of_a_page_is_the_code_that_runs(page: str) -> None:
    files = (TUTORIALS / FOLDERS[page]).glob("*.py")
    assert shown(page) == {
        path.name: [line for line in path.read_text(encoding="utf-8").splitlines() if line] for path in files
    }


@pytest.mark.parametrize("page", FOLDERS)
def test_the_commands_of_a_page_can_be_given(page: str) -> None:
    text = (PAGES / page).read_text(encoding="utf-8")
    commands = re.findall(r"^\$ python (\w+\.py)(.*)$", text, re.MULTILINE)
    assert {name for name, _ in commands} >= {"gateway.py"}
    for name, arguments in commands:
        code = (TUTORIALS / FOLDERS[page] / name).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z]+", arguments):
            assert f'"{option}"' in code, f"{name} has no option {option}"


@pytest.mark.parametrize("page", ["README.md", *FOLDERS])
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(
        r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", (PAGES / page).read_text(encoding="utf-8")
    ):
        path = (PAGES / target).resolve() if target else PAGES / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("entrance", ["README.md", "docs/guide.md", "docs/tutorials/README.md"])
def test_the_tutorials_can_be_found(entrance: str) -> None:
    text = (ROOT / entrance).read_text(encoding="utf-8")
    if entrance == "docs/tutorials/README.md":
        assert all(f"]({page})" in text for page in FOLDERS)
    else:
        assert "tutorials/README.md)" in text

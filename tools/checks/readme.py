"""The README shows a gateway and a controller at once, its Python is Python, and it names the commands."""

from __future__ import annotations

import re
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from collections.abc import Iterator
from pathlib import Path

FIRST_LINES = 30
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
SHOWN_FIRST = ("Gateway(", "Controller(")
COMMANDS = ("make demo", "make test")


def python_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number of the first line of code, code) of every Python block."""
    for block in BLOCK.finditer(text):
        yield text.count("\n", 0, block.start(1)) + 1, block[1]


def find(root: Path) -> list[str]:
    """Check README.md; return what is wrong. That the examples run is shown by the tests."""
    path = root / "README.md"
    if not path.exists():
        return ["README.md: missing"]
    text = path.read_text(encoding="utf-8")
    findings = []
    first = "".join(code for line, code in python_blocks(text) if line <= FIRST_LINES)
    for name in SHOWN_FIRST:
        if name not in first:
            findings.append(f"README.md: no Python block within the first {FIRST_LINES} lines uses {name})")
    for line, code in python_blocks(text):
        try:
            compile(code, "README.md", "exec", flags=PyCF_ONLY_AST | PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            findings.append(f"README.md:{line + (error.lineno or 1) - 1}: {error.msg}")
    findings.extend(f"README.md: does not name `{command}`" for command in COMMANDS if command not in text)
    return findings

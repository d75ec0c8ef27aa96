from __future__ import annotations

from pathlib import Path

from tools.checks import readme

GOOD = """# name
```python
gateway = Gateway(1857)
```
```python
controller = Controller("127.0.0.1")
```
`make demo`, `make test`
"""


def found(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "README.md").write_text(text)
    return readme.find(tmp_path)


def test_nothing_wrong(tmp_path: Path) -> None:
    assert found(tmp_path, GOOD) == []


def test_missing(tmp_path: Path) -> None:
    assert readme.find(tmp_path) == ["README.md: missing"]


def test_examples_too_late(tmp_path: Path) -> None:
    assert len(found(tmp_path, "\n" * readme.FIRST_LINES + GOOD)) == 2


def test_code_that_is_none_is_named_by_its_line(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, GOOD + "```python\nawait client.call()\nfor\n```\n")
    assert finding.startswith("README.md:11: ")


def test_commands_are_named(tmp_path: Path) -> None:
    assert found(tmp_path, GOOD.replace("make test", "")) == ["README.md: does not name `make test`"]

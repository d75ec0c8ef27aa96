from __future__ import annotations

from pathlib import Path

from tools.checks import mirror


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_mirrored_tree(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "handshakes/__init__.py",
        "handshakes/frames.py",
        "tests/handshakes/test_frames.py",
        "tests/handshakes/test_frames_fuzzed.py",
        "pynetwork/files/__init__.py",
        "tests/pynetwork/test_files.py",
        "tests/test_anything.py",
        "tests/system/test_anything.py",
        "tools/checks/readme.py",
    )
    assert mirror.find(root) == []


def test_what_is_missing_is_listed(tmp_path: Path) -> None:
    root = tree(tmp_path, "pynetwork/cli/ls.py", "tests/pynetwork/test_ls.py", "tests/tools/test_soak.py")
    assert mirror.find(root) == [
        f"{Path('pynetwork/cli/ls.py')}: has no {Path('tests/pynetwork/cli/test_ls.py')}",
        f"{Path('tests/pynetwork/test_ls.py')}: tests no module of its name",
        f"{Path('tests/tools/test_soak.py')}: tests no module of its name",
    ]

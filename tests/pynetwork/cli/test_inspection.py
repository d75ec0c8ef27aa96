from __future__ import annotations

import os
from pathlib import Path

import pytest

from pynetwork.cli.inspection import Verdict, readable_files, verify


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("source", "copy"):
        (tmp_path / name / "sub").mkdir(parents=True)
        for file in ("a", "sub/b"):
            (tmp_path / name / file).write_bytes(b"x" * 2_500_000)
    return tmp_path / "source", tmp_path / "copy"


def judged(source: Path, copy: Path, *, left_out: tuple[str, ...] = (), between=lambda: None) -> Verdict:  # type: ignore[no-untyped-def]
    wanted = list(readable_files(source))
    between()
    return verify(source, copy, wanted, left_out)


def test_the_same(folders: tuple[Path, Path]) -> None:
    verdict = judged(*folders)
    assert (sorted(verdict.same), verdict.bytes, verdict.good) == (["a", "sub/b"], 5_000_000, True)


@pytest.mark.parametrize("more", [b"y", b"y" * 3_000_000])
def test_grown(folders: tuple[Path, Path], more: bytes) -> None:
    source, copy = folders
    with open(source / "a", "ab") as file:
        file.write(more)
    verdict = judged(source, copy)
    assert (verdict.grown, verdict.good) == (["a"], True)


def test_an_empty_copy_of_a_file_that_grew(folders: tuple[Path, Path]) -> None:
    source, copy = folders
    (copy / "a").write_bytes(b"")
    assert judged(source, copy).grown == ["a"]


def test_wrong(folders: tuple[Path, Path]) -> None:
    source, copy = folders
    with open(copy / "a", "r+b") as file:
        file.seek(2_000_000)
        file.write(b"y")
    verdict = judged(source, copy)
    assert (verdict.wrong, verdict.same, verdict.good) == (["a"], ["sub/b"], False)


def test_too_long(folders: tuple[Path, Path]) -> None:
    source, copy = folders
    with open(copy / "a", "ab") as file:
        file.write(b"x")
    assert judged(source, copy).wrong == ["a"]


def test_changed_and_gone(folders: tuple[Path, Path]) -> None:
    source, copy = folders

    def between() -> None:
        (source / "a").write_bytes(b"other")
        (source / "sub/b").unlink()

    verdict = judged(source, copy, between=between)
    assert (sorted(verdict.changed), verdict.good) == (["a", "sub/b"], True)


def test_missing_and_left_out(folders: tuple[Path, Path]) -> None:
    source, copy = folders
    (copy / "a").unlink()
    (copy / "sub/b").unlink()
    verdict = judged(source, copy, left_out=("sub/b",))
    assert (verdict.missing, verdict.good) == (["a"], False)


def test_only_readable_regular_files_count(folders: tuple[Path, Path]) -> None:
    source, _ = folders
    (source / "link").symlink_to("a")
    if hasattr(os, "mkfifo"):
        os.mkfifo(source / "pipe")
    assert sorted(path for path, _ in readable_files(source)) == ["a", "sub/b"]

"""Folders and files on the way of a transfer are swapped for symbolic links while it runs: none is followed.

Both directions, on both sides, for small files and for large ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handshakes.errors import BadRequest
from pynetwork.files import download
from tests.pynetwork.files.transferring import CHUNK, Site, site, tree, write
from tests.serving import Background

pytestmark = pytest.mark.system


@contextlib.contextmanager
def swapping(folder: Path, outside: Path) -> Iterator[Callable[[], int]]:
    """Swap the directory ``folder`` for a link to ``outside`` and back, as fast as can be; answers how often."""
    stop = threading.Event()
    count = [0]
    aside = folder.with_name("aside")

    def swap() -> None:
        while not stop.is_set():
            # A transfer may make the folder in the moment when nothing has its name, and fill it.
            with contextlib.suppress(OSError):
                folder.rename(aside)
            with contextlib.suppress(FileExistsError):
                folder.symlink_to(outside)
                count[0] += 1
                folder.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                aside.rename(folder)

    swapper = Background(swap)
    try:
        yield lambda: count[0]
    finally:
        stop.set()
        swapper.result()


def races(folder: Path, outside: Path, transfer: Callable[[], object], least: int = 30) -> None:
    """Run ``transfer`` again and again while ``folder`` is swapped, until it was swapped often."""
    with swapping(folder, outside) as count:
        rounds = 0
        while rounds < least or count() < 200:
            transfer()
            rounds += 1


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where nothing may be read or written: the names that are transferred, with other contents."""
    folder = tmp_path_factory.mktemp("outside")
    for name in NAMES:
        write(folder / name, b"outside" * (CHUNK if name == "large" else 1))
    write(folder / "deep/small", b"outside")
    return folder


NAMES = ["small", "large", "deep/other"]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        for name in NAMES:
            write(opened.share / "in" / name, b"inside" * (CHUNK if name == "large" else 1))
        yield opened


def test_a_download_reads_through_no_link_that_is_swapped_in(plain: Site, outside: Path) -> None:
    arrived = 0

    def transfer() -> None:
        nonlocal arrived
        arrived += plain.download().files
        arrived += plain.download(files=[f"in/{name}" for name in NAMES]).files
        for contents, _, _ in tree(plain.target).values():
            assert b"outside" not in contents

    races(plain.share / "in", outside, transfer)
    assert arrived > 0
    assert not any("inside" in path.name for path in outside.rglob("*"))


def test_a_download_writes_through_no_link_that_is_swapped_in(plain: Site, outside: Path) -> None:
    before = tree(outside)
    (plain.target / "in/deep").mkdir(parents=True)
    races(plain.target / "in", outside, lambda: plain.download(pattern="in/.*"))
    assert tree(outside) == before


def test_an_upload_reads_through_no_link_that_is_swapped_in(plain: Site, outside: Path) -> None:
    def transfer() -> None:
        plain.upload(plain.share)
        for contents, _, _ in tree(plain.uploads).values():
            assert b"outside" not in contents

    races(plain.share / "in", outside, transfer)


def test_an_upload_writes_through_no_link_that_is_swapped_in(plain: Site, outside: Path) -> None:
    before = tree(outside)
    (plain.uploads / "share/in/deep").mkdir(parents=True)
    races(plain.uploads / "share/in", outside, lambda: plain.upload(plain.share))
    assert tree(outside) == before
    # The folder that an upload goes to is such a way, too.
    write(plain.share.parent / "one", b"inside")

    def into() -> None:
        with contextlib.suppress(BadRequest):
            plain.upload(plain.share.parent / "one", dirname="share/in/deep")

    races(plain.uploads / "share/in", outside, into)
    assert tree(outside) == before


def test_a_file_that_is_swapped_for_a_link_is_not_read_through_it(plain: Site, outside: Path) -> None:
    """One name, now a file and now a link to another file."""
    path, secret = plain.share / "in/small", outside / "small"
    stop = threading.Event()

    def swap() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            new = path.with_name("new")
            new.unlink(missing_ok=True)
            if number % 2:
                new.symlink_to(secret)
            else:
                new.write_bytes(b"inside")
            os.replace(new, path)

    swapper = Background(swap)
    try:
        for _ in range(60):
            download(plain.lanes, "s", pattern="in/small", to=plain.target, progress=False)
            plain.upload(plain.share)
            for contents, _, _ in [*tree(plain.target).values(), *tree(plain.uploads).values()]:
                assert b"outside" not in contents
    finally:
        stop.set()
        swapper.result()

"""What tests of downloads and uploads share: trees of files, a gateway with lanes, and ways to trouble them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetwork.controller import Controller
from pynetwork.files import TransferReport, download, upload
from pynetwork.gateway import Gateway
from pynetwork.lanes import Lanes
from tests.serving import controller_of, serving

CHUNK = 4096
STAMP = 1_500_000_000_000_000_001

Tree = dict[str, tuple[bytes, int, int]]


def write(path: Path, data: bytes, mode: int = 0o644, mtime_ns: int = STAMP) -> Path:
    """A file with these contents, mode and time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def tree(root: Path) -> Tree:
    """Contents, mode and time of every regular file below ``root``, partial files included."""
    found: Tree = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                key = str(path.relative_to(root))
                found[key] = (path.read_bytes(), status.st_mode & 0o7777, status.st_mtime_ns)
    return found


def plant(root: Path) -> Tree:
    """A tree with files of all sorts and sizes, in every Unicode form."""
    for number, size in enumerate([0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 10 * CHUNK + 17]):
        write(root / f"sizes/{size}.bin", os.urandom(size), mtime_ns=STAMP + number)
    for number in range(40):
        write(root / f"many/{number % 3}/{number}.log", f"line {number}\n".encode() * number)
    write(root / "modes/private", b"x", 0o600)
    write(root / "modes/program", b"#!/bin/sh\n", 0o755)
    write(root / "modes/fixed", b"y" * 2 * CHUNK, 0o444)
    write(root / "names/café", b"composed")
    write(root / "names/cafe\N{COMBINING ACUTE ACCENT}", b"decomposed")
    write(root / "names/\N{GRINNING FACE}" / "deep/er/and deeper", b"spaces")
    write(root / os.fsdecode(b"names/\xff\xfe"), b"undecodable")
    write(root / "names" / ("n" * 255), b"long" * CHUNK)
    (root / "empty/folder").mkdir(parents=True)
    return tree(root)


@dataclass
class Site:
    """A gateway that shares ``share`` as "s" and stores uploads in ``uploads``, lanes to it, and a ``target``."""

    gateway: Gateway
    lanes: Lanes
    share: Path
    uploads: Path
    target: Path

    def download(self, **options: Any) -> TransferReport:
        """All of the share, in small chunks and without a bar, unless told otherwise."""
        settings = {"to": self.target, "progress": False, "chunk_size": CHUNK, **options}
        return download(self.lanes, "s", **settings)

    def upload(self, *paths: Path, **options: Any) -> TransferReport:
        """These files and folders, in small chunks and without a bar, unless told otherwise."""
        return upload(self.lanes, paths, **{"progress": False, "chunk_size": CHUNK, **options})


@contextlib.contextmanager
def site(root: Path, lanes: int = 2, **options: Any) -> Iterator[Site]:
    """A site with everything below ``root``."""
    share, uploads, target = (root / name for name in ("share", "uploads", "target"))
    share.mkdir()
    with serving(share={"s": share}, download_dir=uploads, max_poolsize=lanes + 4, **options) as gateway:
        controller: Controller = controller_of(gateway)
        opened = Lanes(controller.get_client, lanes)
        try:
            yield Site(gateway, opened, share, uploads, target)
        finally:
            opened.close()


def once(trouble: Callable[..., Any], function: Callable[..., Any], at: int = 1) -> Callable[..., Any]:
    """``function``, but for call number ``at``, which is ``trouble``'s: it gets the function, too."""
    calls = [0]

    def troubled(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            return trouble(function, *arguments, **keywords)
        return function(*arguments, **keywords)

    return troubled

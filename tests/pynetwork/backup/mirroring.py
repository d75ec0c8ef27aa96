"""What tests of backups share: a gateway with a share, a destination, and what is to be seen in both."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handshakes.manifest import CHUNK_SIZE
from handshakes.survey import Facts
from pynetwork.backup import BackupReport, VerifyReport, verify_destination
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.names import unescape
from pynetwork.backup.records import FileRecord, State
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from tests.pynetwork.files.transferring import STAMP, write
from tests.serving import PATIENCE, controller_of, serving
from tests.waiting import wait_until

__all__ = [
    "LARGE",
    "PATIENCE",
    "SECOND",
    "SHARE",
    "STAMP",
    "Scene",
    "append",
    "contents",
    "facts",
    "lines",
    "new",
    "numbered",
    "overwrite",
    "plant",
    "record",
    "scene",
    "seen",
    "settle_folders",
    "wait_for",
    "write",
]

SHARE = "logs"
SECOND = 1_000_000_000
LARGE = 3 * CHUNK_SIZE + 12345
"""Bytes of a file that moves chunk by chunk, and does not end with one."""

Look = dict[str, tuple[object, ...]]


def lines(count: int) -> bytes:
    """So many lines of a log, like no others."""
    return b"".join(
        b"%06d something was logged: %s\n" % (number, os.urandom(8).hex().encode()) for number in range(count)
    )


def new(size: int) -> bytes:
    """Bytes that were nowhere before."""
    return os.urandom(size)


def overwrite(path: Path, data: bytes, at: int, mtime_ns: int | None = None) -> None:
    """Put ``data`` into a file; its time is a second later than it was unless told otherwise."""
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    later = before + SECOND if mtime_ns is None else mtime_ns
    os.utime(path, ns=(later, later))


def append(path: Path, data: bytes) -> None:
    """Let a log grow; its time is a second later than it was."""
    overwrite(path, data, path.stat().st_size)


def seen(root: Path, *, times: bool = True) -> Look:
    """What is below ``root``: contents, mode and time of files, targets of links, folders; not what a backup keeps for
    itself, and no times with ``times=False``.
    """
    found: Look = {}
    top = os.fsencode(root)
    pending = [top]
    while pending:
        folder = pending.pop()
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if folder == top and name == b".pynetwork" and is_destination(root):
                continue
            status = os.lstat(path)
            rest = (stat.S_IMODE(status.st_mode), status.st_mtime_ns if times else 0)
            look: tuple[object, ...] = ()
            if stat.S_ISLNK(status.st_mode):
                look = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                look = ("folder", *rest)
                pending.append(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    look = (file.read(), *rest)
            found[os.fsdecode(os.path.relpath(path, top))] = look
    return found


def is_destination(root: Path) -> bool:
    """Whether something was backed up into this."""
    try:
        return (root / ".pynetwork/catalogue.sqlite").read_bytes().startswith(b"SQLite format 3")
    except OSError:
        return False


def contents(root: Path) -> dict[str, bytes]:
    """The files below ``root``; those of a destination under the names that they have at the source."""
    name_of = unescape if is_destination(root) else str
    return {
        "/".join(map(name_of, path.split("/"))): look[0]
        for path, look in seen(root).items()
        if look and isinstance(look[0], bytes)
    }


def facts(size: int = 0, mtime_ns: int = STAMP, *, mode: int = 0o644, inode: int = 1, owner: int = 0) -> Facts:
    """Facts of a file."""
    return Facts(mode, owner, owner, size, mtime_ns, inode)


def record(name: bytes, of: Facts, digest: bytes | None = b"d" * 16, **changes: Any) -> FileRecord:
    """The record of a file as it was surveyed."""
    kept = FileRecord(
        name, of.encode(), State.SETTLED, None, of.size, of.mtime_ns, 1, of.inode, digest, None, 1, None
    )  # fmt: skip
    return kept._replace(**changes)


def numbered(report: BackupReport) -> dict[str, int]:
    """The figures of a report that are not 0 and do not depend on time or luck."""
    names = ("files", "unchanged", "new", "grown", "changed", "moved", "gone", "deleted")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


@dataclass
class Scene:
    """A gateway that shares ``share`` as `SHARE`, and a destination ``to``."""

    gateway: Gateway
    controller: Controller
    share: Path
    to: Path

    def backup(self, **options: Any) -> BackupReport:
        """Back all up, over one lane and without a bar, unless told otherwise."""
        return self.controller.backup(SHARE, self.to, **{"lanes": 1, "progress": False, "durable": False, **options})

    def put(self, path: str, data: bytes = b"", **options: Any) -> Path:
        """A file in the share."""
        return write(self.share / path, data, **options)

    def grow(self, path: str, data: bytes) -> None:
        """Let a file in the share grow."""
        append(self.share / path, data)

    def here(self, path: str) -> bytes:
        """What is backed up of a file."""
        return (self.to / path).read_bytes()

    def differences(self) -> dict[str, tuple[object, object]]:
        """What looks otherwise in the mirror than in the share, with both looks."""
        there, here = seen(self.share), seen(self.to)
        return {
            path: (there.get(path), here.get(path))
            for path in there.keys() | here.keys()
            if there.get(path) != here.get(path)
        }

    def is_same(self) -> bool:
        """Whether the mirror looks like the share."""
        return not self.differences()

    def verify(self) -> VerifyReport:
        """Read it all again."""
        return verify_destination(self.to)

    @contextlib.contextmanager
    def catalogue(self) -> Iterator[Catalogue]:
        """The destination's catalogue."""
        with Catalogue(self.to / ".pynetwork/catalogue.sqlite") as opened:
            yield opened


@contextlib.contextmanager
def scene(root: Path, **options: Any) -> Iterator[Scene]:
    """A scene with everything below ``root``."""
    share, to = root / "share", root / "to"
    share.mkdir(exist_ok=True)
    with serving(share={SHARE: share}, download_dir=root / "incoming", **options) as gateway:
        yield Scene(gateway, controller_of(gateway), share, to)


def settle_folders(root: Path) -> None:
    """Give all folders below ``root``, and it, an old time."""
    for folder, _, _ in os.walk(root, topdown=False):
        os.utime(folder, ns=(STAMP, STAMP))


def plant(share: Path) -> None:
    """Files of all sizes, folders and links: eight of the former and of the last."""
    write(share / "empty", b"")
    write(share / "small.log", lines(100))
    write(share / "sub/deep/small.log", lines(50), mode=0o600)
    write(share / "sub/large.log", new(LARGE))
    write(share / "one chunk", new(CHUNK_SIZE))
    write(share / "a byte more", new(CHUNK_SIZE + 1), mode=0o755)
    (share / "no files/in it").mkdir(parents=True)
    (share / "no files").chmod(0o750)
    (share / "link").symlink_to("sub/large.log")
    (share / "sub/deep/up").symlink_to("../../no files/")
    settle_folders(share)


def wait_for(path: Path, data: bytes) -> None:
    """Wait until a file has these contents."""

    def has() -> bool:
        try:
            return path.read_bytes() == data
        except OSError:
            return False

    wait_until(has, PATIENCE, f"{path.name} as it should be")

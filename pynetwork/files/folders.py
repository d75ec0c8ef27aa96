"""One folder of this machine, reached so that nothing leads out of it.

Every file is opened in its directory, and every directory in the one above it (see `pynetwork.files.directories`), by
names that can't mean another stream or device.

A `Folder` and its directories belong to one thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from handshakes.errors import UnsafePath
from handshakes.manifest import Entry, Page, Skipped
from handshakes.paths import check_path, is_partial, split_native
from pynetwork.files.directories import CREATE, HAS_HANDLES, READ, Directory, open_directory

__all__ = [
    "NO_FILE",
    "Folder",
    "NotAFile",
    "Turn",
    "changed_at",
    "entry_of",
    "folds_case",
    "is_no_file",
    "reason_for",
    "walk",
]

_WINDOWS = os.name == "nt"
_FARTHEST = (1 << 63) - 1
_MOST_ASKED = 64

_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class NotAFile(OSError):
    """What stands there is no regular file; the text says what it is."""

    def __init__(self, mode: int) -> None:
        self.kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        super().__init__(errno.EINVAL, self.kind)


class Turn:
    """Lets one thread at a time handle many small files.

    Each of them is a handful of short system calls. Threads that all make such calls fight for the
    interpreter's lock at every single one; one after the other they are faster. Where the calls are not short
    (a cold disk) several threads do help: so a turn is waited for, but only for ``patience`` seconds.
    """

    def __init__(self, patience: float = 0.05) -> None:
        self._lock = threading.Lock()
        self._patience = patience

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """The turn, or the end of the patience."""
        mine = self._lock.acquire(timeout=self._patience)
        try:
            yield
        finally:
            if mine:
                self._lock.release()


_REASONS = {
    errno.ELOOP: "symbolic link",
    errno.EMLINK: "symbolic link",
    errno.ENOENT: "it is not there",
    errno.ESTALE: "it is not there",
    errno.ENOTDIR: "a folder on its way is a symbolic link or no folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "folder",
    errno.ENXIO: "socket",
    errno.ESPIPE: "no regular file",
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it is too large for that file system",
    errno.ENAMETOOLONG: "its name is too long for that file system",
}

NO_FILE = frozenset([*_KINDS.values(), _REASONS[errno.ENOENT]])
"""Reasons for skipping what is no file to move, in a listing, as against a file that can't be moved."""


def reason_for(error: Exception) -> str:
    """Why a file is skipped, for people; without paths of this machine, as it may travel."""
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
    return str(error)


def is_no_file(reason: str) -> bool:
    """Whether this is why something was skipped that is no file at all, or a link that leads away: that is no loss."""
    return reason in _NO_FILE_AT_ALL or reason.startswith(_KINDS[stat.S_IFLNK])


_NO_FILE_AT_ALL = frozenset({kind for mode, kind in _KINDS.items() if mode != stat.S_IFDIR} | {"no regular file"})


def changed_at(status: os.stat_result) -> int:
    """When a file was changed, in ns since 1970; what is further away than 64 bits reach, as far as they do."""
    when = status.st_mtime_ns
    return when if -_FARTHEST <= when <= _FARTHEST else _FARTHEST if when > 0 else -_FARTHEST


def entry_of(path: str, status: os.stat_result) -> Entry:
    """What is listed of the file at ``path``."""
    identity = (status.st_ino ^ status.st_ino >> 32 ^ status.st_dev << 16) & 0xFFFFFFFF
    return Entry(path, status.st_size, changed_at(status), status.st_mode & 0o777, identity)


class Folder:
    """The folder at ``path`` (made, with ``create``) and everything below it, for one thread.

    ``path`` itself is its owner's choice: there, links are followed. Directories on the way to what is written are made
    with the permission bits in ``modes``, else ``mode``, as far as the umask lets them. At most ``kept`` directories
    are held open. Names that other systems can't have are refused unless ``portable`` is False; on Windows they always
    are. Raises `OSError` when it can't be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = False,
        kept: int = 32,
        handles: bool = HAS_HANDLES,
        windows: bool = _WINDOWS,
        portable: bool = True,
    ) -> None:
        where = os.path.realpath(path)
        self.path = Path(where)
        if create:
            Path(where).mkdir(parents=True, exist_ok=True)
        self.modes: Mapping[tuple[str, ...], int] = {}
        self.mode = 0o777
        self._windows = windows
        self._portable = portable or windows
        self._kept = max(2, kept)
        self._root = open_directory(where, handles=handles)
        self._open: OrderedDict[tuple[str, ...], Directory] = OrderedDict()
        self._last: tuple[tuple[str, ...], Directory] = ((), self._root)

    def split(self, path: str) -> tuple[str, ...]:
        """The components of ``path``. Raises `UnsafePath` as `check_path` or `split_native`, on Windows for more."""
        if not self._portable:
            return split_native(path)
        components = check_path(path)
        if self._windows:
            for component in components:
                if ":" in component or component[-1] in ". ":
                    raise UnsafePath(f"the path {path!r} is refused: {component!r} means another file on Windows")
        return components

    def directory(self, components: tuple[str, ...], *, create: bool = False) -> Directory:
        """The directory below this folder; good until the next call. Raises `OSError`."""
        if components == self._last[0]:
            return self._last[1]
        found = self._open.get(components)
        if found is None:
            found = self._walk_to(components, create)
        else:
            self._open.move_to_end(components)
        self._last = (components, found)
        return found

    def _walk_to(self, components: tuple[str, ...], create: bool) -> Directory:
        depth = len(components)
        while depth and components[:depth] not in self._open:
            depth -= 1
        directory = self._open[components[:depth]] if depth else self._root
        while depth < len(components):
            name = components[depth]
            try:
                below = directory.enter(name)
            except FileNotFoundError:
                if not create:
                    raise
                with contextlib.suppress(FileExistsError):
                    # What is made here has to be written to.
                    directory.make(name, self.modes.get(components[: depth + 1], self.mode) | 0o700)
                below = directory.enter(name)
            depth += 1
            directory = self._open[components[:depth]] = below
            self._trim(components[:depth])
        return directory

    def _trim(self, newest: tuple[str, ...]) -> None:
        while len(self._open) > self._kept:
            key, oldest = self._open.popitem(last=False)
            assert key != newest
            oldest.close()
            self._last = ((), self._root)

    def forget(self) -> None:
        """Close the directories that are held: one of them may have been removed."""
        for directory in self._open.values():
            directory.close()
        self._open.clear()
        self._last = ((), self._root)

    def open_file(self, path: str) -> int:
        """A descriptor to read the file at ``path`` with; what is no regular file shows in its ``fstat``.

        Raises `UnsafePath`, and `OSError` when it can't be opened or a part of its way is a symbolic link.
        """
        components = self.split(path)
        return self.directory(components[:-1]).open(components[-1], READ)

    def look_up(self, path: str) -> Entry:
        """The regular file at ``path``. Raises `UnsafePath` and `OSError`, `NotAFile` for what is something
        else.
        """
        components = self.split(path)
        if is_partial(components[-1]):
            raise UnsafePath("it is a partial file")
        found = self.directory(components[:-1]).status(components[-1])
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile(found.st_mode)
        return entry_of(path, found)

    def close(self) -> None:
        """Give all handles back."""
        self.forget()
        self._root.close()

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def folds_case(folder: Folder, path: str = "") -> bool:
    """Whether names in ``path`` below ``folder`` (made if need be) that differ in case only are one. Raises
    `OSError`.
    """
    directory = folder.directory(folder.split(path) if path else (), create=True)
    for entry in islice(directory.entries(), _MOST_ASKED):
        # A folder in which nothing is made keeps its time.
        answer = _answers_to_other_case(directory, entry.name)
        if answer is not None:
            return answer
    name = f".pynetwork-{os.getpid()}-{threading.get_ident()}.partial"
    os.close(directory.open(name, CREATE))
    try:
        directory.status(name.upper())
    except FileNotFoundError:
        return False
    else:
        return True
    finally:
        directory.remove(name)


def _answers_to_other_case(directory: Directory, name: str) -> bool | None:
    """Whether what is called ``name`` is also found with its letters in the other case; None when it can't tell."""
    other = name.swapcase()
    if other == name or not name.isascii():
        return None
    try:
        mine = directory.status(name)
        if mine.st_nlink != 1 and not stat.S_ISDIR(mine.st_mode):
            # The other may be another name of it.
            return None
        try:
            found = directory.status(other)
        except FileNotFoundError:
            return False if directory.status(name) == mine else None
    except OSError:
        return None
    # Not all systems have one number for a file that is found under two spellings.
    return True if (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino) else None


_BATCH = 512


def walk(folder: Folder, start: str = "") -> Iterator[Page]:
    """All files below ``folder``, or below its folder ``start``, in pages of bounded size, each from one
    directory.

    What can't be transferred is among the skipped: links, pipes, sockets and devices, what can't be read, and
    names that would mean something else on another system. Partial files are left out.
    """
    pending = [folder.split(start) if start else ()]
    while pending:
        components = pending.pop()
        try:
            directory = folder.directory(components).again()
        except OSError as error:
            yield Page([], [], [Skipped("/".join(components) or ".", reason_for(error))])
            continue
        try:
            yield from _list(directory, "".join(f"{name}/" for name in components), components, pending)
        finally:
            directory.close()


def _list(
    directory: Directory, prefix: str, components: tuple[str, ...], pending: list[tuple[str, ...]]
) -> Iterator[Page]:
    page = Page([], [], [])
    try:
        for found in directory.entries():
            try:
                _sort_in(found, prefix, page, components, pending)
            except (OSError, UnsafePath) as error:
                page.skipped.append(Skipped(prefix + found.name, _brief(error)))
            if len(page.files) + len(page.folders) + len(page.skipped) >= _BATCH:
                yield page
                page = Page([], [], [])
    except OSError as error:
        page.skipped.append(Skipped(prefix or ".", reason_for(error)))
    if any(page):
        yield page


def _sort_in(
    found: os.DirEntry[str], prefix: str, page: Page, components: tuple[str, ...], pending: list[tuple[str, ...]]
) -> None:
    name = found.name
    path = prefix + name
    check_path(path)
    if found.is_file(follow_symlinks=False):
        if is_partial(name):
            return
        status = found.stat(follow_symlinks=False)
        page.files.append(entry_of(path, status))
    elif found.is_dir(follow_symlinks=False):
        status = found.stat(follow_symlinks=False)
        page.folders.append(Entry(path, 0, changed_at(status), status.st_mode & 0o777))
        pending.append((*components, name))
    else:
        raise NotAFile(found.stat(follow_symlinks=False).st_mode)


def _brief(error: Exception) -> str:
    """The reason alone: the path stands beside it."""
    return reason_for(error).rpartition("is refused: ")[2]

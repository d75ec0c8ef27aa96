"""One folder of this machine, reached so that nothing leads out of it.

Where the system can do it, every file is opened relative to a handle of its directory, and every directory
relative to the one above it, without following symbolic links: a link that somebody puts in place of a
directory, at whatever moment, leads nowhere. Elsewhere (Windows) paths are resolved and compared before each
use, which leaves a moment between the look and the use; files are named so that no other stream or device can
be meant.

A `Folder` and its directories belong to one thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from handshakes.errors import UnsafePath
from handshakes.manifest import Entry, Page, Skipped
from handshakes.paths import check_path, is_partial, split_native

__all__ = [
    "NO_FILE",
    "Directory",
    "Folder",
    "NotAFile",
    "Turn",
    "entry_of",
    "folds_case",
    "read_into",
    "reason_for",
    "walk",
]

_MOST_LOOKED_AT = 4096
_UNNAMED = getattr(os, "O_TMPFILE", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW
_BINARY = getattr(os, "O_BINARY", 0)
READ = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | _BINARY
"""Opening to read: a symbolic link is refused, a fifo does not keep us waiting."""
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY
"""Opening a file that does not exist yet."""
REUSE = os.O_RDWR | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | _BINARY
"""Opening what an earlier transfer left."""

HAS_HANDLES = os.open in os.supports_dir_fd and os.scandir in os.supports_fd and bool(_NO_FOLLOW)
"""Whether this system opens files relative to a directory's handle."""
_WINDOWS = os.name == "nt"

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


def entry_of(path: str, status: os.stat_result) -> Entry:
    """What is listed of the file at ``path``."""
    identity = (status.st_ino ^ status.st_ino >> 32 ^ status.st_dev << 16) & 0xFFFFFFFF
    return Entry(path, status.st_size, status.st_mtime_ns, status.st_mode & 0o777, identity)


class Directory(ABC):
    """One open directory. Names are single components; what is a symbolic link is never followed."""

    @abstractmethod
    def enter(self, name: str) -> Directory:
        """The directory ``name`` in it."""

    @abstractmethod
    def make(self, name: str, mode: int = 0o777) -> None:
        """Make the directory ``name``."""

    @abstractmethod
    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A file descriptor of ``name``."""

    def open_unnamed(self, mode: int) -> int | None:  # noqa: ARG002 - most have none
        """A descriptor of a new file that has no name yet; None where there is no such thing."""
        return None

    def give_name(self, handle: int, name: str) -> None:
        """Let a file without a name have this one. Raises `FileExistsError` when something has it."""
        raise NotImplementedError

    @abstractmethod
    def status(self, name: str) -> os.stat_result:
        """What ``name`` is."""

    @abstractmethod
    def replace(self, name: str, final: str) -> None:
        """Give ``name`` the name ``final``, in place of what has it."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the file ``name``."""

    @abstractmethod
    def set_times(self, name: str, times: tuple[int, int]) -> None:
        """Set when the file ``name`` was read and changed, in ns."""

    @abstractmethod
    def link(self, name: str, to: Directory, final: str) -> None:
        """Give the file ``name`` a second name, ``final`` in ``to``. Raises `OSError` where that can't be."""

    @abstractmethod
    def read_link(self, name: str) -> str:
        """Where the symbolic link ``name`` leads."""

    @abstractmethod
    def make_link(self, name: str, target: str) -> None:
        """Make the symbolic link ``name``."""

    @abstractmethod
    def dress(self, mode: int | None, times: tuple[int, int]) -> None:
        """Give the directory itself these permission bits (None: as they are) and times, in ns."""

    @abstractmethod
    def own_status(self) -> os.stat_result:
        """What the directory itself is."""

    @abstractmethod
    def entries(self) -> Iterator[os.DirEntry[str]]:
        """What is in it, in the order of the file system."""

    @abstractmethod
    def flush(self) -> None:
        """Bring its names to the disk."""

    @abstractmethod
    def again(self) -> Directory:
        """The same directory, to be closed for itself."""

    def close(self) -> None:  # noqa: B027 - some hold nothing
        """Give the handle back."""


class HandleDirectory(Directory):
    """A directory by its handle."""

    __slots__ = ("_handle", "_takes_unnamed")

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._takes_unnamed: bool | None = None if _UNNAMED else False

    def enter(self, name: str) -> Directory:
        return HandleDirectory(os.open(name, _DIRECTORY, dir_fd=self._handle))

    def make(self, name: str, mode: int = 0o777) -> None:
        os.mkdir(name, mode, dir_fd=self._handle)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        return os.open(name, flags, mode, dir_fd=self._handle)

    def open_unnamed(self, mode: int) -> int | None:
        if self._takes_unnamed is None:
            # What earlier transfers left is better taken over: then it is gone. A large folder is not searched for it.
            names = [entry.name for entry in islice(self.entries(), _MOST_LOOKED_AT)]
            self._takes_unnamed = len(names) < _MOST_LOOKED_AT and not any(map(is_partial, names))
        if self._takes_unnamed:
            try:
                return os.open(".", os.O_RDWR | _UNNAMED, mode, dir_fd=self._handle)
            except OSError:
                # Most file systems of networks can't do that.
                self._takes_unnamed = False
        return None

    def give_name(self, handle: int, name: str) -> None:
        try:
            os.link(f"/proc/self/fd/{handle}", name, dst_dir_fd=self._handle, follow_symlinks=True)
        except OSError:
            # Files are being replaced here, or there is no /proc: the long way is to be taken from now on.
            self._takes_unnamed = False
            raise

    def status(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._handle, follow_symlinks=False)

    def replace(self, name: str, final: str) -> None:
        os.replace(name, final, src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._handle)

    def set_times(self, name: str, times: tuple[int, int]) -> None:
        os.utime(name, ns=times, dir_fd=self._handle, follow_symlinks=False)

    def link(self, name: str, to: Directory, final: str) -> None:
        assert isinstance(to, HandleDirectory)
        os.link(name, final, src_dir_fd=self._handle, dst_dir_fd=to._handle, follow_symlinks=False)

    def read_link(self, name: str) -> str:
        return os.readlink(name, dir_fd=self._handle)

    def make_link(self, name: str, target: str) -> None:
        os.symlink(target, name, dir_fd=self._handle)

    def dress(self, mode: int | None, times: tuple[int, int]) -> None:
        if mode is not None:
            os.fchmod(self._handle, mode | stat.S_IRWXU)
        os.utime(self._handle, ns=times)

    def own_status(self) -> os.stat_result:
        return os.fstat(self._handle)

    def entries(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self._handle) as found:
            yield from found

    def flush(self) -> None:
        os.fsync(self._handle)

    def again(self) -> Directory:
        return HandleDirectory(os.dup(self._handle))

    def close(self) -> None:
        os.close(self._handle)


class PlainDirectory(Directory):
    """A directory by its path, looked at before each use: for systems without handles of directories."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path
        self._verify()
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def _verify(self) -> None:
        if os.path.realpath(self._path) != self._path:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _within(self, name: str) -> str:
        self._verify()
        return os.path.join(self._path, name)

    def enter(self, name: str) -> Directory:
        self.status(name)
        return PlainDirectory(os.path.join(self._path, name))

    def make(self, name: str, mode: int = 0o777) -> None:
        os.mkdir(self._within(name), mode)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        path = self._within(name)
        if not flags & os.O_EXCL and os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return os.open(path, flags, mode)

    def status(self, name: str) -> os.stat_result:
        return os.lstat(self._within(name))

    def replace(self, name: str, final: str) -> None:
        os.replace(self._within(name), os.path.join(self._path, final))

    def remove(self, name: str) -> None:
        os.unlink(self._within(name))

    def set_times(self, name: str, times: tuple[int, int]) -> None:
        os.utime(self._within(name), ns=times)

    def link(self, name: str, to: Directory, final: str) -> None:
        assert isinstance(to, PlainDirectory)
        os.link(self._within(name), to._within(final))

    def read_link(self, name: str) -> str:
        return os.readlink(self._within(name))

    def make_link(self, name: str, target: str) -> None:
        os.symlink(target, self._within(name))

    def dress(self, mode: int | None, times: tuple[int, int]) -> None:  # noqa: ARG002 - they have no such bits
        self._verify()
        with contextlib.suppress(PermissionError):
            os.utime(self._path, ns=times)

    def own_status(self) -> os.stat_result:
        self._verify()
        return os.stat(self._path)

    def entries(self) -> Iterator[os.DirEntry[str]]:
        self._verify()
        with os.scandir(self._path) as found:
            yield from found

    def flush(self) -> None:
        """Nothing to do: where there are no handles, there is no way to flush a directory either."""

    def again(self) -> Directory:
        return self


class Folder:
    """The folder at ``path`` (made, with ``create``) and everything below it, for one thread.

    ``path`` itself is its owner's choice: there, links are followed. Directories on the way to what is written are made
    with the permission bits in ``modes``, as far as the umask lets them. At most ``kept`` directories are held
    open. Names that other systems can't have are refused unless ``portable`` is False; on Windows they always are.
    Raises `OSError` when it can't be opened.
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
        self._windows = windows
        self._portable = portable or windows
        self._kept = max(2, kept)
        if handles:
            self._root: Directory = HandleDirectory(os.open(where, _DIRECTORY & ~_NO_FOLLOW))
        else:
            self._root = PlainDirectory(where)
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
                    directory.make(name, self.modes.get(components[: depth + 1], 0o777) | 0o700)
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
        page.folders.append(Entry(path, 0, status.st_mtime_ns, status.st_mode & 0o777))
        pending.append((*components, name))
    else:
        raise NotAFile(found.stat(follow_symlinks=False).st_mode)


def _brief(error: Exception) -> str:
    """The reason alone: the path stands beside it."""
    return reason_for(error).rpartition("is refused: ")[2]


def read_into(handle: int, view: memoryview, offset: int) -> int:
    """Read until ``view`` is full or the file ends; answers how many bytes there were."""
    size = len(view)
    if not size:
        return 0
    got = _preadv(handle, (view,), offset)
    while 0 < got < size:
        more = _preadv(handle, (view[got:],), offset + got)
        if not more:
            break
        got += more
    return got


def _seek_and_read(handle: int, views: tuple[memoryview], offset: int) -> int:
    os.lseek(handle, offset, os.SEEK_SET)
    data = os.read(handle, len(views[0]))
    views[0][: len(data)] = data
    return len(data)


_preadv: Callable[[int, tuple[memoryview], int], int] = getattr(os, "preadv", _seek_and_read)

"""Open directories: what is done with the names in one of them, by its handle or by its path.

Where the system can do it, every file is opened relative to a handle of its directory, and every directory relative to
the one above it, without following symbolic links: a link that somebody puts in place of a directory, at whatever
moment, leads nowhere. Elsewhere (Windows) a directory's path is resolved and compared before each use, which leaves a
moment between the look and the use.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice

from handshakes.paths import is_partial

__all__ = ["CREATE", "HAS_HANDLES", "READ", "REUSE", "Directory", "open_directory"]

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
    def remove_empty(self, name: str) -> None:
        """Remove the directory ``name``, in which nothing is."""

    @abstractmethod
    def set_times(self, name: str, times: tuple[int, int]) -> None:
        """Set when the file ``name`` was read and changed, in ns."""

    @abstractmethod
    def set_owner(self, name: str, owner: int, group: int) -> None:
        """Give ``name`` to this user and group. Raises `OSError` where that is not permitted."""

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

    def remove_empty(self, name: str) -> None:
        os.rmdir(name, dir_fd=self._handle)

    def set_times(self, name: str, times: tuple[int, int]) -> None:
        os.utime(name, ns=times, dir_fd=self._handle, follow_symlinks=False)

    def set_owner(self, name: str, owner: int, group: int) -> None:
        os.chown(name, owner, group, dir_fd=self._handle, follow_symlinks=False)

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

    def remove_empty(self, name: str) -> None:
        os.rmdir(self._within(name))

    def set_times(self, name: str, times: tuple[int, int]) -> None:
        os.utime(self._within(name), ns=times)

    def set_owner(self, name: str, owner: int, group: int) -> None:  # noqa: ARG002 - there are no such numbers
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

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


def open_directory(path: str, *, handles: bool) -> Directory:
    """The directory at ``path``, of which no part is a link; by its handle or by that path. Raises `OSError`."""
    return HandleDirectory(os.open(path, _DIRECTORY & ~_NO_FOLLOW)) if handles else PlainDirectory(path)

"""Writing files so that nothing unfinished is ever seen under a final name.

Data goes to a partial file beside its place (``.NAME.partial``), locked for as long as somebody writes it,
and takes its name when it is complete and verified. What a killed transfer left behind is unlocked: the next
one with the same target takes it over, with the memory or disk blocks that it has. Permission bits and
modification time are set before the rename; set-user-id and set-group-id never are. A new small file has no name at all
until it is complete, where the system has such files. The one exception is a file that has grown: what was added may be
appended to it (`PartialFile.complete_by_appending`); whoever reads it meanwhile sees a beginning of the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time

from handshakes.errors import UnsafePath
from handshakes.manifest import Entry
from handshakes.messages import Bytes
from handshakes.paths import is_partial, partial_name
from pynetwork.files.descriptors import read_into, write_all
from pynetwork.files.directories import CREATE, REUSE, Directory
from pynetwork.files.folders import Folder

try:
    import fcntl
except ImportError:  # Windows: there, a file that is open can't be removed, which serves as the lock
    fcntl = None  # type: ignore[assignment]

__all__ = ["NO_LOCKS", "PartialFile", "TargetBusy", "TargetExists", "write_file"]

NO_LOCKS = frozenset([errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
"""What file systems without locks answer to who wants one."""
_CLAIMS = 16
_ZEROS = bytes(1 << 16)
_COPIED = 1 << 20


class TargetBusy(OSError):
    """Another transfer writes to the same target now."""

    def __init__(self) -> None:
        super().__init__(errno.EBUSY, "another transfer is writing to it")


class TargetExists(OSError):
    """The target exists and is not to be replaced."""

    def __init__(self) -> None:
        super().__init__(errno.EEXIST, "it exists already")


def write_file(folder: Folder, entry: Entry, data: Bytes, *, durable: bool = False, overwrite: bool = True) -> None:
    """Write a whole file: ``data`` under the path of ``entry``, with its mode and time.

    Raises `UnsafePath` and `OSError`; then nothing is left of it.
    """
    if _write_unnamed(folder, entry, data, durable=durable):
        return
    claim = _claim_target(folder, entry.path, entry.mode)
    try:
        if claim.used:
            os.ftruncate(claim.handle, 0)
        if data:
            write_all(claim.handle, data, 0)
        claim.complete(entry, durable=durable, overwrite=overwrite)
    except BaseException:
        claim.abandon()
        raise
    claim.close()


def _write_unnamed(folder: Folder, entry: Entry, data: Bytes, *, durable: bool) -> bool:
    """Write a new file that has no name until it is complete: three system calls fewer, and a kill leaves nothing.

    False when that can't be, for one because there is a file of that name.
    """
    components = _checked(folder, entry.path)
    try:
        directory = folder.directory(components[:-1], create=True)
    except FileNotFoundError:
        return False
    handle = directory.open_unnamed(entry.mode & 0o777)
    if handle is None:
        return False
    try:
        if data:
            write_all(handle, data, 0)
        if os.fstat(handle).st_mode & 0o7777 != entry.mode & 0o777:
            os.fchmod(handle, entry.mode & 0o777)
        if durable:
            os.fsync(handle)
        os.utime(handle, ns=(time.time_ns(), entry.mtime_ns))
        try:
            directory.give_name(handle, components[-1])
        except OSError:
            return False
    finally:
        os.close(handle)
    if durable:
        directory.flush()
    return True


class PartialFile:
    """A file that is gathered chunk by chunk, by several threads, until it is complete or given up.

    ``had``: so many bytes of it, at the most, were there before, left by an earlier transfer. With ``keep`` it stays
    where it is when it can't be completed. Raises `UnsafePath` and `OSError` (`TargetBusy` when somebody else is
    gathering the same target).
    """

    def __init__(self, folder: Folder, entry: Entry, *, keep: bool = False) -> None:
        self._claim = _claim_target(folder, entry.path, 0o600, own=True)
        self._keep = keep
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._writers = 0
        self._ended = False
        self._had = 0
        try:
            if self._claim.used:
                # What is kept of it keeps its blocks; all of it will be written over, holes too.
                self._had = min(os.fstat(self._claim.handle).st_size, entry.size)
            os.ftruncate(self._claim.handle, entry.size)
        except BaseException:
            self.release()
            raise

    @property
    def had(self) -> int:
        """See the class."""
        return self._had

    def read_into(self, view: memoryview, offset: int) -> int:
        """Read what is at ``offset``; answers how many bytes there were, 0 when the file has ended meanwhile."""
        if not self._enter():
            return 0
        try:
            return read_into(self._claim.handle, view, offset)
        finally:
            self._leave()

    def write(self, data: Bytes, offset: int) -> bool:
        """Put ``data`` at ``offset``. False when the file has ended meanwhile: then nothing was written."""
        if not self._enter():
            return False
        try:
            write_all(self._claim.handle, data, offset)
        finally:
            self._leave()
        return True

    def write_hole(self, offset: int, length: int) -> bool:
        """Let ``length`` bytes at ``offset`` be zero, without taking space where that can be had."""
        if not self._enter():
            return False
        try:
            end = min(offset + length, self._had)
            while offset < end:
                piece = memoryview(_ZEROS)[: end - offset]
                write_all(self._claim.handle, piece, offset)
                offset += len(piece)
        finally:
            self._leave()
        return True

    def complete(self, entry: Entry, *, durable: bool = False, overwrite: bool = True) -> None:
        """All data is there: give it the mode and time of ``entry`` and its name. Raises `OSError`; then it
        is gone.
        """
        with self._lock:
            # A lost lane may still be writing once more what another has brought: that would move the time again.
            self._idle.wait_for(lambda: not self._writers)
            if self._ended:
                raise OSError(errno.ECANCELED, "it was given up meanwhile")
            try:
                self._claim.complete(entry, durable=durable, overwrite=overwrite)
            except BaseException:
                self._unlink_unless_kept()
                raise
            finally:
                self._ended = True
                self._close_if_idle()

    def complete_by_appending(self, entry: Entry, start: int, *, durable: bool = False) -> bool:
        """All data from ``start`` on is there, and what has the name holds just what comes before: append it there.

        False when that can't be, because what has the name is something else or has several names: then nothing has
        changed. Raises `OSError`; then what has the name is as it was, unless even that can't be done.
        """
        with self._lock:
            self._idle.wait_for(lambda: not self._writers)
            if self._ended:
                raise OSError(errno.ECANCELED, "it was given up meanwhile")
            if not self._claim.append(entry, start, durable=durable):
                return False
            self._claim.unlink()
            self._ended = True
            self._close_if_idle()
            return True

    def release(self) -> None:
        """Give it up; it is removed unless it is to be kept. Doing so twice, or after completion, is fine."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._unlink_unless_kept()
                self._close_if_idle()

    def _unlink_unless_kept(self) -> None:
        if not self._keep:
            self._claim.unlink()

    def discard(self) -> None:
        """Give it up and remove it. Doing so twice, or after completion, is fine."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._claim.unlink()
                self._close_if_idle()

    def _enter(self) -> bool:
        with self._lock:
            if self._ended:
                return False
            self._writers += 1
            return True

    def _leave(self) -> None:
        with self._lock:
            self._writers -= 1
            self._idle.notify_all()
            if self._ended:
                self._close_if_idle()

    def _close_if_idle(self) -> None:
        # A descriptor must not be closed under a thread that writes to it: its number would soon be another
        # file's.
        if not self._writers:
            self._claim.close()


class _Claim:
    """A locked partial file: its directory, both names and its descriptor. ``used``: it was there before."""

    __slots__ = ("_open", "directory", "handle", "mode", "name", "own", "partial", "used")

    def __init__(
        self, directory: Directory, name: str, partial: str, handle: int, used: bool, mode: int, own: bool
    ) -> None:
        self.directory = directory
        self.name = name
        self.partial = partial
        self.handle = handle
        self.used = used
        self.mode = mode
        self.own = own
        self._open = True

    def complete(self, entry: Entry, *, durable: bool, overwrite: bool) -> None:
        """Set mode and time, bring it to the disk if asked, and rename it."""
        handle = self.handle
        if entry.mode != self.mode and hasattr(os, "fchmod"):
            os.fchmod(handle, entry.mode & 0o777)
        if durable:
            os.fsync(handle)
        times = (time.time_ns(), entry.mtime_ns)
        if fcntl is None:
            self.close_file()
            self.directory.set_times(self.partial, times)
        else:
            os.utime(handle, ns=times)
        if not overwrite and _exists(self.directory, self.name):
            raise TargetExists
        self.directory.replace(self.partial, self.name)
        if durable:
            self.directory.flush()

    def append(self, entry: Entry, start: int, *, durable: bool) -> bool:
        """Append the data from ``start`` on to the file that has the name, if that has ``start`` bytes now."""
        try:
            target = self.directory.open(self.name, REUSE)
        except OSError:
            return False
        try:
            status = os.fstat(target)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != start:
                return False
            try:
                _copy(self.handle, target, start, entry.size)
                if fcntl is not None:
                    os.utime(target, ns=(time.time_ns(), entry.mtime_ns))
                if durable:
                    os.fsync(target)
                if status.st_mode & 0o7777 != entry.mode and hasattr(os, "fchmod"):
                    os.fchmod(target, entry.mode & 0o777)
            except BaseException:
                os.ftruncate(target, start)
                if fcntl is not None:
                    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
                raise
        finally:
            os.close(target)
        if fcntl is None:
            self.directory.set_times(self.name, (time.time_ns(), entry.mtime_ns))
        return True

    def unlink(self) -> None:
        """Remove the partial file."""
        if fcntl is None:
            self.close_file()
        with contextlib.suppress(OSError):
            self.directory.remove(self.partial)

    def close_file(self) -> None:
        """Close the descriptor, which unlocks the file."""
        if self._open:
            self._open = False
            os.close(self.handle)

    def close(self) -> None:
        """Give everything back."""
        self.close_file()
        if self.own:
            self.directory.close()

    def abandon(self) -> None:
        """Remove the partial file and give everything back."""
        self.unlink()
        self.close()


def _exists(directory: Directory, name: str) -> bool:
    try:
        directory.status(name)
    except FileNotFoundError:
        return False
    return True


def _checked(folder: Folder, path: str) -> tuple[str, ...]:
    components = folder.split(path)
    if is_partial(components[-1]):
        raise UnsafePath(f"the path {path!r} is refused: such names are kept for partial files")
    return components


def _claim_target(folder: Folder, path: str, mode: int, own: bool = False) -> _Claim:
    components = _checked(folder, path)
    name = components[-1]
    partial = partial_name(name)
    directory = folder.directory(components[:-1], create=True)
    try:
        handle, used, mode = _claim(directory, partial, mode)
    except FileNotFoundError:
        # The directory was removed while it was held open.
        folder.forget()
        directory = folder.directory(components[:-1], create=True)
        handle, used, mode = _claim(directory, partial, mode)
    try:
        return _Claim(directory.again() if own else directory, name, partial, handle, used, mode, own)
    except BaseException:
        os.close(handle)
        raise


def _claim(directory: Directory, partial: str, mode: int) -> tuple[int, bool, int]:
    """A locked descriptor of the partial file, whether it was there before, and its permission bits."""
    for _ in range(_CLAIMS):
        used = False
        try:
            handle = directory.open(partial, CREATE, mode & 0o777)
        except FileExistsError:
            leftover = _open_leftover(directory, partial)
            if leftover is None:
                continue
            handle, used = leftover, True
        try:
            _lock(handle)
            mine = os.fstat(handle)
            if _is_still(directory, partial, mine):
                return handle, used, mine.st_mode & 0o7777
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise TargetBusy


def _open_leftover(directory: Directory, partial: str) -> int | None:
    """What an earlier transfer left, to write over it; None when it is gone: then it can be made anew."""
    try:
        if fcntl is None:
            directory.remove(partial)
            return None
        status = directory.status(partial)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return directory.open(partial, REUSE)
        # No transfer made that. A second name for it could be anybody's file; a link could lead anywhere.
        directory.remove(partial)
    except FileNotFoundError:
        pass
    except PermissionError:
        if fcntl is None:
            raise TargetBusy from None
        # It was left with a mode that keeps its owner from writing.
        directory.remove(partial)
    return None


def _is_still(directory: Directory, name: str, mine: os.stat_result) -> bool:
    """Whether ``name`` is still the file that was opened and locked: others may have completed or removed it."""
    try:
        status = directory.status(name)
    except FileNotFoundError:
        return False
    return status.st_ino == mine.st_ino and status.st_dev == mine.st_dev and mine.st_nlink == 1


def _lock(handle: int) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TargetBusy from None
    except OSError as error:
        # Some network file systems have no locks; there, two transfers to one target are not told apart.
        if error.errno not in NO_LOCKS:
            raise


def _copy(source: int, target: int, start: int, end: int) -> None:
    """Copy the bytes from ``start`` to ``end`` of one file to the same place in another. Raises `OSError`."""
    view = memoryview(bytearray(min(_COPIED, end - start)))
    while start < end:
        got = read_into(source, view[: end - start], start)
        if not got:
            raise OSError(errno.EIO, "the partial file is shorter than it was")
        write_all(target, view[:got], start)
        start += got

"""One at a time: whoever changes a destination holds its lock, and who comes second is told who that is.

The lock is one of the system on the file ``.pynetwork/lock``: however its holder ends, it is free at once. What
stands in the file says who holds it, for people. File systems of networks that have no locks get a file instead that
only one can make, ``.pynetwork/lock.held``; there, what stands in it also tells whether its maker still runs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from handshakes.errors import Busy
from pynetwork.files.partials import NO_LOCKS

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["DestinationBusy", "DestinationLock", "Holder"]

_FOLDER = ".pynetwork"
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_MOST = 4096
# The byte that is locked on Windows, where what is locked can't be read: far behind what stands in the file.
_LOCKED_BYTE = 1 << 20
_TRIES = 16
_LOOKS = 10
_PAUSE = 0.005


class Holder(NamedTuple):
    """Who holds a lock, for what and since when (ISO 8601, UTC); the rest tells one machine and its runs from others.

    What is empty is not known.
    """

    pid: int
    host: str
    purpose: str
    since: str
    machine: str = ""
    boot: str = ""
    namespace: str = ""
    token: str = ""

    def is_dead(self) -> bool:
        """True when that process can't be there any more; False when it is there, or nobody here can tell."""
        here = _myself("", 0)
        if (self.host, self.machine) != (here.host, here.machine):
            return False
        if self.boot != here.boot:
            # It was started again since; unless it is another one of the same name, where machines have no number.
            return bool(self.machine and self.boot and here.boot)
        import psutil  # noqa: PLC0415

        return self.namespace == here.namespace and not psutil.pid_exists(self.pid)


class DestinationBusy(Busy):
    """Somebody else works on the destination. ``holder`` says who; None if that could not be read."""

    def __init__(self, message: str, holder: Holder | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class DestinationLock:
    """The right to change the destination ``folder``, which is made if need be, as a context manager.

    ``purpose`` is one word for people, such as "backup". Entering raises `DestinationBusy` at once when somebody else
    has the right, in this process or any other, and `OSError` when the folder can't be written.
    """

    def __init__(self, folder: str | os.PathLike[str], purpose: str, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = Path(folder)
        self._place = self._folder / _FOLDER / "lock"
        self._by_file = self._folder / _FOLDER / "lock.held"
        self._purpose = purpose
        self._clock = clock
        self._release: Callable[[], None] | None = None

    def __enter__(self) -> DestinationLock:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        myself = _myself(self._purpose, self._clock())
        handle = os.open(self._place, _OPEN, 0o644)
        try:
            if _lock(handle):
                # What says who holds it is not the lock, and a full disk is no reason to refuse a verification.
                with contextlib.suppress(OSError):
                    _write(handle, myself)
                self._release = lambda: _give_back(handle)
                return self
        except BlockingIOError:
            os.close(handle)
            raise self._busy(_read(self._place), "wait until it has ended, or end it") from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        self._take(self._by_file, myself)
        self._release = lambda: _remove(self._by_file, myself)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._release is not None:
            self._release()
            self._release = None

    def _take(self, place: Path, myself: Holder) -> None:
        """Make the file ``place``, or take it over from somebody dead.

        Only one may do the latter: who has made a second file, named after the dead one, and then still finds the dead
        one's. It becomes the first. Should its maker die before, it is taken over in the same way.
        """
        for _ in range(_TRIES):
            try:
                handle = os.open(place, _OPEN | os.O_EXCL, 0o644)
            except FileExistsError:
                holder = _read(place)
                if holder is None and not place.exists():
                    continue
                if holder is None or not holder.is_dead():
                    break
                claim = place.with_name(f"{place.name}.{holder.token}")
                self._take(claim, myself)
                if _read(place) == holder:
                    os.replace(claim, place)
                    return
                _remove(claim, myself)
            else:
                try:
                    _write(handle, myself)
                except BaseException:
                    place.unlink(missing_ok=True)
                    raise
                finally:
                    os.close(handle)
                return
        raise self._busy(_read(place), f"wait until it has ended; if it can't run any more, remove {str(place)!r}")

    def _busy(self, holder: Holder | None, way_out: str) -> DestinationBusy:
        who = "another process, which does not say who it is"
        if holder is not None:
            who = f"a {holder.purpose} since {holder.since}, process {holder.pid} on {holder.host}"
        message = f"no {self._purpose} on {str(self._folder)!r} now: it is held by {who}; {way_out}"
        return DestinationBusy(message, holder)


def _myself(purpose: str, now: float) -> Holder:
    since = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds")
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return Holder(
        pid=os.getpid(),
        host=socket.gethostname(),
        purpose=purpose,
        since=since,
        machine=_line_of("/etc/machine-id"),
        boot=_line_of("/proc/sys/kernel/random/boot_id"),
        namespace=namespace,
        token=secrets.token_hex(8),
    )


def _line_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _read(place: Path) -> Holder | None:
    """Who has written into the file; None when there is none, or nothing sensible stands in it for a while."""
    for look in range(_LOOKS):
        if look:
            # It is being written just now: that is one system call after it was locked or made.
            time.sleep(_PAUSE)
        try:
            with place.open("rb") as file:
                holder = Holder(**orjson.loads(file.read(_MOST)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            continue
        if _is_sensible(holder):
            return holder
    return None


def _is_sensible(holder: Holder) -> bool:
    """Whether this is fit to be shown, and its token to be part of a file's name."""
    if type(holder.pid) is not int or not 0 < holder.pid < 1 << 32:
        return False
    texts: tuple[object, ...] = holder[1:]
    return (
        all(type(text) is str and len(text) < 256 and text.isprintable() for text in texts) and holder.token.isalnum()
    )


def _write(handle: int, holder: Holder) -> None:
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, orjson.dumps(holder._asdict()))


def _lock(handle: int) -> bool:
    """Lock the file; False where there are no locks. Raises `BlockingIOError` when somebody has it."""
    if fcntl is None:
        try:
            _lock_byte(handle, "LK_NBLCK")
        except PermissionError as error:
            raise BlockingIOError from error
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _lock_byte(handle: int, how: str) -> None:
    windows: Any = importlib.import_module("msvcrt")
    os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
    windows.locking(handle, getattr(windows, how), 1)


def _give_back(handle: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        if fcntl is None:
            _lock_byte(handle, "LK_UNLCK")
    os.close(handle)


def _remove(place: Path, holder: Holder) -> None:
    if _read(place) == holder:
        with contextlib.suppress(OSError):
            place.unlink()

"""Only one works on a destination at once, and the second is told who."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handshakes.errors import Busy
from pynetwork.backup import lock
from pynetwork.backup.lock import DestinationBusy, DestinationLock, Holder
from tests.serving import Background
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
NOW = 1_700_000_000.75
SINCE = "2023-11-14T22:13:20+00:00"

HOLD = """
import errno, sys
from pynetwork.backup import lock

def refuse(*_arguments):
    raise OSError(errno.ENOLCK, "no locks")

if sys.argv[2] == "file":
    lock.fcntl.flock = refuse
with lock.DestinationLock(sys.argv[1], "prune"):
    print("held", flush=True)
    sys.stdin.read()
print("ended", flush=True)
"""


class NoLocks:
    """In place of fcntl: as on a network's file system without locks."""

    LOCK_EX = LOCK_NB = 0

    def __init__(self, number: int = errno.ENOLCK) -> None:
        self._number = number

    def flock(self, _handle: int, _how: int) -> None:
        raise OSError(self._number, os.strerror(self._number))


class Windows:
    """In place of msvcrt: one byte of a file is locked."""

    LK_UNLCK = 0
    LK_NBLCK = 2

    def __init__(self) -> None:
        self._locked: set[int] = set()

    def locking(self, handle: int, how: int, count: int) -> None:
        assert count == 1
        assert os.lseek(handle, 0, os.SEEK_CUR) > 4096, "what stands in the file could not be read"
        file = os.fstat(handle).st_ino
        if how == self.LK_UNLCK:
            self._locked.remove(file)
        elif file in self._locked:
            raise PermissionError(errno.EACCES, "locked")
        else:
            self._locked.add(file)


@pytest.fixture(params=["lock", "file", "windows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The system's locks, a file system without any, and Windows."""
    way: str = request.param
    if way == "lock":
        pytest.importorskip("fcntl")
    if way == "file":
        monkeypatch.setattr(lock, "fcntl", NoLocks())
    if way == "windows":
        monkeypatch.setattr(lock, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", Windows())  # type: ignore[arg-type]
    return way


@contextlib.contextmanager
def holder(folder: Path, way: str = "lock") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(folder), way]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def try_it(folder: Path) -> str:
    """What the second is told."""
    with pytest.raises(DestinationBusy) as caught, DestinationLock(folder, "backup"):
        pass
    return str(caught.value)


def by_somebody(**changes: Any) -> Holder:
    return lock._myself("prune", NOW)._replace(**changes)


def put(folder: Path, holder: Holder, name: str = "lock.held") -> Path:
    place = folder / ".pynetwork" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(holder._asdict()))
    return place


@pytest.fixture
def dead(way: str, monkeypatch: pytest.MonkeyPatch) -> Holder:
    """A process of this machine that has ended, where files serve as locks."""
    assert way == "file"
    monkeypatch.setattr(lock, "_line_of", lambda path: f"here: {path}")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return by_somebody(pid=process.pid)


# In one process


def test_the_second_is_refused_until_the_first_has_ended(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "made" / "dest"
    for _ in range(2):
        with DestinationLock(folder, "backup"):
            assert "held by a backup" in try_it(folder)
        with contextlib.suppress(KeyError), DestinationLock(folder, "prune"):
            raise KeyError
    assert set(os.listdir(folder / ".pynetwork")) == {"lock"}
    assert (folder / ".pynetwork/lock").read_bytes() == b""
    assert way


def test_two_destinations_have_two_locks(tmp_path: Path, way: str) -> None:
    with DestinationLock(tmp_path / "a", "backup"), DestinationLock(tmp_path / "b", way):
        assert "held by a backup" in try_it(tmp_path / "a")
        assert f"held by a {way}" in try_it(tmp_path / "b")


@pytest.mark.usefixtures("way")
def test_the_text_says_what_by_whom_where_since_when_and_the_way_out(tmp_path: Path) -> None:
    with DestinationLock(tmp_path, "repair", clock=lambda: NOW):
        with pytest.raises(Busy) as caught, DestinationLock(str(tmp_path), "backup"):
            pass
        text = str(caught.value)
    host = lock._myself("", 0).host
    assert text.startswith(f"no backup on {str(tmp_path)!r} now: ")
    assert f"held by a repair since {SINCE}, process {os.getpid()} on {host}; wait until it has ended" in text
    assert isinstance(caught.value, DestinationBusy)
    assert caught.value.holder is not None
    assert caught.value.holder[:4] == (os.getpid(), host, "repair", SINCE)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.holder) == (text, caught.value.holder)


def test_what_stands_in_the_file(tmp_path: Path, way: str) -> None:
    with DestinationLock(tmp_path, "backup", clock=lambda: NOW):
        name = "lock.held" if way == "file" else "lock"
        fields = json.loads((tmp_path / ".pynetwork" / name).read_bytes())
    assert (fields["pid"], fields["purpose"], fields["since"]) == (os.getpid(), "backup", SINCE)
    assert fields["host"]


@pytest.mark.usefixtures("way")
def test_many_threads_have_it_one_after_the_other(tmp_path: Path) -> None:
    inside = []
    most = []

    def once() -> bool:
        try:
            with DestinationLock(tmp_path, "backup"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
        except DestinationBusy:
            return False
        return True

    threads = [Background(wait_until, once, 20) for _ in range(6)]
    for thread in threads:
        thread.result()
    assert most == [1] * len(threads)


# Another process


@pytest.mark.skipif(os.name == "nt", reason="no system locks of this kind")
@pytest.mark.parametrize("way", ["lock", "file"], indirect=True)
def test_another_process_holds_it_until_it_ends(tmp_path: Path, way: str) -> None:
    with holder(tmp_path, way) as process:
        assert "held by a prune since 2" in (text := try_it(tmp_path))
        assert f"process {process.pid} on " in text
        process.communicate("")
        with DestinationLock(tmp_path, "backup"):
            pass


@pytest.mark.skipif(os.name == "nt", reason="no system locks of this kind")
@pytest.mark.parametrize("way", ["lock", "file"], indirect=True)
def test_a_killed_process_holds_nothing(tmp_path: Path, way: str) -> None:
    with holder(tmp_path, way) as process:
        assert f"process {process.pid} on " in try_it(tmp_path)
        process.kill()
        process.wait()
        # What it wrote is still there.
        assert any(path.stat().st_size for path in (tmp_path / ".pynetwork").iterdir())
        with DestinationLock(tmp_path, "backup"):
            assert f"process {os.getpid()} on " in try_it(tmp_path)
    assert set(os.listdir(tmp_path / ".pynetwork")) == {"lock"}


# What may stand in the file


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[" * 5000,
        b"[1, 2]",
        b"{}",
        b'"text"',
        b'{"pid": 1}',
        b'{"pid": "1", "host": "h", "purpose": "p", "since": "s", "token": "t"}',
        b'{"pid": true, "host": "h", "purpose": "p", "since": "s", "token": "t"}',
        b'{"pid": -1, "host": "h", "purpose": "p", "since": "s", "token": "t"}',
        b'{"pid": 1, "host": 7, "purpose": "p", "since": "s", "token": "t"}',
        b'{"pid": 1, "host": "h", "purpose": "p", "since": "s", "token": "../../t"}',
        b'{"pid": 1, "host": "h", "purpose": "p", "since": "s", "token": ""}',
        b'{"pid": 1, "host": "\\u001b[2J", "purpose": "p", "since": "s", "token": "t"}',
        b'{"pid": 1, "host": "h", "purpose": "p", "since": "s", "token": "t", "more": 1}',
        b'{"pid": 1, "host": "' + b"h" * 300 + b'", "purpose": "p", "since": "s", "token": "t"}',
    ],
)
def test_nonsense_in_the_file_is_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, content: bytes
) -> None:
    monkeypatch.setattr(lock, "_PAUSE", 0)
    place = tmp_path / ".pynetwork" / ("lock.held" if way == "file" else "lock")
    if way == "file":
        place.parent.mkdir()
        place.write_bytes(content)
        text = try_it(tmp_path)
        # Nobody can tell whether it is being made just now: only a person can.
        assert re.search(r"remove .*lock\.held'", text)
        assert place.read_bytes() == content
    else:
        with DestinationLock(tmp_path, "prune"):
            place.write_bytes(content)
            text = try_it(tmp_path)
    assert "held by another process, which does not say who it is" in text


def test_who_is_just_writing_it_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(lock, "fcntl", NoLocks())
    place = put(tmp_path, by_somebody())
    content = place.read_bytes()
    place.write_bytes(b"")
    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=lambda _seconds: place.write_bytes(content)))
    assert "held by a prune" in try_it(tmp_path)
    assert way


def test_a_full_disk_does_not_keep_from_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    if way == "file":
        # There, what stands in it is the lock.
        with pytest.raises(OSError, match="No space"), DestinationLock(tmp_path, "verify"):
            pass
        assert os.listdir(tmp_path / ".pynetwork") == ["lock"]
    else:
        monkeypatch.setattr(lock, "_PAUSE", 0)
        with DestinationLock(tmp_path, "verify"):
            assert "does not say who it is" in try_it(tmp_path)


@pytest.mark.usefixtures("way")
def test_what_can_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / ".pynetwork").write_bytes(b"no folder")
    with pytest.raises(OSError, match=r"\.pynetwork"), DestinationLock(tmp_path, "backup"):
        pass


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed here")
@pytest.mark.usefixtures("way")
def test_a_link_in_place_of_the_lock_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / ".pynetwork").mkdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"data")
    (tmp_path / ".pynetwork/lock").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"), DestinationLock(tmp_path, "backup"):
        pass
    assert precious.read_bytes() == b"data"


def test_an_error_that_is_no_lack_of_locks_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "fcntl", NoLocks(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), DestinationLock(tmp_path, "backup"):
        pass


# Where a file serves as the lock


@pytest.mark.parametrize("way", ["file"], indirect=True)
def test_a_dead_holder_is_succeeded(tmp_path: Path, dead: Holder) -> None:
    put(tmp_path, dead)
    with DestinationLock(tmp_path, "backup"):
        assert f"process {os.getpid()} on " in try_it(tmp_path)
    assert os.listdir(tmp_path / ".pynetwork") == ["lock"]


@pytest.mark.parametrize("way", ["file"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({"boot": "another"}, True),
        ({"boot": "another", "namespace": "another"}, True),
        ({"boot": ""}, False),
        ({"namespace": "another"}, False),
        ({"host": "elsewhere"}, False),
        ({"machine": "another"}, False),
        ({"machine": "another", "boot": "another"}, False),
    ],
)
def test_who_is_dead(tmp_path: Path, dead: Holder, changes: dict[str, str], free: bool) -> None:
    """A machine that was started again has lost all its processes; of another machine's nothing is known here."""
    holder = dead._replace(**changes)
    if "boot" in changes:
        # Then it does not matter that there is a process of that number.
        holder = holder._replace(pid=os.getpid())
    place = put(tmp_path, holder)
    if free:
        with DestinationLock(tmp_path, "backup"):
            pass
    else:
        assert re.search(r"if it can't run any more, remove .*lock\.held'", try_it(tmp_path))
        place.unlink()
        with DestinationLock(tmp_path, "backup"):
            pass


@pytest.mark.parametrize("way", ["file"], indirect=True)
def test_machines_without_a_number_are_told_apart_by_name_only(
    tmp_path: Path, dead: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was started again and another one of its name look alike: that is for a person to say."""
    monkeypatch.setattr(lock, "_line_of", lambda path: "" if "machine" in path else "boot")
    unnumbered = dead._replace(machine="", boot="boot")
    put(tmp_path, unnumbered._replace(boot="another"))
    assert "held by a prune" in try_it(tmp_path)
    put(tmp_path, unnumbered)
    with DestinationLock(tmp_path, "backup"):
        pass


def before(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let ``happens`` happen once, after the first one was found dead and before anything is done about it."""
    original = Holder.is_dead
    left = [happens]

    def judge(self: Holder) -> bool:
        judged = original(self)
        if left:
            left.pop()()
        return judged

    monkeypatch.setattr(Holder, "is_dead", judge)


@pytest.mark.parametrize("way", ["file"], indirect=True)
def test_a_dead_holder_has_one_successor(tmp_path: Path, dead: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who found it dead too, but comes later, does not take it from the successor."""
    put(tmp_path, dead)
    with contextlib.ExitStack() as stack:
        before(monkeypatch, lambda: stack.enter_context(DestinationLock(tmp_path, "verify")))
        assert "held by a verify" in try_it(tmp_path)
    assert os.listdir(tmp_path / ".pynetwork") == ["lock"]


@pytest.mark.parametrize("way", ["file"], indirect=True)
def test_a_holder_that_ends_meanwhile(tmp_path: Path, dead: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    place = put(tmp_path, dead)
    before(monkeypatch, place.unlink)
    with DestinationLock(tmp_path, "backup"):
        assert "held by a backup" in try_it(tmp_path)
    assert os.listdir(tmp_path / ".pynetwork") == ["lock"]


@pytest.mark.parametrize("way", ["file"], indirect=True)
def test_a_successor_that_died_while_taking_over(tmp_path: Path, dead: Holder) -> None:
    first = dead._replace(token="a1")
    put(tmp_path, first)
    put(tmp_path, dead._replace(token="b2"), "lock.held.a1")
    with DestinationLock(tmp_path, "backup"):
        assert "held by a backup" in try_it(tmp_path)
    assert os.listdir(tmp_path / ".pynetwork") == ["lock"]


@pytest.mark.parametrize("way", ["file"], indirect=True)
def test_while_somebody_takes_over_nobody_else_does(tmp_path: Path, dead: Holder) -> None:
    put(tmp_path, dead._replace(token="a1"))
    put(tmp_path, by_somebody(purpose="verify"), "lock.held.a1")
    assert "held by a verify" in try_it(tmp_path)


@pytest.mark.parametrize("way", ["file"], indirect=True)
def test_what_is_not_ours_any_more_is_left_alone(tmp_path: Path, way: str) -> None:
    with DestinationLock(tmp_path, way):
        place = put(tmp_path, by_somebody())
    assert place.exists()

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handshakes.errors import UnsafePath
from handshakes.manifest import Entry, Page, Skipped, decode_page, encode_file
from handshakes.paths import partial_name
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder, NotAFile, Turn, changed_at, entry_of, folds_case, reason_for, walk
from tests.serving import Background
from tests.waiting import wait_until

KINDS = ["handles", "plain"]


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """A folder with some files, reached by handles or, as on Windows, by paths."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"contents")
    (tmp_path / "top").write_bytes(b"")
    with Folder(tmp_path, handles=request.param == "handles") as opened:
        yield opened


def found(folder: Folder, start: str = "") -> Page:
    """Everything that `walk` finds, as one page."""
    whole = Page([], [], [])
    for page in walk(folder, start):
        for part, more in zip(whole, page, strict=True):
            part.extend(more)  # type: ignore[arg-type]
    return Page(*(sorted(part) for part in whole))  # type: ignore[arg-type]


def read(folder: Folder, path: str) -> bytes:
    handle = folder.open_file(path)
    try:
        return os.read(handle, 100)
    finally:
        os.close(handle)


def test_files_are_read_by_their_path(folder: Folder) -> None:
    assert read(folder, "a/b/file") == b"contents"
    assert read(folder, "top") == b""
    status = os.stat(folder.path / "a/b/file")
    expected = Entry("a/b/file", 8, status.st_mtime_ns, status.st_mode & 0o777)
    assert folder.look_up("a/b/file")[:4] == expected[:4]


def test_a_file_is_told_from_another_that_had_its_name(folder: Folder) -> None:
    before = folder.look_up("a/b/file")
    assert folder.look_up("a/b/file") == before
    (folder.path / "new").write_bytes(b"another")
    (folder.path / "new").replace(folder.path / "a/b/file")
    assert folder.look_up("a/b/file").identity != before.identity


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a//b", "nul"])
def test_no_path_leads_out(folder: Folder, path: str) -> None:
    for use in (folder.open_file, folder.look_up, folder.split):
        with pytest.raises(UnsafePath):
            use(path)


def test_what_is_not_there_is_said_to_be_missing(folder: Folder) -> None:
    for path in ("a/none", "none/file", "a/b/none/x"):
        with pytest.raises(FileNotFoundError) as caught:
            folder.open_file(path)
        assert reason_for(caught.value) == "it is not there"


def test_a_link_is_not_followed_wherever_it_stands(folder: Folder) -> None:
    outside = folder.path.parent / f"{folder.path.name} outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder.path / "to_folder").symlink_to(outside)
    (folder.path / "a" / "to_file").symlink_to(outside / "secret")
    (folder.path / "dangling").symlink_to(outside / "nothing")
    for path, reason in (
        ("a/to_file", "symbolic link"),
        ("dangling", "symbolic link"),
        ("to_folder/secret", "symbolic link"),
    ):
        with pytest.raises(OSError, match="Errno") as caught:
            folder.open_file(path)
        assert reason in reason_for(caught.value)
    with pytest.raises(NotAFile) as not_a_file:
        folder.look_up("a/to_file")
    assert not_a_file.value.kind == "symbolic link"
    with pytest.raises(OSError, match="Errno"):
        folder.directory(("to_folder", "new"), create=True)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert found(folder).skipped == [
        Skipped("a/to_file", "symbolic link"),
        Skipped("dangling", "symbolic link"),
        Skipped("to_folder", "symbolic link"),
    ]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    for handles in (True, False):
        with Folder(tmp_path / "link", handles=handles) as folder:
            assert read(folder, "file") == b"x"


def test_directories_are_made_on_the_way(folder: Folder) -> None:
    folder.directory(("x", "y", "z"), create=True)
    assert (folder.path / "x/y/z").is_dir()
    assert folder.directory(("x", "y", "z"), create=True) is folder.directory(("x", "y", "z"))
    with pytest.raises(NotADirectoryError):
        folder.directory(("top", "below"), create=True)


def test_directories_are_made_with_their_modes(folder: Folder) -> None:
    folder.modes = {("x",): 0o750, ("x", "y"): 0o050}
    folder.directory(("x", "y", "z"), create=True)
    modes = [(folder.path / path).stat().st_mode & 0o777 for path in ("x", "x/y", "x/y/z")]
    assert modes[:2] == [0o750, 0o750]
    assert modes[2] & 0o700 == 0o700


def test_a_directory_that_somebody_else_makes_first_is_used(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(folder.directory(()))
    make = kind.make

    def slow(self: Directory, name: str, mode: int) -> None:
        make(self, name, mode)
        make(self, name, mode)

    monkeypatch.setattr(kind, "make", slow)
    folder.directory(("new",), create=True)
    assert (folder.path / "new").is_dir()


def test_few_directories_are_held_open(tmp_path: Path) -> None:
    deep = tuple(f"d{number}" for number in range(20))
    tmp_path.joinpath(*deep).mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    with Folder(tmp_path, kept=3) as folder:
        folder.directory(deep)
        folder.directory(deep[:7])
        folder.directory(deep)
        assert len(os.listdir("/proc/self/fd")) <= before + 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_folder_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path / "none", handles=False)
    with Folder(tmp_path / "new" / "one", create=True):
        assert (tmp_path / "new" / "one").is_dir()
    (tmp_path / "file").write_bytes(b"")
    for handles in (True, False):
        with pytest.raises(NotADirectoryError):
            Folder(tmp_path / "file", handles=handles)


@pytest.mark.parametrize("path", ["ab:c", "a/file:stream", "trailing.", "trailing ", "a./b"])
def test_windows_has_further_rules(tmp_path: Path, path: str) -> None:
    with Folder(tmp_path, windows=True) as folder, pytest.raises(UnsafePath, match="on Windows"):
        folder.split(path)
    with Folder(tmp_path, windows=False) as folder:
        assert folder.split(path) == tuple(path.split("/"))


@pytest.mark.parametrize("path", ["CON", "a:b", "back\\slash", "trailing.", "x/nul"])
def test_names_that_others_can_not_have_are_used_when_they_stay_here(tmp_path: Path, path: str) -> None:
    with Folder(tmp_path, portable=False) as folder:
        assert folder.split(path) == tuple(path.split("/"))
        for wrong in ("../x", "/etc", "", "a//b", "a\0"):
            with pytest.raises(UnsafePath):
                folder.split(wrong)
    with Folder(tmp_path, portable=False, windows=True) as folder, pytest.raises(UnsafePath):
        folder.split(path)


@pytest.mark.parametrize(
    ("mtime_ns", "told"),
    [(0, 0), (-5, -5), ((1 << 63) - 1, (1 << 63) - 1), (1 << 63, (1 << 63) - 1), (-(1 << 70), -(1 << 63) + 1)],
)
def test_times_are_told_as_far_as_64_bits_reach(mtime_ns: int, told: int) -> None:
    status: Any = SimpleNamespace(st_mode=0o644, st_size=1, st_mtime_ns=mtime_ns, st_ino=1, st_dev=1)
    assert changed_at(status) == told
    assert decode_page(encode_file(entry_of("name", status))).files == [entry_of("name", status)]


# Walking


def test_everything_is_found_with_its_path(folder: Folder) -> None:
    page = found(folder)
    assert [entry.path for entry in page.files] == ["a/b/file", "top"]
    assert [entry.path for entry in page.folders] == ["a", "a/b"]
    assert page.files[0] == folder.look_up("a/b/file")
    assert found(folder, "a/b").files == [page.files[0]]


def test_names_come_as_they_are(folder: Folder) -> None:
    names = ["café", "cafe\N{COMBINING ACUTE ACCENT}", b"\xff\xfe.bin".decode("utf-8", "surrogateescape"), "a\nb"]
    for name in names:
        (folder.path / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    assert {entry.path for entry in found(folder).files} == {"top", "a/b/file", *names}
    for name in names:
        assert read(folder, name) == name.encode("utf-8", "surrogateescape")


def test_what_is_no_file_is_skipped_with_what_it_is(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder.path / "pipe")
    monkeypatch.chdir(folder.path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    assert found(folder).skipped == [Skipped("pipe", "named pipe"), Skipped("socket", "socket")]
    for path, kind in (("pipe", "named pipe"), ("socket", "socket"), ("a", "folder")):
        with pytest.raises(NotAFile, match=kind):
            folder.look_up(path)
    assert reason_for(NotAFile(stat.S_IFBLK)) == "device"
    assert reason_for(NotAFile(0)) == "no regular file"


def test_names_that_mean_something_else_elsewhere_are_skipped(folder: Folder) -> None:
    for name in ("aux.log", "back\\slash", "C:"):
        (folder.path / name).write_bytes(b"")
    (folder.path / "con").mkdir()
    (folder.path / "con" / "unseen").write_bytes(b"")
    skipped = found(folder).skipped
    assert [path for path, _ in skipped] == ["C:", "aux.log", "back\\slash", "con"]
    assert dict(skipped)["aux.log"] == "'aux.log' names a device on Windows"


def test_partial_files_are_not_listed(folder: Folder) -> None:
    (folder.path / "a" / partial_name("file")).write_bytes(b"half")
    (folder.path / "empty").mkdir()
    assert [entry.path for entry in found(folder).files] == ["a/b/file", "top"]
    with pytest.raises(UnsafePath, match="partial"):
        folder.look_up(f"a/{partial_name('file')}")


def test_long_lists_come_in_pages(tmp_path: Path) -> None:
    for number in range(1100):
        (tmp_path / f"{number}").touch()
    with Folder(tmp_path) as folder:
        assert [len(page.files) for page in walk(folder)] == [512, 512, 76]


def test_a_deep_tree_is_walked_with_few_handles(tmp_path: Path) -> None:
    path = tmp_path
    for _ in range(60):
        path = path / "down"
        path.mkdir()
    (path / "bottom").touch()
    with Folder(tmp_path, kept=4) as folder:
        assert [entry.path for entry in found(folder).files] == ["down/" * 60 + "bottom"]


def test_a_folder_that_goes_away_is_skipped(folder: Folder) -> None:
    pages = walk(folder)
    first = next(pages)
    assert [entry.path for entry in first.folders] == ["a"]
    (folder.path / "a").rename(folder.path / "gone")
    assert [page.skipped for page in pages] == [[Skipped("a", "it is not there")]]


def test_a_walk_that_is_left_leaves_nothing_open(folder: Folder) -> None:
    pages = walk(folder)
    next(pages)
    pages.close()


def test_a_file_that_goes_away_while_its_folder_is_listed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(folder.directory(()))
    entries = kind.entries

    def vanishing(self: Directory) -> Iterator[os.DirEntry[str]]:
        for entry in entries(self):
            if entry.name == "file":
                os.unlink(folder.path / "a" / "b" / "file")
            yield entry
        if len(list(entries(self))) == 0:
            raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(kind, "entries", vanishing)
    assert found(folder).skipped == [
        Skipped("a/b/", "permission denied"),
        Skipped("a/b/file", "it is not there"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_skipped(folder: Folder) -> None:
    (folder.path / "a" / "b").chmod(0)
    try:
        assert found(folder).skipped == [Skipped("a/b", "permission denied")]
    finally:
        (folder.path / "a" / "b").chmod(0o755)


# The rest


def test_reasons_are_for_people() -> None:
    assert reason_for(PermissionError(errno.EACCES, "x", "/secret/path")) == "permission denied"
    assert reason_for(OSError(errno.ENOSPC, "x")) == "no space is left"
    assert reason_for(OSError(errno.EIO, "Input/output error", "/secret/path")) == "Input/output error"
    assert reason_for(OSError("odd")) == "OSError"
    assert reason_for(UnsafePath("because")) == "because"


def test_whether_case_counts(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folds_case(folder) is (folder.path / "TOP").exists()
    assert folds_case(folder, "new/sub") is (folder.path / "TOP").exists()
    status = folder.path.stat()
    monkeypatch.setattr(type(folder.directory(())), "status", lambda self, name: status)
    assert folds_case(folder) is True
    assert folds_case(folder, "new/sub") is True
    assert not list(folder.path.rglob(".pynetwork*"))


def test_a_folder_that_tells_whether_case_counts_keeps_its_time(tmp_path: Path) -> None:
    for name in ("1234", "Linked", "Named", "é"):
        (tmp_path / name).touch()
    (tmp_path / "lINKED").hardlink_to(tmp_path / "Linked")
    os.utime(tmp_path, ns=(0, 0))
    with Folder(tmp_path) as opened:
        assert folds_case(opened) is (tmp_path / "nAMED").exists()
        assert tmp_path.stat().st_mtime_ns == 0
        (tmp_path / "Named").unlink()
        assert folds_case(opened) is (tmp_path / "nAMED").exists()
        assert tmp_path.stat().st_mtime_ns > 0


def test_what_goes_away_does_not_tell_whether_case_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Named").touch()
    with Folder(tmp_path) as opened:
        kind = type(opened.directory(()))
        status = kind.status

        def gone(directory: Directory, name: str) -> os.stat_result:
            found = status(directory, name)
            (tmp_path / "Named").unlink(missing_ok=True)
            return found

        monkeypatch.setattr(kind, "status", gone)
        assert folds_case(opened) is (tmp_path / ".PARTIAL").exists()


def test_one_turn_at_a_time_but_nobody_waits_for_ever() -> None:
    turn = Turn(patience=60)
    entered = threading.Event()

    def second() -> None:
        with turn.taken():
            entered.set()

    with turn.taken():
        other = Background(second)
        assert not entered.wait(0.02)
    other.result()
    impatient = Turn(patience=0.001)
    with impatient.taken():
        Background(lambda: impatient.taken().__enter__()).result()
    with impatient.taken():
        pass
    wait_until(entered.is_set)

"""A large file that arrives: chunks that come, and chunks that are there already."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.manifest import Entry, digest
from handshakes.paths import partial_name
from handshakes.transfer import PutHead, Receipt, Status
from pynetwork.files import incoming as module
from pynetwork.files.folders import Folder
from pynetwork.files.incoming import FINE, IncomingFile
from pynetwork.files.partials import PartialFile
from tests.pynetwork.files.transferring import STAMP, once, write

CHUNK = 10
CONTENTS = b"0123456789abcdefghij" + bytes(10) + b"!"
PATH = "sub/file"
MISSING = Receipt(Status.CHANGED)
LOST = Receipt(Status.CHANGED, "the gateway has lost a part of it")
FULL = Receipt(Status.FAILED, "no space is left")


class Scene:
    """A folder, and what arrives in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = Folder(root)
        self._opened: list[IncomingFile] = []
        self.now = 0.0

    def begin(self, contents: bytes = CONTENTS, *, keep: bool = True, mode: int = 0o640) -> IncomingFile:
        """Begin, or begin anew, to receive these contents."""
        self.end()
        entry = Entry(PATH, len(contents), STAMP, mode)
        head = PutHead(Status.OK, 0, entry, CHUNK, 0, whole(contents))
        file = IncomingFile(PATH, head, PartialFile(self.folder, entry, keep=keep), threading.Lock(), lambda: self.now)
        self._opened.append(file)
        return file

    def end(self) -> None:
        """Let go of what was begun, as at the end of a transfer."""
        for file in self._opened:
            file.partial.release()
        self._opened.clear()

    @property
    def target(self) -> Path:
        return self.root / PATH

    @property
    def partial(self) -> Path:
        return self.target.with_name(partial_name(self.target.name))

    def compare(self, file: IncomingFile, contents: bytes = CONTENTS, first: int = 0) -> list[Receipt]:
        """Offer all chunks from ``first`` on."""
        return file.compare(self.folder, first, digests(contents)[first:])

    def seal(self, file: IncomingFile) -> Receipt:
        return file.seal(self.folder, file.head, durable=False)

    def send(self, file: IncomingFile, contents: bytes, *numbers: int) -> None:
        for number in numbers:
            data = contents[number * CHUNK : (number + 1) * CHUNK]
            assert file.write(number, data, digest(data), hole=False) == FINE


def digests(contents: bytes) -> list[bytes]:
    return [digest(contents[at : at + CHUNK]) for at in range(0, len(contents), CHUNK)]


def whole(contents: bytes) -> bytes:
    return digest(b"".join(digests(contents)))


def look(path: Path) -> tuple[bytes, int, int]:
    status = path.stat()
    return path.read_bytes(), status.st_mode & 0o7777, status.st_mtime_ns


AS_SENT = (CONTENTS, 0o640, STAMP)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.end()
    made.folder.close()


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "full")


# Chunks that come


def test_chunks_come_in_any_order(scene: Scene) -> None:
    file = scene.begin()
    scene.send(file, CONTENTS, 3, 0, 1)
    assert file.write(2, b"", digests(CONTENTS)[2], hole=True) == FINE
    assert not scene.target.exists()
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT
    assert not scene.partial.exists()
    # The receipt of the first was lost, most likely.
    assert scene.seal(file) == FINE
    assert file.write(0, b"0" * CHUNK, b"", hole=False) == FINE
    assert look(scene.target) == AS_SENT


def test_what_is_missing_or_wrong_is_not_completed(scene: Scene) -> None:
    file = scene.begin()
    scene.send(file, CONTENTS, 0, 1, 3)
    assert scene.seal(file) == LOST
    scene.send(file, CONTENTS, 2)
    wrong = Receipt(Status.FAILED, "the digest of the whole file is wrong")
    assert file.seal(scene.folder, file.head._replace(digest=bytes(16)), durable=False) == wrong
    assert scene.seal(file) == wrong
    assert scene.compare(file) == [wrong] * 4
    assert file.write(0, b"0" * CHUNK, b"", hole=False) == wrong
    assert not scene.target.exists()


@pytest.mark.parametrize("keep", [False, True])
def test_a_full_disk_loses_what_has_come_unless_it_is_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    file = scene.begin(keep=keep)
    scene.send(file, CONTENTS, 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "write", full)
        assert file.write(2, bytes(CHUNK), b"", hole=False) == FULL
    assert scene.partial.exists() is keep
    assert not file.open
    again = scene.begin()
    held = [FINE, FINE] if keep else [MISSING, MISSING]
    assert scene.compare(again)[:2] == held


def test_a_full_disk_at_the_end_loses_nothing_that_is_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    file = scene.begin()
    scene.send(file, CONTENTS, 0, 1, 2, 3)
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "complete", full)
        assert scene.seal(file) == FULL
    assert scene.compare(scene.begin()) == [FINE] * 4


def test_what_its_caller_has_dropped_is_not_kept(scene: Scene) -> None:
    file = scene.begin()
    scene.send(file, CONTENTS, 0)
    assert file.fail("dropped", keep=False) == Receipt(Status.FAILED, "dropped")
    assert not scene.partial.exists()
    assert file.fail("again") == Receipt(Status.FAILED, "dropped")


# Chunks that an earlier transfer left


def test_only_what_is_missing_or_wrong_has_to_come_again(scene: Scene) -> None:
    file = scene.begin()
    scene.send(file, CONTENTS, 0, 1, 3)
    scene.end()
    with scene.partial.open("r+b") as left:
        left.seek(CHUNK + 3)
        left.write(b"x")
    file = scene.begin()
    assert scene.compare(file) == [FINE, MISSING, FINE, FINE]
    scene.send(file, CONTENTS, 1)
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT


def test_what_was_left_may_be_of_another_size(scene: Scene) -> None:
    longer = CONTENTS + b"and more of it than that"
    file = scene.begin(longer)
    scene.send(file, longer, *range(6))
    file = scene.begin()
    assert scene.compare(file) == [FINE, FINE, FINE, FINE]
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT
    file = scene.begin(longer)
    assert scene.compare(file, longer) == [FINE, FINE, FINE, MISSING, MISSING, MISSING]


def test_what_does_not_end_where_it_did_is_compared_as_it_would_end(scene: Scene) -> None:
    file = scene.begin(CONTENTS[:25])
    scene.send(file, CONTENTS[:25], 0, 1, 2)
    assert scene.compare(scene.begin()) == [FINE, FINE, FINE, MISSING]


def test_chunks_can_be_compared_by_many_and_twice(scene: Scene) -> None:
    file = scene.begin()
    scene.send(file, CONTENTS, 0, 1, 3)
    file = scene.begin()
    assert scene.compare(file, first=2) == [FINE, FINE]
    for _ in range(2):
        assert scene.compare(file) == [FINE] * 4
    assert scene.seal(file) == FINE
    assert scene.compare(file) == [FINE] * 4
    assert look(scene.target) == AS_SENT


# Chunks of what has the name


def test_of_another_file_of_that_name_the_same_chunks_are_taken(scene: Scene) -> None:
    write(scene.target, CONTENTS[:10] + b"something!" + CONTENTS[20:30] + b"and more")
    file = scene.begin()
    assert scene.compare(file) == [FINE, MISSING, FINE, MISSING]
    scene.send(file, CONTENTS, 1, 3)
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT
    assert not scene.partial.exists()


def test_a_hole_stays_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write(scene.target, CONTENTS + b"more")
    holes: list[tuple[int, int]] = []
    write_hole = PartialFile.write_hole

    def noted(partial: PartialFile, offset: int, length: int) -> bool:
        holes.append((offset, length))
        return write_hole(partial, offset, length)

    monkeypatch.setattr(PartialFile, "write_hole", noted)
    file = scene.begin()
    assert scene.compare(file)[:3] == [FINE] * 3
    assert holes == [(20, 10)]


def test_a_file_that_lacks_mode_and_time_alone_is_not_written(scene: Scene) -> None:
    write(scene.target, CONTENTS, 0o600, STAMP + 5)
    before = scene.target.stat().st_ino
    file = scene.begin()
    assert scene.compare(file) == [FINE] * 4
    assert scene.partial.stat().st_blocks == 0
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT
    assert scene.target.stat().st_ino == before
    assert not scene.partial.exists()
    assert scene.seal(file) == FINE


@pytest.mark.parametrize("differs", range(4))
def test_a_file_that_differs_in_one_chunk_is_put_together(scene: Scene, differs: int) -> None:
    at = differs * CHUNK
    write(scene.target, CONTENTS[:at] + b"?" + CONTENTS[at + 1 :])
    before = scene.target.stat().st_ino
    file = scene.begin()
    assert scene.compare(file) == [MISSING if number == differs else FINE for number in range(4)]
    scene.send(file, CONTENTS, differs)
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT
    assert scene.target.stat().st_ino != before


def test_who_waits_for_copies_is_told_so(scene: Scene) -> None:
    write(scene.target, CONTENTS[:30] + b"?")
    file = scene.begin()
    assert scene.compare(file) == [FINE, FINE, FINE, MISSING]
    scene.send(file, CONTENTS, 3)
    copied = []
    put = file._put

    def slow(self: IncomingFile, view: memoryview, offset: int, expected: bytes) -> bool:
        scene.now += 4
        copied.append(offset)
        return put(view, offset, expected)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IncomingFile, "_put", slow)
        assert scene.seal(file) == Receipt(Status.WAIT)
        assert copied == [0, 10]
        assert scene.seal(file) == FINE
    assert copied == [0, 10, 20]
    assert look(scene.target) == AS_SENT


@pytest.mark.parametrize("other", [CONTENTS, b"something else", None])
def test_what_had_the_name_may_be_replaced_meanwhile(scene: Scene, other: bytes | None) -> None:
    """Whatever it is then, the chunks that were seen in the old one count no more."""
    write(scene.target, CONTENTS, 0o600)
    for missing in ((), (3,)):
        file = scene.begin()
        for number in range(4):
            if number not in missing:
                assert file.compare(scene.folder, number, [digests(CONTENTS)[number]]) == [FINE]
        scene.send(file, CONTENTS, *missing)
        if other is None:
            scene.target.unlink()
            assert scene.seal(file) == Receipt(Status.FAILED, "it is not there")
            write(scene.target, CONTENTS, 0o600)
        else:
            write(scene.root / "new", other, 0o600).replace(scene.target)
            assert scene.seal(file) == LOST
            write(scene.root / "new", CONTENTS, 0o600).replace(scene.target)


def test_what_is_changed_in_its_place_is_not_taken(scene: Scene) -> None:
    """Even if its time does not show it."""
    write(scene.target, CONTENTS[:30] + b"?")
    file = scene.begin()
    assert scene.compare(file)[:3] == [FINE] * 3
    scene.send(file, CONTENTS, 3)
    write(scene.target, b"X" + CONTENTS[1:30] + b"?")
    assert scene.seal(file) == LOST
    assert scene.target.read_bytes()[:1] == b"X"


def test_chunks_that_are_found_in_another_file_later_are_copied_at_once(scene: Scene) -> None:
    write(scene.target, CONTENTS)
    file = scene.begin()
    assert file.compare(scene.folder, 0, digests(CONTENTS)[:1]) == [FINE]
    write(scene.root / "new", CONTENTS).replace(scene.target)
    assert file.compare(scene.folder, 1, digests(CONTENTS)[1:]) == [FINE] * 3
    assert scene.partial.read_bytes()[10:] == CONTENTS[10:]
    assert scene.seal(file) == LOST


def test_a_chunk_that_comes_though_it_was_there_counts_once(scene: Scene) -> None:
    write(scene.target, CONTENTS)
    file = scene.begin()
    assert scene.compare(file) == [FINE] * 4
    scene.send(file, CONTENTS, 1)
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT


# Trouble


def test_what_can_not_be_read_is_not_there(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, "broken")

    write(scene.target, CONTENTS)
    file = scene.begin()
    monkeypatch.setattr(module.StandingFile, "read_into", once(broken, module.StandingFile.read_into, at=2))
    assert scene.compare(file) == [FINE, MISSING, FINE, FINE]
    scene.send(file, CONTENTS, 1)
    assert scene.seal(file) == FINE
    assert look(scene.target) == AS_SENT


def test_what_can_not_be_copied_gives_the_file_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write(scene.target, b"?" + CONTENTS[1:])
    file = scene.begin()
    with monkeypatch.context() as patch:
        patch.setattr(PartialFile, "write", full)
        assert scene.compare(file) == [MISSING, FULL, FULL, FULL]
    assert scene.seal(file) == FULL
    file = scene.begin()
    assert scene.compare(file) == [MISSING, FINE, FINE, FINE]


def test_what_can_not_be_copied_at_the_end_gives_the_file_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write(scene.target, CONTENTS[:30] + b"?")
    file = scene.begin()
    assert scene.compare(file)[:3] == [FINE] * 3
    scene.send(file, CONTENTS, 3)
    monkeypatch.setattr(PartialFile, "write", full)
    assert scene.seal(file) == FULL
    assert scene.target.read_bytes() == CONTENTS[:30] + b"?"


def during(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Let this happen when a chunk has been compared and is about to be copied or accepted."""
    read_into = module.StandingFile.read_into

    def troubled(standing: module.StandingFile, view: memoryview, offset: int) -> int:
        action()
        return read_into(standing, view, offset)

    monkeypatch.setattr(module.StandingFile, "read_into", troubled)


def test_a_file_that_ends_while_it_is_compared(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write(scene.target, CONTENTS)
    file = scene.begin()
    during(monkeypatch, lambda: file.fail("given up"))
    assert scene.compare(file) == [Receipt(Status.FAILED, "given up")] * 4


def test_a_file_that_is_sealed_by_two_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first lane was lost, and its handler does not know that yet."""
    write(scene.target, CONTENTS[:30] + b"?")
    file = scene.begin()
    scene.compare(file)
    scene.send(file, CONTENTS, 3)
    put = IncomingFile._put

    def other(function: Callable[..., bool], *arguments: Any) -> bool:
        assert scene.seal(file) == FINE
        return function(*arguments)

    monkeypatch.setattr(IncomingFile, "_put", once(other, put))
    assert scene.seal(file) in (FINE, LOST)
    assert look(scene.target) == AS_SENT
    assert os.listdir(scene.target.parent) == ["file"]

"""Gateways that lie: whatever they say, nothing wrong has a final name, and nothing is written outside."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConnectionLost, RemoteProtocolError
from handshakes.manifest import CHUNK_SIZE, digest
from handshakes.survey import (
    FACTS,
    End,
    Facts,
    FolderRow,
    GoneRow,
    LinkRow,
    SkippedRow,
    encode_end,
    encode_file_row,
    encode_folder_row,
    encode_gone_row,
    encode_link_row,
    encode_skipped_row,
)
from handshakes.transfer import Code, Status
from pynetwork.backup import job
from pynetwork.files.surveying import Surveyor
from pynetwork.service import ServedOperation
from tests.pynetwork.backup.mirroring import Scene, contents, facts, new, scene, seen

Lie = Callable[[int, bytes, bytes], tuple[int, bytes, bytes]]

MEDIUM = CHUNK_SIZE + 1234
FOLDER = Facts(0o755, 0, 0, 4096, 1_500_000_000_000_000_000, 7)
ROOT = encode_folder_row(FolderRow(b"", FOLDER, 1, 10**18, complete=True))


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    # What comes of a lie does not become true by being asked again.
    monkeypatch.setattr(job, "_SURVEY_TRIES", 1)
    (tmp_path / "inside").mkdir()
    with scene(tmp_path / "inside") as made:
        made.put("small", new(100))
        made.put("sub/small", new(100))
        made.put("sub/large", new(MEDIUM))
        made.put("grown", new(100))
        made.put("large grown", new(MEDIUM))
        made.backup()
        made.grow("grown", new(50))
        made.grow("large grown", new(50))
        made.put("sub/new", new(100))
        made.put("sub/large new", new(MEDIUM))
        yield made


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path: Path, at: Scene) -> Iterator[None]:
    """Neither the share nor anything beside it is written to."""
    before = {path: look for path, look in seen(tmp_path).items() if not path.startswith("inside/to")}
    yield
    assert {path: look for path, look in seen(tmp_path).items() if not path.startswith("inside/to")} == before


def nothing_wrong(at: Scene, before: dict[str, bytes]) -> bool:
    """Whether each file is one that there is, or was before; lies about names may have made others, empty or not."""
    there = contents(at.share)
    for path, data in contents(at.to).items():
        if "/." in f"/{path}" and path.endswith(".partial"):
            continue
        if path in there and data not in {there[path], before.get(path)}:
            return False
    return True


# Surveys


def tell(monkeypatch: pytest.MonkeyPatch, *pages: bytes) -> None:
    """Let surveys be made of these rows."""
    monkeypatch.setattr(Surveyor, "survey", lambda _surveyor: (page for page in pages))


def file_row(name: bytes, **changes: Any) -> bytes:
    return encode_file_row(name, facts(**changes))


def raw_file_row(name: bytes, of: Facts) -> bytes:
    """A row that no encoder would write."""
    return struct.pack("<BB", 0, len(name)) + FACTS.pack(*of) + name


def folder_row(path: bytes, of: Facts = FOLDER) -> bytes:
    return encode_folder_row(FolderRow(path, of, 1, 10**18, complete=True))


def end(files: int, folders: int) -> bytes:
    return encode_end(End(files, folders))


BROKEN_SURVEYS = {
    "a file before any folder": file_row(b"a") + end(1, 0),
    "a link before any folder": encode_link_row(LinkRow(b"a", facts(), b"b")) + end(0, 0),
    "too few files": ROOT + file_row(b"a") + end(2, 1),
    "too many files": ROOT + file_row(b"a") + file_row(b"b") + end(1, 1),
    "too many folders": ROOT + folder_row(b"a") + end(0, 1),
    "the wrong order": ROOT + file_row(b"b") + file_row(b"a") + end(2, 1),
    "a name twice": ROOT + file_row(b"a") + file_row(b"a") + end(2, 1),
    "a file and a link of one name": ROOT + file_row(b"a") + encode_link_row(LinkRow(b"a", facts(), b"b")) + end(1, 1),
    "the root twice": ROOT + ROOT + end(0, 2),
    "a folder twice": ROOT + folder_row(b"x") + folder_row(b"y") + folder_row(b"x") + end(0, 4),
    "a slash": ROOT + raw_file_row(b"a/b", facts()) + end(1, 1),
    "upwards": ROOT + raw_file_row(b"..", facts()) + end(1, 1),
    "a NUL": ROOT + raw_file_row(b"a\0b", facts()) + end(1, 1),
    "no name": ROOT + raw_file_row(b"", facts()) + end(1, 1),
    "a folder upwards": ROOT + folder_row(b"../x") + end(0, 2),
    "an absolute folder": ROOT + folder_row(b"/etc") + end(0, 2),
    "an empty component": ROOT + folder_row(b"a//b") + end(0, 2),
    "a negative size": ROOT + raw_file_row(b"a", facts(-5)) + end(1, 1),
    "a mode beyond": ROOT + raw_file_row(b"a", facts(mode=0o4755)) + end(1, 1),
    "an unknown kind": ROOT + b"\x63" + bytes(100),
    "half a row": ROOT + file_row(b"abc")[:-2],
    "no end": ROOT + file_row(b"a"),
    "nothing at all": b"",
}


@pytest.mark.parametrize("rows", BROKEN_SURVEYS.values(), ids=list(BROKEN_SURVEYS))
def test_surveys_that_break_the_protocol(at: Scene, monkeypatch: pytest.MonkeyPatch, rows: bytes) -> None:
    before = contents(at.to)
    tell(monkeypatch, rows)
    with pytest.raises(RemoteProtocolError, match="survey"):
        at.backup(mirror_deletes=True)
    assert contents(at.to).items() >= before.items()
    monkeypatch.undo()
    assert at.backup(mirror_deletes=True).complete
    assert not at.differences()


STRANGE_SURVEYS = {
    "files that are not there": ROOT + file_row(b"none", size=5) + end(1, 1),
    "a file that can't be so large": ROOT + file_row(b"small", size=1 << 62) + end(1, 1),
    "a file that is larger than any disk": ROOT + file_row(b"small", size=1 << 45) + end(1, 1),
    "a file that is smaller": ROOT + file_row(b"sub", size=5) + file_row(b"z", size=MEDIUM) + end(2, 1),
    "a file in place of a folder": ROOT + file_row(b"sub", size=5) + end(1, 1),
    "a folder in place of a file": ROOT + folder_row(b"small") + end(0, 2),
    "a file and a folder of one name": ROOT + file_row(b"new") + folder_row(b"new") + file_row(b"x") + end(2, 2),
    "a file in a file": ROOT + file_row(b"small", size=100) + folder_row(b"small/below") + end(1, 2),
    "a link and what is below it": ROOT
    + encode_link_row(LinkRow(b"way", facts(), b"sub"))
    + folder_row(b"way")
    + file_row(b"small", size=100)
    + end(1, 2),
    "a link to the outside": ROOT + encode_link_row(LinkRow(b"way", facts(), b"../..")) + end(0, 1),
    "a link by way of another": ROOT
    + encode_link_row(LinkRow(b"a", facts(), b"sub"))
    + encode_link_row(LinkRow(b"b", facts(), b"a/../../.."))
    + end(0, 1),
    "our own folder": ROOT
    + folder_row(b".pynetwork")
    + file_row(b"catalogue.sqlite", size=5)
    + folder_row(b".pynetwork/held")
    + end(1, 3),
    "a folder without those above it": ROOT + folder_row(b"x/y/z") + end(0, 2),
    "skipped things": ROOT + encode_skipped_row(SkippedRow(b"", "why not")) + end(0, 1),
    "times beyond all": ROOT
    + file_row(b"a", mtime_ns=-(1 << 63))
    + file_row(b"b", mtime_ns=(1 << 63) - 1)
    + folder_row(b"c", FOLDER._replace(mtime_ns=-(1 << 63)))
    + end(2, 2),
    "owners beyond all": ROOT + raw_file_row(b"small", facts(100, owner=0xFFFFFFFF)) + end(1, 1),
}


@pytest.mark.parametrize("rows", STRANGE_SURVEYS.values(), ids=list(STRANGE_SURVEYS))
def test_surveys_that_are_not_true(at: Scene, monkeypatch: pytest.MonkeyPatch, rows: bytes) -> None:
    before = contents(at.to)
    tell(monkeypatch, rows)
    at.backup(owner=True)
    assert nothing_wrong(at, before)
    assert (at.to / ".pynetwork/catalogue.sqlite").is_file()
    for path in at.to.rglob("*"):
        assert not path.is_symlink() or os.path.realpath(path).startswith(os.path.realpath(at.to))
    monkeypatch.undo()
    report = at.backup(mirror_deletes=True)
    if "place of a f" not in rows.decode("latin-1"):
        assert report.complete
    at.backup(mirror_deletes=True)
    assert contents(at.to) == contents(at.share)


def test_a_folder_that_is_gone_when_nobody_asked(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, ROOT + encode_gone_row(GoneRow(b"no/such")) + encode_gone_row(GoneRow(b"sub")) + end(0, 1))
    at.backup()
    monkeypatch.undo()
    assert at.backup().complete
    assert not at.differences()


def test_long_paths(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 KiB, and a little more than that."""
    folder = b"/".join([b"n" * 255] * 15) + b"/x"
    for length in (254, 255):
        tell(monkeypatch, ROOT + folder_row(folder) + file_row(b"f" * length, size=5) + end(1, 2))
        report = at.backup()
        assert report.files == 1
        assert [len(path) for path, _ in report.skipped] == ([] if length == 254 else [4097])
    tell(monkeypatch, ROOT + raw_folder_row(folder + b"/" + b"n" * 255 + b"/x") + end(0, 2))
    with pytest.raises(RemoteProtocolError):
        at.backup()


def test_a_deep_folder(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    path = b"/".join([b"d"] * 1100)
    tell(monkeypatch, ROOT + folder_row(path) + file_row(b"none", size=5) + end(1, 2))
    try:
        assert at.backup().complete
    finally:
        subprocess.run(["rm", "-r", at.to / "d"], check=True)


def raw_folder_row(path: bytes) -> bytes:
    return struct.pack("<BB", 1, 1) + FOLDER.encode() + struct.pack("<qqH", 1, 1, len(path)) + path


def test_a_survey_that_never_ends_can_be_interrupted(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def endless(_surveyor: Surveyor) -> Iterator[bytes]:
        yield ROOT
        number = 0
        while True:
            told.append(number)
            yield b"".join(file_row(b"%012d" % each, size=0) for each in range(number, number + 500))
            number += 500

    def interrupt() -> bool:
        if len(told) > 10 and threading.current_thread().name.startswith("lane"):
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(Surveyor, "survey", endless)
    monkeypatch.setattr(job.BackupJob, "show", lambda _job: interrupt())
    with pytest.raises(KeyboardInterrupt):
        at.backup()
    monkeypatch.undo()
    assert at.backup().complete
    assert not at.differences()


# Answers


def lie(monkeypatch: pytest.MonkeyPatch, code: Code, change: Lie) -> None:
    """Let the gateway's answers with this code be changed on their way."""
    send = ServedOperation.send

    def lying(operation: ServedOperation, said: int, head: bytes = b"", *buffers: Any) -> None:
        if said == code:
            said, head, body = change(said, bytes(head), b"".join(map(bytes, buffers)))
            send(operation, said, head, body)
        else:
            send(operation, said, head, *buffers)

    monkeypatch.setattr(ServedOperation, "send", lying)


def status(number: int) -> Lie:
    return lambda code, head, body: (code, bytes([number]) + head[1:], body)


def another_code(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return Code.MORE, head, body


def longer(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return code, head, body + b"more"


def shorter(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return code, head, body[:-1]


def empty(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return code, head, b""


def headless(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return code, b"", body


def other_number(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return code, head[:1] + struct.pack("<I", 77) + head[5:], body


def flipped(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    """The last byte, which is data where there is any."""
    return code, head, body[:-1] + bytes([body[-1] ^ 1]) if body else b""


def wrong_digest(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
    return code, head[:5] + bytes(16) + head[21:], body


PAGE_LIES = [another_code, shorter, empty]
HEADED = (Code.CHUNK, Code.SUMS, Code.PIECE, Code.SEAL)
HEAD_LIES = [another_code, headless, *map(status, (1, 2, 3, 4, 5, 255)), wrong_digest]
BODY_LIES = [shorter, longer, empty, flipped]


def cases() -> Iterator[tuple[Code, Lie]]:
    for code in HEADED:
        for change in [*HEAD_LIES, other_number, *(BODY_LIES if code != Code.SEAL else [])]:
            yield code, change
    for code in (Code.PACK, Code.GROWN):
        for change in [another_code, *BODY_LIES, *map(table_status, (1, 2, 3, 5, 99))]:
            yield code, change
    for change in PAGE_LIES:
        yield Code.PAGE, change


def table_status(number: int) -> Lie:
    """The status of the first file in a table."""
    return lambda code, head, body: (code, head, bytes([number]) + body[1:])


@pytest.mark.parametrize(("code", "change"), list(cases()))
def test_answers_that_are_not_true(at: Scene, monkeypatch: pytest.MonkeyPatch, code: Code, change: Lie) -> None:
    before = contents(at.to)
    lie(monkeypatch, code, change)
    try:
        report = at.backup()
    except (RemoteProtocolError, ConnectionLost):
        pass
    else:
        assert report.complete or {reason for _, reason in report.skipped}
    assert nothing_wrong(at, before)
    monkeypatch.undo()
    assert at.backup(mirror_deletes=True).complete
    assert not at.differences()


def test_answers_to_what_nobody_asked(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(at.to)
    send = ServedOperation.send

    def twice(operation: ServedOperation, said: int, head: bytes = b"", *buffers: Any) -> None:
        send(operation, said, head, *buffers)
        if said == Code.CHUNK:
            send(operation, said, head, *buffers)

    monkeypatch.setattr(ServedOperation, "send", twice)
    with pytest.raises(RemoteProtocolError):
        at.backup()
    assert nothing_wrong(at, before)


def test_a_file_that_is_called_changed_for_ever(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lie(monkeypatch, Code.SEAL, status(Status.CHANGED))
    lie(monkeypatch, Code.CHUNK, status(Status.CHANGED))
    report = at.backup()
    assert [path for path, _ in report.skipped] == ["sub/large new"]
    assert report.skipped[0].reason == "it changed while it was read"


@pytest.mark.parametrize("seed", range(8))
def test_answers_of_which_any_byte_is_wrong(at: Scene, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """What a wrong byte does to the digest of a whole file is that no digest of it can be right."""
    before = contents(at.to)
    choice = random.Random(seed)

    def spoil(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
        if not choice.random() < 0.5 or not head + body:
            return code, head, body
        data = bytearray(head + body)
        data[choice.randrange(min(len(data), 400))] ^= 1 << choice.randrange(8)
        return code, bytes(data[: len(head)]), bytes(data[len(head) :])

    for code in (Code.CHUNK, Code.SUMS, Code.PIECE, Code.SEAL, Code.PACK, Code.GROWN):
        lie(monkeypatch, code, spoil)
    with contextlib.suppress(RemoteProtocolError, ConnectionLost):
        at.backup(lanes=2)
    assert nothing_wrong(at, before)
    monkeypatch.undo()
    assert at.backup(mirror_deletes=True).complete
    assert not at.differences()


def test_sums_that_fit_nothing(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """They only cost what they made unusable."""

    def other_sums(code: int, head: bytes, body: bytes) -> tuple[int, bytes, bytes]:
        return code, head, b"".join(digest(body[place : place + 16]) for place in range(0, len(body), 16))

    lie(monkeypatch, Code.SUMS, other_sums)
    report = at.backup()
    assert report.complete
    assert report.received >= MEDIUM
    assert not at.differences()

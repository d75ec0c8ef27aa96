"""No name and no race leads out of a folder: neither side, asked by a hostile other one, reads or writes elsewhere."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from handshakes.errors import PynetworkError, RemoteProtocolError
from handshakes.manifest import Entry, decode_page, digest, encode_file
from handshakes.transfer import (
    ChunkHead,
    Code,
    PutHead,
    Row,
    Status,
    Want,
    decode_receipt,
    decode_rows,
    encode_names,
    encode_rows,
)
from pynetwork.client import CallerOperation, Client
from pynetwork.files import sharing
from tests.serving import PATIENCE, controller_of, serving

pytestmark = pytest.mark.system

SECRET = b"this lies outside"

ESCAPES = [
    "..",
    "../secret",
    "../../secret",
    "../../../../../../../../etc/passwd",
    "a/../../secret",
    "a/b/../../../secret",
    "./../secret",
    "a/./../../secret",
    "inside/../../secret",
    "inside/..",
    "../inside/../secret",
    ".",
    "./secret",
    "a/.",
    "",
    "/",
    "//",
    "/etc/passwd",
    "//etc/passwd",
    "///secret",
    "a//b",
    "a/",
    "/a/",
    "..\\secret",
    "..\\..\\secret",
    "a\\..\\..\\secret",
    "\\secret",
    "\\\\server\\share\\secret",
    "\\\\?\\C:\\secret",
    "\\\\.\\PhysicalDrive0",
    "C:",
    "C:secret",
    "C:/secret",
    "c:\\secret",
    "a/C:/secret",
    "Z:..\\secret",
    "secret\0",
    "secret\0.log",
    "\0",
    "a/\0/b",
    "../secret\0.log",
    "CON",
    "con.txt",
    "a/NUL",
    "nul.log",
    "PRN",
    "aux.tar.gz",
    "COM1",
    "com9.log",
    "LPT1.txt",
    "CONIN$",
    "NUL:stream",
    "AUX .txt",
    "..\x00/secret",
    "%2e%2e/../secret",
    "link/secret",
    "link/../secret",
    "x" * 256,
    "d/" * 2500 + "x",
]


class Ground:
    """A folder to stay in, with links that lead out of it, and a secret beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inside = root / "ground" / "folder"
        self.inside.mkdir(parents=True)
        (self.inside / "a" / "b").mkdir(parents=True)
        (self.inside / "inside").mkdir()
        self.outside = root / "outside"
        self.outside.mkdir()
        for place in (root, root / "ground", self.outside):
            (place / "secret").write_bytes(SECRET)
        (self.inside / "link").symlink_to(self.outside)
        (self.inside / "file-link").symlink_to(self.outside / "secret")
        self.before = self.around()

    def around(self) -> dict[str, bytes]:
        """Every file that is not inside, with its contents."""
        return {
            str(path): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_relative_to(self.inside)
        }

    def unharmed(self) -> bool:
        return self.around() == self.before


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def answer(operation: CallerOperation) -> tuple[bytes, bytes]:
    message = operation.receive(PATIENCE)
    assert message is not None
    return message.head, bytes(message.body)


def test_a_link_is_replaced_and_not_written_through(ground: Ground) -> None:
    source = ground.root / "file-link"
    source.write_bytes(b"uploaded")
    with serving(download_dir=ground.inside) as gateway, controller_of(gateway).get_swarm(1) as swarm:
        assert swarm.upload([source], progress=False).files == 1
    assert (ground.inside / "file-link").read_bytes() == b"uploaded"
    assert not (ground.inside / "file-link").is_symlink()
    assert (ground.outside / "secret").read_bytes() == SECRET


def test_a_link_is_not_read_through(ground: Ground) -> None:
    with serving(share={"s": ground.inside}) as gateway, controller_of(gateway).get_swarm(1) as swarm:
        report = swarm.download("s", files=["file-link"], to=ground.root / "target", progress=False)
    assert report.files == 0
    assert [skipped.path for skipped in report.skipped] == ["file-link"]


def test_the_corpus_is_large_enough_and_differs() -> None:
    assert len(set(ESCAPES)) == len(ESCAPES) >= 40


# A hostile caller


@contextmanager
def reading(ground: Ground) -> Iterator[Client]:
    with serving(share={"s": ground.inside}) as gateway, controller_of(gateway).get_client() as client:
        yield client


@pytest.mark.parametrize("path", ESCAPES)
def test_a_gateway_reads_nothing_outside(ground: Ground, path: str) -> None:
    entry = Entry(path, len(SECRET), 0, 0o644)
    with reading(ground) as client:
        with client.open("files.list", "s", True) as operation:
            operation.send(Code.NAMES, b"", encode_names([path]))
            page = decode_page(answer(operation)[1])
        assert page.files == []
        assert len(page.skipped) == 1
        with client.open("files.fetch", "s") as operation:
            operation.send(Code.RUN, Want(entry, 4096, 0, 1).encode())
            head, body = answer(operation)
            assert ChunkHead.decode(head).status is Status.FAILED
            assert SECRET not in body
            operation.send(Code.SEAL, Want(entry, 4096).encode())
            head, body = answer(operation)
            assert ChunkHead.decode(head).status is Status.FAILED
            operation.send(Code.PACK, b"", encode_file(entry))
            rows, data = decode_rows(answer(operation)[1], 1)
            assert rows[0].status is not Status.OK
            assert SECRET not in bytes(data)


@pytest.mark.parametrize("path", ESCAPES)
def test_a_gateway_writes_nothing_outside(ground: Ground, path: str) -> None:
    data = b"written"
    entry = Entry(path, len(data), 0, 0o644)
    with serving(download_dir=ground.inside) as gateway, controller_of(gateway).get_client() as client:
        with client.open("files.store", "", "token", False) as operation:
            for code, head in (
                (Code.CHUNK, PutHead(Status.OK, 0, entry, 4096, 0, digest(data))),
                (Code.SEAL, PutHead(Status.OK, 0, entry, 4096, 0, digest(data))),
            ):
                operation.send(code, head.encode(), data if code is Code.CHUNK else b"")
                (receipt,) = decode_receipt(answer(operation)[1], 1)
                assert receipt.status is not Status.OK
                assert receipt.reason
            table = encode_file(entry)
            rows = encode_rows([Row(Status.OK, 0o644, len(data), 0, digest(data))])
            operation.send(Code.PACK, len(table).to_bytes(4, "little"), table, rows, data)
            (receipt,) = decode_receipt(answer(operation)[1], 1)
            assert receipt.status is not Status.OK
        if path:  # an empty folder name is the folder for uploads itself
            with pytest.raises(PynetworkError):
                client.request("files.target", path)
    assert ground.unharmed()


# A hostile gateway, and names that a caller gives itself


@pytest.mark.parametrize("path", ESCAPES)
def test_a_controller_writes_nothing_outside(ground: Ground, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    share = ground.root / "share"
    (share / "good").parent.mkdir()
    (share / "good").write_bytes(b"good")
    status = (share / "good").stat()
    evil = Entry(path, len(SECRET), 0, 0o644)
    good = Entry("good", status.st_size, status.st_mtime_ns, 0o644, status.st_ino & 0xFFFFFFFF)
    monkeypatch.setattr(sharing, "_walked", lambda _folder: (encode_file(each) for each in (evil, good)))
    with serving(share={"s": share}) as gateway, controller_of(gateway).get_swarm(2) as swarm:
        if path == "link/secret":
            # A plain name, which a link of this side's own makes dangerous: that file is skipped.
            report = swarm.download("s", to=ground.inside, progress=False)
            assert [skipped.path for skipped in report.skipped if skipped.path != "good"] == [path]
        else:
            with pytest.raises(RemoteProtocolError, match="lists what it must not"):
                swarm.download("s", to=ground.inside, progress=False)
    for place in ("secret", "ground/secret", "outside/secret"):
        assert (ground.root / place).read_bytes() == SECRET
    assert sorted(os.listdir(ground.root)) == ["ground", "outside", "secret", "share"]
    assert sorted(os.listdir(ground.outside)) == ["secret"]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_name_that_a_caller_lists_itself_is_refused_too(ground: Ground, path: str) -> None:
    target = ground.root / "target"
    with serving(share={"s": ground.inside}) as gateway, controller_of(gateway).get_swarm(1) as swarm:
        try:
            report = swarm.download("s", files=[path], to=target, progress=False)
        except PynetworkError:
            return
        assert report.files == 0
        assert [skipped.path for skipped in report.skipped] == [path]
    assert not target.exists() or not [each for each in target.rglob("*") if each.is_file()]


# Races with links


class Swapping:
    """Replaces a folder with a link to another, and back, as fast as it can."""

    def __init__(self, folder: Path, elsewhere: Path) -> None:
        self._folder, self._aside, self._elsewhere = folder, folder.with_name("aside"), elsewhere
        self._ended = threading.Event()
        self.rounds = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Swapping:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            # A transfer may make the folder anew in the moment when nothing has its name, and fill it.
            with suppress(OSError):
                os.rename(self._folder, self._aside)
            with suppress(FileExistsError):
                os.symlink(self._elsewhere, self._folder)
                self.rounds += 1
                os.unlink(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):
                os.rename(self._aside, self._folder)


def test_a_download_follows_no_link_that_is_put_in_its_way(ground: Ground) -> None:
    folder = ground.inside / "swapped"
    folder.mkdir()
    names = [f"{number}.log" for number in range(20)]
    for name in names:
        (folder / name).write_bytes(b"inside" * 100)
        (ground.outside / name).write_bytes(SECRET)
    arrived = 0
    with (
        serving(share={"s": ground.inside}) as gateway,
        controller_of(gateway).get_swarm(2) as swarm,
        Swapping(folder, ground.outside) as swapping,
    ):
        for number in range(40):
            target = ground.root / f"target{number}"
            files = [f"swapped/{name}" for name in names]
            report = swarm.download("s", to=target, progress=False, files=files if number % 2 else None)
            arrived += report.files
            for path in target.rglob("*"):
                assert not path.is_file() or SECRET not in path.read_bytes()
    assert swapping.rounds > 10
    assert arrived > 0


def test_an_upload_follows_no_link_that_is_put_in_its_way(ground: Ground) -> None:
    source = ground.root / "source"
    source.mkdir()
    for number in range(10):
        (source / f"{number}.bin").write_bytes(os.urandom(3000))
    folder = ground.inside / "swapped"
    folder.mkdir()
    landed = 0
    paths = [source / f"{number}.bin" for number in range(10)]
    with (
        serving(download_dir=ground.inside) as gateway,
        controller_of(gateway).get_swarm(2) as swarm,
        Swapping(folder, ground.outside) as swapping,
    ):
        for _ in range(40):
            with suppress(PynetworkError):
                landed += swarm.upload(paths, "swapped", progress=False).files
            assert sorted(os.listdir(ground.outside)) == ["secret"]
    assert swapping.rounds > 10
    assert landed > 0

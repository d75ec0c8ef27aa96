from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, ConfigurationError, ConnectionLost, Forbidden, NotFound, UnsafePath
from handshakes.manifest import Skipped
from pynetwork.files import jobs
from pynetwork.files.reading import Reader
from pynetwork.files.storing import StoringLane
from pynetwork.gateway import Gateway
from tests.conformance.breaking import break_mine
from tests.conformance.drivers import Driver
from tests.pynetwork.files.transferring import CHUNK, once, plant, tree, write

DAMAGED = "it arrived damaged several times"


@dataclass
class Place:
    """A gateway that shares ``share`` as "s" and stores uploads in ``uploads``, a swarm of it, and a ``target``."""

    gateway: Gateway
    swarm: Any
    share: Path
    uploads: Path
    target: Path

    def download(self, **options: Any) -> Any:
        return self.swarm.download("s", to=self.target, **{"progress": False, **options})

    def upload(self, *paths: Path, **options: Any) -> Any:
        return self.swarm.upload(paths, **{"progress": False, **options})


@contextlib.contextmanager
def placed(driver: Driver, root: Path, lanes: int = 2, **options: Any) -> Iterator[Place]:
    share, uploads, target = (root / name for name in ("share", "uploads", "target"))
    share.mkdir()
    with driver.swarming(lanes, share={"s": share}, download_dir=uploads, **options) as (gateway, swarm):
        yield Place(gateway, swarm, share, uploads, target)


@pytest.fixture
def here(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """With chunks that are so small that few bytes are many."""
    monkeypatch.setattr(jobs, "CHUNK_SIZE", CHUNK)
    with placed(driver, tmp_path) as opened:
        yield opened


def test_a_download_brings_everything_as_it_is(here: Place) -> None:
    expected = plant(here.share)
    report = here.download()
    assert tree(here.target) == expected
    assert (here.target / "empty/folder").is_dir()
    assert (report.files, report.bytes) == (len(expected), sum(len(contents) for contents, _, _ in expected.values()))
    assert (report.chunks_again, report.skipped, report.lanes_lost, report.lanes_replaced) == (0, [], 0, 0)
    assert report.rate > 0
    assert all(client.ping() > 0 for client in here.swarm.clients)


def test_an_upload_brings_everything_as_it_is(here: Place) -> None:
    expected = plant(here.share)
    single = write(here.target / "single", b"alone")
    report = here.upload(here.share, single, dirname="in/coming")
    assert tree(here.uploads / "in/coming/share") == expected
    assert (here.uploads / "in/coming/share/empty/folder").is_dir()
    assert (here.uploads / "in/coming/single").read_bytes() == b"alone"
    assert (report.files, report.skipped) == (len(expected) + 1, [])


def test_a_pattern_chooses_by_the_whole_path(here: Place) -> None:
    for path in ("a.log", "a.log.1", "sub/b.log", "sub/c.txt"):
        write(here.share / path, b"x")
    assert here.download(pattern=r".+\.log").files == 2
    assert sorted(tree(here.target)) == ["a.log", "sub/b.log"]
    assert here.download(pattern="nothing").files == 0


def test_a_list_chooses_files_and_what_is_missing_is_told(here: Place) -> None:
    for path in ("a", "sub/b", "c"):
        write(here.share / path, path.encode())
    report = here.download(files=["sub/b", "missing", "a"])
    assert sorted(tree(here.target)) == ["a", "sub/b"]
    assert [path for path, _ in report.skipped] == ["missing"]
    assert here.download(files=[]).files == 0


def test_nothing_but_an_empty_folder(here: Place) -> None:
    (here.share / "empty").mkdir()
    assert here.download().files == 0
    assert (here.target / "empty").is_dir()
    assert here.upload(here.share).files == 0
    assert (here.uploads / "share/empty").is_dir()


def test_large_and_many_at_their_usual_sizes(driver: Driver, tmp_path: Path) -> None:
    with placed(driver, tmp_path, lanes=3) as here:
        write(here.share / "large", os.urandom(9_000_000))
        for number in range(400):
            write(here.share / f"many/{number}", os.urandom(number))
        assert here.download().files == 401
        assert here.upload(here.share).files == 401
        assert tree(here.target) == tree(here.share) == tree(here.uploads / "share")


def test_progress_is_told(here: Place) -> None:
    told: list[tuple[int, ...]] = []
    write(here.share / "file", b"x" * 10 * CHUNK)
    here.download(progress=lambda *figures: told.append(figures))
    assert told[-1] == (10 * CHUNK, 10 * CHUNK, 1, 1)
    assert told == sorted(told)


def test_durable(here: Place) -> None:
    write(here.share / "file", b"x" * 3 * CHUNK)
    write(here.share / "small", b"x")
    assert here.download(durable=True).files == 2
    assert here.upload(here.share, durable=True).files == 2


# Damage, losses


def damaged(read: Callable[..., Any], *arguments: Any) -> Any:
    head, data = read(*arguments)
    data[0] ^= 1
    return head, data


@pytest.mark.parametrize("way", ["download", "upload"])
def test_a_damaged_chunk_is_moved_again(here: Place, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    write(here.share / "large", os.urandom(10 * CHUNK))
    write(here.share / "small", b"small")
    monkeypatch.setattr(Reader, "read_chunk", once(damaged, Reader.read_chunk, at=3))
    monkeypatch.setattr(Reader, "read_pack", once(damaged, Reader.read_pack))
    report = here.download() if way == "download" else here.upload(here.share)
    assert tree(here.target if way == "download" else here.uploads / "share") == tree(here.share)
    assert (report.files, report.chunks_again, report.skipped) == (2, 2, [])


def test_one_bad_file_leaves_the_others_alone(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad", "good"):
        write(here.share / name, os.urandom(10 * CHUNK))
    read = Reader.read_chunk

    def read_chunk(self: Reader, entry: Any, *rest: int) -> Any:
        found = read(self, entry, *rest)
        if entry.path == "bad":
            found[1][0] ^= 1
        return found

    monkeypatch.setattr(Reader, "read_chunk", read_chunk)
    report = here.download()
    assert report.skipped == [Skipped("bad", DAMAGED)]
    assert list(tree(here.target)) == ["good"]


def test_a_lane_that_is_lost_in_a_download_is_replaced(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(read: Callable[..., Any], *arguments: Any) -> Any:
        break_mine(here.gateway)
        return read(*arguments)

    for number in range(3):
        write(here.share / f"{number}", os.urandom(20 * CHUNK))
    monkeypatch.setattr(Reader, "read_chunk", once(cut, Reader.read_chunk, at=9))
    report = here.download()
    assert tree(here.target) == tree(here.share)
    assert (report.files, report.skipped, report.lanes_lost, report.lanes_replaced) == (3, [], 0, 1)


def test_a_lane_that_is_lost_in_an_upload_is_replaced(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(take: Callable[..., Any], *arguments: Any) -> Any:
        break_mine(here.gateway)
        return take(*arguments)

    for number in range(3):
        write(here.share / f"{number}", os.urandom(20 * CHUNK))
    monkeypatch.setattr(StoringLane, "_keep_chunk", once(cut, StoringLane._keep_chunk, at=9))
    report = here.upload(here.share)
    assert tree(here.uploads / "share") == tree(here.share)
    assert (report.files, report.skipped, report.lanes_lost, report.lanes_replaced) == (3, [], 0, 1)


@pytest.mark.usefixtures("impatient")
def test_a_gateway_that_stops_ends_a_download(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(read: Callable[..., Any], *arguments: Any) -> Any:
        here.gateway._pool.size = 0
        for handler in here.gateway._pool.handlers():
            handler.link.stream.shutdown()
        return read(*arguments)

    write(here.share / "file", os.urandom(50 * CHUNK))
    monkeypatch.setattr(Reader, "read_chunk", once(stop, Reader.read_chunk, at=9))
    with pytest.raises(ConnectionLost):
        here.download()
    assert tree(here.target) == {}


# What can't be asked for


def test_refusals(here: Place) -> None:
    with pytest.raises(NotFound, match="'other'"):
        here.swarm.download("other", to=here.target)
    with pytest.raises(ConfigurationError, match="pattern= and files="):
        here.download(pattern="x", files=["x"])
    with pytest.raises(UnsafePath):
        here.download(files=["../x"])
    with pytest.raises(UnsafePath):
        here.upload(here.share, dirname="../up")
    write(here.share / "file", b"x")
    assert here.download().files == 1


def test_rights(driver: Driver, tmp_path: Path) -> None:
    with placed(driver, tmp_path, rights="call") as here:
        write(here.share / "file", b"x")
        with pytest.raises(Forbidden, match="'read'"):
            here.download()
        with pytest.raises(Forbidden, match="'write'"):
            here.upload(here.share)


def test_a_target_that_can_not_be(here: Place) -> None:
    write(here.share / "file", b"x")
    write(here.target, b"a file, not a folder")
    with pytest.raises(OSError, match="target"):
        here.download()
    write(here.uploads / "in", b"a file, not a folder")
    with pytest.raises(BadRequest):
        here.upload(here.share, dirname="in")

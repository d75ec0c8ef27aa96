from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from handshakes.errors import ConfigurationError, Forbidden, NotFound, UnsafePath
from handshakes.manifest import CHUNK_LIMIT, Skipped
from pynetwork.files import download, folders, list_share, upload
from pynetwork.lanes import Lanes, OneLane
from tests.pynetwork.files.transferring import CHUNK, STAMP, Site, plant, site, tree, write
from tests.serving import Background, controller_of, serving


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


# Downloads


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_download_brings_everything_as_it_is(tmp_path: Path, lanes: int) -> None:
    with site(tmp_path, lanes) as here:
        expected = plant(here.share)
        report = here.download()
    assert tree(here.target) == expected
    assert (here.target / "empty/folder").is_dir()
    assert report.files == len(expected)
    assert report.bytes == sum(len(contents) for contents, _, _ in expected.values())
    assert report.chunks >= report.files
    assert (report.chunks_again, report.skipped, report.lanes_lost, report.lanes_replaced) == (0, [], 0, 0)
    assert report.rate == report.bytes / report.seconds > 0


@pytest.mark.parametrize("handles", [True, False])
def test_both_ways_where_directories_have_no_handles(
    tmp_path: Path, handles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(folders.Folder.__init__.__kwdefaults__, "handles", handles)
    with site(tmp_path) as here:
        expected = plant(here.share)
        here.download()
        here.upload(here.share)
        assert tree(here.target) == expected
        assert tree(here.uploads / "share") == expected


def test_again_over_what_is_there(here: Site) -> None:
    expected = plant(here.share)
    here.download()
    for path in here.target.rglob("*.bin"):
        path.chmod(0o600)
        path.write_bytes(b"something else")
    here.download()
    assert tree(here.target) == expected


def test_a_pattern_chooses_by_the_whole_path(here: Site) -> None:
    for path in ("a.log", "a.log.1", "sub/b.log", "sub/c.txt"):
        write(here.share / path, b"x")
    (here.share / "sub/link.log").symlink_to("b.log")
    (here.share / "link.txt").symlink_to("a.log")
    (here.share / "empty").mkdir()
    report = here.download(pattern=r".+\.log")
    assert sorted(tree(here.target)) == ["a.log", "sub/b.log"]
    assert report.skipped == [Skipped("sub/link.log", "symbolic link")]
    assert not (here.target / "empty").exists()
    assert here.download(pattern="nothing").files == 0


def test_a_list_chooses_files(here: Site) -> None:
    for number in range(600):
        write(here.share / f"{number}.log", str(number).encode())
    (here.share / "folder").mkdir()
    names = [f"{number}.log" for number in range(590)]
    report = here.download(files=[*names, *names, "missing.log", "folder"])
    assert sorted(tree(here.target)) == sorted(names)
    assert report.files == 590
    assert report.skipped == [Skipped("folder", "folder"), Skipped("missing.log", "it is not there")]
    assert here.download(files=[], to=here.target.parent / "none").files == 0


@pytest.mark.parametrize("chosen", [{}, {"pattern": ".+log"}, {"files": ["a.log", "sub/b.log", "sub/deep/large.log"]}])
def test_flat_files_land_side_by_side(here: Site, chosen: dict[str, Any]) -> None:
    write(here.share / "a.log", b"a")
    write(here.share / "sub/b.log", b"b")
    write(here.share / "sub/deep/large.log", b"c" * 5 * CHUNK)
    (here.share / "empty").mkdir()
    report = here.download(flat=True, **chosen)
    assert report.skipped == []
    found = {path: contents for path, (contents, _, _) in tree(here.target).items()}
    assert found == {"a.log": b"a", "b.log": b"b", "large.log": b"c" * 5 * CHUNK}
    assert not any(path.is_dir() for path in here.target.iterdir())
    again = here.download(flat=True, overwrite=False, **chosen)
    assert [path for path, _ in again.skipped] == ["a.log", "sub/b.log", "sub/deep/large.log"]


@pytest.mark.parametrize("size", [10, 5 * CHUNK])
def test_of_flat_files_with_one_name_the_first_is_brought(here: Site, size: int) -> None:
    for name in ("a.log", "sub/a.log", "sub/deep/a.log"):
        write(here.share / name, name.encode()[:1] * size)
    report = here.download(flat=True, files=["sub/a.log", "a.log", "sub/deep/a.log"])
    assert {path: contents for path, (contents, _, _) in tree(here.target).items()} == {"a.log": b"s" * size}
    reason = "another file has this name in the target folder"
    assert report.skipped == [Skipped("a.log", reason), Skipped("sub/deep/a.log", reason)]


def test_one_client_as_lanes(here: Site) -> None:
    expected = plant(here.share)
    with controller_of(here.gateway).get_client() as client:
        report = download(OneLane(client), "s", to=here.target, progress=False, chunk_size=CHUNK)
        assert tree(here.target) == expected
        assert (report.files, report.lanes_lost, report.lanes_replaced) == (len(expected), 0, 0)
        upload(OneLane(client), [here.target], dirname="sent", progress=False, chunk_size=CHUNK)
        assert tree(here.uploads / "sent/target") == expected
        with pytest.raises(NotFound):
            download(OneLane(client), "nothing", to=here.target)
        assert client.ping() > 0


def test_a_share_is_listed(here: Site) -> None:
    for name in ("a.log", "sub/b.log"):
        write(here.share / name, b"x")
    (here.share / "link").symlink_to("a.log")
    with controller_of(here.gateway).get_client() as client:
        pages = list_share(client, "s")
        assert sorted(entry.path for page in pages for entry in page.files) == ["a.log", "sub/b.log"]
        assert [entry.path for page in pages for entry in page.folders] == ["sub"]
        assert [entry for page in pages for entry in page.skipped] == [Skipped("link", "symbolic link")]
        pages = list_share(client, "s", ["sub/b.log", "link", "none"])
        assert [entry.path for page in pages for entry in page.files] == ["sub/b.log"]
        assert [entry.path for page in pages for entry in page.skipped] == ["link", "none"]
        with pytest.raises(NotFound):
            list_share(client, "t")


def test_what_can_not_be_is_refused_before_anything_is_sent(here: Site) -> None:
    before = here.gateway.stats()["operations"]
    with pytest.raises(ConfigurationError, match=r"pattern='\(' is no regular expression: .+"):
        here.download(pattern="(")
    with pytest.raises(ConfigurationError, match="one of them"):
        here.download(pattern=".*", files=["a"])
    with pytest.raises(ConfigurationError, match="must be a list"):
        here.download(files="a.log")
    with pytest.raises(ConfigurationError, match="must be a list"):
        upload(here.lanes, "a.log")
    for chunk_size in (0, CHUNK_LIMIT + 1):
        with pytest.raises(ConfigurationError, match=f"chunk_size={chunk_size}"):
            here.download(chunk_size=chunk_size)
    for name in ("../up", "/etc/passwd", "a\\b"):
        with pytest.raises(UnsafePath, match=re.escape(repr(name))):
            here.download(files=["fine", name])
        with pytest.raises(UnsafePath, match=re.escape(repr(name))):
            here.upload(here.share, dirname=name)
    assert here.gateway.stats()["operations"] == before


def test_an_unknown_share_is_named_and_nothing_is_made(here: Site) -> None:
    with pytest.raises(NotFound, match="'data'"):
        download(here.lanes, "data", to=here.target)
    assert not here.target.exists()


def test_a_key_without_the_right_brings_nothing(tmp_path: Path) -> None:
    write(tmp_path / "share/file", b"x")
    options = {
        "key": {"calls only, please": "call"},
        "share": {"s": tmp_path / "share"},
        "download_dir": tmp_path / "up",
    }
    with serving(**options) as gateway:
        lanes = Lanes(controller_of(gateway, key="calls only, please").get_client, 1)
        with pytest.raises(Forbidden, match="'read'"):
            download(lanes, "s", to=tmp_path / "down")
        with pytest.raises(Forbidden, match="'write'"):
            upload(lanes, [tmp_path / "share"])
        lanes.close()
    assert not (tmp_path / "down").exists()
    assert not (tmp_path / "up").exists()


def test_private_folders_stay_private(here: Site) -> None:
    for path in ("private/a", "private/deep/b", "open/c"):
        write(here.share / path, b"x" * 2 * CHUNK)
    (here.share / "private").chmod(0o700)
    (here.share / "private/deep").chmod(0o710)
    here.download(pattern=".*/.")
    here.upload(here.share)
    for root in (here.target, here.uploads / "share"):
        modes = [(root / path).stat().st_mode & 0o777 for path in ("private", "private/deep")]
        assert modes == [0o700, 0o710]


def test_existing_files_can_be_kept(here: Site) -> None:
    for name in ("small", "sub/large", "new"):
        write(here.share / name, b"x" * (3 * CHUNK if name == "sub/large" else 1))
    write(here.target / "small", b"mine")
    write(here.target / "sub/large", b"mine")
    report = here.download(overwrite=False)
    assert report.skipped == [Skipped("small", "it exists already"), Skipped("sub/large", "it exists already")]
    assert {path: contents for path, (contents, _, _) in tree(here.target).items()} == {
        "small": b"mine",
        "sub/large": b"mine",
        "new": b"x",
    }


def test_durable_files_are_flushed_with_their_folders(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write(here.share / "small", b"x")
    write(here.share / "large", b"x" * 2 * CHUNK)
    here.download()
    here.upload(here.share)
    assert flushed == []
    here.download(durable=True)
    here.upload(here.share, durable=True)
    for root in (here.target, here.uploads / "share"):
        names = [path for path in flushed if path.startswith(str(root))]
        assert names.count(str(root)) == 2
        assert sum(path.endswith(".partial") for path in names) == 2


def test_holes_stay_holes_in_both_directions(here: Site) -> None:
    here.share.joinpath("sub").mkdir()
    path = here.share / "sub/sparse"
    with path.open("wb") as file:
        file.truncate(4 << 20)
        file.seek(2 << 20)
        file.write(b"island")
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system knows no holes")
    here.download(chunk_size=1 << 16)
    here.upload(here.share, chunk_size=1 << 16)
    for copy in (here.target / "sub/sparse", here.uploads / "share/sub/sparse"):
        assert copy.read_bytes() == path.read_bytes()
        assert copy.stat().st_blocks * 512 <= 1 << 17


# Uploads


@pytest.mark.parametrize("lanes", [1, 4])
def test_an_upload_brings_everything_as_it_is(tmp_path: Path, lanes: int) -> None:
    with site(tmp_path, lanes) as here:
        expected = plant(here.share)
        report = here.upload(here.share, dirname="in/coming")
    assert tree(here.uploads) == {f"in/coming/share/{path}": file for path, file in expected.items()}
    assert (here.uploads / "in/coming/share/empty/folder").is_dir()
    assert report.files == len(expected)
    assert report.bytes == sum(len(contents) for contents, _, _ in expected.values())
    assert (report.chunks_again, report.skipped) == (0, [])


def test_files_and_folders_keep_their_names(here: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "one/a.bin", b"a")
    write(tmp_path / "two/sub/b.bin", b"b" * 2 * CHUNK)
    monkeypatch.chdir(tmp_path / "two")
    report = upload(here.lanes, ["../one/a.bin", "sub", "."], progress=False)
    assert report.skipped == []
    assert sorted(tree(here.uploads)) == ["a.bin", "sub/b.bin", "two/sub/b.bin"]
    assert upload(here.lanes, [], progress=False).files == 0


def test_two_files_with_one_name_are_not_mixed_up(here: Site, tmp_path: Path) -> None:
    write(tmp_path / "one/data.bin", b"first")
    write(tmp_path / "two/data.bin", b"second")
    report = here.upload(tmp_path / "one/data.bin", tmp_path / "two/data.bin")
    assert report.skipped == [Skipped(str(tmp_path / "two/data.bin"), "another file of this upload has the same name")]
    assert tree(here.uploads)["data.bin"][0] == b"first"


def test_what_can_not_be_uploaded_is_skipped(here: Site, tmp_path: Path) -> None:
    write(tmp_path / "good", b"good")
    write(tmp_path / ".x.partial", b"half")
    write(tmp_path / "aux.log", b"device")
    (tmp_path / "link").symlink_to("good")
    os.mkfifo(tmp_path / "pipe")
    paths = [tmp_path / name for name in ("good", "none", "link", "pipe", "aux.log", ".x.partial")]
    report = here.upload(*paths, tmp_path / "none/deep")
    reasons = {Path(path).relative_to(tmp_path).as_posix(): reason for path, reason in report.skipped}
    assert sorted(tree(here.uploads)) == ["good"]
    assert reasons.pop("aux.log").endswith("names a device on Windows")
    assert reasons == {
        "none": "no such file",
        "none/deep": "no such file",
        "link": "symbolic link",
        "pipe": "named pipe",
        ".x.partial": "it is a partial file",
    }


# Files that change


def test_a_log_that_grows_comes_as_a_beginning_of_itself(here: Site) -> None:
    path = write(here.share / "grow.log", b"")
    stop, begun = threading.Event(), threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as log:
            number = 0
            while not stop.is_set():
                log.write(f"{number:015}\n".encode() * 16)
                number += 1
                if number >= 2000:
                    begun.set()
                    stop.wait(0.0002)

    writer = Background(grow)
    try:
        assert begun.wait(20)
        for _ in range(10):
            report = here.download(files=["grow.log"])
            assert report.skipped == []
            copy = (here.target / "grow.log").read_bytes()
            assert len(copy) == report.bytes >= 2000 * 256
            with path.open("rb") as log:
                assert copy == log.read(len(copy))
    finally:
        stop.set()
        writer.result()


def test_a_file_that_is_written_over_is_never_mixed(here: Site) -> None:
    """A writer keeps filling the file with one letter after the other, each version renamed into place or in place."""
    size = 40 * CHUNK
    path = write(here.share / "state", b"a" * size)
    stop = threading.Event()

    def rewrite() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            letter = bytes([ord("a") + number % 26])
            if number % 2:
                with path.open("r+b") as file:
                    file.write(letter * size)
            else:
                write(path.with_name("next"), letter * size, mtime_ns=STAMP + number)
                path.with_name("next").replace(path)
            stop.wait(0.002)

    writer = Background(rewrite)
    try:
        whole = 0
        for _ in range(40):
            report = here.download(files=["state"])
            if report.files:
                copy = (here.target / "state").read_bytes()
                assert len(copy) == size
                assert len(set(copy)) == 1, "two versions were mixed"
                whole += 1
            else:
                assert report.skipped[0].reason in {"it changed while it was read", "it is not there"}
        assert whole > 0
    finally:
        stop.set()
        writer.result()


def test_a_log_that_is_cut_while_it_is_read_does_no_harm(here: Site) -> None:
    path = write(here.share / "cut.log", b"")
    stop = threading.Event()

    def rotate() -> None:
        while not stop.is_set():
            with path.open("ab", buffering=0) as log:
                for _ in range(30):
                    log.write(b"line\n" * 1000)
            os.truncate(path, 0)

    writer = Background(rotate)
    try:
        for _ in range(30):
            report = here.download()
            assert len(report.skipped) + report.files == 1
            copy = here.target / "cut.log"
            contents = copy.read_bytes() if copy.exists() else b""
            assert contents == (b"line\n" * len(contents))[: len(contents)]
    finally:
        stop.set()
        writer.result()
    assert sorted(os.listdir(here.target)) in (["cut.log"], [])


# Progress and report


def test_progress_is_told_to_who_asks(here: Site) -> None:
    plant(here.share)
    for move in (here.download, lambda **options: here.upload(here.share, **options)):
        told: list[tuple[int, int, int, int]] = []
        report = move(progress=lambda *figures, told=told: told.append(figures))
        assert told[0][0] == told[0][2] == 0
        assert told[-1] == (report.bytes, report.bytes, report.files, report.files)
        assert told == sorted(told)


def test_a_bar_is_shown_on_stderr_when_wanted(here: Site, capsys: pytest.CaptureFixture[str]) -> None:
    write(here.share / "file", b"x" * 10 * CHUNK)
    here.download(progress=None)
    assert capsys.readouterr() == ("", "")
    here.download(progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "download: 100%" in shown.err
    assert "1/1 files" in shown.err
    assert "40.0k/40.0k" in shown.err
    here.upload(here.share, progress=True)
    assert "upload: 100%" in capsys.readouterr().err


def test_a_bar_is_shown_on_a_terminal(
    here: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here.share / "file", b"x")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    here.download(progress=None)
    assert "download: 100%" in capsys.readouterr().err
    here.download(progress=False)
    assert capsys.readouterr().err == ""


def test_the_report_is_json_whatever_the_names(here: Site) -> None:
    (here.share / os.fsdecode(b"odd \xff")).symlink_to("nowhere")
    write(here.share / "file", b"x")
    values = orjson.loads(orjson.dumps(here.download().to_dict()))
    assert values["skipped"] == [{"path": "odd ?", "reason": "symbolic link"}]
    assert (values["files"], values["bytes"]) == (1, 1)
    assert values["rate"] > 0
    assert values.keys() == {
        "files",
        "bytes",
        "seconds",
        "chunks",
        "chunks_again",
        "skipped",
        "lanes_lost",
        "lanes_replaced",
        "rate",
    }

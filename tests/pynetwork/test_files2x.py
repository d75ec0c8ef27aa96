"""What 2.x did with files, by the names that it had for that."""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import ConfigurationError, ConnectionLost, Forbidden, NotFound, PynetworkError, UnsafePath
from handshakes.manifest import Entry
from pynetwork import files2x
from pynetwork.controller import Controller
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder
from pynetwork.files.partials import PartialFile
from pynetwork.names2x import Client
from tests.serving import controller_of, serving

NAMES = ["a.log", "b.log", "b.txt", "RFIN.log", "sub/a.log", "sub/c.log", "sub/deep/d.log"]


def echo(number: int) -> int:
    return number


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"contents of {name}")
    return tmp_path / "logs"


def fetched(tmp_path: Path) -> dict[str, str]:
    """What has arrived: path below ``got`` and contents."""
    found = (path for path in (tmp_path / "got").rglob("*") if path.is_file())
    return {str(path.relative_to(tmp_path / "got")): path.read_text() for path in found}


@pytest.fixture
def sharing(tmp_path: Path, logs: Path) -> Iterator[Client]:
    with (
        serving(echo, share=[logs], download_dir=tmp_path / "uploads") as gateway,
        controller_of(gateway, download_dir=tmp_path / "got").get_client() as client,
    ):
        yield client


# From the gateway


def test_a_folder_is_named_by_its_path(tmp_path: Path, logs: Path, sharing: Client) -> None:
    sharing.get_files_from_gateway(folder=str(logs))
    assert fetched(tmp_path) == {name: f"contents of {name}" for name in NAMES if "/" not in name}
    assert sharing.get_subroutine_batch("echo", [5]) == 5


@pytest.mark.parametrize("spelling", ["{}/", "{}/.", "{}/sub/..", "{}//"])
def test_spellings_of_a_path(tmp_path: Path, logs: Path, sharing: Client, spelling: str) -> None:
    sharing.get_files_from_gateway(folder=spelling.format(logs), regex=".*RFIN")
    assert list(fetched(tmp_path)) == ["RFIN.log"]


def test_a_folder_below_a_shared_one(tmp_path: Path, logs: Path, sharing: Client) -> None:
    sharing.get_files_from_gateway(folder=f"{logs}/sub")
    assert fetched(tmp_path) == {"a.log": "contents of sub/a.log", "c.log": "contents of sub/c.log"}


def test_a_folder_that_is_not_there(logs: Path, sharing: Client) -> None:
    with pytest.raises(NotFound, match="'nothing' is no folder"):
        sharing.get_files_from_gateway(folder=f"{logs}/nothing")


@pytest.mark.parametrize(
    ("regex", "names"),
    [
        (r".+\.log", ["RFIN.log", "a.log", "b.log"]),
        (r".+/RFIN", ["RFIN.log"]),  # the path matches, the name alone does not
        (r"b", ["b.log", "b.txt"]),  # a name's beginning is enough
        (r"b$", []),
        (r"a\.log|b\.txt", ["a.log", "b.txt"]),
        (r"(?i).*/rfin", ["RFIN.log"]),
    ],
)
def test_a_regex_chooses(tmp_path: Path, logs: Path, sharing: Client, regex: str, names: list[str]) -> None:
    sharing.get_files_from_gateway(regex, folder=str(logs))
    assert sorted(fetched(tmp_path)) == names


def test_a_regex_that_is_none(logs: Path, sharing: Client) -> None:
    with pytest.raises(ConfigurationError, match="no regular expression"):
        sharing.get_files_from_gateway(regex="(", folder=str(logs))


def test_files_by_their_paths_land_side_by_side(tmp_path: Path, logs: Path, sharing: Client) -> None:
    paths = [f"{logs}/a.log", f"{logs}/sub/c.log", f"{logs}/sub/deep/d.log", f"{logs}/a.log"]
    sharing.get_files_from_gateway(files=paths)
    assert fetched(tmp_path) == {
        "a.log": "contents of a.log",
        "c.log": "contents of sub/c.log",
        "d.log": "contents of sub/deep/d.log",
    }


def test_files_of_several_shares(tmp_path: Path, logs: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    with (
        serving(share={"logs": logs, "deep": logs / "sub", "other": tmp_path / "other"}) as gateway,
        controller_of(gateway, download_dir=tmp_path / "got").get_client() as client,
    ):
        client.get_files_from_gateway(files=["logs/b.log", "other/x", "deep/c.log"])
        assert sorted(fetched(tmp_path)) == ["b.log", "c.log", "x"]


def test_two_files_of_one_name_are_not_mixed_up(tmp_path: Path, logs: Path, sharing: Client) -> None:
    with pytest.raises(PynetworkError, match=r"1 files could not be moved: sub/a\.log \(another file has this name"):
        sharing.get_files_from_gateway(files=[f"{logs}/a.log", f"{logs}/sub/a.log", f"{logs}/b.log"])
    assert fetched(tmp_path) == {"a.log": "contents of a.log", "b.log": "contents of b.log"}


def test_what_is_no_file_is_passed_over_with_a_warning(tmp_path: Path, logs: Path, sharing: Client) -> None:
    (logs / "link.log").symlink_to("a.log")
    os.mkfifo(logs / "pipe")
    with pytest.warns(UserWarning, match=r"passed over: .*link\.log \(symbolic link\)") as caught:
        sharing.get_files_from_gateway(folder=str(logs), regex=r".+\.log")
    assert sorted(fetched(tmp_path)) == ["RFIN.log", "a.log", "b.log"]
    assert caught[0].filename == __file__
    paths = [f"{logs}/{name}" for name in ("missing", "sub", "pipe", "b.log")]
    with pytest.warns(UserWarning, match=r"missing \(it is not there\), sub \(folder\), pipe \(named pipe\)$"):
        sharing.get_files_from_gateway(files=paths)


def test_what_can_not_be_read_raises(
    tmp_path: Path, logs: Path, sharing: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = Folder.look_up

    def fail(folder: Folder, path: str) -> Entry:
        if path == "b.log":
            raise PermissionError(errno.EACCES, "no")
        return look_up(folder, path)

    monkeypatch.setattr(Folder, "look_up", fail)
    for keywords in ({"folder": str(logs)}, {"files": [f"{logs}/{name}" for name in ("a.log", "b.log", "RFIN.log")]}):
        with pytest.raises(PynetworkError, match=r"^1 files could not be moved: b\.log \(permission denied\)$"):
            sharing.get_files_from_gateway(**keywords)  # type: ignore[arg-type]
        assert {"a.log", "RFIN.log"} <= set(fetched(tmp_path))
        shutil.rmtree(tmp_path / "got")


def test_a_folder_that_can_not_be_read_matters_when_it_is_asked_for(
    tmp_path: Path, logs: Path, sharing: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Folder.directory

    def fail(folder: Folder, components: tuple[str, ...], **options: Any) -> Directory:
        if components == ("sub",):
            raise PermissionError(errno.EACCES, "no")
        return directory(folder, components, **options)

    monkeypatch.setattr(Folder, "directory", fail)
    sharing.get_files_from_gateway(folder=str(logs), regex=r".+\.log")
    assert sorted(fetched(tmp_path)) == ["RFIN.log", "a.log", "b.log"]
    with pytest.raises(PynetworkError, match=r"^1 files could not be moved: sub \(permission denied\)$"):
        sharing.get_files_from_gateway(folder=f"{logs}/sub")


def test_what_can_not_be_written_raises(tmp_path: Path, logs: Path, sharing: Client) -> None:
    (tmp_path / "got" / "b.log").mkdir(parents=True)
    with pytest.raises(PynetworkError, match=r"1 files could not be moved: b\.log"):
        sharing.get_files_from_gateway(folder=str(logs))
    assert sorted(fetched(tmp_path)) == ["RFIN.log", "a.log", "b.txt"]
    assert sharing.get_subroutine_batch("echo", [5]) == 5


def test_many_failures_are_named_in_part() -> None:
    with pytest.raises(PynetworkError, match=r"^12 files could not be moved: 0 \(why\), .*, 9 \(why\) and 2 more$"):
        files2x._conclude([], [files2x.Skipped(str(number), "why") for number in range(12)])


def test_a_folder_that_is_not_shared(sharing: Client, logs: Path) -> None:
    for keywords in ({"folder": "/etc"}, {"files": ["/etc/passwd"]}, {"folder": f"{logs}2"}, {"folder": f"{logs}/.."}):
        with pytest.raises(NotFound, match=r"no folder that this gateway shares; it shares: .*share=\[FOLDER\]"):
            sharing.get_files_from_gateway(**keywords)  # type: ignore[arg-type]


def test_neither_files_nor_a_folder(sharing: Client) -> None:
    with pytest.raises(ConfigurationError, match="files=, or folder="):
        sharing.get_files_from_gateway()
    with pytest.raises(ConfigurationError, match="files=, or folder="):
        sharing.get_files_from_gateway(regex=".+")


def test_a_key_without_the_right_to_read(logs: Path) -> None:
    with (
        serving(share=[logs], rights="call") as gateway,
        controller_of(gateway).get_client() as client,
        pytest.raises(Forbidden, match=r"the right 'read'.*rights= grants it"),
    ):
        client.get_files_from_gateway(folder=str(logs))


@pytest.mark.parametrize(
    ("path", "shares", "found"),
    [
        ("/var/log", ["/var/log"], ("/var/log", "")),
        ("/var/log/sub/x", ["/var", "/var/log", "/"], ("/var/log", "sub/x")),
        ("/etc/passwd", ["/var", "/"], ("/", "etc/passwd")),
        ("D:\\logs", ["D:\\logs"], ("D:\\logs", "")),
        ("D:\\logs\\sub\\a.log", ["D:\\logs\\"], ("D:\\logs\\", "sub/a.log")),
        ("D:/logs/a.log", ["D:\\logs"], ("D:\\logs", "a.log")),
        ("logs/a.log", ["logs"], ("logs", "a.log")),
        ("./logs", ["logs"], ("logs", "")),
    ],
)
def test_which_share_holds_a_path(path: str, shares: list[str], found: tuple[str, str]) -> None:
    assert files2x._locate(path, shares) == found


@pytest.mark.parametrize(
    ("folder", "path"), [("D:\\logs", r"D:\\logs\\a"), ("D:\\", r"D:\\a"), ("/x", "/x/a$"), ("/x/", "/x/a$")]
)
def test_a_regex_sees_the_path_as_2x_joined_it(folder: str, path: str) -> None:
    matches = files2x._matcher(path, folder)
    assert matches("a")
    assert not matches("b")


# To the gateway


def test_files_are_sent_side_by_side(tmp_path: Path, logs: Path, sharing: Client) -> None:
    sharing.send_files_to_gateway(files=[str(logs / "a.log"), logs / "sub" / "c.log"])
    sharing.send_files_to_gateway("x/y", [str(logs / "b.log")])
    found = {str(path.relative_to(tmp_path / "uploads")) for path in (tmp_path / "uploads").rglob("*.*")}
    assert found == {"a.log", "c.log", "x/y/b.log"}
    assert (tmp_path / "uploads" / "c.log").read_text() == "contents of sub/c.log"


@pytest.mark.parametrize("dirname", ["in", "in/", "./in", "x/../in"])
def test_spellings_of_a_dirname(tmp_path: Path, logs: Path, sharing: Client, dirname: str) -> None:
    sharing.send_files_to_gateway(dirname=dirname, files=[str(logs / "a.log")])
    assert (tmp_path / "uploads" / "in" / "a.log").exists()


def test_a_dirname_of_windows(tmp_path: Path, logs: Path, sharing: Client) -> None:
    sharing.send_files_to_gateway(dirname="in\\sub", files=[str(logs / "a.log")])
    assert (tmp_path / "uploads" / "in" / "sub" / "a.log").exists()


@pytest.mark.parametrize("dirname", ["..", "../in", "/", "/in", "C:\\in", "in/../../out"])
def test_a_dirname_that_leads_out(logs: Path, sharing: Client, dirname: str) -> None:
    with pytest.raises(UnsafePath):
        sharing.send_files_to_gateway(dirname=dirname, files=[str(logs / "a.log")])


def test_what_can_not_be_sent(tmp_path: Path, logs: Path, sharing: Client) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        sharing.send_files_to_gateway(files=[])
    (logs / "link").symlink_to("a.log")
    names = ["missing", "sub", "link", "a.log"]
    with pytest.warns(
        UserWarning, match=r"passed over: .*missing \(no file,.*sub \(no file,.*link \(no file,"
    ) as caught:
        sharing.send_files_to_gateway(files=[str(logs / name) for name in names])
    assert "a.log" not in str(caught[0].message)
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == ["a.log"]
    with pytest.raises(PynetworkError, match=r"1 files could not be moved: .*sub/a\.log \(another file"):
        sharing.send_files_to_gateway(files=[str(logs / "b.log"), str(logs / "sub/a.log"), str(logs / "sub/a.log")])
    assert (tmp_path / "uploads" / "b.log").exists()


# One client moves files by itself


def test_large_files_and_a_busy_client(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    payload = os.urandom(5 << 20)
    (tmp_path / "data" / "large").write_bytes(payload)
    with (
        serving(share=[tmp_path / "data"], max_poolsize=1, download_dir=tmp_path / "uploads") as gateway,
        controller_of(gateway, download_dir=tmp_path / "got").get_client() as client,
    ):
        client.get_files_from_gateway(folder=str(tmp_path / "data"))
        client.send_files_to_gateway(files=[tmp_path / "got" / "large"])
    assert (tmp_path / "uploads" / "large").read_bytes() == payload


def test_a_link_that_breaks_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large").write_bytes(bytes(8 << 20))
    with (
        serving(share=[tmp_path / "data"]) as gateway,
        controller_of(gateway, download_dir=tmp_path / "got").get_client() as client,
    ):
        write = PartialFile.write

        def broken(self: PartialFile, data: Any, offset: int) -> bool:
            client.link.stream.shutdown()
            return write(self, data, offset)

        monkeypatch.setattr(PartialFile, "write", broken)
        with pytest.raises(ConnectionLost):
            client.get_files_from_gateway(folder=str(tmp_path / "data"))
        assert not client.connected
    assert not any((tmp_path / "got").iterdir())


# What is said of it


def test_verbose_tells_what_was_moved(tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(share=[logs], download_dir=tmp_path / "uploads") as gateway:
        for verbose in (False, True):
            controller = Controller("", gateway.port, tmp_path / "got", verbose=verbose)
            with controller.get_client() as client:
                client.get_files_from_gateway(folder=str(logs))
                client.send_files_to_gateway(files=[logs / "a.log"])
            said = capsys.readouterr()
            assert said.out == ""
            assert (f"brought 4 files, 71 bytes, to {tmp_path / 'got'}" in said.err) is verbose
            assert ("sent 1 files, 17 bytes, to 127.0.0.1" in said.err) is verbose


def test_no_warning_where_nothing_is_wrong(sharing: Client, logs: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sharing.get_files_from_gateway(folder=str(logs))
        sharing.send_files_to_gateway(files=[logs / "a.log"])

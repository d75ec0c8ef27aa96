from __future__ import annotations

import errno
import inspect
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pynetwork
from handshakes.errors import (
    BadRequest,
    ConfigurationError,
    ConnectionLost,
    Forbidden,
    NotFound,
    PynetworkError,
    RemoteFault,
    UnsafePath,
)
from handshakes.manifest import Entry
from pynetwork import backend2, names2x
from pynetwork.client import Client as PlainClient
from pynetwork.controller import Controller
from pynetwork.files.folders import Directory, Folder
from pynetwork.files.partials import PartialFile
from pynetwork.gateway import Gateway
from pynetwork.names2x import Client
from tests.serving import PATIENCE, Background, controller_of, paired, serving
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def count(number: int, step: int = 1, **_kwargs: Any) -> Iterator[tuple[int, bytes]]:
    for ident in range(0, number, step):
        yield ident, backend2.int_to_bytes(ident)


def failing(number: int) -> Iterator[tuple[int, bytes]]:
    yield from count(number)
    raise LookupError("no more")


def describe(*arguments: Any, **keywords: Any) -> bytes:
    return backend2.to_bytes(backend2.DataType.list, [arguments, keywords])


def described(answer: bytes) -> tuple[list[Any], dict[str, Any]]:
    arguments, keywords = backend2.from_bytes(backend2.DataType.list, answer)
    return arguments, keywords


def set_pin(pin: int, **kwargs: Any) -> int:
    return pin + len(kwargs.get("buffer", b""))


def strict(pin: int) -> int:
    return pin


@pytest.fixture
def client() -> Iterator[PlainClient]:
    with paired(count, failing, describe, set_pin, strict) as (_, connected):
        yield connected


@pytest.fixture
def old(client: PlainClient) -> Client:
    assert isinstance(client, Client)
    return client


# Streams


def test_a_stream_runs_the_callbacks(old: Client) -> None:
    items: list[tuple[str, int, bytes]] = []
    ends: list[str] = []
    old.get_subroutine_stream("count", lambda *item: items.append(item), ends.append, [7], step=3)
    assert items == [("count", ident, backend2.int_to_bytes(ident)) for ident in (0, 3, 6)]
    assert ends == ["count"]


def test_a_stream_without_an_eos_callback(old: Client) -> None:
    items: list[int] = []
    old.get_subroutine_stream(name="count", callback=lambda _name, ident, _payload: items.append(ident), arguments=[2])
    assert items == [0, 1]


def test_a_callback_that_answers_false_leaves(old: Client) -> None:
    items: list[int] = []

    def callback(_name: str, ident: int, _payload: bytes) -> bool:
        items.append(ident)
        return ident < 4

    old.get_subroutine_stream("count", callback, lambda _name: items.append(-1), [100_000])
    assert items == [0, 1, 2, 3, 4]
    assert described(old.get_subroutine_batch("describe")) == ([], {})


@pytest.mark.parametrize("answer", [None, 0, ""])
def test_only_false_itself_leaves(old: Client, answer: object) -> None:
    items: list[int] = []

    def callback(_name: str, ident: int, _payload: bytes) -> object:
        items.append(ident)
        return answer

    old.get_subroutine_stream("count", callback, arguments=[3])
    assert items == [0, 1, 2]


def test_what_a_generator_raises_arrives_and_its_end_is_no_end(old: Client) -> None:
    items: list[int] = []
    with pytest.raises(RemoteFault, match="no more"):
        old.get_subroutine_stream("failing", lambda _name, ident, _payload: items.append(ident), items.append, [3])  # type: ignore[arg-type]
    assert items == [0, 1, 2]
    with pytest.raises(backend2.RemoteException):
        old.get_subroutine_stream("unknown", print)
    with pytest.raises(BadRequest, match=r"client\.call"):
        old.get_subroutine_stream("strict", print, arguments=[1])


# Batches


def test_a_batch_brings_what_the_function_returned(old: Client) -> None:
    assert described(old.get_subroutine_batch("describe", [1, "b"])) == ([1, "b"], {})
    assert described(old.get_subroutine_batch(name="describe", arguments=(1,), x=2)) == ([1], {"x": 2})


def test_every_keyword_is_the_functions(old: Client) -> None:
    # The new names keep these for themselves.
    keywords = {"timeout": 1, "callback": 2, "eos_callback": 3, "lane": 4}
    assert described(old.get_subroutine_batch("describe", **keywords)) == ([], keywords)


def test_arguments_that_do_not_fit(old: Client) -> None:
    with pytest.raises(BadRequest, match="strict"):
        old.get_subroutine_batch("strict", [1, 2])


def test_calls_wait_beyond_the_time_out(tmp_path: Path) -> None:
    def wait() -> bytes:
        (tmp_path / "entered").touch()
        wait_until((tmp_path / "go").exists, PATIENCE)
        return b"done"

    with serving(wait) as gateway, controller_of(gateway, timeout=0.05).get_client() as client:
        calling = Background(client.get_subroutine_batch, "wait")
        wait_until((tmp_path / "entered").exists, PATIENCE)
        calling.thread.join(0.2)
        assert not calling.done
        (tmp_path / "go").touch()
        assert calling.result() == b"done"


def test_a_buffer_is_sent_and_an_int_comes_back(old: Client) -> None:
    assert old.send_subroutine_batch("set_pin", b"12345", [2]) == 7
    assert old.send_subroutine_batch(name="set_pin", buffer=bytearray(b"123"), arguments=[2]) == 5


@pytest.mark.parametrize("buffer", [None, b"", []])
def test_an_empty_buffer_is_no_argument(old: Client, buffer: Any) -> None:
    assert old.send_subroutine_batch("strict", buffer, [4]) == 4


@pytest.mark.parametrize("answer", [None, "7", b"7", 7.0, True])
def test_what_is_no_int_comes_back_as_0(answer: object) -> None:
    def reply(buffer: bytes) -> object:
        return answer

    with paired(reply) as (_, client):
        assert isinstance(client, Client)
        found = client.send_subroutine_batch("reply", b"x")
        assert (found, type(found)) == (0, int)


# Files from the gateway


NAMES = ["a.log", "b.log", "b.txt", "RFIN.log", "sub/a.log", "sub/c.log", "sub/deep/d.log"]


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
        serving(strict, share=[logs], download_dir=tmp_path / "uploads") as gateway,
        controller_of(gateway, download_dir=tmp_path / "got").get_client() as client,
    ):
        yield client


def test_a_folder_is_named_by_its_path(tmp_path: Path, logs: Path, sharing: Client) -> None:
    sharing.get_files_from_gateway(folder=str(logs))
    assert fetched(tmp_path) == {name: f"contents of {name}" for name in NAMES if "/" not in name}
    assert sharing.get_subroutine_batch("strict", [5]) == 5


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
    with pytest.warns(UserWarning, match=r"missing \(it is no longer there\), sub \(folder\), pipe \(named pipe\)$"):
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
    assert sharing.get_subroutine_batch("strict", [5]) == 5


def test_many_failures_are_named_in_part() -> None:
    with pytest.raises(PynetworkError, match=r"^12 files could not be moved: 0 \(why\), .*, 9 \(why\) and 2 more$"):
        names2x._conclude([], [names2x.Skipped(str(number), "why") for number in range(12)])


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
    assert names2x._locate(path, shares) == found


@pytest.mark.parametrize(
    ("folder", "path"), [("D:\\logs", r"D:\\logs\\a"), ("D:\\", r"D:\\a"), ("/x", "/x/a$"), ("/x/", "/x/a$")]
)
def test_a_regex_sees_the_path_as_2x_joined_it(folder: str, path: str) -> None:
    matches = names2x._matcher(path, folder)
    assert matches("a")
    assert not matches("b")


# Files to the gateway


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


# Ends


def test_close_handler_frees_the_handler() -> None:
    with serving(strict, max_poolsize=1) as gateway:
        for _ in range(3):
            client = controller_of(gateway).get_client()
            assert client.connected
            client.close_handler()
            assert not client.connected
            client.close_handler()


def test_a_with_block_with_a_close_handler_in_it() -> None:
    with serving(strict, max_poolsize=1) as gateway:
        with controller_of(gateway).get_client() as client:
            assert client.get_subroutine_batch("strict", [1]) == 1
            client.close_handler()
        controller_of(gateway).get_client().close_handler()


def test_close_gateway_is_a_right() -> None:
    with serving() as gateway, controller_of(gateway).get_client() as client:
        for close in (client.close_gateway, controller_of(gateway).close_gateway):
            with pytest.raises(Forbidden, match=r"'stop' needs the right 'stop'.*rights= grants it to all, key="):
                close()
        assert client.ping() > 0


@pytest.mark.parametrize("by", ["client", "controller"])
def test_close_gateway_ends_a_blocking_gateway(by: str) -> None:
    gateway = Gateway(0, rights="all")
    running = Background(lambda: gateway.start(blocking=True))
    wait_until(lambda: gateway.port, PATIENCE)
    controller = controller_of(gateway)
    if by == "client":
        client = controller.get_client()
        client.close_gateway()
        assert not client.connected
    else:
        controller.close_gateway()
    running.result()
    with pytest.raises(ConnectionLost):
        controller.get_client()


# Constructors


def test_a_controller_takes_what_2x_took(tmp_path: Path) -> None:
    by_name = Controller(gateway_ip="192.0.2.1", port=7, download_dir="mydir", verbose=True)
    by_place = Controller("192.0.2.1", 7, "mydir", True)  # type: ignore[arg-type]
    for controller in (by_name, by_place):
        assert (controller.host, controller.gateway_ip, controller.port) == ("192.0.2.1", "192.0.2.1", 7)
        assert (controller.download_dir, controller.verbose) == (Path("mydir"), True)
        assert controller._key is None
    assert not Controller("192.0.2.1", 7, "", False).verbose  # type: ignore[arg-type]


def test_empty_texts_are_defaults() -> None:
    for controller in (Controller(gateway_ip=""), Controller("", 1857, ""), Controller()):
        assert (controller.host, controller.download_dir) == ("127.0.0.1", Path("Downloads"))
    assert Gateway(0, download_dir="").download_dir == Path("Downloads")


def test_a_gateway_takes_what_2x_took() -> None:
    by_place = Gateway(0, 7, "folder")  # type: ignore[arg-type]
    by_name = Gateway(port=0, max_poolsize=7, download_dir="folder")
    for gateway in (by_place, by_name):
        assert (gateway.max_poolsize, gateway.download_dir) == (7, Path("folder"))
        assert gateway._hosts == ["127.0.0.1", "::1"]
    assert Gateway(0, 7).download_dir == Path("Downloads")  # type: ignore[arg-type]
    assert Gateway(0, 7, download_dir="x").download_dir == Path("x")  # type: ignore[arg-type]


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


# Names


def test_the_names_of_24_are_there_with_their_parameters() -> None:
    wanted = {
        Client.get_subroutine_stream: ["name", "callback", "eos_callback", "arguments", "kwargs"],
        Client.get_subroutine_batch: ["name", "arguments", "kwargs"],
        Client.send_subroutine_batch: ["name", "buffer", "arguments", "kwargs"],
        Client.get_files_from_gateway: ["regex", "files", "folder"],
        Client.send_files_to_gateway: ["dirname", "files"],
        Client.ping: ["message"],
        Client.close_handler: [],
        Client.close_gateway: [],
        Controller.close_gateway: [],
        Gateway.remove_subroutine: ["name"],
    }
    for function, names in wanted.items():
        assert list(inspect.signature(function).parameters)[1:] == names  # type: ignore[arg-type]
    assert list(inspect.signature(Gateway.start).parameters)[1] == "blocking"


HELPERS = "DataType from_bytes to_bytes safe_print register_class_for_serialization serialize_obj de_serialize_obj"
MODULES = "abc inspect json os platform re socket struct threading time warnings"


def test_a_star_brings_what_it_brought() -> None:
    found: dict[str, Any] = {}
    exec("from pynetwork import *", found)
    assert {*HELPERS.split(), *MODULES.split(), "Client", "Controller", "Gateway", "backend2"} <= set(found)
    assert {"backend", "bk", "int_to_bytes", "bytes_to_int", "str_to_bytes", "bytes_to_str"} <= set(found)
    assert {"Enum", "Lock", "tqdm", "RemoteException", "SignallingError"} <= set(found)
    assert {"Swarm", "TLS", "ConnectionLost", "register"} <= set(found)
    assert all(found[name] is sys.modules[name] for name in MODULES.split())
    assert found["bk"] is found["backend"] is backend2
    assert found["Client"] is Client is pynetwork.Client


def test_a_name_that_is_none() -> None:
    with pytest.raises(AttributeError, match="'pynetwork' has no attribute 'Gatewey'"):
        _ = pynetwork.Gatewey  # type: ignore[attr-defined]


def test_importing_the_helpers_brings_no_further_module() -> None:
    program = (
        "import sys, json, enum, struct, threading, handshakes; before = set(sys.modules); "
        "import importlib.util as u; spec = u.spec_from_file_location('helpers', 'pynetwork/backend2.py'); "
        "module = u.module_from_spec(spec); sys.modules['helpers'] = module; spec.loader.exec_module(module); "
        "print(sorted(set(sys.modules) - before - {'helpers', 'importlib.util', 'importlib._abc'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_no_warning_where_nothing_is_wrong(sharing: Client, logs: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sharing.get_files_from_gateway(folder=str(logs))
        sharing.send_files_to_gateway(files=[logs / "a.log"])

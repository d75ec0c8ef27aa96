from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pynetwork
from handshakes.errors import (
    BadRequest,
    ConnectionLost,
    Forbidden,
    RemoteFault,
)
from pynetwork import backend2
from pynetwork.client import Client as PlainClient
from pynetwork.controller import Controller
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

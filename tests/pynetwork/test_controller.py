from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    PoolFull,
    RemoteProtocolError,
    VersionMismatch,
)
from handshakes.messages import Rights
from pynetwork import controller as controller_module
from pynetwork.controller import Controller
from pynetwork.tls import TLS
from pynetwork.transport import MemoryStream
from tests.certificates import Certificates
from tests.pynetwork.files.transferring import write
from tests.serving import KEY, PATIENCE, Background, controller_of, frame, serving
from tests.waiting import wait_until


def add(first: int, second: int = 1) -> int:
    return first + second


def test_options_are_kept() -> None:
    controller = Controller("host", 7, "downloads", timeout=3)
    assert (controller.host, controller.port, controller.timeout) == ("host", 7, 3)
    assert controller.download_dir == Path("downloads")
    assert Controller().port == 1857


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((1857,), "host=1857 must be a name or an address; the port comes second"),
        (("pi", "1857"), "'1857' is no port: ports are numbers"),
        (("pi", 0), "0 is no port"),
    ],
)
def test_places_that_can_not_be(place: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Controller(*place)


def test_many_controllers_on_one_gateway_and_many_gateways_from_one_process() -> None:
    with serving(add, max_poolsize=8) as first, serving(add, max_poolsize=8) as second:
        clients = [controller_of(gateway).get_client() for gateway in (first, second) * 4]
        calls = [Background(client.call, "add", number) for number, client in enumerate(clients)]
        assert [call.result() for call in calls] == list(range(1, 9))
        for client in clients:
            client.close()


def test_a_full_pool_says_so_at_once() -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        with controller.get_client() as client:
            with pytest.raises(PoolFull, match=r"all 1 handlers.*get_client\(wait=SECONDS\)") as caught:
                controller.get_client()
            assert caught.value.status == 503
            assert client.call("add", 1) == 2


def test_waiting_for_a_place_until_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(add, max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        holder = controller.get_client()
        tried = threading.Event()
        dial = controller._dial

        def dial_and_tell() -> object:
            try:
                return dial()
            except PoolFull:
                tried.set()
                raise

        monkeypatch.setattr(controller, "_dial", dial_and_tell)
        waiting = Background(lambda: controller.get_client(wait=PATIENCE))
        assert tried.wait(PATIENCE)
        holder.close()
        client = waiting.result()
        assert client.call("add", 1) == 2
        client.close()


def test_waiting_for_a_place_in_vain() -> None:
    with serving(max_poolsize=1) as gateway:
        controller = controller_of(gateway)
        with controller.get_client():
            began = time.monotonic()
            with pytest.raises(PoolFull):
                controller.get_client(wait=0.3)
            assert time.monotonic() - began >= 0.29


def test_nobody_there() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionLost, match="no gateway can be reached"):
            Controller(port=bound.getsockname()[1]).get_client()


def test_somebody_there_who_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(DeadlineExceeded):
        Controller(port=server.getsockname()[1], timeout=0.2).get_client()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", RemoteProtocolError),
        (b"SSH-2.0-OpenSSH_9.2\r\n", RemoteProtocolError),
        (frame(4, body=b'[505,"too old"]'), VersionMismatch),
        (frame(4, body=b'[503,"full"]'), PoolFull),
        (frame(3, body=b'[31,""]'), RemoteProtocolError),
        (frame(1, head=b"pynetwork", body=b"{}"), RemoteProtocolError),
        (b"", ConnectionLost),
    ],
    ids=["http", "ssh", "old", "full", "unasked welcome", "no hello", "hung up"],
)
def test_somebody_there_who_is_no_gateway_of_ours(answer: bytes, error: type[Exception]) -> None:
    def serve(server: socket.socket) -> None:
        accepted, _ = server.accept()
        with accepted:
            accepted.recv(4096)
            accepted.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = Background(serve, server)
        with pytest.raises(error):
            Controller(port=server.getsockname()[1]).get_client()
        answering.result()


def test_an_event_that_is_no_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = MemoryStream.pair()
    monkeypatch.setattr(controller_module.Link, "next_event", lambda *_arguments: object())
    with pytest.raises(RemoteProtocolError, match="object arrived in the handshake"):
        Controller().join(near)
    near.close()
    far.close()


# Keys


@pytest.mark.parametrize("key", [KEY, b"bytes as a key"])
def test_both_know_the_key(key: str | bytes) -> None:
    with serving(add, key=key) as gateway, controller_of(gateway, key=key).get_client() as client:
        assert client.call("add", 1) == 2


def test_a_wrong_key_says_just_that() -> None:
    with serving(add, key=KEY) as gateway:
        with pytest.raises(AuthenticationFailed, match=r"^wrong key$") as caught:
            controller_of(gateway, key="another key").get_client()
        assert caught.value.status == 401
        controller_of(gateway, key=KEY).get_client().close()


def test_no_key_where_one_is_asked_for() -> None:
    with serving(add, key=KEY) as gateway, pytest.raises(AuthenticationFailed, match="asks for a key"):
        controller_of(gateway).get_client()


def test_a_gateway_that_does_not_know_the_key_is_refused() -> None:
    with serving(add) as gateway, pytest.raises(AuthenticationFailed, match="does not ask for one"):
        controller_of(gateway, key=KEY).get_client()


def test_each_key_grants_its_own_rights() -> None:
    def count() -> object:
        yield 1

    keys = {"key of the caller": "call", "key of the streamer": "stream, stats", b"key of the boss": Rights.ALL}
    with serving(add, count, key=keys) as gateway:
        with controller_of(gateway, key="key of the caller").get_client() as client:
            assert client.rights == Rights.CALL
            assert client.call("add", 1) == 2
            with pytest.raises(Forbidden, match="needs the right 'stream'"):
                list(client.stream("count"))
            with pytest.raises(Forbidden, match="'stats'"):
                client.stats()
            assert client.subroutines()
        with controller_of(gateway, key="key of the streamer").get_client() as client:
            assert list(client.stream("count")) == [(0, 1)]
            assert client.stats()["name"]
            for forbidden in (lambda: client.call("add", 1), lambda: client.send("add", b"")):
                with pytest.raises(Forbidden, match="'call'"):
                    forbidden()
        with controller_of(gateway, key=b"key of the boss").get_client() as client:
            assert client.rights == Rights.ALL


# TLS


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("by", ["ca", "fingerprint"])
def test_over_tls(certificates: Certificates, by: str, key: str | None) -> None:
    tls = TLS(**{by: getattr(certificates, by)})
    with (
        serving(add, tls=certificates.gateway, key=key) as gateway,
        controller_of(gateway, tls=tls, key=key).get_client() as client,
    ):
        assert client.call("add", 1) == 2
        assert len(client.call("add", b"x" * 3_000_000, b"y")) == 3_000_001


def test_a_pinned_gateway_that_is_another(certificates: Certificates) -> None:
    with serving(tls=certificates.gateway) as gateway, pytest.raises(AuthenticationFailed, match="pinned is"):
        controller_of(gateway, tls=TLS(fingerprint="ab" * 32)).get_client()


def test_mutual_tls(certificates: Certificates) -> None:
    server = TLS(certificates.server, certificates.server_key, ca=certificates.ca)
    caller = TLS(certificates.caller, certificates.caller_key, ca=certificates.ca)
    with serving(add, tls=server) as gateway:
        with controller_of(gateway, tls=caller).get_client() as client:
            assert client.call("add", 1) == 2
        with pytest.raises((ConnectionLost, RemoteProtocolError)):
            controller_of(gateway, tls=certificates.controller).get_client()


def test_a_gateway_that_ends_the_connection_without_a_word() -> None:
    def hang_up(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        accepted.recv(4096)
        accepted.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        hanging_up = Background(hang_up, listener)
        with pytest.raises(ConnectionLost, match="without a word; if that gateway has tls="):
            controller_module.Controller(port=listener.getsockname()[1]).get_client()
        hanging_up.result()


def relay(server: socket.socket, certificates: Certificates, port: int) -> None:
    """Someone in the middle who has a certificate that the caller trusts, and passes everything on."""
    accepted, _ = server.accept()
    context = TLS(certificates.other, certificates.other_key).server_context()
    with (
        context.wrap_socket(accepted, server_side=True) as caller,
        certificates.controller.client_context().wrap_socket(
            socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1"
        ) as gateway,
    ):
        caller.settimeout(PATIENCE)
        gateway.settimeout(PATIENCE)

        def pump(source: socket.socket, target: socket.socket) -> None:
            try:
                while data := source.recv(4096):
                    target.sendall(data)
            except OSError:
                pass

        # The hellos, one each way, then the proof and what is answered.
        for _ in range(2):
            gateway.sendall(caller.recv(4096))
            caller.sendall(gateway.recv(4096))
        pump(gateway, caller)


def test_a_proof_can_not_be_passed_on_through_another_certificate(certificates: Certificates) -> None:
    with (
        serving(tls=certificates.gateway, key=KEY) as gateway,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        relaying = Background(relay, server, certificates, gateway.port)
        tls = TLS(ca=certificates.other_ca)
        with pytest.raises(AuthenticationFailed):
            Controller("127.0.0.1", server.getsockname()[1], tls=tls, key=KEY).get_client()
        relaying.result()


# Backups


def test_what_a_backup_is_told(tmp_path: Path) -> None:
    share, to = tmp_path / "share", tmp_path / "to"
    write(share / "a.log", b"x" * 10)
    write(share / "b.log", b"x" * 1000)
    write(share / "c.txt", b"x" * 10)
    with serving(share={"logs": share}) as gateway:
        controller = controller_of(gateway)
        chosen = controller.backup(
            "logs", to, pattern=".+", glob="*.log", min_size=5, max_size=100, changed_before=60, lanes=1, limit=1e9,
            low_priority=True, compress=False, owner=True, durable=False, progress=False,
        )  # fmt: skip
        assert (chosen.files, chosen.new) == (1, 1)
        assert controller.backup("logs", to, changed_within=60, progress=False).files == 0
        whole = controller.backup("logs", to, checksum=True, mirror_deletes=True, progress=False)
        assert (whole.files, whole.unchanged, whole.new) == (3, 1, 2)
        assert sorted(path.name for path in to.iterdir()) == [".pynetwork", "a.log", "b.log", "c.txt"]
        with pytest.raises(ConfigurationError, match="regular expression"):
            controller.backup("logs", to, pattern="[")
        with pytest.raises(Forbidden, match="remove"):
            controller.prune("logs", to, older_than=60)


def test_what_is_backed_up_can_be_pruned(tmp_path: Path) -> None:
    share, to = tmp_path / "share", tmp_path / "to"
    write(share / "old.log", b"x" * 10)
    with serving(share={"logs": share}, rights="read, remove") as gateway:
        controller = controller_of(gateway)
        controller.backup("logs", to, progress=False)
        assert controller.prune("logs", to, older_than=1e12).removed == []
        assert controller.prune("logs", to, older_than=60, dry_run=True).removed == ["old.log"]
        assert (share / "old.log").exists()
        assert controller.prune("logs", to, older_than=60, dry_run=False).removed == ["old.log"]
    assert not (share / "old.log").exists()
    assert (to / "old.log").read_bytes() == b"x" * 10


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1:1857"), ("::1", "[::1]:1857"), ("pi", "pi:1857")]
)
def test_its_address_is_for_people(host: str, address: str) -> None:
    assert Controller(host).address == address


# Stopping, talking


def test_stopping_a_gateway_is_a_right() -> None:
    with serving() as gateway:
        with pytest.raises(Forbidden, match="'stop' needs the right 'stop'"):
            controller_of(gateway).stop_gateway()
        controller_of(gateway).get_client().close()
    with serving(rights=Rights.ALL) as gateway:
        port = gateway.port
        controller_of(gateway).stop_gateway()
        gateway.wait()

        def free() -> bool:
            try:
                socket.create_server(("127.0.0.1", port)).close()
            except OSError:
                return False
            return True

        wait_until(free)


def test_it_says_what_happens_if_it_is_to(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(name="the-pi", rights="stop") as gateway:
        controller_of(gateway).get_client().close()
        assert capsys.readouterr() == ("", "")
        controller_of(gateway, verbose=True).stop_gateway()
        out, err = capsys.readouterr()
        assert out == ""
        assert "pynetwork: connected to pynetwork" in err
        assert "the-pi" in err
        assert "pynetwork: the gateway stops" in err

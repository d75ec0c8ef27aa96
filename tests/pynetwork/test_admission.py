from __future__ import annotations

import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from handshakes.auth import derive_key
from handshakes.connection import Connection, Role
from handshakes.errors import PoolFull, PynetworkError
from handshakes.messages import Rights
from pynetwork import admission as admission_module
from pynetwork.admission import Admission
from pynetwork.endpoints import listen
from pynetwork.tls import GatewayTLS
from pynetwork.transport import Stream
from tests.certificates import Certificates
from tests.serving import HELLO, KEY, PATIENCE, REFUSAL, Background, RawPeer, frame, hello
from tests.waiting import wait_until


class Doorway:
    """An admission whose callers end in a list, unless ``refusal`` is set."""

    def __init__(self, **options: Any) -> None:
        self.served: list[tuple[Stream, Connection]] = []
        self.refusal: Exception | None = None
        self.keys: dict[bytes, Rights] = {}
        self.listeners = listen(["127.0.0.1"], 0)
        self.port = self.listeners[0].getsockname()[1]
        self.admission = Admission(self.listeners, self._connection, self._serve, name="test", **options)

    def _connection(self) -> Connection:
        return Connection(Role.GATEWAY, nonce=b"g" * 32, keys=self.keys)

    def _serve(self, stream: Stream, connection: Connection) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.served.append((stream, connection))

    def close(self) -> None:
        self.admission.stop()
        for stream, _ in self.served:
            stream.close()


@pytest.fixture
def doorway_of() -> Iterator[Callable[..., Doorway]]:
    with ExitStack() as stack:

        def make(**options: Any) -> Doorway:
            doorway = Doorway(**options)
            doorway.admission.start()
            stack.callback(doorway.close)
            return doorway

        yield make


def warnings_of(caplog: pytest.LogCaptureFixture, peer: str) -> list[str]:
    found = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    return [each for each in found if each.startswith(f"{peer}: ")]


def test_who_has_proved_itself_is_handed_over(doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of()
    with RawPeer(doorway.port) as peer:
        peer.say(hello(agent="me"))
        assert peer.hear()[0] == HELLO
        wait_until(lambda: doorway.served)
        stream, connection = doorway.served[0]
        assert stream.peer == peer.name
        assert connection.peer_agent == "me"
        assert doorway.admission.waiting == 0


def test_a_hello_byte_by_byte(doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of()
    with RawPeer(doorway.port) as peer:
        for number, byte in enumerate(hello()):
            assert not doorway.served
            peer.say(bytes([byte]))
            if number == 5:
                wait_until(lambda: doorway.admission.waiting == 1)
        assert peer.hear()[0] == HELLO
        wait_until(lambda: doorway.served)


def test_refused_with_the_reason(doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture) -> None:
    doorway = doorway_of()
    doorway.refusal = PoolFull("no room")
    with RawPeer(doorway.port) as peer:
        peer.say(hello())
        assert peer.hear()[0] == HELLO
        kind, _, _, _, body = peer.hear()
        assert (kind, body) == (REFUSAL, b'[503,"no room"]')
        assert peer.rest() == b""
        wait_until(lambda: warnings_of(caplog, peer.name))
        assert warnings_of(caplog, peer.name) == [f"{peer.name}: refused: no room"]


def test_a_caller_that_can_not_be_served(doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture) -> None:
    doorway = doorway_of()
    doorway.refusal = PynetworkError("no thread")
    with RawPeer(doorway.port) as peer:
        peer.say(hello())
        peer.rest()
        wait_until(lambda: warnings_of(caplog, peer.name) == [f"{peer.name}: no thread"])


@pytest.mark.parametrize("said", [b"", hello()[:20]])
def test_who_says_nothing_is_dismissed_in_time(
    doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    doorway = doorway_of(hello_timeout=0.1)
    with RawPeer(doorway.port) as peer:
        peer.say(said)
        assert peer.rest() == b""
        wait_until(lambda: warnings_of(caplog, peer.name))
        assert warnings_of(caplog, peer.name) == [f"{peer.name}: closed: it did not prove itself within 0.1 s"]
        assert doorway.admission.waiting == 0


def test_drops_of_bytes_win_no_time(doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of(hello_timeout=0.2)
    with RawPeer(doorway.port) as peer:
        began = time.monotonic()
        drops = iter(hello())
        ended = Background(peer.rest)
        while not ended.done and time.monotonic() < began + PATIENCE:
            peer.say(bytes([next(drops)]))
            ended.thread.join(0.03)
        assert ended.result() == b""


def test_the_one_that_waited_longest_makes_room(
    doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture
) -> None:
    doorway = doorway_of(most_waiting=3)
    with ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(doorway.port)) for _ in range(3)]
        wait_until(lambda: doorway.admission.waiting == 3)
        late = stack.enter_context(RawPeer(doorway.port))
        late.say(hello())
        assert late.hear()[0] == HELLO
        assert peers[0].rest() == b""
        wait_until(lambda: warnings_of(caplog, peers[0].name))
        assert "to make room for others" in caplog.text
        peers[1].say(hello())
        assert peers[1].hear()[0] == HELLO


def test_who_has_said_hello_stays_while_silent_ones_can_make_room(doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of(most_waiting=3)
    doorway.keys = {derive_key(KEY): Rights.DEFAULT}
    with ExitStack() as stack:
        first = stack.enter_context(RawPeer(doorway.port))
        first.say(hello(keyed=True))
        assert first.hear()[0] == HELLO
        silent = [stack.enter_context(RawPeer(doorway.port)) for _ in range(5)]
        for peer in silent[:3]:
            assert peer.rest() == b""
        wait_until(lambda: doorway.admission.waiting == 3)
        for _ in range(3):
            peer = stack.enter_context(RawPeer(doorway.port))
            peer.say(hello(keyed=True))
            assert peer.hear()[0] == HELLO
        # All have said hello now: then the oldest has to go.
        assert first.rest() == b""


def test_who_has_just_come_may_still_say_hello_in_a_crowd_that_has(doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of(most_waiting=4)
    doorway.keys = {derive_key(KEY): Rights.DEFAULT}
    with ExitStack() as stack:

        def greeted() -> RawPeer:
            peer = stack.enter_context(RawPeer(doorway.port))
            peer.say(hello(keyed=True))
            assert peer.hear()[0] == HELLO
            return peer

        crowd = [greeted() for _ in range(3)]
        slow = stack.enter_context(RawPeer(doorway.port))
        wait_until(lambda: doorway.admission.waiting == 4)
        # As many as leave it in the younger half: each time the oldest has to go, though it has said hello.
        for oldest in crowd[:2]:
            greeted()
            assert oldest.rest() == b""
        slow.say(hello(keyed=True))
        assert slow.hear()[0] == HELLO


def test_a_crowd_crowds_out_itself_and_nobody_else(doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of(most_waiting=3)
    with ExitStack() as stack:
        elsewhere = stack.enter_context(socket.socket())
        try:
            elsewhere.bind(("127.0.0.2", 0))
        except OSError:
            pytest.skip("this machine has one loopback address only")
        elsewhere.settimeout(PATIENCE)
        elsewhere.connect(("127.0.0.1", doorway.port))
        wait_until(lambda: doorway.admission.waiting == 1)
        crowd = [stack.enter_context(RawPeer(doorway.port)) for _ in range(20)]
        for peer in crowd[:-2]:
            assert peer.rest() == b""
        elsewhere.sendall(hello())
        assert elsewhere.recv(1) == bytes([HELLO])


def test_complaints_are_not_endless(
    doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "_COMPLAINTS_AT_ONCE", 5)
    monkeypatch.setattr(admission_module, "_COMPLAINTS_PER_SECOND", 0.0)
    doorway = doorway_of()
    for _ in range(12):
        with RawPeer(doorway.port) as peer:
            peer.say(b"GET / HTTP/1.1\r\n\r\n")
            peer.rest()
    doorway.close()
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(lines) == 6
    assert lines[-1] == "7 more connections were closed, too many to name each"


def test_complaints_go_on_after_a_while(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(admission_module.time, "monotonic", lambda: now[0])
    complaints = admission_module._Complaints()
    monkeypatch.setattr(admission_module, "_COMPLAINTS_AT_ONCE", 1)
    for _ in range(4):
        complaints.add("peer", "reason")
    now[0] += 60
    complaints.add("peer", "again")
    monkeypatch.undo()
    assert caplog.messages == [
        "peer: reason",
        "3 more connections were closed, too many to name each",
        "peer: again",
    ]


def test_origins(doorway_of: Callable[..., Doorway]) -> None:
    class At:
        def __init__(self, *name: Any) -> None:
            self.name = name

        def getpeername(self) -> Any:
            if not self.name:
                raise OSError(errno.ENOTCONN, "gone")
            return self.name

    origin: Callable[[Any], str] = admission_module._origin
    assert origin(At("192.0.2.7", 5)) == "192.0.2.7"
    assert (
        origin(At("2001:db8:1:2:3:4:5:6", 5, 0, 0)) == origin(At("2001:db8:1:2::9", 5, 0, 0)) == "2001:0db8:0001:0002"
    )
    assert origin(At("fe80::1%eth0", 5, 0, 2)) == "fe80:0000:0000:0000"
    assert origin(At()) == ""


def test_few_descriptors_leave_room_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for limit, room in ((resource.RLIM_INFINITY, 256), (100_000, 256), (400, 100), (2, 1)):
        monkeypatch.setattr(admission_module.resource, "getrlimit", lambda _, most=limit: (most, most))
        assert admission_module._room_for_callers() == room
    monkeypatch.setattr(admission_module, "resource", None)
    assert admission_module._room_for_callers() == admission_module.MOST_WAITING


def test_the_caller_goes_first(doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture) -> None:
    doorway = doorway_of()
    with RawPeer(doorway.port) as peer:
        peer.say(hello()[:9])
        wait_until(lambda: doorway.admission.waiting == 1)
    wait_until(lambda: doorway.admission.waiting == 0)
    wait_until(lambda: warnings_of(caplog, peer.name))
    assert len(warnings_of(caplog, peer.name)) == 1


def test_a_reset_in_the_doorway(doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture) -> None:
    doorway = doorway_of()
    with RawPeer(doorway.port) as peer:
        wait_until(lambda: doorway.admission.waiting == 1)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_until(lambda: "the connection broke: Connection reset" in caplog.text)
    assert doorway.admission.waiting == 0


def test_stopping_closes_the_doorway_and_the_port(doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of()
    with RawPeer(doorway.port) as peer:
        wait_until(lambda: doorway.admission.waiting == 1)
        doorway.close()
        assert peer.rest() == b""
        socket.create_server(("127.0.0.1", doorway.port)).close()


class FakeListener:
    """A listener whose next accepts fail with these errors."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)

    def accept(self) -> Any:
        raise self.errors.pop(0)


def test_out_of_descriptors(
    doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and a pause each time, as there is nobody to dismiss."""
    doorway = doorway_of()
    pauses: list[float] = []
    with RawPeer(doorway.port):
        wait_until(lambda: doorway.admission.waiting == 1)
        doorway.admission.stop()  # from here on this thread plays the admission's
        monkeypatch.setattr(admission_module.time, "sleep", pauses.append)
        fake: Any = FakeListener(OSError(errno.EMFILE, "Too many open files"), OSError(errno.EMFILE, "again"))
        doorway.admission._accept(fake)
        doorway.admission._accept(fake)
        fake.errors = [BlockingIOError()]
        doorway.admission._accept(fake)
    monkeypatch.undo()
    assert pauses == [0.1, 0.1]
    assert caplog.text.count("can't be accepted: Too many open files") == 1
    assert "again" not in caplog.text
    monkeypatch.setattr(doorway.admission, "stop", lambda: None)


def test_a_connection_that_breaks_at_once(monkeypatch: pytest.MonkeyPatch, doorway_of: Callable[..., Doorway]) -> None:
    doorway = doorway_of()

    def broken(_sock: socket.socket) -> None:
        raise OSError(errno.EINVAL, "gone")

    monkeypatch.setattr(admission_module, "tune", broken)
    with RawPeer(doorway.port) as peer:
        assert peer.rest() == b""
    monkeypatch.undo()
    with RawPeer(doorway.port) as peer:
        peer.say(hello())
        assert peer.hear()[0] == HELLO


# TLS


def test_tls_is_shaken_before_the_hello(doorway_of: Callable[..., Doorway], certificates: Certificates) -> None:
    doorway = doorway_of(tls=GatewayTLS(certificates.gateway))
    context = certificates.controller.client_context()
    plain = socket.create_connection(("127.0.0.1", doorway.port), PATIENCE)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(hello())
        assert sock.recv(12)[0] == HELLO
        wait_until(lambda: doorway.served)
        assert doorway.served[0][0].certificate.hex() == certificates.fingerprint


@pytest.mark.parametrize("said", [hello(), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 50])
def test_what_is_no_tls(
    doorway_of: Callable[..., Doorway], certificates: Certificates, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    doorway = doorway_of(tls=GatewayTLS(certificates.gateway))
    with RawPeer(doorway.port) as peer:
        peer.say(said)
        peer.rest()
        wait_until(lambda: warnings_of(caplog, peer.name))
        (line,) = warnings_of(caplog, peer.name)
        assert "the TLS handshake failed" in line


def test_a_tls_caller_that_distrusts_the_gateway(
    doorway_of: Callable[..., Doorway], certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    doorway = doorway_of(tls=GatewayTLS(certificates.gateway))
    with socket.create_connection(("127.0.0.1", doorway.port), PATIENCE) as plain, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    wait_until(lambda: "closed" in caplog.text)
    wait_until(lambda: doorway.admission.waiting == 0)


def test_a_first_frame_that_is_wrong(doorway_of: Callable[..., Doorway], caplog: pytest.LogCaptureFixture) -> None:
    doorway = doorway_of()
    with RawPeer(doorway.port) as peer:
        peer.say(frame(6, body=b"[]"))
        assert peer.hear()[0] == REFUSAL
        wait_until(lambda: warnings_of(caplog, peer.name))
        (line,) = warnings_of(caplog, peer.name)
        assert "OPEN arrived while waiting for a hello" in line

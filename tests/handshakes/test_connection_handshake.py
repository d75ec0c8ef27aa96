from __future__ import annotations

import struct
from typing import Any

import pytest

from handshakes.auth import prove
from handshakes.connection import Connection, Phase, Role
from handshakes.errors import (
    AuthenticationFailed,
    Forbidden,
    LocalProtocolError,
    RemoteProtocolError,
    VersionMismatch,
)
from handshakes.messages import Kind, Rights, Welcome
from tests.handshakes.pair import (
    KEY,
    NOT_A_HELLO,
    OTHER_KEY,
    ConnectionPair,
    connection_in,
    deliver,
    frame,
    hello,
    joined,
    keyed_pair,
)

CLIENT, GATEWAY = Role.CLIENT, Role.GATEWAY


# Keys


def refused(pair: ConnectionPair) -> AuthenticationFailed:
    """The gateway finds out, and the client hears it."""
    with pytest.raises(AuthenticationFailed):
        pair.greet()
    assert pair.gateway.phase is Phase.BROKEN
    with pytest.raises(AuthenticationFailed) as caught:
        pair.to_client(pair.gateway.data_to_send())
    assert pair.client.phase is Phase.CLOSED
    return caught.value


def test_a_wrong_key() -> None:
    pair = ConnectionPair(client={"key": OTHER_KEY}, gateway={"keys": {KEY: Rights.ALL}})
    assert str(refused(pair)) == "wrong key"
    assert pair.gateway.rights == Rights.NONE


def test_no_key() -> None:
    pair = ConnectionPair(gateway={"keys": {KEY: Rights.ALL}})
    assert "this gateway asks for a key" in str(refused(pair))


def test_each_key_has_its_rights() -> None:
    for key, rights in ((KEY, Rights.READ), (OTHER_KEY, Rights.ALL)):
        pair = ConnectionPair(
            client={"key": key}, gateway={"keys": {KEY: Rights.READ, OTHER_KEY: Rights.ALL}}
        ).connect()
        assert pair.client.rights == pair.gateway.rights == rights


def test_a_gateway_that_does_not_ask_is_not_believed() -> None:
    pair = ConnectionPair(client={"key": KEY})
    with pytest.raises(AuthenticationFailed, match="the gateway does not ask for one"):
        pair.greet()
    assert pair.client.phase is Phase.BROKEN
    assert pair.client.data_to_send() == []


def test_a_gateway_that_does_not_know_the_key() -> None:
    for proof in (b"", bytes(32)):
        client = connection_in(CLIENT, Phase.WELCOME)
        with pytest.raises(AuthenticationFailed, match="the gateway did not prove that it knows the key"):
            deliver(client, frame(3, body=b'[31,"%s"]' % proof.hex().encode()))
        assert (client.phase, client.rights) == (Phase.BROKEN, Rights.NONE)


def test_the_proof_of_the_client_is_none_of_the_gateway() -> None:
    pair = keyed_pair()
    pair.to_gateway(pair.client.start())
    pair.to_client(pair.gateway.data_to_send())
    (proof,) = pair.client.data_to_send()
    with pytest.raises(AuthenticationFailed):
        pair.to_client([frame(3, body=b'[31,"%s"]' % bytes(proof[12:]).hex().encode())])


def test_a_client_that_talks_to_its_mirror() -> None:
    pair = keyed_pair()
    pair.to_client(pair.client.start())
    (proof,) = pair.client.data_to_send()
    with pytest.raises(RemoteProtocolError, match="PROOF arrived while waiting for a welcome"):
        pair.to_client([proof])


def test_a_recorded_proof_is_good_for_nothing() -> None:
    recorded = keyed_pair().connect()
    client_said = joined([data for side, data in recorded.wire if side == "client"])
    again = Connection(GATEWAY, nonce=b"n" * 32, keys={KEY: Rights.ALL})
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        deliver(again, client_said)
    gateway_said = joined([data for side, data in recorded.wire if side == "gateway"])
    client = Connection(CLIENT, nonce=b"n" * 32, key=KEY)
    client.start()
    with pytest.raises(AuthenticationFailed, match="did not prove"):
        deliver(client, gateway_said)


@pytest.mark.parametrize(
    ("old", "new"), [(b"67108864", b"67108863"), (b'"bound":false', b'"bound":true '), (b'"me"', b'"ME"')]
)
@pytest.mark.parametrize("victim", [CLIENT, GATEWAY])
def test_a_tampered_hello(old: bytes, new: bytes, victim: Role) -> None:
    pair = ConnectionPair(client={"key": KEY, "agent": "me"}, gateway={"keys": {KEY: Rights.ALL}, "agent": "me"})
    said = joined(pair.client.start())
    length = struct.pack("<I", len(said) - 21 + len(new) - len(old))
    tampered = said[:8] + length + said[12:].replace(old, new)
    assert tampered != said
    pair.to_gateway([tampered if victim is GATEWAY else said])
    answer = joined(pair.gateway.data_to_send())
    length = struct.pack("<I", len(answer) - 21 + len(new) - len(old))
    pair.to_client([answer[:8] + length + answer[12:].replace(old, new) if victim is CLIENT else answer])
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        pair.to_gateway(pair.client.data_to_send())


def with_certificates(client: bytes, gateway: bytes) -> ConnectionPair:
    return ConnectionPair(
        client={"key": KEY, "certificate": client},
        gateway={"keys": {KEY: Rights.ALL}, "certificate": gateway},
    )


def test_somebody_in_the_middle_of_tls() -> None:
    assert str(refused(with_certificates(b"m" * 32, b"c" * 32))) == "wrong key"


@pytest.mark.parametrize("body", [b"", bytes(31), bytes(32), bytes(33), bytes(4096)])
def test_what_is_no_proof(body: bytes) -> None:
    gateway = connection_in(GATEWAY, Phase.PROOF)
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        deliver(gateway, frame(Kind.PROOF, body=body))
    assert gateway.phase is Phase.BROKEN
    with pytest.raises(RemoteProtocolError, match="PROOF arrived while broken"):
        deliver(gateway, frame(Kind.PROOF, body=prove(KEY, "client", gateway._handshake._transcript())))


def test_a_nonce_has_32_bytes() -> None:
    with pytest.raises(LocalProtocolError, match="a nonce has 32 bytes, not 31"):
        Connection(CLIENT, nonce=bytes(31))


def test_tampered_rights() -> None:
    pair = ConnectionPair(client={"key": KEY}, gateway={"keys": {KEY: Rights.READ}})
    pair.greet()
    said = joined(pair.gateway.welcome())
    with pytest.raises(AuthenticationFailed, match="the gateway did not prove"):
        pair.to_client([said.replace(b"[4,", b"[6,")])
    assert (pair.client.phase, pair.client.rights) == (Phase.BROKEN, Rights.NONE)


# Versions and refusals


def test_a_later_version_is_told_of_it_whatever_its_hello_holds() -> None:
    gateway = Connection(GATEWAY, nonce=bytes(32))
    with pytest.raises(VersionMismatch):
        deliver(gateway, frame(Kind.HELLO, head=b"pynetwork", body=b'{"versions":[4,4]}'))
    with pytest.raises(VersionMismatch, match="the other side speaks 4 to 4"):
        deliver(connection_in(CLIENT, Phase.HELLO), joined(gateway.data_to_send()))


@pytest.mark.parametrize("versions", [[1, 2], [4, 9], [0, 0], [5, 1], [-1, 2], [2**63, 2**64 - 1]])
def test_no_version_in_common(versions: list[int]) -> None:
    gateway = Connection(GATEWAY, nonce=bytes(32))
    with pytest.raises(VersionMismatch, match=rf"version 3 .* {versions[0]} to {versions[1]}; install"):
        deliver(gateway, hello(versions=versions))
    client = connection_in(CLIENT, Phase.HELLO)
    with pytest.raises(VersionMismatch, match="install the same major version"):
        deliver(client, joined(gateway.data_to_send()))
    assert client.phase is Phase.CLOSED
    with pytest.raises(VersionMismatch):
        deliver(connection_in(CLIENT, Phase.HELLO), hello(versions=versions))


@pytest.mark.parametrize("changes", NOT_A_HELLO, ids=repr)
@pytest.mark.parametrize("role", [CLIENT, GATEWAY])
def test_a_malformed_hello(changes: dict[str, Any], role: Role) -> None:
    with pytest.raises(RemoteProtocolError, match=r"a hello arrived|is not hexadecimal"):
        deliver(connection_in(role, Phase.HELLO), hello(**changes))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"5", b"null", b'"x"', b"[" * 4000, b"[" * 2000 + b"]" * 2000, b"\xff"]
)
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ((GATEWAY, Phase.HELLO), Kind.HELLO),
        ((CLIENT, Phase.HELLO), Kind.HELLO),
        ((CLIENT, Phase.HELLO), Kind.REFUSAL),
        ((CLIENT, Phase.WELCOME), Kind.WELCOME),
        ((CLIENT, Phase.WELCOME), Kind.REFUSAL),
        ((CLIENT, Phase.RUNNING), Kind.FAULT),
        ((CLIENT, Phase.IDLE), Kind.REFUSAL),
    ],
)
def test_a_body_that_is_none(place: tuple[Role, Phase], kind: Kind, body: bytes) -> None:
    connection = connection_in(*place)
    head = b"pynetwork" if kind is Kind.HELLO else b""
    with pytest.raises(RemoteProtocolError):
        deliver(connection, frame(kind, 0, connection.operation, head, body))
    assert connection.phase is Phase.BROKEN


@pytest.mark.parametrize(
    ("bits", "rights"),
    [
        (0, Rights.NONE),
        (5, Rights.CALL | Rights.READ),
        (128, Rights.NONE),
        (2**63, Rights.NONE),
        (2**64 - 1, Rights.ALL),
    ],
)
def test_rights_of_the_future_are_passed_over(bits: int, rights: Rights) -> None:
    pair = ConnectionPair()
    pair.greet()
    assert pair.to_client([frame(3, body=b'[%d,""]' % bits)]) == [Welcome(rights, b"")]
    assert pair.client.rights == rights


@pytest.mark.parametrize("phase", [Phase.HELLO, Phase.PROOF, Phase.VERDICT])
@pytest.mark.parametrize("message", ["full", "\0" * 5000, "é" * 5000, "\ud800 is no text"])
def test_a_gateway_refuses_in_words_that_fit(phase: Phase, message: str) -> None:
    gateway = connection_in(GATEWAY, phase)
    gateway.data_to_send()
    said = gateway.refuse(403, message)
    assert gateway.phase is Phase.CLOSED
    with pytest.raises(Forbidden) as caught:
        deliver(connection_in(CLIENT, Phase.WELCOME), joined(said))
    assert message.replace("\ud800", "?").startswith(str(caught.value))
    assert len(str(caught.value)) == min(500, len(message))


def test_names_for_people_are_cut() -> None:
    pair = ConnectionPair(client={"agent": "\0" * 300}, gateway={"agent": "g\udcff"}).connect()
    assert pair.gateway.peer_agent == "\0" * 200
    assert pair.client.peer_agent == "g?"
    gateway = Connection(GATEWAY, nonce=bytes(32))
    deliver(gateway, hello(agent="a" * 300))
    assert gateway.peer_agent == "a" * 200

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.auth import prove
from handshakes.errors import (
    AuthenticationFailed,
    LocalProtocolError,
    RemoteProtocolError,
    VersionMismatch,
)
from handshakes.frames import Frame
from handshakes.handshake import PROTOCOL_VERSIONS, Handshake
from handshakes.messages import Hello, Kind, Rights, Welcome
from tests.handshakes.pair import KEY, OTHER_KEY, frame, hello

GATEWAY_HELLO = hello(nonce="67" * 32)
KEYED = hello(keyed=True) + hello(keyed=True, nonce="67" * 32)


def arrived(data: bytes) -> Frame:
    """The frame that these bytes are."""
    kind, flags, operation, head, _ = struct.unpack_from("<BBHII", data)
    return Frame(kind, flags, operation, data[12 : 12 + head], memoryview(data)[12 + head :], True)


def one(role: str, **options: Any) -> Handshake:
    return Handshake(nonce=role[0].encode() * 32, limit=67108864, **options)


def met(client: dict[str, Any], gateway: dict[str, Any]) -> tuple[Handshake, Handshake]:
    """Both sides, after both hellos."""
    caller, answerer = one("client", **client), one("gateway", **gateway)
    answerer.hear_hello(arrived(caller.say_hello()))
    caller.hear_hello(arrived(answerer.say_hello()))
    return caller, answerer


def keyed(**rights: Rights) -> tuple[Handshake, Handshake]:
    return met({"key": KEY}, {"keys": {KEY: rights.get("rights", Rights.DEFAULT)}})


def welcome(rights: int, proof: bytes) -> Frame:
    return arrived(frame(Kind.WELCOME, body=b'[%d,"%s"]' % (rights, proof.hex().encode())))


# Hello


def test_the_hellos() -> None:
    client, gateway = one("client", agent="me"), one("gateway", certificate=b"c" * 32, keys={KEY: Rights.ALL})
    said = client.say_hello()
    assert said == hello(agent="me")
    assert gateway.hear_hello(arrived(said)) == Hello((3, 3), 67108864, b"c" * 32, False, False, "me")
    assert gateway.peer.agent == "me"
    assert gateway.say_hello() == hello(nonce="67" * 32, keyed=True, bound=True)


def test_a_nonce_has_32_bytes() -> None:
    with pytest.raises(LocalProtocolError, match="a nonce has 32 bytes, not 31"):
        Handshake(nonce=bytes(31), limit=4096)


@pytest.mark.parametrize("versions", [[1, 2], [4, 9], [0, 0], [5, 1], [-1, 2], [2**63, 2**64 - 1]])
def test_no_version_in_common(versions: list[int]) -> None:
    with pytest.raises(VersionMismatch, match=rf"version 3 .* {versions[0]} to {versions[1]}; install"):
        one("gateway").hear_hello(arrived(hello(versions=versions)))


@pytest.mark.parametrize("versions", [[1, 3], [3, 9], [0, 2**63], list(PROTOCOL_VERSIONS)])
def test_a_version_in_common(versions: list[int]) -> None:
    heard = one("gateway").hear_hello(arrived(hello(versions=versions, more="of the future")))
    assert heard.versions == tuple(versions)


@pytest.mark.parametrize("body", [b'{"versions":[4,4]}', b'{"versions":[1,2],"nonce":5,"limit":"none"}'])
def test_another_version_is_named_before_its_fields_are_looked_at(body: bytes) -> None:
    with pytest.raises(VersionMismatch):
        one("gateway").hear_hello(arrived(frame(Kind.HELLO, head=b"pynetwork", body=body)))


@pytest.mark.parametrize(
    "body", [b'{"versions":[3,3]}', b'{"versions":[4]}', b'{"versions":["4","4"]}', b'{"limit":5}']
)
def test_a_hello_of_this_version_has_its_fields(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a hello arrived"):
        one("gateway").hear_hello(arrived(frame(Kind.HELLO, head=b"pynetwork", body=body)))


# Without a key


@pytest.mark.parametrize("rights", [Rights.NONE, Rights.READ, Rights.ALL])
def test_without_a_key(rights: Rights) -> None:
    client, gateway = met({}, {})
    assert client.say_proof() == []
    assert not gateway.asks_for_proof()
    said = gateway.say_welcome(rights)
    assert said == frame(Kind.WELCOME, body=b'[%d,""]' % rights.value)
    assert client.hear_welcome(arrived(said)) == Welcome(rights, b"")


def test_only_the_gateway_has_a_key() -> None:
    client, gateway = met({}, {"keys": {KEY: Rights.ALL}})
    assert client.say_proof() == []
    with pytest.raises(AuthenticationFailed, match="this gateway asks for a key and the caller has none"):
        gateway.asks_for_proof()


def test_only_the_client_has_a_key() -> None:
    client, gateway = met({"key": KEY}, {})
    assert not gateway.asks_for_proof()
    with pytest.raises(AuthenticationFailed, match="the gateway does not ask for one"):
        client.say_proof()


@pytest.mark.parametrize(
    ("bits", "rights"),
    [(0, Rights.NONE), (5, Rights.CALL | Rights.READ), (128, Rights.NONE), (2**64 - 1, Rights.ALL)],
)
def test_rights_of_the_future_are_passed_over(bits: int, rights: Rights) -> None:
    assert met({}, {})[0].hear_welcome(welcome(bits, b"")).rights == rights


# The proofs


def test_the_bytes_of_the_proofs() -> None:
    client, gateway = keyed()
    (said,) = client.say_proof()
    assert said == frame(Kind.PROOF, body=prove(KEY, "client", KEYED))
    assert gateway.asks_for_proof()
    assert gateway.hear_proof(arrived(said)) == Rights.DEFAULT
    answer = gateway.say_welcome(Rights.DEFAULT)
    proof = prove(KEY, "gateway", KEYED + b"\x1f\0\0\0\0\0\0\0")
    assert answer == frame(Kind.WELCOME, body=b'[31,"%s"]' % proof.hex().encode())
    assert client.hear_welcome(arrived(answer)) == Welcome(Rights.DEFAULT, proof)


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_each_key_has_its_rights(key: bytes) -> None:
    keys = {KEY: Rights.READ, OTHER_KEY: Rights.ALL}
    client, gateway = met({"key": key}, {"keys": keys})
    rights = gateway.hear_proof(arrived(client.say_proof()[0]))
    assert rights == keys[key]
    assert client.hear_welcome(arrived(gateway.say_welcome(rights))).rights == keys[key]


def test_a_wrong_key() -> None:
    client, gateway = met({"key": OTHER_KEY}, {"keys": {KEY: Rights.ALL}})
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        gateway.hear_proof(arrived(client.say_proof()[0]))


@pytest.mark.parametrize("body", [b"", bytes(31), bytes(32), bytes(33), bytes(4096)])
def test_what_is_no_proof(body: bytes) -> None:
    client, gateway = keyed()
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        gateway.hear_proof(arrived(frame(Kind.PROOF, body=body)))
    with pytest.raises(AuthenticationFailed, match="the gateway did not prove that it knows the key"):
        client.hear_welcome(welcome(31, body[:1000]))


def test_the_proof_of_one_side_is_none_of_the_other() -> None:
    client, gateway = keyed()
    (said,) = client.say_proof()
    with pytest.raises(AuthenticationFailed, match="did not prove"):
        client.hear_welcome(welcome(31, said[12:]))
    mirrored = prove(KEY, "gateway", KEYED)
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        gateway.hear_proof(arrived(frame(Kind.PROOF, body=mirrored)))


@pytest.mark.parametrize("said", [Rights.NONE, Rights.READ, Rights.DEFAULT])
@pytest.mark.parametrize("heard", [63, 31 + 64, 2**64 - 1])
def test_tampered_rights(said: Rights, heard: int) -> None:
    client, gateway = keyed(rights=said)
    rights = gateway.hear_proof(arrived(client.say_proof()[0]))
    proof = bytes.fromhex(gateway.say_welcome(rights)[12:].split(b'"')[1].decode())
    with pytest.raises(AuthenticationFailed, match="did not prove"):
        client.hear_welcome(welcome(heard, proof))
    assert client.hear_welcome(welcome(said.value, proof)) == Welcome(said, proof)


def test_rights_of_the_future_are_proven_too() -> None:
    client, _ = keyed()
    proof = prove(KEY, "gateway", KEYED + struct.pack("<Q", 2**40 + 1))
    assert client.hear_welcome(welcome(2**40 + 1, proof)) == Welcome(Rights.CALL, proof)


@given(st.sampled_from(["client", "gateway"]), st.integers(0, 10**6), st.integers(1, 255))
def test_a_tampered_hello(victim: str, where: int, change: int) -> None:
    """Whatever is changed in a hello: the one who hears it notices, or the proof does."""
    client, gateway = one("client", key=KEY, agent="me"), one("gateway", keys={KEY: Rights.ALL})
    said = client.say_hello()
    try:
        gateway.hear_hello(arrived(tampered(said, where, change) if victim == "gateway" else said))
        said = gateway.say_hello()
        client.hear_hello(arrived(tampered(said, where, change) if victim == "client" else said))
        (proof,) = client.say_proof()
    except (RemoteProtocolError, VersionMismatch, AuthenticationFailed):
        return
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        gateway.hear_proof(arrived(proof))


def tampered(said: bytes, where: int, change: int) -> bytes:
    """These bytes with one of their body changed."""
    place = 21 + where % (len(said) - 21)
    return said[:place] + bytes([said[place] ^ change]) + said[place + 1 :]


# Certificates


@pytest.mark.parametrize(
    ("client", "gateway"), [(b"c" * 32, b"c" * 32), (b"", b"c" * 32), (b"c" * 32, b""), (b"", b"")]
)
def test_a_certificate_is_bound_where_both_know_it(client: bytes, gateway: bytes) -> None:
    caller, answerer = met({"key": KEY, "certificate": client}, {"keys": {KEY: Rights.ALL}, "certificate": gateway})
    both = hello(keyed=True, bound=bool(client)) + hello(keyed=True, bound=bool(gateway), nonce="67" * 32)
    bound = both + (client if client and gateway else b"")
    (said,) = caller.say_proof()
    assert said[12:] == prove(KEY, "client", bound)
    rights = answerer.hear_proof(arrived(said))
    heard = caller.hear_welcome(arrived(answerer.say_welcome(rights)))
    assert heard == Welcome(Rights.ALL, prove(KEY, "gateway", bound + struct.pack("<Q", 127)))


def test_somebody_in_the_middle_of_tls() -> None:
    client, gateway = met({"key": KEY, "certificate": b"m" * 32}, {"keys": {KEY: Rights.ALL}, "certificate": b"c" * 32})
    with pytest.raises(AuthenticationFailed, match="wrong key"):
        gateway.hear_proof(arrived(client.say_proof()[0]))

"""What the two sides tell each other before they work: who speaks which version, and who knows the key.

::

    client                         gateway
    HELLO (nonce, limits)    ->
                             <-    HELLO (nonce, limits)
    PROOF                    ->                             when the gateway asks for a key
                             <-    WELCOME (rights, proof)  or REFUSAL (status, reason)

`handshakes.connection` says when each word may come; here is what it says and what it proves. The proofs (see
`handshakes.auth`) are about both hellos, byte by byte as they were sent, the client's first, and about the
SHA-256 of the TLS certificate where both sides know it. The gateway's proof is also about the rights that it
grants, so that nobody on the way can change them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from handshakes.auth import NONCE_SIZE, prove, verify
from handshakes.errors import AuthenticationFailed, LocalProtocolError, VersionMismatch
from handshakes.frames import Frame
from handshakes.messages import Hello, Kind, Rights, Welcome
from handshakes.words import (
    hello_frame,
    parse_hello,
    parse_welcome,
    read_hello,
    read_versions,
    small_frame,
    welcome_frame,
)

__all__ = ["PROTOCOL_VERSIONS", "Handshake"]

PROTOCOL_VERSIONS = (3, 3)
"""The lowest and the highest protocol version spoken here."""

_pack_rights = struct.Struct("<Q").pack


class Handshake:
    """One side's part of the handshake of one pair. ``peer`` is the other side's hello, once it was heard.

    ``nonce`` is 32 fresh random bytes, ``limit`` the largest frame body accepted here. A client has ``key``
    or None, a gateway ``keys`` with the rights that each grants. ``certificate`` is the SHA-256 of the
    gateway's TLS certificate where this side knows it, else empty.
    """

    peer: Hello

    def __init__(
        self,
        *,
        nonce: bytes,
        limit: int,
        key: bytes | None = None,
        keys: Mapping[bytes, Rights] | None = None,
        certificate: bytes = b"",
        agent: str = "",
    ) -> None:
        if len(nonce) != NONCE_SIZE:
            raise LocalProtocolError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
        self._key = key
        self._keys = dict(keys or {})
        self._certificate = certificate
        self._hello = Hello(PROTOCOL_VERSIONS, limit, nonce, bool(key or keys), bool(certificate), agent)
        self._hellos = b""

    # Hello

    def say_hello(self) -> bytes:
        """This side's hello. The client says it before it hears the gateway's, the gateway after."""
        said = hello_frame(self._hello)
        self._hellos += said
        return said

    def hear_hello(self, frame: Frame) -> Hello:
        """The other side's hello.

        Raises `VersionMismatch` before it looks at anything else, as a hello of another version may have
        other fields, and `RemoteProtocolError` for one that is malformed.
        """
        fields = parse_hello(frame)
        lowest, highest = read_versions(fields)
        if lowest > PROTOCOL_VERSIONS[1] or highest < PROTOCOL_VERSIONS[0]:
            raise VersionMismatch(
                f"protocol version {PROTOCOL_VERSIONS[0]} is spoken here, the other side speaks {lowest} to "
                f"{highest}; install the same major version of pynetwork on both"
            )
        self.peer = read_hello(fields)
        self._hellos += small_frame(Kind.HELLO, frame.flags, frame.head, bytes(frame.body), frame.operation)
        return self.peer

    def _transcript(self) -> bytes:
        """What both sides prove about; complete when both hellos are."""
        bound = self.peer.bound and self._certificate
        return self._hellos + self._certificate if bound else self._hellos

    # The client's proof

    def say_proof(self) -> list[bytes]:
        """The client's proof; nothing when it has no key, which a gateway that asks for one will refuse.

        Raises `AuthenticationFailed` when there is a key and the gateway does not ask for it.
        """
        if not self._key:
            return []
        if not self.peer.keyed:
            raise AuthenticationFailed(
                "this controller has a key, but the gateway does not ask for one, so it can't prove that it "
                "is the right one; leave key= out if that is meant"
            )
        return [small_frame(Kind.PROOF, 0, b"", prove(self._key, "client", self._transcript()))]

    def asks_for_proof(self) -> bool:
        """Whether the gateway waits for a proof. Raises `AuthenticationFailed` when the client has none."""
        if self._keys and not self.peer.keyed:
            raise AuthenticationFailed(
                "this gateway asks for a key and the caller has none; give key= to the controller"
            )
        return bool(self._keys)

    def hear_proof(self, frame: Frame) -> Rights:
        """The rights of the key that the client proved. Raises `AuthenticationFailed` when it is none."""
        transcript, proof = self._transcript(), bytes(frame.body)
        # Every key is tried, so that the time tells nothing about which it was.
        proven = [key for key in self._keys if verify(key, "client", transcript, proof)]
        if not proven:
            raise AuthenticationFailed("wrong key")
        self._key = proven[0]
        return self._keys[self._key]

    # The gateway's proof

    def say_welcome(self, rights: Rights) -> bytes:
        """The gateway's last word: what it grants, with the proof of the key that the client proved."""
        granted = rights.value
        proof = prove(self._key, "gateway", self._granting(granted)) if self._key else b""
        self._hellos = b""
        return welcome_frame(granted, proof)

    def hear_welcome(self, frame: Frame) -> Welcome:
        """The rights granted, and the proof.

        Raises `AuthenticationFailed` when this client has a key and the gateway did not prove it.
        """
        granted, proof = parse_welcome(frame)
        if self._key and not verify(self._key, "gateway", self._granting(granted), proof):
            raise AuthenticationFailed(
                "the gateway did not prove that it knows the key; it may be another than you mean"
            )
        self._hellos = b""
        return Welcome(Rights(granted & Rights.ALL.value), proof)

    def _granting(self, granted: int) -> bytes:
        """The transcript and the rights as they are said: bits without a meaning here are covered too."""
        return self._transcript() + _pack_rights(granted)

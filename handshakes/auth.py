"""How both sides prove that they know a key, without sending it.

Each hello carries a fresh nonce of 32 random bytes. The client proves itself first, then the gateway, each
with HMAC-SHA-256 (RFC 2104) over its role and the transcript: both hellos, byte by byte as they were sent,
and the SHA-256 of the TLS certificate where both sides know it; the gateway's transcript ends with the rights
that it grants. A proof is good for one connection and one direction only: it can be neither replayed
(nonces), nor mirrored (roles), nor kept after a tampered hello or tampered rights (transcript), nor passed on
by someone in the middle of a TLS connection (certificate).

A key is text or bytes. Text is stretched with scrypt (RFC 7914), so that a recorded proof of a short word
costs time and memory for every guess; still, a key from ``secrets.token_urlsafe()`` is the better one.
"""

from __future__ import annotations

from functools import lru_cache

from handshakes.errors import ConfigurationError

__all__ = ["NONCE_SIZE", "PROOF_SIZE", "derive_key", "prove", "verify"]

NONCE_SIZE = 32
PROOF_SIZE = 32
SHORTEST_KEY = 8
_SALT = b"pynetwork 3 key"


@lru_cache(maxsize=64)
def derive_key(key: str | bytes) -> bytes:
    """32 bytes from a key as given by a person. Raises `ConfigurationError` for one that is too short.

    Takes about 50 ms and 16 MiB for text; the result is kept, so that a controller pays once.
    """
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(
            f"a key of {len(key)} characters can be guessed; take at least {SHORTEST_KEY}, "
            'best from: python3 -c "import secrets; print(secrets.token_urlsafe())"'
        )
    # Here and below only now: they bring OpenSSL, which takes a while and nobody needs who has no key.
    import hashlib  # noqa: PLC0415
    import hmac  # noqa: PLC0415

    if isinstance(key, str):
        return hashlib.scrypt(key.encode("utf-8", "surrogatepass"), salt=_SALT, n=2**14, r=8, p=1, dklen=32)
    return hmac.digest(_SALT, key, "sha256")


def prove(key: bytes, role: str, transcript: bytes) -> bytes:
    """The proof of ``role`` ("client" or "gateway") that it knows a derived key; 32 bytes."""
    import hmac  # noqa: PLC0415

    return hmac.digest(key, b"pynetwork proof of the %s\0" % role.encode() + transcript, "sha256")


def verify(key: bytes, role: str, transcript: bytes, proof: bytes) -> bool:
    """Whether ``proof`` is that of ``role``; compared in constant time."""
    import hmac  # noqa: PLC0415

    return hmac.compare_digest(prove(key, role, transcript), proof)

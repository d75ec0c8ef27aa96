from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.auth import PROOF_SIZE, derive_key, prove, verify
from handshakes.errors import ConfigurationError

KEY = b"k" * 32


def test_a_text_is_stretched_with_scrypt() -> None:
    expected = hashlib.scrypt("grün und lang".encode(), salt=b"pynetwork 3 key", n=16384, r=8, p=1, dklen=32)
    assert derive_key("grün und lang") == expected


def test_bytes_are_believed_to_be_random() -> None:
    assert derive_key(b"12345678") == hmac.digest(b"pynetwork 3 key", b"12345678", "sha256")


def test_text_and_bytes_are_different_keys() -> None:
    assert derive_key("12345678") != derive_key(b"12345678")


def test_a_controller_pays_once() -> None:
    assert derive_key("a key to keep") is derive_key("a key to keep")


def test_a_key_from_the_command_line_may_hold_what_is_no_text() -> None:
    assert len(derive_key("12345678\udcff")) == 32


@pytest.mark.parametrize("key", ["", "1234567", b"", b"1234567"])
def test_a_key_that_can_be_guessed(key: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"can be guessed; take at least 8.*token_urlsafe"):
        derive_key(key)


def test_the_bytes_of_a_proof() -> None:
    expected = hmac.new(KEY, b"pynetwork proof of the client\0what was said", "sha256").digest()
    assert prove(KEY, "client", b"what was said") == expected
    assert len(expected) == PROOF_SIZE


ROLES = st.sampled_from(["client", "gateway"])


@given(st.binary(min_size=32, max_size=32), ROLES, st.binary(max_size=50))
def test_a_proof_is_good_for_its_key_role_and_transcript_only(key: bytes, role: str, said: bytes) -> None:
    proof = prove(key, role, said)
    assert verify(key, role, said, proof)
    assert not verify(bytes(32) if any(key) else b"1" * 32, role, said, proof)
    assert not verify(key, "gateway" if role == "client" else "client", said, proof)
    assert not verify(key, role, said + b"\0", proof)
    assert not verify(key, role, said, proof[:-1] + bytes([proof[-1] ^ 1]))


@pytest.mark.parametrize("proof", [b"", b"\0", bytes(31), bytes(32), bytes(33), bytes(4096)])
def test_what_is_no_proof(proof: bytes) -> None:
    assert not verify(KEY, "client", b"", proof)

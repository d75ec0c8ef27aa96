"""Certificates for tests of TLS, made once a session."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from pynetwork.tls import TLS


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: an authority, what it issued for this machine and for a caller, and a stranger's."""

    ca: Path
    server: Path
    server_key: Path
    caller: Path
    caller_key: Path
    other_ca: Path
    other: Path
    other_key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the server's certificate, in hex."""
        text = self.server.read_text(encoding="ascii")
        end = "-----END CERTIFICATE-----"
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[: text.index(end) + len(end)])).hexdigest()

    @property
    def gateway(self) -> TLS:
        """A gateway's options."""
        return TLS(certificate=self.server, private_key=self.server_key)

    @property
    def controller(self) -> TLS:
        """A controller's options that trust the authority."""
        return TLS(ca=self.ca)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One set for all tests."""
    folder = tmp_path_factory.mktemp("certificates")

    def issue(authority: trustme.CA, name: str, *identities: str) -> tuple[Path, Path]:
        issued = authority.issue_cert(*identities)
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return certificate, key

    def authority(name: str) -> tuple[trustme.CA, Path]:
        made = trustme.CA()
        path = folder / f"{name}.pem"
        made.cert_pem.write_to_path(str(path))
        return made, path

    first, ca = authority("ca")
    second, other_ca = authority("other-ca")
    return Certificates(
        ca,
        *issue(first, "server", "localhost", "127.0.0.1", "::1"),
        *issue(first, "caller", "caller@example.org"),
        other_ca,
        *issue(second, "other", "localhost", "127.0.0.1"),
    )

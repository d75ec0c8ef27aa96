"""What both channels are told; most of it is tried by the cases of tests/conformance/test_channels.py."""

from __future__ import annotations

import ssl
import sys
from typing import Any

import pytest

from handshakes.connection import Phase
from handshakes.errors import Closed, ConfigurationError
from pynetwork.series.options import MEMORY_LIMIT, Options
from pynetwork.series.payloads import BytesPayloadType
from pynetwork.tls import TLS
from tests.certificates import Certificates, certificates

__all__ = ["certificates"]

BYTES = BytesPayloadType()


def test_what_it_was_told() -> None:
    options = Options(BYTES, None, 1000, ("host", 5))
    assert (options.address, options.timeout) == (("host", 5), None)
    assert (options.answer_limit, options.batch_limit) == (1000, 1000)
    assert options.payload_type is BYTES
    assert not options.keyed
    assert options.tls is None


def test_a_channel_that_was_handed_over_has_no_address() -> None:
    with pytest.raises(Closed, match="take another from a client"):
        _ = Options(BYTES, 1.0, 1000).address


def test_files_are_read_at_once(certificates: Certificates) -> None:
    assert isinstance(Options(BYTES, None, 1, ("host", 5), tls=TLS(ca=certificates.ca)).tls, ssl.SSLContext)
    with pytest.raises(ConfigurationError, match="can't be used"):
        Options(BYTES, None, 1, ("host", 5), tls=TLS(ca="no such file"))


def test_a_pinned_certificate_stays_to_be_checked() -> None:
    pinned = TLS(fingerprint="00" * 32)
    assert Options(BYTES, None, 1, ("host", 5), tls=pinned).tls is pinned


def test_a_key_is_proved_by_a_new_connection() -> None:
    options = Options(BYTES, None, 1, ("host", 5), key="a long enough key")
    assert options.keyed
    first, second = options.new_connection(b""), options.new_connection(b"")
    assert first is not second
    assert first.phase is Phase.START


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"key": "short"}, "can be guessed"),
        ({"address": (5, "host")}, "the port comes second"),
        ({"timeout": -1.0}, "timeout=-1.0"),
        ({"timeout": float("nan")}, "timeout=nan"),
    ],
)
def test_what_can_not_be_honoured(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        Options(BYTES, options.pop("timeout", None), 1, options.pop("address", ("host", 5)), **options)


def test_without_a_limit_batches_have_one() -> None:
    options = Options(BYTES, None, None)
    assert options.answer_limit == sys.maxsize
    assert options.batch_limit == MEMORY_LIMIT

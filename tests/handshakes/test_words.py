from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshakes.errors import LocalProtocolError, RemoteProtocolError
from handshakes.frames import Frame
from handshakes.messages import Credit, Fault, Hello, Kind
from handshakes.words import (
    SMALL,
    credit_frame,
    fault_frame,
    hello_frame,
    parse_credit,
    parse_fault,
    parse_hello,
    parse_refusal,
    parse_welcome,
    read_hello,
    read_versions,
    refusal_frame,
    small_frame,
    welcome_frame,
)
from tests.handshakes.pair import NOT_A_HELLO, frame, hello, nested

HELLO = Hello((3, 3), 67108864, b"c" * 32, False, True, "me")


def arrived(data: bytes) -> Frame:
    """The frame that these bytes are."""
    kind, flags, operation, head, body = struct.unpack_from("<BBHII", data)
    assert len(data) == 12 + head + body
    return Frame(kind, flags, operation, data[12 : 12 + head], memoryview(data)[12 + head :], True)


def word(kind: Kind, body: bytes, head: bytes = b"") -> Frame:
    return arrived(frame(kind, head=head, body=body))


# Golden bytes


def test_the_bytes_of_each_word() -> None:
    assert small_frame(7, 9, b"head", b"body", 513) == b"\x07\x09\x01\x02\4\0\0\0\4\0\0\0headbody"
    assert hello_frame(HELLO) == hello(bound=True, agent="me")
    assert welcome_frame(31, b"\xab" * 32) == frame(3, body=b'[31,"%s"]' % (b"ab" * 32))
    assert welcome_frame(0, b"") == frame(3, body=b'[0,""]')
    assert refusal_frame(503, "full") == frame(4, body=b'[503,"full"]')
    assert credit_frame(3, 4, 7) == frame(9, 0, 7, b"\x03\0\0\0\x04\0\0\0\0\0\0\0")
    assert fault_frame(Fault(404, "E", "m", "t"), 7, SMALL) == frame(12, 0, 7, body=b'[404,"E","m","t"]')


def test_what_is_said_is_what_is_heard() -> None:
    assert read_hello(parse_hello(arrived(hello_frame(HELLO)))) == HELLO
    assert parse_welcome(arrived(welcome_frame(2**64 - 1, b"proof"))) == (2**64 - 1, b"proof")
    assert parse_refusal(arrived(refusal_frame(503, "full"))) == (503, "full")
    assert parse_credit(arrived(credit_frame(2**32 - 1, 2**64 - 1, 1))) == Credit(2**32 - 1, 2**64 - 1)
    fault = Fault(0, "E", "m", "t")
    assert parse_fault(arrived(fault_frame(fault, 1, SMALL))) == fault


# Hello


@pytest.mark.parametrize("changes", NOT_A_HELLO, ids=repr)
def test_a_malformed_hello(changes: dict[str, Any]) -> None:
    fields = parse_hello(arrived(hello(**changes)))
    with pytest.raises(RemoteProtocolError, match=r"a hello arrived|is not hexadecimal"):
        read_hello(fields)


@pytest.mark.parametrize("name", ["versions", "limit", "nonce", "keyed", "bound", "agent"])
def test_a_hello_that_lacks_a_field(name: str) -> None:
    fields = parse_hello(arrived(hello()))
    del fields[name]
    with pytest.raises(RemoteProtocolError, match="a hello arrived"):
        read_hello(fields)
    if name != "versions":
        assert read_versions(fields) == (3, 3)


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert read_hello(parse_hello(arrived(hello(more={"of": ["the future"]})))).agent == ""
    body = b'{"versions":[4,5],"nonce":{"other":"form"}}'
    assert read_versions(parse_hello(word(Kind.HELLO, body, b"pynetwork"))) == (4, 5)


@pytest.mark.parametrize("head", [b"", b"pynetwor", b"pynetwork4", b"PYNETWORK"])
def test_another_magic(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="does not speak pynetwork 3"):
        parse_hello(word(Kind.HELLO, hello()[21:], head))


def test_names_for_people_are_cut() -> None:
    said = Hello((3, 3), SMALL, b"c" * 32, True, False, "\0" * 199 + "\udcff" + "x" * 5000)
    assert read_hello(parse_hello(arrived(hello_frame(said)))).agent == "\0" * 199 + "?"
    assert len(hello_frame(said)) < SMALL
    assert read_hello(parse_hello(arrived(hello(agent="a" * 300)))).agent == "a" * 200


# Bodies that are none

PARSERS = {
    Kind.HELLO: parse_hello,
    Kind.WELCOME: parse_welcome,
    Kind.REFUSAL: parse_refusal,
    Kind.FAULT: parse_fault,
}
NO_BODY = [b"", b"{", b"[]", b"5", b"null", b'"x"', b"[" * 4000, nested(2000), b"\xff", b'{"a":1} ,']


@pytest.mark.parametrize("body", NO_BODY)
@pytest.mark.parametrize("kind", PARSERS)
def test_a_body_that_is_none(kind: Kind, body: bytes) -> None:
    head = b"pynetwork" if kind is Kind.HELLO else b""
    with pytest.raises(RemoteProtocolError, match=f"a (hello|{kind.name}) arrived that is"):
        PARSERS[kind](word(kind, body, head))


@pytest.mark.parametrize("deep", [nested(900), b'{"a":' * 500 + b"1" + b"}" * 500])
def test_texts_nested_without_end(deep: bytes) -> None:
    fields = parse_hello(word(Kind.HELLO, hello(agent="X")[21:].replace(b'"X"', deep), b"pynetwork"))
    with pytest.raises(RemoteProtocolError, match="a hello arrived that is malformed"):
        read_hello(fields)
    with pytest.raises(RemoteProtocolError, match="a REFUSAL arrived that is malformed"):
        parse_refusal(word(Kind.REFUSAL, b"[400,%s]" % deep))
    with pytest.raises(RemoteProtocolError, match="a FAULT arrived that is malformed"):
        parse_fault(word(Kind.FAULT, b'[0,"E",%s,""]' % deep))


@pytest.mark.parametrize(
    "body",
    [
        b"[31]",
        b"[31,5]",
        b"[31,null]",
        b'[31,"zz"]',
        b'[31,"\xc3\xa9"]',
        b'["31",""]',
        b"[null,null]",
        b'[1.5,""]',
        b'[31,"",1]',
        b'[true,""]',
        b'[-1,""]',
        b'[18446744073709551616,""]',
    ],
)
def test_a_malformed_welcome(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_welcome(word(Kind.WELCOME, body))


@pytest.mark.parametrize(
    "body",
    [
        b'["503","x"]',
        b"[503]",
        b"[503,5]",
        b'[503,"x",1]',
        b'[null,"x"]',
        b'[1e300,"x"]',
        b'{"503":"x","1":2}',
    ],
)
def test_a_malformed_refusal(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a REFUSAL arrived that is malformed"):
        parse_refusal(word(Kind.REFUSAL, body))


@pytest.mark.parametrize(
    "body",
    [b'[0,"E","m"]', b'[0,"E","m","t",1]', b'["0","E","m","t"]', b'[0,null,"m","t"]', b'[0,"E","m",[]]'],
)
def test_a_malformed_fault(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a FAULT arrived that is malformed"):
        parse_fault(word(Kind.FAULT, body))


@pytest.mark.parametrize("head", [b"", bytes(11), bytes(13)])
def test_a_malformed_credit(head: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a credit arrived that is malformed"):
        parse_credit(word(Kind.CREDIT, b"", head))


SAYING: dict[Kind, Callable[[Any], bytes]] = {
    Kind.HELLO: hello_frame,
    Kind.WELCOME: lambda heard: welcome_frame(*heard),
    Kind.REFUSAL: lambda heard: refusal_frame(*heard),
    Kind.FAULT: lambda heard: fault_frame(heard, 1, SMALL),
}
LIKELY = [
    *[b'[1,""]', b'[31,"%s"]' % (b"ab" * 32), b'[403,"\\u00e9"]', b'[0,"E","m","t"]'],
    *[b"{}", hello(agent="me")[21:], hello(nonce="")[21:]],
]


@given(st.sampled_from(list(PARSERS)), st.binary(max_size=60) | st.sampled_from(LIKELY))
def test_whatever_arrives_is_a_word_or_an_error(kind: Kind, body: bytes) -> None:
    """A word that can be said again, and is the same then."""

    def hear(said: Frame) -> Any:
        heard = PARSERS[kind](said)
        return read_hello(heard) if isinstance(heard, dict) else heard

    try:
        heard = hear(word(kind, body, b"pynetwork"))
    except RemoteProtocolError:
        return
    assert hear(arrived(SAYING[kind](heard))) == heard


# What is cut or refused before it is said


@pytest.mark.parametrize("reason", ["full", "\0" * 5000, "é" * 5000, "\ud800 is no text", "\U0001f600" * 600])
def test_a_reason_fits(reason: str) -> None:
    said = refusal_frame(403, reason)
    assert len(said) <= 12 + SMALL
    status, heard = parse_refusal(arrived(said))
    assert (status, len(heard)) == (403, min(500, len(reason)))
    assert reason.replace("\ud800", "?").startswith(heard)


@pytest.mark.parametrize(("items", "size"), [(-1, 1), (1, -1), (2**32, 1), (1, 2**64), (1.5, 1)])
def test_what_is_no_credit(items: Any, size: Any) -> None:
    with pytest.raises(LocalProtocolError, match="are no credit"):
        credit_frame(items, size, 1)


@pytest.mark.parametrize("limit", [SMALL, 5000, 2**26])
@pytest.mark.parametrize("text", ["short", "\0" * 20_000, "é\ud800" * 10_000])
def test_a_fault_always_fits(limit: int, text: str) -> None:
    said = fault_frame(Fault(0, text, text, text + " the end"), 1, limit)
    assert len(said) <= 12 + limit
    fault = parse_fault(arrived(said))
    shown = text.replace("\ud800", "?")
    assert shown.startswith(fault.type_name)
    assert shown.startswith(fault.message)
    assert fault.traceback.endswith(" the end")
    assert min(map(len, (fault.type_name, fault.message, fault.traceback))) >= min(len(text), 60)
    assert orjson.loads(said[12:])[0] == 0

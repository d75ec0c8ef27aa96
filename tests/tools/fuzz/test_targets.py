"""Every target bears everything that is known to it, and some thousands of inputs that are made of that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from handshakes.errors import RemoteProtocolError
from handshakes.survey import Facts, FileRow
from handshakes.tstorage import Command
from tools.fuzz import corpus, plan, targets, tstorage
from tools.fuzz.runner import run_mutated
from tools.fuzz.targets import CODECS, PLACES, TARGETS, joined_value

RUNS = 3000


def bear_the_corpus(name: str) -> None:
    for data in corpus.read(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_in_the_corpus(name: str) -> None:
    assert len(corpus.read(name)) >= 5
    bear_the_corpus(name)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_made_of_the_corpus(name: str) -> None:
    found = [finding for _, finding in run_mutated(TARGETS[name], corpus.read(name), RUNS, 60.0, seed=1) if finding]
    assert not found, found[0].trace


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 3, bytes(5000)])
def test_little_and_nothing(name: str, data: bytes) -> None:
    TARGETS[name](data)


def breaking(name: str) -> Callable[..., None]:
    def broken(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError(name)

    return broken


APART = {"chunks": plan, "tstorage_requests": tstorage, "tstorage_answers": tstorage}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("parser", "FrameParser"),
        ("values", "decode"),
        ("items", "read_items"),
        ("connection", "Connection"),
        ("manifest", "decode_page"),
        ("survey", "read_rows"),
        ("paths", "check_path"),
        ("chunks", "ChunkPlan"),
        ("tstorage_requests", "RequestReader"),
        ("tstorage_requests", "get_request"),
        ("tstorage_requests", "get_acq_request"),
        ("tstorage_requests", "batches"),
        ("tstorage_answers", "ResponseReader"),
        ("tstorage_answers", "records"),
    ],
)
def test_each_tries_what_it_is_named_after(name: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(APART.get(name, targets), part, breaking(name))
    with pytest.raises(ZeroDivisionError):
        bear_the_corpus(name)


@pytest.mark.parametrize("codec", CODECS)
def test_the_corpus_has_something_for_every_codec(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, codec, breaking(codec))  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        bear_the_corpus("transfer")


def test_the_corpus_has_something_for_every_place_of_a_connection() -> None:
    assert {data[0] % len(PLACES) for data in corpus.read("connection")} == set(range(len(PLACES)))


# What the targets promise to notice


def test_a_parser_that_depends_on_the_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(targets.FrameParser):
        def advance(self, count: int) -> None:
            super().advance(count)
            if count < 5:
                raise RemoteProtocolError("too few")

    monkeypatch.setattr(targets, "FrameParser", Forgetful)
    with pytest.raises(AssertionError, match="in pieces of 2 bytes"):
        TARGETS["parser"](b"\x01" + bytes([5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))


def test_a_value_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    count = iter(range(10))
    monkeypatch.setattr(targets, "decode", lambda *_arguments, **_options: next(count))
    with pytest.raises(AssertionError, match="was written again as"):
        TARGETS["values"](joined_value(1, b"", b"0"))


def test_a_path_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "check_path", lambda path: path.split("/"))
    with pytest.raises(AssertionError, match="was let through"):
        TARGETS["paths"](b"a/../b")


def test_rows_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "encode_end", lambda _row: b"")
    with pytest.raises(AssertionError, match="were read again as"):
        TARGETS["survey"](b"\x04" + bytes(17))


def test_a_name_that_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    row = FileRow(b"..", Facts(0, 0, 0, 0, 0, 0).encode())
    monkeypatch.setattr(targets, "read_rows", lambda _data: iter([row]))
    with pytest.raises(AssertionError, match="was let through"):
        TARGETS["survey"](b"x")


def test_a_message_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "encode_ranges", lambda _ranges: b"others")
    number = list(CODECS).index("ranges")
    with pytest.raises(AssertionError, match="was written again as"):
        TARGETS["transfer"](bytes([number, 0]) + bytes(8) + b"\x01\0\0\0")


def test_a_reader_of_requests_that_depends_on_the_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(tstorage.RequestReader):
        def received(self, count: int) -> None:
            super().received(count)
            if count < 5:
                raise RemoteProtocolError("too few")

    monkeypatch.setattr(tstorage, "RequestReader", Forgetful)
    with pytest.raises(AssertionError, match=r"in pieces: \['error'\], in whole: \[PutBegin"):
        TARGETS["tstorage_requests"](b"\x01\x05" + bytes(11) + b"\xff" * 4)


def test_a_reader_that_takes_memory_for_what_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Credulous(tstorage.ResponseReader):
        def buffer(self) -> memoryview:
            self._data = bytearray(1 << 20)
            return memoryview(self._data)

    monkeypatch.setattr(tstorage, "ResponseReader", Credulous)
    with pytest.raises(AssertionError, match="bytes of memory were taken for 14"):
        TARGETS["tstorage_answers"](bytes(16))


def test_requests_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tstorage, "get_request", tstorage.get_acq_request)
    with pytest.raises(AssertionError, match=r"Get\(.* was written as"):
        bear_the_corpus("tstorage_requests")


def test_records_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tstorage, "batches", lambda *_arguments: [])
    with pytest.raises(AssertionError, match="were read again as"):
        bear_the_corpus("tstorage_requests")
    monkeypatch.setattr(tstorage, "records", lambda _block: b"")
    with pytest.raises(AssertionError, match="were read again as"):
        bear_the_corpus("tstorage_answers")


def test_the_corpus_has_something_for_every_command() -> None:
    assert {data[1] for data in corpus.read("tstorage_requests")} == set(Command)
    assert {list(Command)[data[0]] for data in corpus.read("tstorage_answers")} == set(Command)


# What runs have found


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("paths", b"((:b"),
        ("paths", b"12:30.log"),
        # An array of text whose characters are none, which numpy can't show.
        (
            "values",
            b'\x02+\x00[[["name","<U2"],["number","<i8"]],[1],"C"]a\x00\x00\x11\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00',
        ),
    ],
)
def test_what_was_taken_for_a_finding(name: str, data: bytes) -> None:
    TARGETS[name](data)

"""The rows of a survey."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handshakes.errors import RemoteProtocolError
from handshakes.paths import COMPONENT_LIMIT, PATH_LIMIT
from handshakes.survey import (
    FACTS,
    TARGET_LIMIT,
    End,
    Facts,
    FileRow,
    FolderRow,
    GoneRow,
    LinkRow,
    Row,
    SkippedRow,
    encode_end,
    encode_file_row,
    encode_folder_row,
    encode_gone_row,
    encode_link_row,
    encode_skipped_row,
    is_settled,
    read_rows,
    read_runs,
)

SECOND = 1_000_000_000
MTIME = 1_500_000_000_000_000_001

FACT = Facts(0o640, 1000, 50, 123_456, MTIME, 77)
RAW_FACTS = bytes.fromhex("a001 e8030000 32000000 40e2010000000000 0100167b0d12d114 4d00000000000000")

ROWS: dict[str, tuple[Row, bytes]] = {
    "file": (FileRow(b"a.log", RAW_FACTS), b"\x00\x05" + RAW_FACTS + b"a.log"),
    "folder": (
        FolderRow(b"logs/old", FACT, -2, MTIME, True),
        b"\x01\x01" + RAW_FACTS + b"\xfe" + b"\xff" * 7 + bytes.fromhex("0100167b0d12d114") + b"\x08\x00logs/old",
    ),
    "root": (
        FolderRow(b"", FACT, 5, 0, False),
        b"\x01\x00" + RAW_FACTS + b"\x05" + bytes(7) + bytes(8) + b"\x00\x00",
    ),
    "link": (LinkRow(b"now", FACT, b"../x"), b"\x02\x03" + RAW_FACTS + b"\x04\x00" + b"now" + b"../x"),
    "skipped": (SkippedRow(b"pipe", "named pipe"), b"\x03\x04\x0a\x00" + b"pipe" + b"named pipe"),
    "nameless": (SkippedRow(b"", "no"), b"\x03\x00\x02\x00" + b"no"),
    "end": (End(3, 2), b"\x04\x00" + b"\x03" + bytes(7) + b"\x02" + bytes(7)),
    "gone": (GoneRow(b"logs"), b"\x05\x00" + b"\x04\x00" + b"logs"),
}


def encoded(row: Row) -> bytes:
    if isinstance(row, FileRow):
        return encode_file_row(row.name, Facts.decode(row.facts))
    if isinstance(row, FolderRow):
        return encode_folder_row(row)
    if isinstance(row, LinkRow):
        return encode_link_row(row)
    if isinstance(row, SkippedRow):
        return encode_skipped_row(row)
    return encode_end(row) if isinstance(row, End) else encode_gone_row(row)


def page_of(rows: Iterable[Row]) -> bytes:
    return b"".join(map(encoded, rows))


def refused(page: bytes, words: str = "a survey") -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        list(read_rows(page))


# As they are on the wire


def test_facts_are_34_bytes() -> None:
    assert FACTS.size == len(RAW_FACTS) == 34
    assert FACT.encode() == RAW_FACTS
    assert Facts.decode(RAW_FACTS) == FACT


@pytest.mark.parametrize("kind", ROWS)
def test_each_row_by_hand(kind: str) -> None:
    row, raw = ROWS[kind]
    assert encoded(row) == raw
    (found,) = read_rows(raw)
    assert found == row
    assert type(found) is type(row)


def test_a_page_of_rows() -> None:
    page = b"".join(raw for _, raw in ROWS.values())
    expected = [row for row, _ in ROWS.values()]
    for data in (page, bytearray(page), memoryview(page)):
        assert list(read_rows(data)) == expected
    assert list(read_rows(b"")) == []


@pytest.mark.parametrize("kind", ROWS)
def test_a_page_that_ends_within_a_row_is_refused(kind: str) -> None:
    _, raw = ROWS[kind]
    for size in range(1, len(raw)):
        refused(raw[:size], "a survey ends within")
        rows = read_rows(ROWS["gone"][1] + raw[:size])
        assert next(rows) == ROWS["gone"][0]
        with pytest.raises(RemoteProtocolError, match="ends within"):
            next(rows)


def test_flags_of_later_versions_are_passed_over() -> None:
    for kind in ("folder", "end", "gone"):
        row, raw = ROWS[kind]
        assert list(read_rows(raw[:1] + bytes([raw[1] | 0xFE]) + raw[2:])) == [row]


# Whatever it is, it comes back

names = (
    st.binary(min_size=1, max_size=COMPONENT_LIMIT)
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda raw: raw not in {b".", b".."})
)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
owners = st.integers(0, (1 << 32) - 1)
facts = st.builds(Facts, st.integers(0, 0o777), owners, owners, st.integers(0, (1 << 63) - 1), numbers, numbers)
paths = st.lists(names, max_size=8).map(b"/".join)
counts = st.integers(0, (1 << 63) - 1)
rows = st.one_of(
    st.builds(FileRow, names, facts.map(Facts.encode)),
    st.builds(FolderRow, paths, facts, numbers, numbers, st.booleans()),
    st.builds(LinkRow, names, facts, st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"."))),
    st.builds(SkippedRow, st.just(b"") | names, st.text(st.characters(codec="utf-8"), max_size=75)),
    st.builds(End, counts, counts),
    st.builds(GoneRow, paths),
)


@given(st.lists(rows, max_size=12))
def test_rows_come_back(table: list[Row]) -> None:
    found = list(read_rows(page_of(table)))
    assert found == table
    assert [type(row) for row in found] == [type(row) for row in table]


@given(st.binary(max_size=200))
@example(bytes(100))
@example(b"\x01" * 100)
def test_garbage_is_refused_or_read(page: bytes) -> None:
    try:
        found = list(read_rows(page))
    except RemoteProtocolError:
        return
    for row in found:
        if isinstance(row, (FileRow, LinkRow)):
            assert row.name
            assert not set(row.name) & {0, ord("/")}
        elif isinstance(row, (FolderRow, GoneRow)):
            assert all(part not in {b"", b".", b".."} for part in row.path.split(b"/") if row.path)


@given(st.lists(rows, min_size=1, max_size=4), st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_page_is_refused_or_read(table: list[Row], where: int, change: int) -> None:
    """What is read can be said again and is the same then, unless a file has facts that none can have."""
    page = bytearray(page_of(table))
    page[where % len(page)] ^= change
    try:
        found = list(read_rows(page))
        again = page_of(found)
    except RemoteProtocolError:
        return
    assert list(map(with_short_reason, read_rows(again))) == list(map(with_short_reason, found))


def with_short_reason(row: Row) -> Row:
    """What of it surely fits into the 300 bytes that are said."""
    return row._replace(reason=row.reason[:75]) if isinstance(row, SkippedRow) else row


# What makes no sense


@pytest.mark.parametrize("kind", [6, 7, 99, 255])
def test_unknown_kinds_are_refused(kind: int) -> None:
    refused(bytes([kind]) + bytes(100), f"unknown kind {kind}")


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"\0"])
def test_what_is_no_name_is_refused(name: bytes) -> None:
    words = "which no file can have"
    refused(b"\0" + bytes([len(name)]) + RAW_FACTS + name, words)
    refused(encode_link_row(LinkRow(name, FACT, b"target")), words)
    if name:
        refused(encode_skipped_row(SkippedRow(name, "")), words)
    if name != b"a/b":
        for path in (b"a/" + name, name + b"/a", b"a/" + name + b"/b"):
            refused(encode_gone_row(GoneRow(path)), words)
            refused(encode_folder_row(FolderRow(path, FACT, 0, 0, True)), words)


def test_what_is_too_long_is_refused() -> None:
    longest = b"/".join([b"d" * 63] * 64)
    assert len(longest) == PATH_LIMIT - 1
    longest += b"d"
    for row in (GoneRow(longest), FolderRow(longest, FACT, 0, 0, True), LinkRow(b"a", FACT, b"x" * TARGET_LIMIT)):
        assert list(read_rows(encoded(row))) == [row]
    refused(encode_gone_row(GoneRow(longest + b"d")), "path of 4097 bytes")
    refused(encode_folder_row(FolderRow(longest + b"d", FACT, 0, 0, True)), "path of 4097 bytes")
    refused(encode_gone_row(GoneRow(b"d" * 256)), "no file can have")
    refused(encode_link_row(LinkRow(b"a", FACT, b"x" * (TARGET_LIMIT + 1))), "link to 4097 bytes of no path")


@pytest.mark.parametrize("target", [b"", b"a\0b"])
def test_a_link_leads_somewhere(target: bytes) -> None:
    refused(encode_link_row(LinkRow(b"a", FACT, target)), "no path")


@pytest.mark.parametrize("change", [{"size": -1}, {"mode": 0o1000}, {"mode": 0o4755}])
def test_no_file_is_like_that(change: dict[str, Any]) -> None:
    odd = FACT._replace(**change)
    with pytest.raises(RemoteProtocolError, match=f"{odd.size} bytes and mode {odd.mode:o}"):
        Facts.decode(odd.encode())
    refused(encode_folder_row(FolderRow(b"", odd, 0, 0, True)), "mode")
    refused(encode_link_row(LinkRow(b"a", odd, b"x")), "mode")
    # Of files they are only compared, mostly: whoever uses them decodes them.
    assert list(read_rows(encode_file_row(b"a", odd))) == [FileRow(b"a", odd.encode())]


def test_reasons_are_text_whatever_comes_and_long_ones_are_cut() -> None:
    (row,) = read_rows(encode_skipped_row(SkippedRow(b"a", "because " * 100)))
    assert row == SkippedRow(b"a", ("because " * 100)[:300])
    (row,) = read_rows(b"\x03\x00" + (1000).to_bytes(2, "little") + b"\xff" * 1000)
    assert row == SkippedRow(b"", "\N{REPLACEMENT CHARACTER}" * 300)
    (row,) = read_rows(encode_skipped_row(SkippedRow(b"a", "lone \ud800")))
    assert row == SkippedRow(b"a", "lone ?")


# Times


@pytest.mark.parametrize(
    ("mtime_ns", "age", "settled"),
    [
        (MTIME, 20_000_000, False),
        (MTIME, 20_000_001, True),
        (MTIME // SECOND * SECOND, SECOND, False),
        (MTIME // SECOND * SECOND, 3 * SECOND, False),
        (MTIME // SECOND * SECOND, 3 * SECOND + 1, True),
        (MTIME, 0, False),
        (MTIME, -SECOND, False),
        (MTIME, -600 * SECOND, False),
        (MTIME, -600 * SECOND - 1, True),
    ],
)
def test_whether_a_later_change_would_show(mtime_ns: int, age: int, settled: bool) -> None:
    assert is_settled(mtime_ns, mtime_ns + age) is settled


# Runs of files


def flat(page: bytes) -> list[Row] | str:
    """The rows in runs, one after the other; or what is wrong with them."""
    rows: list[Row] = []
    try:
        for found in read_runs(page):
            rows += found if isinstance(found, list) else [found]
    except RemoteProtocolError:
        return "refused"
    return rows


def single(page: bytes) -> list[Row] | str:
    try:
        return list(read_rows(page))
    except RemoteProtocolError:
        return "refused"


@given(st.lists(st.one_of([st.sampled_from([raw for _, raw in ROWS.values()]), st.binary(max_size=80)]), max_size=12))
@example([])
def test_runs_have_the_same_rows(parts: list[bytes]) -> None:
    page = b"".join(parts)
    assert flat(page) == single(page)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"x" * 255])
def test_one_odd_name_among_many(name: bytes) -> None:
    facts = Facts(0o644, 0, 0, 5, 6, 7)
    good = [encode_file_row(b"file%d" % number, facts) for number in range(5)]
    for page in (b"".join([*good, encode_file_row(name, facts), *good]), encode_file_row(name, facts)):
        assert flat(page) == single(page)
    assert (single(page) == "refused") == (len(name) < 255)


def test_a_run_that_ends_within_a_row_is_refused() -> None:
    row = encode_file_row(b"file", Facts(0o644, 0, 0, 5, 6, 7))
    for size in range(1, len(row)):
        with pytest.raises(RemoteProtocolError, match="ends within a file's row"):
            list(read_runs(row + row[:size]))


def test_files_that_follow_each_other_come_together() -> None:
    facts = Facts(0o644, 0, 0, 5, 6, 7)
    row = encode_file_row(b"file", facts)
    found = list(read_runs(row + row + encode_end(End(2, 0)) + row))
    assert [len(each) if isinstance(each, list) else each for each in found] == [2, End(2, 0), 1]

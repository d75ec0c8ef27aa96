from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

from handshakes.errors import ConfigurationError
from handshakes.records import Block, joined
from pynetwork.cli.common import CommandFailed
from pynetwork.cli.series import reading
from pynetwork.cli.series.payloads import Payload, payload_of
from pynetwork.cli.series.reading import BATCH, CsvRecords, opened_file
from pynetwork.series import csvlines
from pynetwork.series.conversions import array_from
from pynetwork.series.datafiles import read_blocks, write_blocks
from tests.pynetwork.cli.series.stores import HALL, NOON, PAIRS, ROOM, SECOND, pairs, texts


class Text:
    """CSV in memory, and the lines that were left out."""

    def __init__(self, text: str | bytes, payload: str | None = None, **options: Any) -> None:
        self.left_out: list[tuple[int, str]] = []
        data = text if isinstance(text, bytes) else text.encode()
        self.file = CsvRecords(
            io.BytesIO(data),
            len(data),
            None if payload is None else payload_of(payload),
            options.get("series"),
            options.get("times", "any"),
            lambda line, reason: self.left_out.append((line, reason)),
        )

    def whole(self) -> Block:
        return joined(list(self.file.blocks()))

    def array(self) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = array_from(self.whole(), self.file.payload.type).tolist()
        return rows


def test_columns_by_their_names() -> None:
    text = Text("b,cap,moid,mid,cid,a\n1.5,2001-01-01,3,2,1,7\n2.5,2001-01-01T00:00:01Z,3,-2,1,8\n", "a:i4,b:f8")
    assert text.array() == [(1, 2, 3, 0, 0, 7, 1.5), (1, -2, 3, SECOND, 0, 8, 2.5)]
    assert not text.file.with_acq
    assert text.left_out == []


def test_columns_in_their_order() -> None:
    text = Text("cid,mid,moid,cap,acq,temperature,valid\n1,2,3,2001-01-01,2001-01-02,1.5,true\n", "d?")
    assert text.array() == [(1, 2, 3, 0, 86_400 * SECOND, 1.5, True)]
    assert text.file.with_acq


def test_without_a_payload_all_are_doubles() -> None:
    text = Text("cid,mid,moid,cap,watt,volt\n1,2,3,2001-01-01,1.5,\n")
    assert text.file.payload.names == ["watt", "volt"]
    ((*key, watt, volt),) = text.array()
    assert (key, watt) == ([1, 2, 3, 0, 0], 1.5)
    assert numpy.isnan(volt)


def test_a_series_for_all() -> None:
    text = Text("cap,x\n2001-01-01,5\n", series=ROOM)
    assert text.array() == [(*ROOM, 0, 0, 5.0)]


@pytest.mark.parametrize(
    ("payload", "cells", "wanted"),
    [
        ("json", '"{""a"": [1, 2]}"', b'{"a":[1,2]}'),
        ("bytes", "00ff", b"\x00\xff"),
        ("(2,)i2", '"[1, 2]"', b"\1\0\2\0"),
    ],
)
def test_payloads_of_one_column(payload: str, cells: str, wanted: bytes) -> None:
    block = Text(f"cid,mid,moid,cap,what\n1,2,3,2001-01-01,{cells}\n", payload).whole()
    assert bytes(block.payload(0)) == wanted


def test_a_line_that_does_not_fit_is_named_and_left_out() -> None:
    lines = [
        "cid,mid,moid,cap,x",
        "1,2,3,2001-01-01,1",
        "",
        "1,2,3,2001-01-01",
        "-1,2,3,2001-01-01,1",
        "1,2,2147483647,2001-01-01,1",
        '1,2,3,2001-01-01,"1\n5"',
        "1,2,3,soon,1",
        "1,x,3,2001-01-01,1",
        "1,2,3,2001-01-01,\udcff",
        "1,2,3,2001-01-01," + "9" * 200_000,
        "1,2,3,2001-01-01,2",
    ]
    text = Text("\n".join(lines).encode("utf-8", "surrogateescape"))
    assert [row[-1] for row in text.array()] == [1.0, 2.0]
    assert [line for line, _ in text.left_out] == [4, 5, 6, 7, 8, 9, 10, 11, 12]
    for (_, reason), words in zip(
        text.left_out,
        [
            "columns",
            "cid: -1",
            "moid: 2147483647",
            "quote that opens column 5 is not closed",
            "1 columns",
            "cap:",
            "mid: 'x'",
            "no text in UTF-8",
            "too large",
        ],
        strict=True,
    ):
        assert words in reason


def test_what_other_programs_write() -> None:
    text = Text("\ufeffcid, mid ,moid,cap,x\r\n 1 , 2,3,2001-01-01 ,4\r\n")
    assert text.array() == [(1, 2, 3, 0, 0, 4.0)]


@pytest.mark.parametrize(
    ("text", "payload", "words"),
    [
        ("", None, "'cid'"),
        ("1,2,3,4,5\n", None, "'cid'"),
        ("cid,mid,moid,x\n", None, "'cap'"),
        ("cid,mid,moid,cap,x,x\n", None, "one name"),
        ("cid,mid,moid,cap,x\n", "f8,f8", "1 columns beside the key's"),
        ("cid,mid,moid,cap\n", "json", "0 columns"),
        ("mid,cap,x\n", "series", "'mid'"),
    ],
)
def test_a_first_line_that_does_not_fit(text: str, payload: str | None, words: str) -> None:
    options: dict[str, Any] = {"series": ROOM} if payload == "series" else {"payload": payload}
    with pytest.raises(CommandFailed, match=words) as caught:
        Text(text, **options)
    assert caught.value.code == 2


def test_a_first_line_that_does_not_fit_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_text("mid,moid,cap,x\n", encoding="utf-8")
    with pytest.raises(CommandFailed, match=r"records\.csv': its first line names no column 'cid'"):
        read(path, None)


def test_many_lines_come_in_batches() -> None:
    count = 2 * BATCH + 5
    lines = "".join(f"1,2,3,{946684800 + at},{at}\n" for at in range(count))
    text = Text("cid,mid,moid,cap,x\n" + lines)
    blocks = text.file.blocks()
    first = next(blocks)
    assert len(first) == BATCH
    # Nothing is read much further than that.
    assert text.file.total is not None
    assert text.file.read < text.file.total * 0.6
    assert [len(block) for block in blocks] == [BATCH, 5]
    assert text.file.read == text.file.total


def test_long_lines_come_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_BATCH_SIZE", 10_000)
    text = Text("cid,mid,moid,cap,x\n" + f'1,2,3,2001-01-01,"""{"x" * 3000}"""\n' * 10, "json")
    assert [len(block) for block in text.file.blocks()] == [4, 4, 2]


def test_a_form_of_times_holds_for_all_of_them() -> None:
    text = Text("cid,mid,moid,cap,x\n1,2,3,2001-01-01T00:00:00Z,1\n", times="unix")
    assert list(text.file.blocks()) == []
    assert [line for line, _ in text.left_out] == [2]


def test_a_line_without_an_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvlines, "LONGEST_LINE", 1000)
    text = Text("cid,mid,moid,cap,x\n1,2,3,0" + ",0" * 10_000 + "\n1,2,3,2001-01-01,7\n")
    assert [row[-1] for row in text.array()] == [7.0]
    assert text.left_out == [(2, "it is longer than 1000 letters")]


@pytest.mark.parametrize("payload", [None, "json"])
def test_a_quote_too_many_costs_one_line(payload: str | None) -> None:
    lines = ["cid,mid,moid,cap,x", *(f"1,2,3,{at},{at}" for at in range(2, 20_000))]
    lines[2] = '1,2,3,4,"5'
    text = Text("\n".join(lines), payload)
    assert len(text.whole()) == 19_997
    assert text.left_out == [(3, "the quote that opens column 5 is not closed")]


def test_cells_that_hold_line_breaks() -> None:
    value = '"{""a"":\n1}"'
    text = Text(f"cid,mid,moid,cap,what,x\n1,2,3,2001-01-01,{value},1\n1,2,3,soon,{value},1\n", "x:f8")
    with pytest.raises(CommandFailed):
        text = Text(f"cid,mid,moid,cap,what,x\n1,2,3,2001-01-01,{value},1\n", "json")
    # Of a column that is not read, of JSON, of letters; each line has the number of its first.
    assert text.array() == [(1, 2, 3, 0, 0, 1.0)]
    assert [line for line, _ in text.left_out] == [4]
    text = Text(f"cid,mid,moid,cap,value\n1,2,3,2001-01-01,{value}\n1,2,3,soon,{value}\n", "json")
    assert bytes(text.whole().payload(0)) == b'{"a":1}'
    assert [line for line, _ in text.left_out] == [4]
    text = Text('cid,mid,moid,cap,s\n1,2,3,2001-01-01,"a\nb"\n', "s:S3")
    assert text.array()[0][-1] == b"a\nb"


@pytest.mark.parametrize("payload", ["json", "bytes"])
def test_payloads_of_any_size_come_back(tmp_path: Path, payload: str) -> None:
    kind = payload_of(payload)
    sent = [
        kind.type.to_bytes("x" * (3 << 20) + '"' if payload == "json" else bytes(3 << 20)),
        kind.type.to_bytes(b"\x07" if payload == "bytes" else 7),
    ]
    path = tmp_path / "records.csv"
    write_blocks(path, [texts(ROOM, *sent)], kind.type)
    found, _ = read(path, kind)
    assert [bytes(each) for each in found.payloads()] == sent
    assert [bytes(each) for block in read_blocks(path, kind.type) for each in block.payloads()] == sent


def test_what_is_no_csv_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rand.csv"
    for content in (bytes(range(256)) * 20, b"cid,mid,moid,cap,x\r1,2,3,2001-01-01,1\r", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(CommandFailed, match=r"rand\.csv': its first line") as caught:
            read(path, None)
        assert caught.value.code == 2


def read(path: Path | str, payload: Payload | None, **options: Any) -> tuple[Block, bool]:
    complaints: list[Any] = []
    with opened_file(
        str(path), payload, options.get("series"), "any", lambda *complaint: complaints.append(complaint)
    ) as file:
        block = joined(list(file.blocks()))
        assert complaints == []
        return block, file.with_acq


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow"])
def test_files_of_all_kinds(tmp_path: Path, suffix: str) -> None:
    both = joined([pairs(3), pairs(2, HALL)]).with_acq(NOON)
    path = tmp_path / f"records{suffix}"
    write_blocks(path, [both], PAIRS)
    found, with_acq = read(path, Payload(PAIRS))
    assert with_acq
    assert found.keys().tolist() == both.keys().tolist()
    assert [bytes(each) for each in found.payloads()] == [bytes(each) for each in both.payloads()]


def test_a_table_without_times_of_acquisition(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "records.parquet"
    write_blocks(path, [pairs(3)], PAIRS)
    parquet.write_table(parquet.read_table(path).drop(["acq"]), path)
    found, with_acq = read(path, Payload(PAIRS))
    assert (len(found), with_acq) == (3, False)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.TextIOWrapper(io.BytesIO(b"cap,x\n2001-01-01,5\n"))
    monkeypatch.setattr(sys, "stdin", text)
    found, _ = read("-", None, series=ROOM)
    assert found.key(0)[:4] == (*ROOM, 0)
    assert not text.closed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\n")))
    with pytest.raises(CommandFailed, match="standard input: its first line names no column"):
        read("-", None)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandFailed, match="standard input is closed"):
        read("-", None)


def test_files_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.parquet"
    with pytest.raises(CommandFailed) as caught:
        read(path, None)
    assert caught.value.code == 4
    path.write_bytes(b"no parquet")
    with pytest.raises(CommandFailed, match="can't be read"):
        read(path, Payload(PAIRS))
    with pytest.raises(CommandFailed, match="--payload"):
        read(path, None)
    with pytest.raises(CommandFailed, match="--series"):
        read(path, Payload(PAIRS), series=ROOM)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'pynetwork\[store\]'"):
        read(path, Payload(PAIRS))

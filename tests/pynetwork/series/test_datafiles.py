"""Records in files: what is written is read again, bit for bit; what can't be is named; no half file takes the name."""

from __future__ import annotations

import errno
import io
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from handshakes.errors import ConfigurationError, ValueNotSupported
from handshakes.records import Block, Key, Rows, block_of, joined, row_type
from pynetwork.series import datafiles
from pynetwork.series.datafiles import SUFFIXES, read_blocks, read_csv, read_names, write_blocks, write_csv
from pynetwork.series.payloads import (
    BytesPayloadType,
    JsonPayloadType,
    NumpyPayloadType,
    PayloadType,
    StructPayloadType,
    TuplePayloadType,
    UnitPayloadType,
)
from pynetwork.series.timestamps import Tstoragedatetime

FIELDS = NumpyPayloadType(
    [
        ("short", "<f4"),
        ("exact", "<f8"),
        ("whole", "<i8"),
        ("natural", "<u8"),
        ("fine", "?"),
        ("vector", "<f4", (3,)),
        ("name", "S5"),
        ("word", "<U4"),
        ("raw", "V3"),
        ("when", "<M8[ns]"),
        ("lasted", "<m8[us]"),
        ("pair", [("a", "<i2"), ("b", "<f8")]),
    ]
)


def some_rows(count: int, payload_type: PayloadType[Any] = FIELDS, seed: int = 7) -> Rows:
    """Random keys and payloads, where every bit pattern that a text can't hold is left out."""
    random = numpy.random.default_rng(seed)
    rows = numpy.zeros(count, row_type(payload_type.width))
    rows["cid"] = random.integers(0, 2**31 - 1, count)
    rows["mid"] = random.integers(-(2**63), 2**63 - 1, count)
    rows["moid"] = random.integers(-(2**31), 2**31 - 1, count)
    rows["cap"] = random.integers(0, 2**59, count)
    rows["acq"] = numpy.arange(count)
    if payload_type is FIELDS:
        payload = rows.view(numpy.dtype([("key", "V32"), ("payload", FIELDS.dtype)]))["payload"]
        for name in ("short", "exact"):
            payload[name] = random.standard_normal(count)
        payload["whole"] = random.integers(-(2**63), 2**63 - 1, count)
        payload["natural"] = random.integers(0, 2**64 - 1, count, numpy.uint64)
        payload["fine"] = random.integers(0, 2, count)
        payload["vector"] = random.standard_normal((count, 3))
        payload["name"], payload["word"], payload["raw"] = b"caf\xc3\xa9", 'a,"é', b"\x00\xff\x01"
        payload["when"] = random.integers(0, 2**60, count).astype("M8[ns]")
        payload["lasted"] = random.integers(-(2**50), 2**50, count).astype("m8[us]")
        payload["pair"]["a"], payload["pair"]["b"] = 5, random.standard_normal(count)
    return Rows(rows)


def content(block: Block) -> list[tuple[Key, bytes]]:
    return [(block.key(index), bytes(payload)) for index, payload in enumerate(block.payloads())]


@pytest.mark.parametrize("times", [True, False], ids=["times", "nanoseconds"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_field_comes_back_bit_for_bit(tmp_path: Path, suffix: str, times: bool) -> None:
    path, rows = tmp_path / f"records{suffix}", some_rows(500)
    if suffix != ".csv":
        # What Arrow has no type for: see test_what_arrow_has_no_type_for.
        plain = numpy.dtype([(name, FIELDS.dtype[name]) for name in ("short", "exact", "whole", "fine", "vector")])
        kind, rows = NumpyPayloadType(plain), some_rows(500, NumpyPayloadType(plain))
    else:
        kind = FIELDS
    blocks = [rows.take(slice(0, 200)), rows.take(slice(200, 500))]
    assert write_blocks(path, blocks, kind, times=times) == 500
    assert joined(list(read_blocks(path, kind))).keys().tobytes() == rows.keys().tobytes()
    assert content(joined(list(read_blocks(path, kind)))) == content(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("payload_type", "payloads"),
    [
        (JsonPayloadType(), [b'{"a":1}', b"[1,2]", b'"x\\ny"']),
        (BytesPayloadType(), [b"", b"xyz", b"\x00\xff"]),
        (UnitPayloadType(), [b"", b"", b""]),
        (TuplePayloadType("<if?"), [b"\x01\0\0\0\0\0\x80?\x01"] * 3),
        (StructPayloadType[float]("<d"), [b"\0\0\0\0\0\0\xf0?"] * 3),
    ],
    ids=["json", "bytes", "unit", "tuple", "struct"],
)
def test_every_payload_type(tmp_path: Path, suffix: str, payload_type: PayloadType[Any], payloads: list[bytes]) -> None:
    path = tmp_path / f"records{suffix}"
    block = block_of(some_rows(3, UnitPayloadType()).keys(), payloads)
    write_blocks(path, [block], payload_type)
    assert content(joined(list(read_blocks(path, payload_type)))) == content(block)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_records_at_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"none{suffix}"
    assert write_blocks(path, [], FIELDS if suffix == ".csv" else JsonPayloadType()) == 0
    assert list(read_blocks(path, FIELDS if suffix == ".csv" else JsonPayloadType())) == []


def test_times_that_people_read() -> None:
    rows = some_rows(2, StructPayloadType[float]("<d"))
    rows.rows["cap"] = [Tstoragedatetime.fromisoformat("2026-11-21T10:00:00.000000001Z").to_tstorage_ns(), 2**63 - 2]
    out = io.StringIO()
    write_csv(out, [rows], StructPayloadType[float]("<d"))
    lines = out.getvalue().splitlines()
    assert lines[0] == "cid,mid,moid,cap,acq,value"
    assert lines[1].split(",")[3].startswith("2026-11-21T10:00:00.000000001")
    assert lines[2].split(",")[3].startswith("2293-")  # which a datetime64 does not hold
    out.seek(0)
    assert content(joined(list(read_csv(out, StructPayloadType[float]("<d"))))) == content(rows)


def test_ways_to_write_a_time() -> None:
    text = "cid,mid,moid,cap,value\n" + "".join(
        f"1,2,3,{time},0.5\n\n" for time in ("2001-01-01T00:00:01Z", "2001-01-01T02:00:01+02:00", "1000000000")
    )
    (block,) = read_csv(io.StringIO(text), StructPayloadType[float]("<d"))
    assert block.column("cap").tolist() == [10**9] * 3
    assert block.column("acq").tolist() == [0] * 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,2,3,4,0.5", r"line 3, cid: 'x'"),
        ("1,2,3,yesterday,0.5", r"line 3, cap: 'yesterday'"),
        ("1,2,3,2300-01-01T00:00:00Z,0.5", r"line 3, cap: '2300-01-01T00:00:00Z'"),
        ("1,2,3,4,half", r"line 3, value: 'half'"),
        ("1,2,3,4", r"line 3: it has no column 'value'"),
        ("1,2,99999999999,4,0.5", r"line 2 or after: .*moid"),
    ],
)
def test_a_bad_line_is_named(line: str, reason: str) -> None:
    text = f"cid,mid,moid,cap,value\n1,2,3,4,0.5\n{line}\n"
    with pytest.raises(ValueNotSupported, match=f"mine, {reason}"):
        list(read_csv(io.StringIO(text), StructPayloadType[float]("<d"), "mine"))


def test_a_value_that_is_no_json_is_named() -> None:
    text = 'cid,mid,moid,cap,value\n1,2,3,4,"{""a"":1}"\n1,2,3,4,{\n'
    with pytest.raises(ValueNotSupported, match=r"line 3, value: '\{'"):
        list(read_csv(io.StringIO(text), JsonPayloadType()))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(
        ValueNotSupported, match="no column 'moid'; its first line must name cid, mid, moid, cap, value"
    ):
        list(read_csv(io.StringIO("cid,mid,cap,value\n"), JsonPayloadType()))


def test_text_that_is_none(tmp_path: Path) -> None:
    kind = NumpyPayloadType([("name", "S2")])
    block = block_of(some_rows(1, UnitPayloadType()).keys(), [b"\xff\xfe"])
    with pytest.raises(ValueNotSupported, match="no text in UTF-8"):
        write_blocks(tmp_path / "a.csv", [block], kind)
    assert not list(tmp_path.iterdir())


def test_an_unknown_suffix(tmp_path: Path) -> None:
    for call in (lambda: write_blocks(tmp_path / "a.xls", [], FIELDS), lambda: read_blocks(tmp_path / "a.xls", FIELDS)):
        with pytest.raises(ConfigurationError, match=r"a\.xls' names no format: its suffix must be \.csv, \.parquet"):
            call()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_half_takes_the_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"records{suffix}"
    kind = StructPayloadType[float]("<d")
    write_blocks(path, [some_rows(3, kind)], kind)
    before = path.read_bytes()

    def breaks_off() -> Iterator[Block]:
        yield some_rows(3, kind)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_blocks(path, breaks_off(), kind)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_can_not_be_written_has_the_name_that_was_given(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / f"records{suffix}"
    kind = StructPayloadType[float]("<d")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = some_rows(20_000, kind)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_blocks(path, [rows], kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    path.mkdir()
    with pytest.raises(OSError, match="directory") as caught:
        write_blocks(path, [rows], kind)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_blocks_come_from_keeps_its_own_name(tmp_path: Path) -> None:
    def breaks_off() -> Iterator[Block]:
        yield some_rows(3, UnitPayloadType())
        raise FileNotFoundError(errno.ENOENT, "No such file", "the store")

    with pytest.raises(FileNotFoundError, match="the store"):
        write_blocks(tmp_path / "a.csv", breaks_off(), UnitPayloadType())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_such_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rand{suffix}"
    path.write_bytes(b"cid,mid,moid,cap,value\n1,2,3,4,0.5\n1,2,3,4,\xff\n" + bytes(range(256)) * 20)
    reason = (
        r"rand\.csv, line 3: byte 9 of it, 0xff, is no text" if suffix == ".csv" else rf"rand\{suffix}' can't be read"
    )
    with pytest.raises(ValueNotSupported, match=reason):
        list(read_blocks(path, StructPayloadType[float]("<d")))
    with pytest.raises(FileNotFoundError):
        list(read_blocks(tmp_path / f"none{suffix}", StructPayloadType[float]("<d")))


def test_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    path.write_bytes(b"\xef\xbb\xbfcid, mid ,x\r\n1,2,3\r\n")
    assert read_names(path) == ["cid", "mid", "x"]
    path.write_bytes(b"\xffcid\n")
    for call in (lambda: read_names(path), lambda: list(read_blocks(path, UnitPayloadType()))):
        with pytest.raises(ValueNotSupported, match=r"records\.csv, line 1: byte 1 of it, 0xff"):
            call()


def test_text_of_another_encoding_is_named() -> None:
    file = io.TextIOWrapper(io.BytesIO(b"cid,mid,moid,cap\n1,2,3,\xff\n"), encoding="utf-8", newline="")
    with pytest.raises(ValueNotSupported, match="mine is no text: 'utf-8' codec"):
        list(read_csv(file, UnitPayloadType(), "mine"))


def test_a_quote_too_many_names_its_line() -> None:
    lines = ["cid,mid,moid,cap,value", *(f"1,2,3,{at},0.5" for at in range(20_000))]
    lines[2] = '1,2,3,"4,0.5'
    with pytest.raises(ValueNotSupported, match="mine, line 3: the quote that opens column 4 is not closed"):
        list(read_csv(io.StringIO("\n".join(lines)), StructPayloadType[float]("<d"), "mine"))


def test_cells_that_hold_line_breaks() -> None:
    text = 'cid,mid,moid,cap,value,x\n1,2,3,4,"{""a"":\r\n1}",5\n1,2,3,4,7,"what\never"\n'
    (block,) = read_csv(io.StringIO(text, newline=""), JsonPayloadType())
    assert [bytes(payload) for payload in block.payloads()] == [b'{"a":\r\n1}', b"7"]
    text = 'cid,mid,moid,cap,s,a\n1,2,3,4,"a\nb","[1,\n2]"\n'
    (block,) = read_csv(io.StringIO(text), NumpyPayloadType([("s", "S3"), ("a", "i2", (2,))]))
    assert bytes(block.payload(0)) == b"a\nb\x01\0\x02\0"


def test_a_long_cell_is_not_repeated_in_an_error() -> None:
    text = f"cid,mid,moid,cap,value\n1,2,3,4,{'x' * 10_000}\n"
    with pytest.raises(ValueNotSupported, match="line 2, value: 'xxx") as caught:
        list(read_csv(io.StringIO(text), StructPayloadType[float]("<d")))
    assert len(str(caught.value)) < 500


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder: '.*none'"):
        write_blocks(tmp_path / "none" / "a.csv", [], FIELDS)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_an_absent_extra_is_named(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(datafiles.importlib, "import_module", absent)
    with pytest.raises(ConfigurationError, match=r"pip install 'pynetwork\[store\]'"):
        write_blocks(tmp_path / f"a{suffix}", [], StructPayloadType[float]("<d"))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    kind = StructPayloadType[float]("<d")
    peaks = []
    for count in (4, 24):
        path = tmp_path / f"{count}.csv"
        write_blocks(path, (some_rows(4096, kind, seed) for seed in range(count)), kind)
        tracemalloc.start()
        assert sum(map(len, read_blocks(path, kind))) == count * 4096
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]

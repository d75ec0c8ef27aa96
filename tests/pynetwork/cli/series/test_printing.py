from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator

import pytest

from handshakes.records import Block
from pynetwork.cli.common import Output
from pynetwork.cli.series.payloads import Payload, payload_of
from pynetwork.cli.series.printing import Printer, names_of, printer_for
from pynetwork.series.datafiles import write_csv
from tests.pynetwork.cli.series.stores import HALL, NOON, PAIRS, ROOM, SECOND, pairs, texts


def printed(
    capsys: pytest.CaptureFixture[str], payload: Payload, *blocks: Block, as_json: bool = False, as_csv: bool = False
) -> tuple[list[str], Printer]:
    output = Output(argparse.Namespace(json=as_json, verbose=False))
    printer = printer_for(output, payload, as_csv=as_csv)
    printer.show(blocks)
    return capsys.readouterr().out.splitlines(), printer


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines, printer = printed(capsys, Payload(PAIRS), pairs(2), pairs(1, HALL, NOON + SECOND // 4))
    assert lines == [
        "captured              series  x    n",
        "2026-11-21T12:00:00Z  1/4/7   0    0",
        "2026-11-21T12:00:01Z  1/4/7   0.5  1",
        "2026-11-21T12:00:00.250Z  1/4/8   0    0",
    ]
    assert (printer.printed, printer.misfits) == (3, 0)


def test_what_does_not_fit_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    lines, printer = printed(capsys, payload_of("d"), texts(ROOM, b"12345678", b"1"), texts(ROOM, b"2"))
    assert len(lines) == 2
    assert (printer.printed, printer.misfits) == (1, 2)


def test_what_a_terminal_would_obey_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, payload_of("bytes"), texts(ROOM, b"\x1b[2J"))
    assert "\x1b" not in lines[1]


def test_a_long_cell_does_not_widen_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, payload_of("bytes"), texts(ROOM, b"x" * 500, b"y"))
    assert lines[1].endswith("x" * 500)
    assert lines[2].endswith("  y")


def test_nothing_is_printed_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, Payload(PAIRS))[0] == []
    assert printed(capsys, Payload(PAIRS), as_json=True)[0] == []
    assert printed(capsys, Payload(PAIRS), as_csv=True)[0] == ["cid,mid,moid,cap,acq,x,n"]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = printed(capsys, Payload(PAIRS), pairs(2).with_acq(1), as_json=True)
    assert [json.loads(line) for line in lines] == [
        {
            "message_type": "record", "cid": 1, "mid": 4, "moid": 7, "cap": f"2026-11-21T12:00:0{at}.000000000Z",
            "acq": "2001-01-01T00:00:00.000000001Z", "payload": {"x": at / 2, "n": at},
        }
        for at in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "data", "wanted"), [("json", b'{"a":[1]}', {"a": [1]}), ("bytes", b"\xff", {"base64": "/w=="})]
)
def test_json_of_one_value(capsys: pytest.CaptureFixture[str], payload: str, data: bytes, wanted: object) -> None:
    lines, _ = printed(capsys, payload_of(payload), texts(ROOM, data), as_json=True)
    assert json.loads(lines[0])["payload"] == wanted


def test_csv_is_that_of_exports(capsys: pytest.CaptureFixture[str]) -> None:
    both = [pairs(2), pairs(1, HALL)]
    lines, printer = printed(capsys, Payload(PAIRS), *both, as_csv=True)
    text = io.StringIO()
    write_csv(text, both, PAIRS)
    assert lines == text.getvalue().splitlines()
    assert [row[-1] for row in csv.reader(lines)] == ["n", "0", "1", "0"]
    assert printer.printed == 3


@pytest.mark.parametrize(("as_json", "as_csv"), [(False, False), (True, False), (False, True)])
def test_blocks_are_printed_as_they_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool, as_csv: bool
) -> None:
    seen = []
    flushed = []
    monkeypatch.setattr(sys.stdout, "flush", lambda: flushed.append(True))

    def blocks() -> Iterator[Block]:
        for _ in range(3):
            yield pairs(1)
            seen.append(len(capsys.readouterr().out.splitlines()))

    printer_for(Output(argparse.Namespace(json=as_json, verbose=False)), Payload(PAIRS), as_csv=as_csv).show(blocks())
    assert seen == [1 if as_json else 2, 1, 1]
    assert len(flushed) >= 3


def test_names() -> None:
    assert names_of(pairs(2)) == ["1/4/7", "1/4/7"]

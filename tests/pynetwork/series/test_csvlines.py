"""Lines of CSV: they become the cells that ``csv`` makes of them, and a quote too many costs one line."""

from __future__ import annotations

import csv
import io
import random
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import orjson
import pytest

from pynetwork.series import csvlines
from pynetwork.series.csvlines import CsvLines, Line, may_break
from pynetwork.series.payloads import BytesPayloadType, JsonPayloadType, NumpyPayloadType, UnitPayloadType

JSON = {2: orjson.loads}
OPEN = "the quote that opens column {} is not closed"


def read(
    text: str, breaking: Mapping[int, Callable[[str], Any]] | None = None, most: int = 100, size: int = 1 << 20
) -> list[Line]:
    lines = CsvLines(io.StringIO(text, newline="").readline)
    return [line for batch in lines.batches(breaking or {}, most, size) for line in batch]


def drawn(seed: int) -> str:
    """A line of letters that mean something, ended."""
    chance = random.Random(seed)
    return "".join(chance.choices('a1 ,",""', k=chance.randrange(12))) + chance.choice(["\n", "\r\n"])


def test_a_line_becomes_the_cells_that_csv_makes_of_it() -> None:
    told = 0
    for seed in range(5000):
        text = drawn(seed)
        (wanted, *more) = csv.reader([text, "end\n"])
        # A line that begins so is never plain, so that the other way is taken.
        header, stray = "a,b,c\n", '"\n'
        found = read(header + stray + text)[1:]
        if not more:
            assert found[0].number == 3
            assert found[0].wrong.endswith("is not closed")
            told += 1
        else:
            assert [line.cells for line in found] == ([wanted] if wanted else []), text
            assert [line.cells for line in read(header + text)] == ([wanted] if wanted else [])
    assert 100 < told < 4000


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_a_quote_too_many_costs_its_line(most: int) -> None:
    lines = ["a,b,c", *(f"1,{at},{at}" for at in range(2, 5000))]
    lines[2] = '1,"3,3'
    lines[-1] = '1,2,"3'
    found = read("\n".join(lines) + "\n", JSON, most)
    assert [line.number for line in found] == list(range(2, 5000))
    assert [(line.number, line.wrong) for line in found if line.wrong] == [(3, OPEN.format(2)), (4999, OPEN.format(3))]


@pytest.mark.parametrize("most", [1, 100])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_json_may_hold_line_breaks(most: int, end: str) -> None:
    value = f'{{"a": {end} [1, {end}{end} "x,y"]}}'
    text = end.join(["a,b,c", "1,2,3", '1,2,"{}"'.format(value.replace('"', '""')), "", "1,2,4", ""])
    assert read(text, JSON, most) == [
        Line(2, ["1", "2", "3"], ""),
        Line(3, ["1", "2", value], ""),
        Line(8, ["1", "2", "4"], ""),
    ]
    # Where no line breaks may be, it is as many wrong lines.
    assert [line.number for line in read(text, {}, most) if line.wrong or len(line.cells) != 3] == [3, 4, 6]


@pytest.mark.parametrize(
    "stray",
    [
        '1,2,"{""a"": 1',  # goes on to the quote of the next value
        '1,2,"',
        '1,2,"[1,',
        '1,2,"3" 4","5',
        '1,2,x","5',
        '1,2,3,4,"5',
    ],
)
def test_what_does_not_make_a_record_costs_its_line(stray: str) -> None:
    good = '1,2,"{""a"": 1}"'
    broken = '1,2,"[1,\n2]"'
    found = read(f"a,b,c\n{good}\n{stray}\n{good}\n{good}\n{broken}\n{stray}\n{good}", JSON)
    right = [line for line in found if not line.wrong and len(line.cells) == 3]
    assert [line.number for line in right] == [2, 4, 5, 6, 9]
    assert [line.number for line in found if line not in right] == [3, 8]


def test_a_record_of_several_lines_is_read_as_its_column_is() -> None:
    # Text, of which anything may be: two quotes too many can't be told from one cell.
    assert [line.number for line in read('a,b\n1,"\n2,"\n', {1: str})] == [2]
    found = read('a,b\n1,"\n2,"\n', {1: orjson.loads})
    assert [(line.number, line.wrong) for line in found] == [(2, OPEN.format(2)), (3, OPEN.format(2))]


def test_how_far_a_quote_is_looked_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'a\n"x' + "\n" * 50 + 'y"\n'
    assert [line.number for line in read(text, {0: str})] == [2]
    monkeypatch.setattr(csvlines, "_MOST_BREAKS", 49)
    assert [line.number for line in read(text, {0: str}) if line.wrong] == [2]
    monkeypatch.undo()
    monkeypatch.setattr(csvlines, "LONGEST_LINE", 30)
    assert [line.number for line in read(text, {0: str}) if line.wrong] == [2]


def test_quotes_too_many_do_not_make_it_slow() -> None:
    class Counted:
        """Lines, counted each time that one is looked at."""

        def __init__(self) -> None:
            self.count = 0

        def __call__(self, text: str) -> Any:
            self.count += 1
            raise ValueError(text)

    count = 3000
    for line in ('1,"', '1,"x', '1",""","', '"""",""'):
        reader = Counted()
        found = read("a,b\n" + f"{line}\n" * count, {0: reader, 1: reader})
        assert [each.number for each in found] == list(range(2, count + 2))
        assert reader.count <= 2 * count


def test_a_line_that_is_too_long_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvlines, "LONGEST_LINE", 1000)
    monkeypatch.setattr(csvlines, "_PIECE", 100)
    found = read("a,b\n1,2\n" + "0," * 5000 + "\n3,4\n" + '5,"' + "6" * 5000 + '"')
    assert [(line.number, line.cells) for line in found] == [(2, ["1", "2"]), (3, []), (4, ["3", "4"]), (5, [])]
    assert [line.wrong for line in found if line.wrong] == ["it is longer than 1000 letters"] * 2
    monkeypatch.setattr(csvlines, "LONGEST_LINE", 10)
    assert CsvLines(io.StringIO("0123456789abc").readline).header.wrong


def test_cells_of_any_length() -> None:
    before = csv.field_size_limit()
    long = "ab" * before
    found = read(f'a,b,c\n1,2,{long}\n1,2,"{long},"""\n1,2,"{long}\n')
    assert [line.cells for line in found] == [["1", "2", long], ["1", "2", long + ',"'], []]
    assert csv.field_size_limit() == before


def test_a_long_cell_takes_a_few_times_its_length() -> None:
    text = "a,b,c\n1,2," + "ab" * (4 << 20) + "\n"
    lines = CsvLines(io.StringIO(text, newline="").readline)
    tracemalloc.start()
    assert [len(line.cells[2]) for batch in lines.batches({}, 100, 1 << 20) for line in batch] == [8 << 20]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(text)


def test_what_is_no_text_is_named() -> None:
    data = "a,b\n1,é\n1,é\udcff2\n1,2\n"
    assert [(line.number, line.wrong) for line in read(data)] == [
        (2, ""),
        (3, "byte 5 of it, 0xff, is no text in UTF-8"),
        (4, ""),
    ]
    assert [line.number for line in read('a\n"x\n\udcff"\n3\n', {0: str}) if line.wrong] == [2, 3]
    assert CsvLines(io.StringIO("\udc80\n").readline).header.wrong == "byte 1 of it, 0x80, is no text in UTF-8"


def test_carriage_returns() -> None:
    lines = CsvLines(io.StringIO("a,b\r1,2\r3,4\r", newline="\n").readline)
    assert "carriage return" in lines.header.wrong
    found = read("a,b\r\n1,2\r\r\n3,4\r")
    assert [(line.cells, line.wrong) for line in found] == [(["1", "2"], ""), (["3", "4"], "")]


def test_nothing_at_all() -> None:
    assert CsvLines(io.StringIO("").readline).header == Line(0, [], "")
    assert read("a,b\n\n\r\n") == []


def test_what_may_hold_line_breaks() -> None:
    assert may_break(JsonPayloadType()) == [True]
    assert may_break(BytesPayloadType()) == [False]
    fields = [("x", "f8"), ("n", "i4"), ("s", "S4"), ("u", "U4"), ("a", "f4", (3,)), ("v", "V3"), ("p", [("q", "f8")])]
    kind = NumpyPayloadType(numpy.dtype(fields))
    assert may_break(kind) == [False, False, True, True, True, False, True]
    assert may_break(UnitPayloadType()) in ([], [False])

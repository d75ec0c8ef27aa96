from __future__ import annotations

import itertools

import pytest

from tools.soak.torture.lines import LINE, Lines, Run, mark_at, runs

LINES = Lines("copied", "7")


def test_lines_are_known_before_they_are_written() -> None:
    text = LINES.text(10, 2000)
    assert text == Lines("copied", "7").text(10, 2000)
    assert len(text) == 2000 * LINE
    assert text.count(b"\n") == 2000
    assert text[LINE:] == LINES.text(11, 1999)
    assert text[22:LINE] != Lines("copied", "8").text(10, 1)[22:]


def test_each_line_says_where_it_belongs() -> None:
    text = LINES.text(10, 3)
    assert [mark_at(text, at) for at in range(0, len(text), LINE)] == [("copied", 10 + number) for number in range(3)]
    assert mark_at(text, 1) is None


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_one_run(count: int) -> None:
    assert list(runs(LINES.text(5, count))) == [Run("copied", 5 * LINE, 0, count * LINE)]


def test_a_run_may_end_anywhere() -> None:
    text = LINES.text(5, 3)
    for size in range(22, len(text) + 1):
        assert list(runs(text[:size])) == [Run("copied", 5 * LINE, 0, size)], size


def test_lost_doubled_and_torn_lines_end_a_run() -> None:
    parts = [LINES.text(0, 5), LINES.text(6, 2), LINES.text(7, 1), Lines("mixed", "7").text(8, 4), LINES.text(8, 1)]
    starts = [0, *itertools.accumulate(map(len, parts))]
    found = list(runs(b"".join(parts)))
    assert [run.at for run in found] == starts[:-1]
    assert [run.start // LINE for run in found] == [0, 6, 7, 8, 8]
    torn = bytearray(LINES.text(0, 10))
    torn[5 * LINE : 6 * LINE] = bytes(LINE)
    assert [(run.at // LINE, run.start // LINE) for run in runs(torn)] == [(0, 0), (6, 6)]


def test_what_is_before_the_first_line_belongs_to_no_run() -> None:
    assert list(runs(b"a table" + LINES.text(3, 2))) == [Run("copied", 3 * LINE, 7, 7 + 2 * LINE)]
    assert list(runs(b"")) == list(runs(b"no line at all")) == []

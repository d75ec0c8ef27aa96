"""Log text."""

from __future__ import annotations

import random
import zlib

import pytest

from tools.bench.logs import log_text


@pytest.mark.parametrize("size", [0, 1, 2, 100, 4096, 100_000])
def test_it_is_as_long_as_asked_and_ends_with_a_line(size):
    text = log_text(random.Random(size), size)
    assert len(text) == size
    assert text.endswith(b"\n") or not size
    assert text.isascii()


def test_it_is_lines_that_differ():
    lines = log_text(random.Random(1), 50_000).splitlines()[:-1]
    assert len(lines) > 200
    assert len(set(lines)) == len(lines)
    assert max(map(len, lines)) < 300


def test_the_same_chance_gives_the_same_text_and_another_gives_another():
    assert log_text(random.Random(1), 5000) == log_text(random.Random(1), 5000)
    assert log_text(random.Random(1), 5000) != log_text(random.Random(2), 5000)


def test_it_can_be_compressed_as_logs_can():
    for seed in range(10):
        text = log_text(random.Random(seed), 100_000)
        assert 2.5 < len(text) / len(zlib.compress(text)) < 12

"""Blocks of records for the tests, made without the code under test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from hypothesis import strategies as st

from handshakes.records import FIELDS, GREATEST, KEY, LEAST, Block, Key, Ragged, Rows
from tests.handshakes.tstorage_bytes import Record

KEYS = st.builds(
    Key,
    *(
        st.integers(least, most) | st.integers(0, 2) | st.sampled_from([least, most])
        for least, most in zip(LEAST, GREATEST, strict=True)
    ),
)
"""Valid keys, such that some are alike."""


def heads(found: Sequence[Record]) -> numpy.typing.NDArray[Any]:
    """The keys of these records."""
    return numpy.array([tuple(key) for key, _ in found], KEY)


def rows(found: Sequence[Record]) -> Rows:
    """A block of records of one size."""
    (width,) = {len(payload) for _, payload in found}
    keys = [(name, KEY[name]) for name in FIELDS]
    filled = numpy.zeros(len(found), [*keys, ("payload", f"V{width}")] if width else keys)
    for index, (key, payload) in enumerate(found):
        for name in FIELDS:
            filled[name][index] = getattr(key, name)
        if width:
            filled["payload"][index] = payload
    return Rows(filled)


def ragged(found: Sequence[Record]) -> Ragged:
    """A block that allows for differing sizes."""
    data = numpy.frombuffer(b"".join(payload for _, payload in found), numpy.uint8)
    ends = [sum(len(payload) for _, payload in found[: index + 1]) for index in range(len(found))]
    return Ragged(heads(found), data, numpy.array(ends, numpy.int64))


def _of_one_size(found: list[tuple[Key, bytes]], width: int) -> list[Record]:
    return [(key, (payload * width)[:width]) for key, payload in found]


_SOME = st.lists(st.tuples(KEYS, st.binary(min_size=1, max_size=3)), min_size=1, max_size=6)
_TIMES = st.integers(1, 3) | st.integers(1, 90)

ALIKE = st.builds(lambda found, width, times: _of_one_size(found, width) * times, _SOME, st.integers(0, 40), _TIMES)
"""Records of one size, at least one and at times some hundreds."""

DIFFERING = st.builds(
    lambda found, times: found * times, st.lists(st.tuples(KEYS, st.binary(max_size=30)), max_size=6), _TIMES
)
"""Records of any sizes."""

BLOCKS: st.SearchStrategy[Block] = st.builds(rows, ALIKE) | st.builds(ragged, DIFFERING | ALIKE)

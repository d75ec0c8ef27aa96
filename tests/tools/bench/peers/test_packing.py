"""Items as messages."""

from __future__ import annotations

import numpy

from tools.bench.peers.packing import ARRAYS, BYTES, JSON


def test_bytes():
    assert BYTES.unpack(BYTES.pack(2**40, b"\x00\x01")) == (2**40, b"\x00\x01")


def test_json():
    ident, value = JSON.unpack(JSON.pack(7, {"a": [1, 2.5, None]}))
    assert (ident, value) == (7, {"a": [1, 2.5, None]})


def test_arrays():
    ident, array = ARRAYS.unpack(ARRAYS.pack(3, numpy.arange(5, dtype=numpy.float64)))
    assert ident == 3
    assert array.dtype == numpy.float64
    assert array.tolist() == [0, 1, 2, 3, 4]

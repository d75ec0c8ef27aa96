"""Inputs made from others by chance, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["Mutator"]

_NUMBERS = [0, 1, 2, 7, 15, 16, 17, 64, 127, 128, 255, 256, 4095, 4096, 4097, 32767, 65535, 65536, 2**31 - 1, 2**32 - 1]
_WORDS = [
    b"null", b"NaN", b'{"$":', b'["$",', b"[[[[", b"\\ud800", b'"O"', b'"<f8"', b"../", b"\x00", b"\xff\xfe",
    b"pynetwork", b"-1", b"1e999", b"9223372036854775808",
]  # fmt: skip
_MOST_CHANGES = 6


class Mutator:
    """Makes inputs of at most ``largest`` bytes out of the ``seeds``, by chance that ``seed`` determines."""

    def __init__(self, seeds: Sequence[bytes], seed: int, *, largest: int = 4096) -> None:
        self._seeds = list(seeds) or [b""]
        self._chance = random.Random(seed)
        self._largest = largest
        self._ways: list[Callable[[bytearray], None]] = [
            self._flip,
            self._set,
            self._number,
            self._insert,
            self._word,
            self._remove,
            self._repeat,
            self._cut,
            self._splice,
        ]

    def next(self) -> bytes:
        """One more input."""
        data = bytearray(self._chance.choice(self._seeds))
        for _ in range(self._chance.randrange(1, _MOST_CHANGES + 1)):
            self._chance.choice(self._ways)(data)
        return bytes(data[: self._largest])

    def _place(self, data: bytearray, beyond: int = 0) -> int:
        return self._chance.randrange(len(data) + beyond) if len(data) + beyond else 0

    def _stretch(self, data: bytearray) -> slice:
        start = self._place(data, 1)
        return slice(start, start + self._chance.randrange(1, 33))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] ^= 1 << self._chance.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] = self._chance.choice((0, 1, 127, 128, 255, self._chance.randrange(256)))

    def _number(self, data: bytearray) -> None:
        size = self._chance.choice((2, 4, 8))
        start = self._place(data, 1)
        data[start : start + size] = self._chance.choice(_NUMBERS).to_bytes(8, "little")[:size]

    def _insert(self, data: bytearray) -> None:
        start = self._place(data, 1)
        data[start:start] = self._chance.randbytes(self._chance.randrange(1, 17))

    def _word(self, data: bytearray) -> None:
        start = self._place(data, 1)
        data[start:start] = self._chance.choice(_WORDS)

    def _remove(self, data: bytearray) -> None:
        del data[self._stretch(data)]

    def _repeat(self, data: bytearray) -> None:
        start = self._place(data, 1)
        data[start:start] = bytes(data[self._stretch(data)]) * self._chance.randrange(1, 5)

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data, 1) :]

    def _splice(self, data: bytearray) -> None:
        other = self._chance.choice(self._seeds)
        data[self._place(data, 1) :] = other[self._chance.randrange(len(other) + 1) :]

"""Formats of the module `struct` that mean the same on every machine, and the NumPy types that are equal to them."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy

from handshakes.errors import ConfigurationError

__all__ = ["Format", "parse_format"]

_LARGEST: Final = 32 << 20

# What NumPy calls the values of a code; for one that it lacks, nothing.
_CODES: Final = {
    "x": "",
    "c": "S1",
    "b": "i1",
    "B": "u1",
    "?": "?",
    "h": "i2",
    "H": "u2",
    "e": "f2",
    "i": "i4",
    "I": "u4",
    "f": "f4",
    "l": "i4",
    "L": "u4",
    "q": "i8",
    "Q": "u8",
    "d": "f8",
    "s": "S1",
    "p": "",
}
# Codes that mean another one where no byte order is given: C's long, sizes and pointers on a 64-bit machine.
_NATIVE: Final = {"l": "q", "L": "Q", "n": "q", "N": "Q", "P": "Q"}
_TOKEN: Final = re.compile(r"([0-9]*)([a-zA-Z?])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Format:
    """How ``count`` values lie in the bytes that ``packer`` makes of them.

    ``types``: NumPy's name and the offset of each value, None when there is one that NumPy lacks. ``texts``: how many
    bytes those of the values can have that are texts, by their index.
    """

    packer: struct.Struct
    count: int
    types: list[tuple[str, int]] | None
    texts: dict[int, int]

    def structure(self, names: list[str]) -> numpy.dtype[Any] | None:
        """The structured type equal to the format, padding included; None where NumPy has none."""
        if self.types is None:
            return None
        formats, offsets = [name for name, _ in self.types], [offset for _, offset in self.types]
        return numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": self.packer.size})


def parse_format(text: str) -> Format:
    """Without a byte-order mark: little-endian, aligned as in C on a 64-bit machine. With one: as `struct` has it, and
    ``=`` is little-endian.

    Raises `ConfigurationError` for what is no format.
    """
    marked = text[:1] in {"@", "=", "<", ">", "!"}
    native, order = not marked or text[0] == "@", ">" if text[:1] in {">", "!"} else "<"
    bare = "".join(text[marked:].split())
    tokens = _TOKEN.findall(bare)
    if "".join(map("".join, tokens)) != bare:
        raise ConfigurationError(f"{text!r} is no format of struct")
    types: list[tuple[str, int]] = []
    texts: dict[int, int] = {}
    codes, lacking, offset = [order], False, 0
    for digits, written in tokens:
        code = _NATIVE.get(written, written) if native else written
        number = int(digits or 1) if len(digits) < 9 else _LARGEST + 1
        # Of a "0p", which makes no sense, struct is not safe.
        if code not in _CODES or number > _LARGEST or (code == "p" and not number):
            raise ConfigurationError(f"{text!r} is no format of struct: there is no {digits[:9]}{written} in this kind")
        name = _CODES[code]
        size = int(name[1:] or 1) if name else 1
        padding = -offset % size if native else 0
        codes.append(f"{padding}x{number}{code}")
        offset += padding
        if code in "sp":
            texts[len(types)] = number - (code == "p")
            lacking |= code == "p" or not number
            types.append((f"S{number}", offset))
        elif code != "x":
            kind = name if size == 1 else order + name
            types.extend((kind, offset + size * index) for index in range(number))
        offset += number * size
    return Format(struct.Struct("".join(codes)), len(types), None if lacking else types, texts)

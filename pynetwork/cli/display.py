"""Values for people and for JSON."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable
from typing import Any

import numpy
import orjson

__all__ = ["dumps", "inline", "long_form", "on_terminal", "size", "table", "visible"]

_MOST_BYTES = 16


def dumps(value: Any, indent: bool = False) -> str:
    """``value`` as JSON text.

    Arrays become nested lists, bytes ``{"base64": ...}``, NaN and infinities null, complex numbers
    ``[real, imaginary]``, and what is no Unicode in a text is replaced.
    """
    option = orjson.OPT_INDENT_2 if indent else 0
    try:
        return orjson.dumps(value, _plain, option).decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(_cleaned(value), _plain, option).decode()


def _plain(value: Any) -> Any:
    """The same in types that are nearer to JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        # Times in their own text, as integers of an unknown unit say nothing.
        return value.astype(str).tolist() if value.dtype.kind in "mM" else value.tolist()
    return _cleaned(str(value))


def _cleaned(value: Any) -> Any:
    """With what is no Unicode replaced; file names may hold such bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape" if _only_bytes(value) else "replace").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_cleaned(str(name)): _cleaned(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(each) for each in value]
    return value


def _only_bytes(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udc7f" or "\udd00" <= letter <= "\udfff" for letter in text)


def visible(text: str, keep: str = "") -> str:
    """``text`` with all that a terminal would obey or can't show escaped, but for the letters in ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )


def inline(value: Any) -> str:
    """``value`` on one line."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _inline_bytes(bytes(value))
    if isinstance(value, numpy.ndarray):
        return _inline_array(value)
    if isinstance(value, (dict, list)) and _holds_more_than_json(value):
        return _inline_container(value)
    return visible(dumps(value))


def _holds_more_than_json(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_more_than_json, value.values()))
    if isinstance(value, list):
        return any(map(_holds_more_than_json, value))
    return isinstance(value, (bytes, numpy.ndarray))


def _inline_container(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{visible(name)}: {inline(each)}" for name, each in value.items()) + "}"
    return "[" + ", ".join(map(inline, value)) + "]"


def _inline_bytes(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        return text
    shown = data[:_MOST_BYTES].hex(" ")
    return f"<{len(data)} bytes: {shown}{' ...' if len(data) > _MOST_BYTES else ''}>"


def _inline_array(array: numpy.ndarray[Any, Any]) -> str:
    name = f"{array.dtype}[{', '.join(map(str, array.shape))}]"
    if array.dtype.kind not in "biuf" or not array.size:
        return name
    if array.size <= 8:
        return f"{name} {' '.join(f'{each:.6g}' for each in array.reshape(-1).tolist())}"
    return f"{name} min {array.min():.6g} mean {array.mean():.6g} max {array.max():.6g}"


def long_form(value: Any) -> str:
    """``value`` on as many lines as it reads well on."""
    if isinstance(value, str):
        return visible(value, keep="\n\t")
    if isinstance(value, numpy.ndarray):
        return f"{_inline_array(value)}\n{value}"
    if isinstance(value, (dict, list)) and not _holds_more_than_json(value):
        return visible(dumps(value, indent=True), keep="\n")
    return inline(value)


def size(count: float) -> str:
    """A number of bytes, as people read it: 1 kB is 1000 bytes."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5 or unit == "TB":
            break
    return f"{count:.3g} {unit}"


def table(rows: Iterable[tuple[str, ...]], indent: str = "  ") -> str:
    """Rows of words below each other; the last column is as wide as it likes."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


def on_terminal() -> bool:
    """Whether progress may be drawn: stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()

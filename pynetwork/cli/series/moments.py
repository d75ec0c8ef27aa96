"""Times on the command line and in files: ISO 8601, seconds since 1970 or nanoseconds since 2001."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy
import numpy.typing

from pynetwork.cli.quantities import time_span
from pynetwork.series.timestamps import EPOCH_NS, Tstoragedatetime, from_datetime64, now_ns, to_datetime64

__all__ = ["TIME_FORMS", "iso", "iso_column", "moment", "parse_all", "parse_time", "short_column", "span"]

_LEAST, _MOST = -(2**63), 2**63 - 1
_SPAN: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?\s*[smhdw]", re.IGNORECASE)
# Of years that NumPy holds, which makes others of those that it does not, and says nothing.
_WRITTEN: Final = re.compile(r"(?:1[7-9]|2[01])[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")

# Numbers up to here are seconds since 1970 (to the year 5138), others nanoseconds since 2001 (April of it).
_GREATEST_SECONDS: Final = Decimal(10) ** 11
_LEAST_NANOSECONDS: Final = Decimal(10) ** 16


def moment(text: str) -> int:
    """A time for an option, as TStorage nanoseconds: what `parse_time` reads, ``now``, or so long ago: ``24h``.

    Raises `argparse.ArgumentTypeError`.
    """
    text = text.strip()
    if text == "now":
        return now_ns()
    if _SPAN.fullmatch(text):
        return max(_LEAST, now_ns() - round(time_span(text) * 10**9))
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; or how long ago: 90s, 24h, 7d") from None


def parse_time(text: str, form: str = "any") -> int:
    """The TStorage nanoseconds that ``text`` names in one of `TIME_FORMS`. Raises `ValueError`."""
    return TIME_FORMS[form](text.strip())


def parse_all(texts: list[str]) -> list[int] | None:
    """The same of many texts, many times as fast; None unless all are as `iso_column` writes them."""
    if not all(map(_WRITTEN.fullmatch, texts)):
        return None
    try:
        return from_datetime64(numpy.array([text[:-1] for text in texts], "M8[ns]")).tolist()  # type: ignore[no-any-return]
    except ValueError:
        # No such day.
        return None


def _any(text: str) -> int:
    number = _number(text)
    if number is None:
        return _iso(text)
    if abs(number) < _GREATEST_SECONDS:
        return _unix(text)
    if abs(number) >= _LEAST_NANOSECONDS:
        return _tstorage(text)
    raise ValueError(f"{text} may be a time in several units; say which one with --times")


def _number(text: str) -> Decimal | None:
    if not re.match(r"[-+]?\.?[0-9]", text) or re.match(r"[0-9]{4}-", text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _iso(text: str) -> int:
    try:
        found = Tstoragedatetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 2026-11-21T08:30:00Z or seconds since 1970") from None
    return _fitting(found.to_unix_ns() - EPOCH_NS, text)


def _unix(text: str, unit: int = 10**9) -> int:
    number = _number(text)
    if number is None:
        raise ValueError(f"{text!r} is no number, as a time since 1970 is")
    return _fitting(round(number * unit) - EPOCH_NS, text)


def _unix_in(unit: int) -> Callable[[str], int]:
    return lambda text: _unix(text, unit)


def _tstorage(text: str) -> int:
    try:
        return _fitting(int(text), text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number of nanoseconds since 2001 that has 64 bits") from None


def _fitting(nanoseconds: int, text: str) -> int:
    if not _LEAST <= nanoseconds <= _MOST:
        raise ValueError(f"{text} is outside the years 1708 to 2293, which times can have")
    return nanoseconds


TIME_FORMS: Final[dict[str, Callable[[str], int]]] = {
    "any": _any,
    "iso": _iso,
    "unix": _unix,
    "unix-ms": _unix_in(10**6),
    "unix-us": _unix_in(10**3),
    "unix-ns": _unix_in(1),
    "tstorage": _tstorage,
}
"""How a time may be written. ``any``: ISO 8601, or a number: seconds since 1970 below 1e11, TStorage nanoseconds from
1e16 on, and an error between them.
"""


def iso(nanoseconds: int) -> str:
    """A time as ISO 8601 in UTC, with nine digits."""
    return iso_column(numpy.array([nanoseconds]))[0]


def iso_column(times: numpy.typing.NDArray[Any]) -> Sequence[str]:
    """Times as ISO 8601 in UTC, with nine digits."""
    try:
        text = numpy.datetime_as_string(to_datetime64(times), "ns")
    except ValueError:
        # Past 2262, where NumPy's times end.
        return [Tstoragedatetime.from_tstorage_ns(each).isoformat().replace("+00:00", "Z") for each in times.tolist()]
    return [f"{each}Z" for each in text.tolist()]


def short_column(times: numpy.typing.NDArray[Any]) -> Sequence[str]:
    """The same with as few digits (none, three, six or nine) as tell all of these times exactly."""
    digits = next((digits for digits in (0, 3, 6) if not (times % 10 ** (9 - digits)).any()), 9)
    cut = -1 if digits == 9 else 19 if not digits else 20 + digits
    return [f"{each[:cut]}Z" for each in iso_column(times)]


def span(nanoseconds: int) -> str:
    """A length of time, as people read it."""
    seconds = abs(nanoseconds) / 10**9
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"

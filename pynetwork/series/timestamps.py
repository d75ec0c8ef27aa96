"""Times of TStorage: counted from 2001-01-01T00:00:00Z, in nanoseconds in keys, in seconds for people.

What goes in as an integer, a `Decimal`, a `Fraction` or a datetime is converted exactly, whatever the time; a float
stands for exactly the number that it is. Datetimes without a time zone are in UTC.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import operator
import re
import time
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias, TypeVar, overload

import numpy
import numpy.typing

__all__ = [
    "EPOCH",
    "EPOCH_NS",
    "Tstoragedatetime",
    "from_datetime64",
    "from_unix",
    "from_unix_ns",
    "now",
    "now_ns",
    "to_datetime64",
    "to_unix",
    "to_unix_ns",
]

Array: TypeAlias = "numpy.typing.NDArray[Any]"
Seconds: TypeAlias = "int | float | Decimal | Fraction"
AnySeconds = TypeVar("AnySeconds", int, float, Decimal, Fraction)

EPOCH: Final = 978_307_200
"""Unix time minus TStorage time, in seconds."""

EPOCH_NS: Final = EPOCH * 10**9
"""Unix time minus TStorage time, in nanoseconds."""

_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1
_UNIX: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_DAY_US: Final = 86_400 * 10**6
# Digits enough for the sum of whatever Decimals people have; it would not be exact with the 28 of the default.
_EXACT: Final = decimal.Context(prec=2000, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)? ?"
    r"(Z|z|([+-])(\d\d):?(\d\d)(?::?(\d\d)(?:\.(\d{6}))?)?)?",
    re.ASCII,
)


@functools.total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Tstoragedatetime:
    """A moment to the nanosecond: ``datetime`` holds it to the microsecond, ``nanoseconds`` the rest, 0 to 999.

    Moments are compared and hashed as such, in whatever time zones their datetimes are; one without a time zone is
    in UTC. ``str()`` gives ISO 8601 with nine digits, which `fromisoformat` reads. Raises `ValueError` when
    ``nanoseconds`` are not 0 to 999.
    """

    datetime: dt.datetime
    nanoseconds: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.nanoseconds <= 999:
            raise ValueError(f"nanoseconds={self.nanoseconds} must be 0 to 999: the datetime holds the microseconds")

    @classmethod
    def now(cls, *, tzinfo: dt.tzinfo = dt.timezone.utc) -> Tstoragedatetime:
        """The present moment."""
        return cls.from_unix_ns(time.time_ns(), tzinfo=tzinfo)

    @classmethod
    def from_tstorage(cls, timestamp: Seconds, *, tzinfo: dt.tzinfo = dt.timezone.utc) -> Tstoragedatetime:
        """The moment ``timestamp`` seconds after TStorage's epoch, to the nearest nanosecond.

        Raises `ValueError` for one that a 64-bit count of nanoseconds does not reach.
        """
        return cls.from_tstorage_ns(_nanoseconds(timestamp), tzinfo=tzinfo)

    @classmethod
    def from_tstorage_ns(cls, timestamp: int, *, tzinfo: dt.tzinfo = dt.timezone.utc) -> Tstoragedatetime:
        """The moment of a ``cap`` or ``acq``. Raises `ValueError` for a number that is not one of 64 bits."""
        return cls.from_unix_ns(_held(operator.index(timestamp)) + EPOCH_NS, tzinfo=tzinfo)

    @classmethod
    def from_unix(cls, timestamp: Seconds, *, tzinfo: dt.tzinfo = dt.timezone.utc) -> Tstoragedatetime:
        """The moment ``timestamp`` seconds after 1970, to the nearest nanosecond."""
        return cls.from_unix_ns(_nanoseconds(timestamp), tzinfo=tzinfo)

    @classmethod
    def from_unix_ns(cls, timestamp: int, *, tzinfo: dt.tzinfo = dt.timezone.utc) -> Tstoragedatetime:
        """The moment ``timestamp`` nanoseconds after 1970. Raises `ValueError` outside the years 1 to 9999."""
        microseconds, nanoseconds = divmod(operator.index(timestamp), 1000)
        days, rest = divmod(microseconds, _DAY_US)
        try:
            moment = _UNIX + dt.timedelta(days, 0, rest)
            if tzinfo is not dt.timezone.utc:
                moment = moment.astimezone(tzinfo)
        except OverflowError:
            raise ValueError(
                f"{timestamp} nanoseconds after 1970 are outside the years 1 to 9999, which a datetime holds"
            ) from None
        return cls(moment, nanoseconds)

    @classmethod
    def fromisoformat(cls, text: str) -> Tstoragedatetime:
        """The moment that ISO 8601 text names, as ``2016-08-09 12:34:00.123456789+02:00``, with up to nine digits.

        The time of day may be left out, and so may the offset, which is that of UTC then. Raises `ValueError` for
        anything else.
        """
        found = _ISO.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is no time: give a date and a time of day as 2016-08-09T12:34:00.123456789Z, with at most "
                "nine digits of a second"
            )
        date, clock, seconds, digits, zone = found.group(1, 2, 3, 4, 5)
        fraction = (digits or "").ljust(9, "0")
        try:
            moment = dt.datetime.fromisoformat(f"{date}T{clock or '00:00'}:{seconds or '00'}.{fraction[:6]}")
            moment = moment.replace(tzinfo=dt.timezone.utc if zone is None else _offset(found))
        except ValueError as error:
            raise ValueError(f"{text!r} is no time: {error}") from None
        return cls(moment, int(fraction[6:]))

    def to_unix_ns(self) -> int:
        """Nanoseconds since 1970, exactly."""
        since = _aware(self.datetime) - _UNIX
        return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000 + self.nanoseconds

    def to_unix(self) -> float:
        """Seconds since 1970, as the float that is nearest to them."""
        return self.to_unix_ns() / 10**9

    def to_tstorage_ns(self) -> int:
        """Nanoseconds since TStorage's epoch, exactly, as in a key.

        Raises `ValueError` for a moment that no key can have: those begin in 1708 and end in 2293.
        """
        return _held(self.to_unix_ns() - EPOCH_NS)

    def to_tstorage(self) -> float:
        """Seconds since TStorage's epoch, as the float that is nearest to them."""
        return (self.to_unix_ns() - EPOCH_NS) / 10**9

    def isoformat(self, sep: str = "T") -> str:
        """ISO 8601 with nine digits of a second and the offset from UTC."""
        text = _aware(self.datetime).isoformat(sep, "microseconds")
        return f"{text[:26]}{self.nanoseconds:03d}{text[26:]}"

    def __str__(self) -> str:
        return self.isoformat()

    def __eq__(self, other: object) -> bool:
        return self.to_unix_ns() == other.to_unix_ns() if isinstance(other, Tstoragedatetime) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.to_unix_ns() < other.to_unix_ns() if isinstance(other, Tstoragedatetime) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_unix_ns())


def _aware(moment: dt.datetime) -> dt.datetime:
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=dt.timezone.utc)


def _offset(found: re.Match[str]) -> dt.timezone:
    sign, hours, minutes, seconds, microseconds = found.group(6, 7, 8, 9, 10)
    if sign is None:
        return dt.timezone.utc
    if int(minutes) > 59 or int(seconds or 0) > 59:
        raise ValueError("minutes and seconds of an offset must be below 60")
    offset = dt.timedelta(
        hours=int(hours), minutes=int(minutes), seconds=int(seconds or 0), microseconds=int(microseconds or 0)
    )
    return dt.timezone(-offset if sign == "-" else offset)


def _nanoseconds(seconds: Seconds) -> int:
    """``seconds`` in nanoseconds; rounded half to even only where they are finer than that."""
    try:
        if isinstance(seconds, (int, numpy.integer)):
            return int(seconds) * 10**9
        numerator, denominator = seconds.as_integer_ratio()
    except (ValueError, OverflowError):
        raise ValueError(f"{seconds} seconds are no time") from None
    return round(Fraction(numerator * 10**9, denominator))


def _held(timestamp: int) -> int:
    if not _LEAST <= timestamp <= _MOST:
        raise ValueError(
            f"{timestamp} nanoseconds after 2001 do not fit the 64 bits of a key: times are of the years 1708 to 2293"
        )
    return timestamp


# TStorage to unix and back


def to_unix(timestamp: AnySeconds) -> AnySeconds:
    """TStorage seconds as unix seconds of the same type: exact, for a float the nearest one."""
    return _plus(timestamp, EPOCH)


def from_unix(timestamp: AnySeconds) -> AnySeconds:
    """Unix seconds as TStorage seconds of the same type: exact, for a float the nearest one."""
    return _plus(timestamp, -EPOCH)


def _plus(timestamp: AnySeconds, offset: int) -> AnySeconds:
    if isinstance(timestamp, Decimal):
        return _EXACT.add(timestamp, Decimal(offset))
    return timestamp + offset


@overload
def to_unix_ns(timestamp: int) -> int: ...
@overload
def to_unix_ns(timestamp: Array) -> Array: ...
def to_unix_ns(timestamp: int | Array) -> int | Array:
    """TStorage nanoseconds as unix nanoseconds, of one time or an array of them.

    Raises `ValueError` when an array's times do not fit 64 bits then; a number may have any size.
    """
    return (
        _shifted(timestamp, EPOCH_NS) if isinstance(timestamp, numpy.ndarray) else operator.index(timestamp) + EPOCH_NS
    )


@overload
def from_unix_ns(timestamp: int) -> int: ...
@overload
def from_unix_ns(timestamp: Array) -> Array: ...
def from_unix_ns(timestamp: int | Array) -> int | Array:
    """Unix nanoseconds as TStorage nanoseconds, of one time or an array of them.

    Raises `ValueError` when an array's times do not fit 64 bits then; a number may have any size.
    """
    if isinstance(timestamp, numpy.ndarray):
        return _shifted(timestamp, -EPOCH_NS)
    return operator.index(timestamp) - EPOCH_NS


def _shifted(times: Array, offset: int) -> Array:
    """``times`` plus ``offset`` as 64-bit integers."""
    if times.dtype.kind not in "iu":
        raise ValueError(f"times of type {times.dtype} are no nanoseconds: give an array of integers")
    if times.size:
        for found in (int(times.min()), int(times.max())):
            if not _LEAST <= found + offset <= _MOST:
                row = int(numpy.argmax(times.reshape(-1) == found))
                raise ValueError(f"the time {found} (element {row}) is outside what 64 bits of nanoseconds hold there")
    return times.astype(numpy.int64) + numpy.int64(offset)


def now() -> float:
    """The present TStorage time in seconds."""
    return now_ns() / 10**9


def now_ns() -> int:
    """The present TStorage time in nanoseconds."""
    return time.time_ns() - EPOCH_NS


# NumPy


def to_datetime64(times: Array) -> Array:
    """TStorage nanoseconds as an array of ``datetime64[ns]`` (UTC).

    Raises `ValueError` for times after 2262, which that type does not hold.
    """
    # The least integer would be no time there but NaT; what is shifted never is that.
    return _shifted(numpy.asarray(times), EPOCH_NS).view("M8[ns]")


def from_datetime64(times: Array) -> Array:
    """``datetime64`` of any unit (UTC) as TStorage nanoseconds: an array of 64-bit integers.

    Raises `ValueError` for a time that is missing, finer than a nanosecond or outside what 64 bits hold.
    """
    times = numpy.asarray(times)
    if times.dtype.kind != "M" or numpy.datetime_data(times.dtype)[0] == "generic":
        raise ValueError(f"times of type {times.dtype} are no datetime64 with a unit")
    missing = numpy.isnat(times)
    if missing.any():
        raise ValueError(f"element {int(missing.reshape(-1).argmax())} has no time (NaT)")
    exact = times.astype("M8[ns]")
    changed = exact.astype(times.dtype) != times
    if changed.any():
        row = int(changed.reshape(-1).argmax())
        raise ValueError(f"the time {times.reshape(-1)[row]} (element {row}) is no 64-bit number of nanoseconds")
    return _shifted(exact.view(numpy.int64), -EPOCH_NS)

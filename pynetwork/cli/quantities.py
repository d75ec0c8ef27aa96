"""Quantities as they are written on the command line: numbers, bytes, spans of time."""

from __future__ import annotations

import argparse
import re

__all__ = ["age", "byte_count", "positive", "room", "seconds", "time_span"]


def seconds(text: str) -> float:
    """A number of seconds that is not negative. Raises `argparse.ArgumentTypeError`."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def positive(text: str) -> int:
    """A whole number from 1 to 999,999,999. Raises `argparse.ArgumentTypeError`."""
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    if not digits or len(digits) > _MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 to {10**_MOST_DIGITS - 1}")
    return int(digits)


_MOST_DIGITS = 9


_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def byte_count(text: str) -> int:
    """A number of bytes, as ``500``, ``64k``, ``2M``, ``1.5Gi``. Raises `argparse.ArgumentTypeError`."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?)?b?", text.strip(), re.IGNORECASE)
    unit = (found.group(2) or "").lower() if found else ""
    if found is None or unit not in _UNITS or float(found.group(1)) * _UNITS[unit] >= 1e18:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes; write 500, 64k, 2M or 1.5G")
    return int(float(found.group(1)) * _UNITS[unit])


def room(text: str) -> int:
    """As `byte_count`, with a unit: for what removes something, where a number alone might be meant in gigabytes.

    Raises `argparse.ArgumentTypeError`.
    """
    if text.strip().replace(".", "", 1).isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} has no unit; write {text}G for gigabytes, {text}M for megabytes")
    return byte_count(text)


_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def time_span(text: str) -> float:
    """Seconds, as ``90``, ``90s``, ``15m``, ``12h``, ``7d``, ``2w``. Raises `argparse.ArgumentTypeError`."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])?", text.strip(), re.IGNORECASE)
    seconds_ = float(found.group(1)) * _SPANS[(found.group(2) or "s").lower()] if found else -1.0
    if not 0 <= seconds_ < 1e10:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time; write 90s, 15m, 12h, 7d or 2w")
    return seconds_


def age(text: str) -> float:
    """As `time_span`, with a unit: for what removes something, where a number alone might be meant in days.

    Raises `argparse.ArgumentTypeError`.
    """
    if text.strip().replace(".", "", 1).isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} has no unit; write {text}d for days, {text}h for hours")
    return time_span(text)

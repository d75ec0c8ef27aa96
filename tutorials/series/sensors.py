"""Three simulated sensors, and the series that their readings go into."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from pynetwork.series import NumpyPayloadType, SeriesKey

TEMPERATURE = SeriesKey(1, 7, 1)
ACCELERATION = SeriesKey(1, 7, 2)
POWER = SeriesKey(1, 7, 3)

NUMBER = NumpyPayloadType("<f8")
VECTOR = NumpyPayloadType([("x", "<f4"), ("y", "<f4"), ("z", "<f4")])


def ticks(rate: float, seconds: float) -> Iterator[float]:
    """Wait for the moment of each reading, ``rate`` times a second, and give the seconds since the first."""
    began = time.monotonic()
    for number in range(round(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield number / rate


def temperature(seconds: float) -> Iterator[float]:
    """Ten times a second the temperature of a room in which the heating was switched on, in degrees Celsius."""
    for elapsed in ticks(10, seconds):
        yield 24 - 6 * math.exp(-elapsed)


def acceleration(seconds: float) -> Iterator[tuple[float, float, float]]:
    """200 times a second the acceleration of a washing machine that spins, in g."""
    for elapsed in ticks(200, seconds):
        angle = 2 * math.pi * 9 * elapsed
        yield 0.2 * math.cos(angle), 0.2 * math.sin(angle), 1.0


def power(seconds: float) -> Iterator[float]:
    """50 times a second the power that the house takes, in watt; for a twentieth of each second a kettle is on."""
    for elapsed in ticks(50, seconds):
        yield 2200.0 if elapsed % 1 < 0.05 else 150.0

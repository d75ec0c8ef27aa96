"""The robot's board: four pins that switch its motors, and a distance sensor at its front."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

PINS = ("left forward", "left back", "right forward", "right back")


class Board(Protocol):
    """What the gateway needs of a board. It uses one from one thread at a time."""

    def write(self, levels: bytes) -> None:
        """Switch the pins, in the order of ``PINS``: 0 is off, anything else is on."""

    def distance(self) -> float:
        """Metres from the sensor to what is in front of it."""

    def close(self) -> None:
        """Switch all pins off, and let go of the board."""


class SimulatedBoard:
    """A robot in an empty room of 4 m by 3 m, for machines without pins. It looks at the far wall, 3 m away."""

    ROOM = (4.0, 3.0)
    SPEED = 1.0  # metres that a wheel rolls in a second
    WIDTH = 0.2  # metres between the wheels

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = clock()
        self._x, self._y, self._heading = 1.0, 1.5, 0.0
        self._left = self._right = 0.0

    def write(self, levels: bytes) -> None:
        """Turn the wheels from now on."""
        self._catch_up()
        left_forward, left_back, right_forward, right_back = (level != 0 for level in levels)
        self._left = self.SPEED * (left_forward - left_back)
        self._right = self.SPEED * (right_forward - right_back)

    def distance(self) -> float:
        """Metres to the wall, the way that the robot looks."""
        self._catch_up()
        x, y = math.cos(self._heading), math.sin(self._heading)
        to_end = (self.ROOM[0] - self._x if x > 0 else -self._x) / x if x else math.inf
        to_side = (self.ROOM[1] - self._y if y > 0 else -self._y) / y if y else math.inf
        return min(to_end, to_side)

    def close(self) -> None:
        """Stand still."""
        self.write(bytes(len(PINS)))

    def _catch_up(self) -> None:
        """Move on to where the robot is by now, in steps of a hundredth of a second."""
        now = self._clock()
        if not self._left and not self._right:
            self._seen = now
        while self._seen < now:
            step = min(now - self._seen, 0.01)
            self._seen += step
            self._heading += (self._right - self._left) / self.WIDTH * step
            way = (self._left + self._right) / 2 * step
            self._x = min(max(self._x + way * math.cos(self._heading), 0.0), self.ROOM[0])
            self._y = min(max(self._y + way * math.sin(self._heading), 0.0), self.ROOM[1])


class GpioBoard:
    """A Raspberry Pi with a motor driver and an HC-SR04 at these pins (BCM numbers)."""

    MOTORS = (5, 6, 13, 19)
    ECHO, TRIGGER = 24, 23

    def __init__(self) -> None:
        from gpiozero import DigitalOutputDevice, DistanceSensor  # noqa: PLC0415 - only a board with pins needs it

        self._motors = [DigitalOutputDevice(pin) for pin in self.MOTORS]
        self._sensor = DistanceSensor(echo=self.ECHO, trigger=self.TRIGGER, max_distance=4)

    def write(self, levels: bytes) -> None:
        """Set the inputs of the motor driver."""
        for motor, level in zip(self._motors, levels, strict=True):
            motor.value = level != 0

    def distance(self) -> float:
        """Metres by the sensor, 4 when it hears no echo."""
        return float(self._sensor.distance)

    def close(self) -> None:
        """Switch the motors off, then release the pins."""
        self.write(bytes(len(PINS)))
        for device in (*self._motors, self._sensor):
            device.close()

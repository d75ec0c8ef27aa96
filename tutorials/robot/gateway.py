"""The robot's gateway: sets the pins of the motors, streams the distance sensor, and stops when nobody steers."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator

from board import PINS, Board, GpioBoard, SimulatedBoard

from pynetwork import Gateway, PynetworkError

HOLD = 0.5
"""Seconds that the motors run on without a command."""


class Robot:
    """A board that several callers may use, and that switches its motors off when the commands stay away."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._levels = bytes(len(PINS))
        self._until = 0.0
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._stop_when_alone, name="watch")
        self._watch.start()

    def set_pins(self, *, buffer: bytes) -> int:
        """Switch the pins, one byte each: 0 is off. It holds for half a second. Answers how many are on."""
        if len(buffer) != len(PINS):
            raise ValueError(f"{len(buffer)} levels came for {len(PINS)} pins: {', '.join(PINS)}")
        with self._lock:
            self._switch(buffer)
            self._until = time.monotonic() + HOLD
        return sum(level != 0 for level in buffer)

    def pins(self) -> dict[str, bool]:
        """Which pins are on."""
        return {name: level != 0 for name, level in zip(PINS, self._levels, strict=True)}

    def distance(self, rate: float = 20.0) -> Iterator[float]:
        """Metres to what is in front, ``rate`` times a second."""
        while True:
            with self._lock:
                metres = self._board.distance()
            yield metres
            time.sleep(1 / rate)

    def close(self) -> None:
        """Stop, and let go of the board."""
        self._closing.set()
        self._watch.join()
        self._board.close()

    def _switch(self, levels: bytes) -> None:
        self._board.write(levels)
        self._levels = levels

    def _stop_when_alone(self) -> None:
        while not self._closing.wait(0.05):
            with self._lock:
                if any(self._levels) and time.monotonic() > self._until:
                    self._switch(bytes(len(PINS)))
                    print("no command: stopped", flush=True)


def make_gateway(robot: Robot, port: int) -> Gateway:
    """A gateway that offers this robot."""
    gateway = Gateway(port, key=os.environ.get("PYNETWORK_KEY"))
    gateway.add_subroutine("set_pins", robot.set_pins)
    gateway.add_subroutine("pins", robot.pins)
    gateway.add_subroutine("distance", robot.distance)
    return gateway


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", choices=("simulated", "gpio"), default="simulated", help="(default simulated)")
    parser.add_argument("--port", type=int, default=1857, help="where to listen (default 1857)")
    options = parser.parse_args()
    robot = Robot(GpioBoard() if options.board == "gpio" else SimulatedBoard())
    try:
        with make_gateway(robot, options.port) as gateway:
            print(f"listening on port {gateway.port}, {options.board} board, Ctrl-C ends it", flush=True)
            gateway.wait()
    finally:
        robot.close()


if __name__ == "__main__":
    try:
        main()
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except ImportError as error:
        sys.exit(f"{error}; on the robot: pip install gpiozero lgpio")

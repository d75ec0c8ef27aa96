"""The robot's controller: drives a little sequence, looking at the stream of distances as it goes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pynetwork import Client, Controller, PynetworkError

FORWARD, BACK, SPIN, STOP = b"\1\0\1\0", b"\0\1\0\1", b"\0\1\1\0", b"\0\0\0\0"
"""Levels of: left forward, left back, right forward, right back."""


@dataclass
class Step:
    """What to do with the pins, and until which distance in metres; for ``seconds`` at most."""

    name: str
    levels: bytes
    until: Callable[[float], bool]
    seconds: float = 10.0


SEQUENCE = (
    Step("forward", FORWARD, until=lambda distance: distance < 0.5),
    Step("back", BACK, until=lambda distance: distance > 1.0),
    Step("spin", SPIN, until=lambda distance: distance > 2.0),
)


def drive(steering: Client, distances: Iterator[tuple[int, float]], step: Step) -> bool:
    """Do one step; answers whether it came to its end in time."""
    began = time.monotonic()
    for _, distance in distances:
        passed = time.monotonic() - began
        done = step.until(distance)
        if done or passed > step.seconds:
            print(f"{step.name}: {distance:.2f} m after {passed:.2f} s{'' if done else ', given up'}", flush=True)
            return done
        steering.send("set_pins", step.levels)
    return False


def main() -> int:
    """Drive the sequence so many times; 0 when every step came to its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", nargs="?", default="127.0.0.1", help="where the gateway is (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=1857, help="where it listens (default 1857)")
    parser.add_argument("--rounds", type=int, default=1, help="how often to drive the sequence (default 1)")
    options = parser.parse_args()
    controller = Controller(options.host, options.port, key=os.environ.get("PYNETWORK_KEY"), timeout=2)
    with controller.get_client() as watching, controller.get_client() as steering:
        with watching.stream("distance", rate=20, timeout=2) as distances:
            good = all(drive(steering, distances, step) for _ in range(options.rounds) for step in SEQUENCE)
        steering.send("set_pins", STOP)
        on = [name for name, level in steering.call("pins").items() if level]
    print(f"pins that are on: {', '.join(on) or 'none'}")
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

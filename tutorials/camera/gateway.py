"""The camera's gateway: streams frames with the time at which each was taken."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from camera import Camera, OpenCvCamera, SimulatedCamera

from pynetwork import Gateway, PynetworkError


def ticks(rate: float) -> Iterator[int]:
    """0, 1, 2 and so on, ``rate`` a second; the numbers whose time has passed when it is asked are left out."""
    began = time.monotonic()
    number = -1
    while True:
        number = max(number + 1, int((time.monotonic() - began) * rate))
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield number


def make_gateway(open_camera: Callable[[], Camera], port: int) -> Gateway:
    """A gateway that offers this camera, and its clock."""
    gateway = Gateway(port, key=os.environ.get("PYNETWORK_KEY"))

    @gateway.subroutine
    def frames(rate: float = 30.0) -> Iterator[tuple[int, list[Any]]]:
        """Frames ``(number, [time, array])``, ``rate`` a second."""
        with closing(open_camera()) as camera:
            for number in ticks(rate):
                frame = camera.read()
                yield number, [time.time(), frame]

    @gateway.subroutine
    def clock() -> float:
        """The time of this machine, in seconds since 1970."""
        return time.time()

    return gateway


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camera", metavar="N", help="the camera of this number, by OpenCV (default: a simulated one)")
    parser.add_argument("--port", type=int, default=1857, help="where to listen (default 1857)")
    options = parser.parse_args()
    open_camera = SimulatedCamera if options.camera is None else partial(OpenCvCamera, options.camera)
    with make_gateway(open_camera, options.port) as gateway:
        print(f"listening on port {gateway.port}, Ctrl-C ends it", flush=True)
        gateway.wait()


if __name__ == "__main__":
    try:
        main()
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")

"""Between the two processes of a contestant: the loopback, or an emulated link with a namespace at either end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tools.link import Link, LinkUnavailable

__all__ = ["LOOPBACK", "Network", "Shape", "Start", "arrived"]

_DEVICE = "wire"

Start = Callable[..., "subprocess.Popen[Any]"]
"""Called as `subprocess.Popen` is."""


@dataclass(frozen=True)
class Network:
    """``host`` is the address on which servers listen; ``server`` and ``client`` start a program at that end."""

    host: str = "127.0.0.1"
    server: Start = subprocess.Popen
    client: Start = subprocess.Popen


LOOPBACK = Network()


@dataclass(frozen=True)
class Shape:
    """A link: ``rate`` in bytes of IP packets per second and direction (None: as many as it can), ``trip`` in seconds
    there and back, ``loss`` the part of the packets that is lost. ``congestion`` is how TCP at both ends sees that the
    link is full; what most systems do who have not been told otherwise is "cubic".
    """

    rate: float | None = None
    trip: float = 0.0
    loss: float = 0.0
    congestion: str = "cubic"

    @contextmanager
    def opened(self) -> Iterator[Network]:
        """The link, until the context ends. Raises `tools.link.LinkUnavailable` where there can be none."""
        with Link(self.rate, self.trip / 2, self.loss) as link:
            for end, other in ((link.near, link.far), (link.far, link.near)):
                # By the route, as a namespace may not choose for itself what the system does not let everybody have.
                route = ["dev", _DEVICE, "src", end.address, "congctl", self.congestion]
                if link.run(end, ["ip", "route", "replace", other.address, *route]).wait():
                    raise LinkUnavailable(f"this kernel has no {self.congestion}")
            yield Network(link.far.address, partial(link.run, link.far), partial(link.run, link.near))


def arrived() -> int:
    """Bytes of IP packets that have come over the link to the end at which this process is."""
    # Of this process's own namespace, unlike the figures in /sys.
    lines = Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines()
    devices = (line.partition(":") for line in lines[2:])
    return sum(int(figures.split()[0]) for name, _, figures in devices if name.strip() != "lo")

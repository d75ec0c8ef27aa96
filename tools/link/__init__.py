"""A network link of this machine's own: two namespaces, and between them a rate, a delay, a bounded queue and loss.

`Link` makes one, and starts programs at either end of it. A program of its own (`tools.link.emulator`) carries the
packets, by the rules in `tools.link.wire`; no module of the kernel is needed for that but TUN devices.

``python -m tools.link --rate 6.25e6 --delay 0.01`` makes one for trying by hand.
"""

from __future__ import annotations

from tools.link.link import End, Link, LinkUnavailable
from tools.link.wire import Traffic

__all__ = ["End", "Link", "LinkUnavailable", "Traffic"]

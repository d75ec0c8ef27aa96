"""``python -m tools.link``: a link to try things over by hand."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Sequence

from tools.link import Link, LinkUnavailable

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a link, say how programs are started at its ends, and keep it until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tools.link", description="A network link on this machine.")
    parser.add_argument("--rate", type=float, help="bytes per second, each way; as many as it can if not given")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, each way")
    parser.add_argument("--loss", type=float, default=0.0, help="the part of the packets that is lost, 0 to 1")
    parser.add_argument("--queue", type=int, help="bytes that wait at most before the rate")
    parser.add_argument("--seed", type=int, default=0, help="which packets are lost")
    chosen = parser.parse_args(arguments)
    try:
        link = Link(chosen.rate, chosen.delay, chosen.loss, chosen.queue, seed=chosen.seed)
    except LinkUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    with link:
        for end in (link.near, link.far):
            print(f"{end.address}: nsenter --net={end.namespace} COMMAND", flush=True)
        print("Ctrl-C ends the link and what runs at its ends", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        for end in (link.near, link.far):
            print(f"from {end.address}: {link.traffic(end)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

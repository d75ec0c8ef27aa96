"""The controller of many gateways: merges their sensors, and goes on when one of them is away for a while."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from urllib.parse import urlsplit

from pynetwork import AsyncController, ConnectionLost, DeadlineExceeded, PoolFull, PynetworkError

Reading = dict[str, float]
Merged = asyncio.Queue[tuple[str, "Reading | None"]]
"""Each reading with the address that it comes from; None when that gateway is lost."""


def controller_of(address: str) -> AsyncController:
    """The controller of the gateway at ``HOST[:PORT]``; raises `ValueError` when that can't be."""
    place = urlsplit(f"//{address}")
    return AsyncController(place.hostname or "", place.port or 1857, key=os.environ.get("PYNETWORK_KEY"), timeout=5)


async def watch(address: str, controller: AsyncController, rate: float, pause: float, merged: Merged) -> None:
    """Pass on the readings of one gateway, and dial it again whenever it is lost."""
    while True:
        try:
            async with controller.get_client() as client, client.stream("readings", rate, timeout=5) as readings:
                async for _, reading in readings:
                    await merged.put((address, reading))
        except (ConnectionLost, DeadlineExceeded, PoolFull) as error:
            print(f"{address}: {error}; again in {pause:g} s", file=sys.stderr, flush=True)
        except PynetworkError as error:
            print(f"{address}: {type(error).__name__}, which won't mend itself", file=sys.stderr, flush=True)
            raise
        await merged.put((address, None))
        await asyncio.sleep(pause)


def describe(latest: dict[str, Reading]) -> str:
    """The last reading of each gateway, and the mean over all."""
    if not latest:
        return "no gateway"
    each = [f"{address} cpu {reading['cpu']:.1f} %" for address, reading in sorted(latest.items())]
    mean = sum(reading["cpu"] for reading in latest.values()) / len(latest)
    return f"{' | '.join(each)} | mean {mean:.1f} %"


async def collect(merged: Merged, latest: dict[str, Reading], counts: Counter[str]) -> None:
    """Take what the watchers bring, in the order in which it came."""
    while True:
        address, reading = await merged.get()
        if reading is None:
            latest.pop(address, None)
        else:
            latest[address] = reading
            counts[address] += 1


async def show(latest: dict[str, Reading], every: float) -> None:
    """Print the state of all every so many seconds."""
    while True:
        await asyncio.sleep(every)
        print(describe(latest), flush=True)


async def run(controllers: dict[str, AsyncController], options: argparse.Namespace, counts: Counter[str]) -> None:
    """Watch all of them, until the time is up or something is wrong that waiting can't mend."""
    merged: Merged = asyncio.Queue(maxsize=100)
    latest: dict[str, Reading] = {}
    watchers = [watch(*each, options.rate, options.pause, merged) for each in controllers.items()]
    work = [*watchers, collect(merged, latest, counts), show(latest, options.every)]
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, timeout=options.seconds, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def main() -> None:
    """Watch, and tell how many readings came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateways", nargs="+", metavar="HOST[:PORT]", help="where the gateways are")
    parser.add_argument("--rate", type=float, default=5.0, help="readings of each a second (default 5)")
    parser.add_argument("--every", type=float, default=1.0, help="print so often, in seconds (default 1)")
    parser.add_argument("--pause", type=float, default=2.0, help="dial a lost one again after so long (default 2)")
    parser.add_argument("--seconds", type=float, help="for so long (default: until Ctrl-C)")
    options = parser.parse_args()
    try:
        controllers = {address: controller_of(address) for address in options.gateways}
    except ValueError as error:
        parser.error(str(error))
    counts: Counter[str] = Counter()
    try:
        asyncio.run(run(controllers, options, counts))
    finally:
        for address in controllers:
            print(f"{address}: {counts[address]} readings")


if __name__ == "__main__":
    try:
        main()
    except PynetworkError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

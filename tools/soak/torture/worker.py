"""One process of a torture run: ``python -m tools.soak.torture.worker writer|gateway|backup OPTIONS``, the options as
JSON.

As with `tools.soak.worker`, it tells what happens by lines of JSON and ends in order when its input ends.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from handshakes.errors import PynetworkError
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from tools.soak.torture.scene import SHARE
from tools.soak.torture.writer import Writer
from tools.soak.turns import Failure
from tools.soak.voice import Voice, when_input_ends

__all__ = ["HANGING", "main"]

HANGING = 90.0
"""Seconds that no backup may take, nor the end of one that follows."""
_TIMEOUT = 10.0
_LONGEST_PAUSE = 0.5
_HANDLERS = 64

Options = dict[str, Any]
Backup = Callable[[Controller, Path, Options, threading.Event], dict[str, Any]]
"""One backup of the share into a folder, with options and what ends it early; answers with figures."""


def main(arguments: list[str]) -> int:
    """Run one process until its input ends."""
    logging.basicConfig(level=logging.ERROR)
    role, options = arguments[0], json.loads(arguments[1])
    with Voice() as voice:
        return _ROLES[role](options, voice)


def _write(options: Options, voice: Voice) -> int:
    places = Path(options["source"]), Path(options["reference"])
    writer = Writer(*places, rate=options["rate"], rotate=options["rotate"], seed=options["seed"])
    over = threading.Event()
    when_input_ends(over.set)
    voice.say(ready=True)
    try:
        writer.write(over)
    finally:
        writer.close()
    voice.say(written=writer.written, rotations=writer.rotations)
    return 0


def _serve(options: Options, voice: Voice) -> int:
    gateway = Gateway(options["port"], max_poolsize=_HANDLERS, share={SHARE: options["source"]})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with gateway:
        when_input_ends(gateway.stop)
        voice.say(ready=gateway.port)
        gateway.wait()
    return 0


def _back_up(options: Options, voice: Voice) -> int:
    """One backup after the other; with ``follow`` each goes on until it fails, with ``once`` there is only one."""
    module, _, name = options["backup"].partition(":")
    make: Backup = getattr(importlib.import_module(module), name)
    controller = Controller(port=options["port"], timeout=_TIMEOUT)
    chance = random.Random(options["seed"])
    over = threading.Event()
    when_input_ends(lambda: _end(over))
    voice.say(ready=True)
    while not over.is_set():
        if not options["follow"]:
            _watch()
        right = _did(lambda: make(controller, Path(options["mirror"]), options, over), voice)
        faulthandler.cancel_dump_traceback_later()
        if options["once"]:
            return 0 if right else 1
        over.wait(chance.uniform(0, _LONGEST_PAUSE))
    return 0


def _end(over: threading.Event) -> None:
    over.set()
    _watch()


def _watch() -> None:
    """From now on it counts how long it takes."""
    faulthandler.dump_traceback_later(HANGING, exit=True)


def _did(do: Callable[[], dict[str, Any]], voice: Voice) -> bool:
    """Do it, and tell what came of it; answers whether it came out right."""
    since = time.monotonic()
    try:
        voice.say(done=do(), seconds=time.monotonic() - since)
    except Exception as error:
        text = str(error) if isinstance(error, PynetworkError) else traceback.format_exc()
        voice.say(failure=Failure("backup", type(error).__name__, text, since, time.monotonic()).to_json())
        return False
    return True


def backup(controller: Controller, mirror: Path, options: Options, stop: threading.Event) -> dict[str, Any]:
    """A `Backup`: what pynetwork itself does."""
    report = controller.backup(
        SHARE,
        mirror,
        follow=options["follow"],
        stop=stop,
        compress=None if options["compress"] else False,
        mirror_deletes=options["mirror_deletes"],
        progress=False,
    )
    return {"files": report.files, "received": report.received, "skipped": list(report.skipped)}


_ROLES = {"writer": _write, "gateway": _serve, "backup": _back_up}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

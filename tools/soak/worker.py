"""One process of a soak: ``python -m tools.soak.worker gateway|blocking|asyncio OPTIONS``, the options as JSON.

It tells what happens by lines of JSON on what was its standard output, and ends in order when its input ends, so it
never outlives whoever started it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pynetwork.aio import AsyncController
from pynetwork.controller import Controller
from pynetwork.gateway import Gateway
from tools.facade import ControllerFacade, LoopThread
from tools.soak.operations import ALONE, OFFERED, SHARE, TOGETHER, Scene
from tools.soak.turns import Count, Failure, Turns
from tools.soak.voice import Voice, when_input_ends

__all__ = ["HANGING", "main"]

HANGING = 120.0
"""Seconds that nothing may take: twice what the longest deadline within pynetwork allows."""
_TIMEOUT = 30.0
_BEAT = 0.5
_KEY = "a key for the soak"

Options = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Run one process until its input ends."""
    logging.basicConfig(level=logging.ERROR)
    role, options = arguments[0], json.loads(arguments[1])
    with Voice() as voice:
        if role == "gateway":
            return _serve(options, voice)
        return _control(options, voice, _MAKERS[role])


def _serve(options: Options, voice: Voice) -> int:
    gateway = Gateway(
        options["port"],
        max_poolsize=options["handlers"],
        share={SHARE: options["share"]},
        download_dir=options["uploads"],
        key=_KEY,
    )
    for function in OFFERED:
        gateway.add_subroutine(function.__name__, function)
    # For the moment between the word and the wait, which sees to SIGTERM by itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with gateway:
        when_input_ends(gateway.stop)
        voice.say(ready=gateway.port)
        gateway.wait()
    return 0


def _blocking(port: int) -> tuple[Any, Callable[[], None]]:
    return Controller(port=port, key=_KEY, timeout=_TIMEOUT), lambda: None


def _asyncio(port: int) -> tuple[Any, Callable[[], None]]:
    loop = LoopThread()
    return ControllerFacade(loop, AsyncController(port=port, key=_KEY, timeout=_TIMEOUT)), loop.close


_MAKERS = {"blocking": _blocking, "asyncio": _asyncio}


def _control(options: Options, voice: Voice, make: Callable[[int], tuple[Any, Callable[[], None]]]) -> int:
    controller, close = make(options["port"])

    def turns(name: str, dial: Callable[[], Any], operations: Any, *, lasting: bool) -> Turns:
        scene = Scene(Path(options["share"]), Path(options["uploads"]), Path(options["scratch"]), name)
        chance = random.Random(f"{options['seed']} {name}")
        return Turns(dial, operations, scene, chance, lambda told: _tell(voice, told), lasting=lasting)

    name, lanes = options["name"], options["lanes"]
    both = [
        turns(f"{name} alone", lambda: controller.get_client(_TIMEOUT), ALONE, lasting=True),
        turns(f"{name} together", lambda: controller.get_swarm(lanes, _TIMEOUT), TOGETHER, lasting=False),
    ]
    over = threading.Event()
    when_input_ends(over.set)
    voice.say(ready=True)
    for each in both:
        each.thread.start()
    while not over.wait(_BEAT):
        _beat(voice, both)
    for each in both:
        each.stop()
    while alive := [each.thread for each in both if each.thread.is_alive()]:
        alive[0].join(_BEAT)
        _beat(voice, both)
    close()
    return 0


def _tell(voice: Voice, failure: Failure) -> None:
    voice.say(failure=failure.to_json())


def _beat(voice: Voice, both: list[Turns]) -> None:
    """Tell what was done since the last time, and what hangs."""
    counts: dict[str, Count] = {}
    for each in both:
        for name, count in each.counts().items():
            counts.setdefault(name, Count()).add(count)
    voice.say(counts={name: asdict(count) for name, count in counts.items()})
    for each in both:
        if hanging := each.hanging(HANGING):
            name, since = hanging
            _tell(voice, Failure(name, "hung", f"it runs for {HANGING:g} s already\n{_stacks()}", since, since))
            # There is no way out of it.
            os._exit(0)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

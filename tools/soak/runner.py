"""A soak: starts everybody, lets troubles happen when they are due, hears what came of it, and ends everybody."""

from __future__ import annotations

import contextlib
import queue
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.proxy import Direction, Fault, Kind, Proxy
from tools.soak.members import Member
from tools.soak.operations import fill
from tools.soak.report import Report
from tools.soak.troubles import Ill, Trouble, explained, schedule
from tools.soak.turns import Count, Failure

__all__ = ["CONTROLLERS", "Options", "run"]

CONTROLLERS = ("blocking 1", "asyncio 1", "blocking 2", "asyncio 2")
"""The first of each kind is never killed."""
_MORTAL = (2, 3)
_TICK = 0.05
_MOST_SAMPLES = 1200
_LEAST_INTERVAL = 0.25
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_END_SECONDS = 150.0
_SILENCE = 60.0
_LONGEST_STALL = 2.0
_LONGEST_ABSENCE = 2.0
_FURTHEST = 200_000


@dataclass(frozen=True)
class Options:
    """``seconds``: how long; ``lanes``: of each swarm; ``seed``: of chance. ``say`` is told what happens, ``find`` what
    should not have, at once.
    """

    seconds: float
    lanes: int = 3
    seed: int = 1
    say: Callable[[str], None] = lambda _text: None
    find: Callable[[str], None] = lambda _text: None


def run(options: Options) -> Report:
    """Soak. Ctrl-C ends it at once; the report tells what is known by then."""
    report = Report(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="pynetwork-soak-"))
    try:
        with ExitStack() as stack:
            soak = _Soak(options, report, folder, stack)
            stack.callback(soak.note)
            soak.go_on()
            soak.end()
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


class _Soak:
    def __init__(self, options: Options, report: Report, folder: Path, stack: ExitStack) -> None:
        self._options = options
        self._report = report
        self._chance = random.Random(options.seed)
        self._began = time.monotonic()
        self._heard: queue.SimpleQueue[tuple[Member, dict[str, Any]]] = queue.SimpleQueue()
        self._interval = max(_LEAST_INTERVAL, options.seconds / _MOST_SAMPLES)
        self._looked = 0.0
        self._felt: list[Trouble] = []
        self._awaited: dict[int, Trouble] = {}
        self._troubles = schedule(options.seconds, len(CONTROLLERS), _MORTAL, self._chance)
        scene = self._scene(folder)
        logs = folder / "logs"
        logs.mkdir()
        port = _free_port()
        room = 2 * len(CONTROLLERS) * (1 + options.lanes)
        self._gateway = Member("gateway", "gateway", {**scene, "port": port, "handlers": room}, logs, self._hear)
        self._proxies = [stack.enter_context(Proxy(port)) for _ in CONTROLLERS]
        self._controllers = [
            Member(name, name.split()[0], self._controls(scene, name, proxy), logs, self._hear)
            for name, proxy in zip(CONTROLLERS, self._proxies, strict=True)
        ]
        self._members = [self._gateway, *self._controllers]
        for member in self._members:
            stack.callback(member.kill)

    def _scene(self, folder: Path) -> dict[str, Any]:
        places = {name: folder / name for name in ("share", "uploads", "scratch")}
        fill(places["share"], self._chance)
        return {name: str(place) for name, place in places.items()}

    def _controls(self, scene: dict[str, Any], name: str, proxy: Proxy) -> dict[str, Any]:
        own = {"name": name, "port": proxy.port, "lanes": self._options.lanes, "seed": self._options.seed}
        return {**scene, **own}

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def note(self) -> None:
        """Tell how long it took, and who took part."""
        self._report.seconds = self._elapsed()
        self._report.lives = [life for member in self._members for life in member.lives]

    def go_on(self) -> None:
        """From the beginning to the end of the time."""
        self._start_all()
        waiting = list(reversed(self._troubles))
        while (now := self._elapsed()) < self._options.seconds or waiting:
            while waiting and waiting[-1].at <= now:
                self._cause(waiting.pop())
            self._tick()
            time.sleep(_TICK)

    def _start_all(self) -> None:
        self._start_gateway()
        for controller in self._controllers:
            controller.start()
        for controller in self._controllers:
            controller.ready.wait(_START_SECONDS)
        # How long it takes until they are there is no part of the time.
        self._began = time.monotonic()

    def _tick(self) -> None:
        self._take_in()
        self._see_faults()
        if (now := self._elapsed()) - self._looked >= self._interval:
            self._looked = now
            for member in self._members:
                member.look(now)
        for member in self._members:
            self._check(member)
        done = sum(count.right for count in self._report.counts.values())
        self._options.say(f"{now:6.0f} s  {done:,} right  {sum(self._report.lost.values()):,} lost")

    def end(self) -> None:
        """Everybody ends what they do, and goes."""
        self._tick()
        for controller in self._controllers:
            controller.ask_to_end()
        deadline = time.monotonic() + _END_SECONDS
        for member in self._controllers:
            self._see_out(member, deadline - time.monotonic(), "was asked to end")
        self._gateway.ask_to_end()
        self._see_out(self._gateway, _STOP_SECONDS, "was asked to end")
        self._take_in()

    # What is heard

    def _hear(self, member: Member, message: dict[str, Any]) -> None:
        self._heard.put((member, message))

    def _take_in(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                member, message = self._heard.get_nowait()
                for name, figures in message.get("counts", {}).items():
                    self._report.counts.setdefault(name, Count()).add(Count(**figures))
                if "failure" in message:
                    self._judge(member, Failure.from_json(message["failure"]))

    def _judge(self, member: Member, failure: Failure) -> None:
        if explained(failure, self._controllers.index(member), self._felt):
            self._report.lost[failure.operation] += 1
        else:
            self._find(f"{member.name}: {failure.operation}: {failure.kind}: {failure.text}")

    def _find(self, what: str) -> None:
        finding = f"after {self._elapsed():.0f} s: {what}"
        self._report.findings.append(finding)
        self._options.find(finding)

    def _check(self, member: Member) -> None:
        """Start again who has ended or says nothing, though nobody wanted that."""
        if member.ended is not None:
            self._find(f"{member.name} has ended by itself, with exit code {member.ended}")
        elif member is not self._gateway and time.monotonic() - member.heard_at > _SILENCE:
            self._find(f"{member.name} has said nothing for {_SILENCE:g} s")
        else:
            return
        self._bury(member)
        if member is self._gateway:
            self._start_gateway()
        else:
            member.start()

    def _bury(self, member: Member) -> None:
        member.kill()
        if complaints := member.complaints():
            self._find(f"{member.name} printed:\n{complaints}")

    def _see_out(self, member: Member, seconds: float, why: str) -> None:
        code = member.wait(seconds)
        if code is None:
            self._find(f"{member.name} {why}, and has not ended within {seconds:.0f} s")
        elif code:
            self._find(f"{member.name} {why}, and ended with exit code {code}")
        self._bury(member)

    # Troubles

    def _cause(self, trouble: Trouble) -> None:
        self._take_in()
        self._report.troubles[trouble.ill] += 1
        self._felt.append(trouble)
        trouble.began = time.monotonic()
        if trouble.of_gateway:
            self._replace_gateway(trouble.ill is Ill.KILL_GATEWAY)
            trouble.ended = time.monotonic()
        elif trouble.ill is Ill.KILL_CONTROLLER:
            controller = self._controllers[trouble.victim]
            self._bury(controller)
            controller.start()
            trouble.ended = time.monotonic()
        else:
            self._disturb(self._proxies[trouble.victim], trouble)

    def _replace_gateway(self, kill: bool) -> None:
        if kill:
            self._bury(self._gateway)
        else:
            self._gateway.terminate()
            self._see_out(self._gateway, _STOP_SECONDS, "got a SIGTERM")
        time.sleep(self._chance.uniform(0, _LONGEST_ABSENCE))
        self._start_gateway()

    def _start_gateway(self) -> None:
        self._gateway.start()
        if not self._gateway.ready.wait(_START_SECONDS):
            self._find(f"the gateway does not listen after {_START_SECONDS:g} s")

    def _disturb(self, proxy: Proxy, trouble: Trouble) -> None:
        if trouble.ill in (Ill.RESET, Ill.END):
            proxy.cut(reset=trouble.ill is Ill.RESET)
            trouble.ended = time.monotonic()
            return
        # A fault that has not happened yet makes room for this one.
        if (earlier := self._awaited.get(trouble.victim)) is not None:
            earlier.ended = trouble.began
        self._awaited[trouble.victim] = trouble
        kind = {Ill.BREAK: Kind.RESET, Ill.HALF_CLOSE: Kind.HALF_CLOSE, Ill.STALL: Kind.STALL}[trouble.ill]
        direction, at = self._chance.choice([*Direction]), self._chance.randrange(_FURTHEST)
        proxy.inject(Fault(kind, direction, at, seconds=self._chance.uniform(0, _LONGEST_STALL)))

    def _see_faults(self) -> None:
        for victim, trouble in list(self._awaited.items()):
            if self._proxies[victim].happened:
                trouble.ended = time.monotonic()
                del self._awaited[victim]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port

"""A torture run: starts everybody, kills and cuts when it is time, looks at the mirror meanwhile, and checks it all in
the end.
"""

from __future__ import annotations

import contextlib
import queue
import random
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.proxy import DOWN, UP, Fault, Kind, Proxy, Weather
from tools.soak.members import Member
from tools.soak.torture.damage import flip_bit
from tools.soak.torture.lines import LINE
from tools.soak.torture.mirror import Mirror, Watch, partial_files
from tools.soak.torture.options import WORKER, Options
from tools.soak.torture.report import Report
from tools.soak.torture.troubles import Ill, Trouble, explained, schedule
from tools.soak.torture.truth import Truth
from tools.soak.torture.verdict import Verdict
from tools.soak.torture.wire import Meter
from tools.soak.torture.worker import HANGING
from tools.soak.turns import Failure

__all__ = ["run"]

_TICK = 0.02
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
# So that at least two rotations fall into an absence, whenever it begins.
_ABSENT_ROTATIONS = 2.6
_PORTS = range(20_000, 32_000)
_FURTHEST = {DOWN: 1 << 20, UP: 1 << 10}


def run(options: Options) -> Report:
    """Run it. Ctrl-C ends it at once; the report tells what is known by then."""
    report = Report(options.seed)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="pynetwork-torture-"))
    try:
        with ExitStack() as stack:
            torture = _Torture(options, report, folder, stack)
            stack.callback(torture.note)
            torture.go_on()
            torture.end()
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return report


class _Torture:
    def __init__(self, options: Options, report: Report, folder: Path, stack: ExitStack) -> None:
        self._options = options
        self._report = report
        self._chance = random.Random(options.seed)
        self._began = time.monotonic()
        self._heard: queue.SimpleQueue[tuple[Member, dict[str, Any]]] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._troubles = schedule(options.kills, options.flips, options.seconds, self._chance)
        self._felt: list[Trouble] = []
        self._awaited: dict[Ill, Trouble] = {}
        self._absent_until: float | None = None
        self._places = {name: folder / name for name in ("source", "reference", "mirror", "logs")}
        for place in self._places.values():
            place.mkdir(parents=True)
        self._meter = Meter()
        port = _free_port()
        self._proxy = stack.enter_context(Proxy(port, Weather(rate=options.link), tap=self._meter.tap))
        self._stack = stack
        self._writer = self._member("writer", rate=options.rate, rotate=options.rotate)
        self._gateway = self._member("gateway", port=port)
        self._controller = self._backup("backup", once=False)
        self._members = [self._writer, self._gateway, self._controller]
        self._mirror = Mirror(self._places["mirror"], Truth(self._places["reference"]))
        self._watch = Watch(self._mirror, self._found.put)

    def _member(self, role: str, name: str | None = None, **options: Any) -> Member:
        places = {name: str(place) for name, place in self._places.items()}
        seeded = {"seed": self._options.seed, **places, **options}
        member = Member(name or role, role, seeded, self._places["logs"], self._hear, module=WORKER)
        self._stack.callback(member.kill)
        return member

    def _backup(self, name: str, *, once: bool) -> Member:
        options = self._options
        return self._member(
            "backup",
            name,
            port=self._proxy.port,
            follow=options.follow and not once,
            once=once,
            compress=options.compress,
            mirror_deletes=options.mirror_deletes,
            backup=options.backup,
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def note(self) -> None:
        """Tell how long it took, and what was counted, if that was not told before."""
        self._report.seconds = self._elapsed()
        self._report.looks = self._mirror.looks
        if not self._report.amounts.total:
            self._note_amounts()

    def _note_amounts(self) -> None:
        amounts, meter = self._report.amounts, self._meter
        amounts.total, amounts.carried, amounts.rows = meter.total, meter.data, meter.rows
        compressed = sum(path.stat().st_size for path in self._places["source"].rglob("*.gz"))
        amounts.needed = meter.new_lines + compressed

    def go_on(self) -> None:
        """Everything until the last trouble has come and time is up."""
        for member in self._members:
            member.start()
            if not member.ready.wait(_START_SECONDS):
                self._find(f"{member.name} is not ready after {_START_SECONDS:g} s")
        self._watch.start()
        self._stack.callback(self._watch.stop)
        # How long it takes until they are there is no part of the time.
        self._began = time.monotonic()
        waiting = list(reversed(self._troubles))
        while (now := self._elapsed()) < self._options.seconds or waiting:
            while waiting and waiting[-1].at <= now:
                self._cause(waiting.pop())
            self._tick()
            time.sleep(_TICK)

    def _tick(self) -> None:
        self._take_in()
        self._see_ends()
        if self._absent_until is not None and time.monotonic() > self._absent_until:
            self._absent_until = None
            self._controller.start()
        for member in self._members:
            self._check(member)
        report, meter = self._report, self._meter
        kills = sum(report.troubles.values()) - report.troubles[Ill.FLIP]
        self._options.say(
            f"{self._elapsed():6.0f} s  {kills} kills  {report.backups} backups, {report.failed} failed  "
            f"{meter.data / 1e6:,.0f} MB carried"
        )

    # What is heard

    def _hear(self, member: Member, message: dict[str, Any]) -> None:
        self._heard.put((member, message))

    def _take_in(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._find(self._found.get_nowait())
        with contextlib.suppress(queue.Empty):
            while True:
                self._understand(*self._heard.get_nowait())

    def _understand(self, member: Member, message: dict[str, Any]) -> None:
        report = self._report
        if "done" in message:
            report.backups += 1
            if not self._options.follow:
                report.slowest = max(report.slowest, message["seconds"])
            if member is not self._controller:
                for path, reason in message["done"].get("skipped", ()):
                    self._find(f"the {member.name} skipped {path}: {reason}")
        if "written" in message:
            report.written = LINE * sum(message["written"].values())
            report.rotations.update(message["rotations"])
        if "failure" in message:
            failure = Failure.from_json(message["failure"])
            if explained(failure, self._felt):
                report.failed += 1
            else:
                self._find(f"{member.name}: {failure.kind}: {failure.text}")

    def _find(self, what: str) -> None:
        finding = f"after {self._elapsed():.1f} s: {what}"
        if self._report.find(finding):
            self._options.find(finding)

    def _check(self, member: Member) -> None:
        """Start again who has ended, though nobody wanted that."""
        if member.ended is not None:
            self._find(f"{member.name} has ended by itself, with exit code {member.ended}")
            self._bury(member)
            member.start()

    def _bury(self, member: Member) -> None:
        member.kill()
        if complaints := member.complaints():
            self._find(f"{member.name} printed:\n{complaints}")

    def _see_out(self, member: Member, seconds: float) -> None:
        """Let a member end by itself."""
        member.ask_to_end()
        code = member.wait(seconds)
        if code is None:
            self._find(f"{member.name} was asked to end, and has not ended within {seconds:.0f} s")
        elif code:
            self._find(f"{member.name} was asked to end, and ended with exit code {code}")
        self._bury(member)

    # Troubles

    def _cause(self, trouble: Trouble) -> None:
        self._take_in()
        self._report.troubles[trouble.ill] += 1
        self._felt.append(trouble)
        trouble.began = time.monotonic()
        # One of the kind that is not over yet makes room for this one.
        if (earlier := self._awaited.get(trouble.ill)) is not None:
            earlier.ended = trouble.began
        self._awaited[trouble.ill] = trouble
        if trouble.ill is Ill.FLIP:
            self._flip_on_wire()
        elif trouble.ill is Ill.CUT:
            self._proxy.cut(reset=self._chance.random() < 0.5)
        elif trouble.ill is Ill.KILL_GATEWAY:
            self._bury(self._gateway)
            self._gateway.start()
        else:
            self._kill_controller(trouble)

    def _see_ends(self) -> None:
        """Note which troubles are over: a flip that has happened, a gateway that listens again, all others at once."""
        lasting = {Ill.FLIP: not self._proxy.happened, Ill.KILL_GATEWAY: not self._gateway.ready.is_set()}
        for ill, trouble in list(self._awaited.items()):
            if not lasting.get(ill, False):
                trouble.ended = time.monotonic()
                del self._awaited[ill]

    def _kill_controller(self, trouble: Trouble) -> None:
        if self._absent_until is None:
            self._bury(self._controller)
            self._damage()
        if trouble.ill is Ill.ABSENCE:
            self._absent_until = time.monotonic() + _ABSENT_ROTATIONS * self._options.rotate
        elif self._absent_until is None:
            self._controller.start()

    def _damage(self) -> None:
        """Flip a bit in a partial file, while nobody writes it."""
        if self._report.damaged < self._options.damage:
            partials = sorted(partial_files(self._places["mirror"]))
            if partials and flip_bit(self._chance.choice(partials), self._chance) is not None:
                self._report.damaged += 1

    def _flip_on_wire(self) -> None:
        direction = self._chance.choice([UP, DOWN, DOWN])
        at = self._chance.randrange(_FURTHEST[direction])
        self._proxy.inject(Fault(Kind.FLIP, direction, at, bit=self._chance.randrange(8)))

    # The end

    def end(self) -> None:
        """The writer ends, then the backups; one more, or two, and everything is checked."""
        self._proxy.inject(None)
        self._see_out(self._writer, _STOP_SECONDS)
        if self._absent_until is None:
            self._see_out(self._controller, HANGING + _STOP_SECONDS)
        verdict = Verdict(self._options, self._report, self._places, self._find)
        self._back_up_once("last backup")
        carried = self._meter.data
        self._back_up_once("backup of what has not changed")
        verdict.unchanged(self._meter.data - carried)
        self._watch.stop()
        self._take_in()
        verdict.mirror()
        self._note_amounts()
        verdict.amounts()
        verdict.verify()
        if self._options.damage:
            verdict.repair(lambda: self._meter.data)
        self._see_out(self._gateway, _STOP_SECONDS)
        self._take_in()

    def _back_up_once(self, name: str) -> None:
        member = self._backup(name, once=True)
        member.start()
        code = member.wait(HANGING + _STOP_SECONDS)
        member.kill()
        self._take_in()
        if code != 0:
            self._find(f"the {name} ended with exit code {code}\n{member.complaints()}")


def _free_port() -> int:
    """One of those that no outgoing connection is given, so that nobody takes it while the gateway is away.

    No seed decides it: two runs with the same one would take it from each other.
    """
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port

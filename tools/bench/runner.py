"""Rounds: in each, every contestant has its turn once, in shuffled order."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.bench.contract import Contestant, Role, Task, Workload
from tools.bench.network import LOOPBACK, Network
from tools.bench.process import Pair, WorkerFailed
from tools.link import LinkUnavailable

__all__ = ["Options", "Outcome", "disk_folder", "memory_folder", "run"]


@dataclass(frozen=True)
class Options:
    """How long, how often and how much, and whether ``peers`` take part. ``say`` is told what happens."""

    seconds: float = 1.0
    rounds: int = 7
    quick: bool = False
    large: bool = False
    peers: bool = True
    folder: Path | None = None
    seed: int | None = None
    say: Callable[[str], None] = lambda _text: None


@dataclass
class Outcome:
    """What came out for one workload: for each contestant, for each metric, a number by round; who failed
    how; and who could not take part, with the commands that would change that. ``unavailable`` says why nobody could.
    """

    workload: Workload[Any]
    rounds: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    peers: bool = True
    unavailable: str = ""

    @property
    def contestants(self) -> tuple[Contestant, ...]:
        """Who was asked to take part."""
        return self.workload.asked(self.peers)

    def limit(self) -> dict[str, dict[int, float]]:
        """The figures of the contestant that all are compared to, for each metric; empty where there is none."""
        names = (each.name for each in self.workload.contestants if each.role is Role.LIMIT)
        return self.rounds.get(next(names, ""), {})


def memory_folder() -> Path:
    """A memory-backed folder where there is one, else the system's place for temporary files."""
    shared = Path("/dev/shm")  # noqa: S108  a folder of its own is made in it
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def disk_folder() -> Path:
    """The place for temporary files that outlive a restart, hence on a disk, where there is one."""
    lasting = Path("/var/tmp")  # noqa: S108  a folder of its own is made in it
    return lasting if lasting.is_dir() and os.access(lasting, os.W_OK) else Path(tempfile.gettempdir())


def run(workload: Workload[Any], options: Options) -> Outcome:
    """Measure one workload. Who fails is left out of the further rounds and named in the outcome."""
    outcome = Outcome(workload, peers=options.peers)
    with ExitStack() as stack:
        try:
            network = stack.enter_context(workload.link.opened()) if workload.link else LOOPBACK
        except LinkUnavailable as error:
            outcome.unavailable = str(error)
            return outcome
        folder = stack.enter_context(_folder(options.folder or (disk_folder if workload.on_disk else memory_folder)()))
        workload.prepare(Task(folder, folder, options.seconds, options.quick, options.large))
        turns: dict[str, Callable[[], dict[str, float]]] = {}
        for contestant in outcome.contestants:
            if missing := contestant.missing():
                outcome.missing[contestant.name] = missing
                continue
            try:
                turns[contestant.name] = _turn(workload, contestant, folder, options, network, stack)
            except WorkerFailed as error:
                outcome.failures[contestant.name] = str(error)
        chance = random.Random(options.seed)
        for number in range(options.rounds):
            options.say(f"{workload.name}: round {number + 1} of {options.rounds}")
            for name in chance.sample(sorted(turns), len(turns)):
                _take(outcome, name, number, turns)
    return outcome


def _take(outcome: Outcome, name: str, number: int, turns: dict[str, Callable[[], dict[str, float]]]) -> None:
    try:
        figures = turns[name]()
    except WorkerFailed as error:
        outcome.failures[name] = str(error)
        del turns[name]
        return
    for key, figure in figures.items():
        outcome.rounds.setdefault(name, {}).setdefault(key, {})[number] = figure


def _turn(
    workload: Workload[Any],
    contestant: Contestant,
    folder: Path,
    options: Options,
    network: Network,
    stack: ExitStack,
) -> Callable[[], dict[str, float]]:
    """What a contestant does in each round."""
    scratch = folder / f"of {contestant.name}".replace("/", "-")
    scratch.mkdir()
    task = Task(folder, scratch, options.seconds, options.quick, options.large)
    patience = options.seconds + workload.patience

    if not workload.fresh:
        lasting = stack.enter_context(Pair(workload, contestant, task, network))
        return lambda: lasting.measure(patience)

    def once() -> dict[str, float]:
        with Pair(workload, contestant, task, network) as pair:
            return pair.measure(patience)

    return once


@contextmanager
def _folder(place: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pynetwork-bench-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

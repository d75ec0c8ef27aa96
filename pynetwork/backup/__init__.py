"""Backups of a gateway's shared folders: incremental, resumable, verified, and right with logs that grow and rotate.

`backup` mirrors a share into a folder. What is here already is never moved again: unchanged files cost a row of a
survey, grown ones their tail, changed ones the chunks that differ, renamed ones nothing. `verify` reads a mirror again,
`repair` mends it, `prune` removes from the device what is surely here, and `restore` brings a mirror to a gateway.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from handshakes.errors import ConfigurationError, ConnectionLost, DeadlineExceeded, PoolFull
from handshakes.survey import Facts
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.destination import existing_destination, with_destination
from pynetwork.backup.finishing import SHARE, finish
from pynetwork.backup.job import MOST_LANES, BackupJob, BackupReport
from pynetwork.backup.lock import DestinationBusy, DestinationLock
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.plan import Options
from pynetwork.backup.pruning import PruneReport, prune
from pynetwork.backup.records import RunRecord
from pynetwork.backup.restoring import RestoreOptions, RestoreReport, restore
from pynetwork.backup.schema import CatalogueDamaged, CatalogueTooNew
from pynetwork.backup.verifying import BadFile, VerifyReport, verify
from pynetwork.lanes import Lanes
from pynetwork.transport import backoff

if TYPE_CHECKING:
    from pynetwork.client import Client
    from pynetwork.files.progress import Progress

__all__ = [
    "BackupReport",
    "BadFile",
    "CatalogueDamaged",
    "CatalogueTooNew",
    "DestinationBusy",
    "Options",
    "PruneReport",
    "RestoreOptions",
    "RestoreReport",
    "RunRecord",
    "VerifyReport",
    "backup",
    "choose",
    "prune_share",
    "repair",
    "restore",
    "runs",
    "verify_destination",
]

_FIRST_LANES = 2
_LONGEST_PAUSE = 5.0


def backup(
    dial: Callable[[], Client],
    gateway: str,
    share: str,
    to: str | os.PathLike[str],
    options: Options,
    *,
    lanes: int | None = None,
    stop: threading.Event | None = None,
    progress: bool | Progress | None = None,
) -> BackupReport:
    """Mirror the shared folder ``share`` into the folder ``to``; see `pynetwork.Controller.backup`.

    ``dial`` makes a new client, ``gateway`` is what the catalogue calls the other side.
    """
    if lanes is not None and lanes < 1:
        raise ConfigurationError(f"a backup over {lanes} lanes can't do anything; it needs at least 1")
    if options.limit is not None and options.limit <= 0:
        raise ConfigurationError(f"a limit of {options.limit} bytes a second lets nothing through")
    with DestinationLock(to, "backup"):

        def work(mirror: Mirror, catalogue: Catalogue) -> BackupReport:
            run = partial(_back_up, dial, gateway, share, mirror, catalogue, options, lanes, stop, progress)
            return _follow(run, stop or threading.Event()) if options.follow else run()

        return with_destination(to, work)


def _follow(run: Callable[[], BackupReport], stop: threading.Event) -> BackupReport:
    """Go on when the gateway comes back, however long it was away."""
    pauses = backoff(most=_LONGEST_PAUSE)
    connected = False
    while True:
        try:
            return run()
        except (ConnectionLost, DeadlineExceeded, PoolFull) as error:
            if isinstance(error, _NeverConnected) and not connected:
                raise error.__cause__ or error from None
            if not isinstance(error, _NeverConnected):
                connected = True
                pauses = backoff(most=_LONGEST_PAUSE)
            if stop.wait(next(pauses)):
                return BackupReport()


class _NeverConnected(ConnectionLost):
    """The gateway could not be reached in the first place."""


def _back_up(
    dial: Callable[[], Client],
    gateway: str,
    share: str,
    mirror: Mirror,
    catalogue: Catalogue,
    options: Options,
    lanes: int | None,
    stop: threading.Event | None,
    progress: bool | Progress | None,
) -> BackupReport:
    _check_share(catalogue, share, mirror)
    try:
        used = _dial_lanes(dial, lanes)
    except (ConnectionLost, DeadlineExceeded, PoolFull) as error:
        if options.follow:
            raise _NeverConnected(str(error)) from error
        raise
    first = used.take_one()
    try:
        catalogue.begin_run(gateway, share)
        job = BackupJob(share, mirror, catalogue, options, lanes=lanes or MOST_LANES, progress=progress)
        spare = [first]

        def surveyor() -> Client:
            return spare.pop() if spare else dial()

        with _stopped_by(stop, job):
            try:
                report = job.back_up(used, surveyor, grow=lanes is None and not options.follow)
                return finish(job, report)
            except BaseException as error:
                outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
                with contextlib.suppress(sqlite3.Error):
                    catalogue.end_run(outcome, {})
                raise
    finally:
        first.close()
        used.close()


def _check_share(catalogue: Catalogue, share: str, mirror: Mirror) -> None:
    """Raise `ConfigurationError` for a destination of another share: each would take the other's files for gone."""
    before = catalogue.noted(SHARE)
    if before is not None and before != share:
        raise ConfigurationError(
            f"{str(mirror.root)!r} is a mirror of the shared folder {before!r}; {share!r} needs a folder of its own"
        )


def _dial_lanes(dial: Callable[[], Client], lanes: int | None) -> Lanes:
    """So many lanes, by itself as many as there is room for, and one more, for the survey."""
    if lanes is not None:
        return Lanes(dial, lanes + 1)
    try:
        return Lanes(dial, _FIRST_LANES + 1)
    except PoolFull:
        return Lanes(dial, 2)


class _stopped_by:  # noqa: N801 - it is used as a statement
    """Within this, ``stop`` ends the job."""

    def __init__(self, stop: threading.Event | None, job: BackupJob) -> None:
        self._stop = stop
        self._job = job
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    def _watch(self) -> None:
        while self._stop is not None and not self._ended.is_set():
            if self._stop.wait(0.1):
                self._job.stop()
                return

    def __enter__(self) -> None:
        if self._stop is not None:
            self._thread.start()

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        if self._stop is not None:
            self._thread.join()


def choose(
    pattern: str | None = None,
    glob: str | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    changed_within: float | None = None,
    changed_before: float | None = None,
    clock: Callable[[], float] = time.time,
) -> Callable[[str, Facts], bool] | None:
    """What tells which files a backup is about; None for all. Raises `ConfigurationError`."""
    if pattern is None and glob is None and min_size is max_size is changed_within is changed_before is None:
        return None
    matchers = []
    for text, source in ((pattern, pattern), (glob, None if glob is None else fnmatch.translate(glob))):
        if source is not None:
            try:
                matchers.append(re.compile(source).fullmatch)
            except re.error as error:
                raise ConfigurationError(f"{text!r} is no regular expression: {error}") from error
    now = clock()
    newest = None if changed_before is None else int((now - changed_before) * 1e9)
    oldest = None if changed_within is None else int((now - changed_within) * 1e9)

    def chosen(path: str, facts: Facts) -> bool:
        return (
            all(matches(path) for matches in matchers)
            and (min_size is None or facts.size >= min_size)
            and (max_size is None or facts.size <= max_size)
            and (newest is None or facts.mtime_ns <= newest)
            and (oldest is None or facts.mtime_ns >= oldest)
        )

    return chosen


def prune_share(
    dial: Callable[[], Client],
    share: str,
    to: str | os.PathLike[str],
    *,
    older_than: float,
    dry_run: bool | None = None,
    chosen: Callable[[str, Facts], bool] | None = None,
) -> PruneReport:
    """Remove from the gateway what is surely in the destination ``to``; see `pynetwork.backup.pruning.prune`."""
    with DestinationLock(to, "prune"), existing_destination(to) as (mirror, catalogue), dial() as client:
        return prune(client, share, mirror, catalogue, older_than=older_than, dry_run=dry_run, chosen=chosen)


def verify_destination(
    to: str | os.PathLike[str], *, progress: Callable[[int, int, int, int], object] | None = None
) -> VerifyReport:
    """Read every file of the destination ``to`` again and compare it with what was backed up, offline.

    Raises `NotFound` where nothing was backed up to, `CatalogueDamaged` where it is not known any more what.
    """
    with existing_destination(to) as (mirror, catalogue):
        return verify(mirror, catalogue, progress=progress)


def runs(to: str | os.PathLike[str]) -> list[RunRecord]:
    """The backups that were made into the destination ``to``, the oldest first. Raises `NotFound`."""
    with existing_destination(to) as (_, catalogue):
        return catalogue.runs()


def repair(
    dial: Callable[[], Client],
    gateway: str,
    share: str,
    to: str | os.PathLike[str],
    bad: list[BadFile],
    options: Options,
    *,
    lanes: int | None = None,
    progress: bool | Progress | None = None,
) -> BackupReport:
    """Bring again what is wrong with these files of the destination ``to``, by chunk; as they are at the source now."""
    with DestinationLock(to, "repair"), existing_destination(to) as (mirror, catalogue):
        catalogue.distrust([(each.folder, each.name) for each in bad])
        paths = {each.path for each in bad}
        only = replace(options, chosen=lambda path, _facts: path in paths, mirror_deletes=False, follow=False)
        return _back_up(dial, gateway, share, mirror, catalogue, only, lanes, None, progress)

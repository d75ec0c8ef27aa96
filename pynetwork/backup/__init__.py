"""Backups of a gateway's shared folders: incremental, resumable, verified, and right with logs that grow and rotate.

`backup` mirrors a share into a folder. What is here already is never moved again: unchanged files cost a row of a
survey, grown ones their tail, changed ones the chunks that differ, renamed ones nothing.
"""

from __future__ import annotations

import fnmatch
import os
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from handshakes.errors import ConfigurationError
from handshakes.survey import Facts
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.finishing import finish
from pynetwork.backup.job import BackupJob, BackupReport
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.plan import Options
from pynetwork.lanes import Lanes

if TYPE_CHECKING:
    from pynetwork.client import Client
    from pynetwork.files.jobs import Progress

__all__ = ["BackupReport", "backup"]

_FIRST_LANES = 2


def backup(
    dial: Callable[[], Client],
    gateway: str,
    share: str,
    to: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    glob: str | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    newer_than: float | None = None,
    older_than: float | None = None,
    checksum: bool = False,
    lanes: int | None = None,
    limit: float | None = None,
    low_priority: bool = True,
    compress: bool | None = None,
    mirror_deletes: bool = False,
    owner: bool = False,
    durable: bool = True,
    follow: bool = False,
    stop: threading.Event | None = None,
    progress: bool | Progress | None = None,
) -> BackupReport:
    """Mirror the shared folder ``share`` into the folder ``to``; see `pynetwork.Controller.backup`.

    ``dial`` makes a new client, ``gateway`` is what the catalogue calls the other side.
    """
    chosen = chooser(pattern, glob, min_size, max_size, newer_than, older_than)
    options = Options(
        checksum=checksum,
        owner=owner,
        mirror_deletes=mirror_deletes,
        durable=durable,
        compress=compress,
        low_priority=low_priority,
        limit=limit,
        follow=follow,
        chosen=chosen,
    )
    mirror = Mirror(to)
    with Catalogue(mirror.catalogue_path) as catalogue:
        used = Lanes(dial, lanes or _FIRST_LANES)
        try:
            catalogue.begin_run(gateway, share)
            job = BackupJob(share, mirror, catalogue, options, lanes=used.count, progress=progress)
            ended = threading.Event()
            watcher = None
            if stop is not None:
                watcher = threading.Thread(target=_stop_when, args=(stop, ended, job), name="stop", daemon=True)
                watcher.start()
            try:
                report = job.back_up(used, dial)
                return finish(job, report)
            except BaseException as error:
                catalogue.end_run(str(error) or type(error).__name__, {})
                raise
            finally:
                ended.set()
                if watcher is not None:
                    watcher.join()
        finally:
            used.close()


def _stop_when(stop: threading.Event, ended: threading.Event, job: BackupJob) -> None:
    while not ended.is_set():
        if stop.wait(0.1):
            job.stop()
            return


def chooser(
    pattern: str | None,
    glob: str | None,
    min_size: int | None,
    max_size: int | None,
    newer_than: float | None,
    older_than: float | None,
    clock: Callable[[], float] = time.time,
) -> Callable[[str, Facts], bool] | None:
    """What tells which files a backup is about; None for all. Raises `ConfigurationError`."""
    if pattern is None and glob is None and min_size is max_size is newer_than is older_than is None:
        return None
    matchers = []
    for text, source in ((pattern, pattern), (glob, None if glob is None else fnmatch.translate(glob))):
        if source is not None:
            try:
                matchers.append(re.compile(source).fullmatch)
            except re.error as error:
                raise ConfigurationError(f"{text!r} is no regular expression: {error}") from error
    now = clock()
    newest = None if older_than is None else int((now - older_than) * 1e9)
    oldest = None if newer_than is None else int((now - newer_than) * 1e9)

    def chosen(path: str, facts: Facts) -> bool:
        return (
            all(matches(path) for matches in matchers)
            and (min_size is None or facts.size >= min_size)
            and (max_size is None or facts.size <= max_size)
            and (newest is None or facts.mtime_ns <= newest)
            and (oldest is None or facts.mtime_ns >= oldest)
        )

    return chosen

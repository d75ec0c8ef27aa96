"""The end of a backup: folders get their modes and times, what is over is cleared away, and all goes to the disk."""

from __future__ import annotations

import contextlib
import os
import time

from handshakes.errors import UnsafePath
from handshakes.paths import partial_name
from handshakes.survey import Facts
from pynetwork.backup.job import BackupJob, BackupReport
from pynetwork.files.folders import Folder

__all__ = ["finish"]


def finish(job: BackupJob, report: BackupReport) -> BackupReport:
    """Complete a run whose lanes have ended. Raises `OSError` when the disk can't take it."""
    catalogue, mirror = job.catalogue, job.mirror
    catalogue.commit()
    with mirror.open() as folder:
        if job.options.mirror_deletes and job.surveyed:
            report.deleted = _delete_gone(job, folder)
        _clear_partials(job, folder, report)
        _dress_folders(job, folder)
        if job.holdings:
            mirror.forget_held(folder)
            job.holdings.forget()
    if job.options.durable:
        mirror.flush()
        catalogue.flushed()
    figures = {name: value for name, value in report.to_dict().items() if name not in {"skipped", "run"}}
    figures["skipped"] = len(report.skipped)
    catalogue.end_run("complete" if report.complete else f"{len(report.skipped)} skipped", figures)
    return report


def _delete_gone(job: BackupJob, folder: Folder) -> int:
    """Remove what is not at the source any more; answers how many files that were."""
    deleted = 0
    for path, number, record in list(job.catalogue.gone_files()):
        try:
            components = folder.split(job.mirror.place_of(path, record))
            folder.directory(components[:-1]).remove(components[-1])
        except FileNotFoundError:
            pass
        except (OSError, UnsafePath):
            continue
        job.catalogue.forget_file(number, record.name)
        deleted += 1
    for known in reversed(list(job.catalogue.folders())):
        if known.gone is not None and known.path:
            with contextlib.suppress(OSError, UnsafePath):
                os.rmdir(mirror_path(job, known.path))
                job.catalogue.forget_folder(known.id)
    folder.forget()
    return deleted


def mirror_path(job: BackupJob, path: bytes) -> str:
    """Where a folder of the source stands on this machine."""
    return os.path.join(job.mirror.root, job.mirror.place_of_folder(path))


def _clear_partials(job: BackupJob, folder: Folder, report: BackupReport) -> None:
    """Remove partial files for which no run will come back: what they were for is complete or not there any more."""
    failed = {skipped.path for skipped in report.skipped}
    for place in job.catalogue.unfinished():
        if place in failed:
            continue
        with contextlib.suppress(OSError, UnsafePath):
            components = folder.split(place)
            folder.directory(components[:-1]).remove(partial_name(components[-1]))
        job.catalogue.end_file(place)


def _dress_folders(job: BackupJob, folder: Folder) -> None:
    """Give the folders that were written to, or are new, their modes and times; the deepest first."""
    touched = job.touched
    known = [each for each in job.catalogue.folders() if each.id in touched and each.gone is None]
    for each in sorted(known, key=lambda record: -record.path.count(b"/")):
        facts = Facts.decode(each.facts)
        with contextlib.suppress(OSError, UnsafePath):
            place = job.mirror.place_of_folder(each.path)
            components = folder.split(place) if place else ()
            folder.directory(components).dress(facts.mode if place else None, (time.time_ns(), facts.mtime_ns))

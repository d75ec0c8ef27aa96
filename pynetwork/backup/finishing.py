"""The end of a backup: folders get their modes and times, what is over is cleared away, and all goes to the disk."""

from __future__ import annotations

import contextlib
import time

from handshakes.errors import UnsafePath
from handshakes.paths import partial_name
from handshakes.survey import Facts
from pynetwork.backup.deleting import delete_gone
from pynetwork.backup.job import BackupJob, BackupReport
from pynetwork.files.folders import Folder

__all__ = ["SHARE", "finish"]

SHARE = "share"
"""Under this word the catalogue keeps of which shared folder a destination is the mirror."""


def finish(job: BackupJob, report: BackupReport) -> BackupReport:
    """Complete a run whose lanes have ended. Raises `OSError` when the disk can't take it."""
    catalogue, mirror = job.catalogue, job.mirror
    catalogue.commit()
    with mirror.open() as folder:
        if job.options.mirror_deletes and job.surveyed:
            deleted = delete_gone(mirror, catalogue, folder, chosen=job.options.chosen)
            report.deleted += deleted.files
            job.touched.update(deleted.folders)
        if job.surveyed:
            _clear_partials(job, folder)
        _dress_folders(job, folder)
        if job.surveyed:
            job.holdings.forget(folder)
            if not job.holdings:
                # With what a catalogue held that is lost.
                mirror.forget_held(folder, ())
    if job.surveyed:
        catalogue.note(SHARE, job.share)
    if job.options.durable:
        mirror.flush()
        catalogue.flushed()
    figures = {name: value for name, value in report.to_dict().items() if name not in {"skipped", "escaped", "run"}}
    figures["skipped"], figures["escaped"] = len(report.skipped), len(report.escaped)
    catalogue.end_run(_outcome(job, report), figures)
    return report


def _outcome(job: BackupJob, report: BackupReport) -> str:
    if not job.surveyed:
        return "stopped"
    return "complete" if report.complete else f"{len(report.skipped)} skipped"


def _clear_partials(job: BackupJob, folder: Folder) -> None:
    """Remove partial files for which no run will come back: what they were for is complete or not there any more."""
    for each in job.catalogue.unfinished():
        # Of what was not chosen this time nothing is known.
        if each.place in job.refused_places or (job.options.chosen is not None and each.run != job.catalogue.run):
            continue
        with contextlib.suppress(OSError, UnsafePath):
            components = folder.split(each.place)
            folder.directory(components[:-1]).remove(partial_name(components[-1]))
        job.catalogue.end_file(each.place)


def _dress_folders(job: BackupJob, folder: Folder) -> None:
    """Give the folders that were written to, or do not look as at the source, their modes, times and owners.

    The deepest come first.
    """
    touched = job.touched
    known = [each for each in job.catalogue.folders() if each.id in touched and each.gone is None]
    for each in sorted(known, key=lambda record: -record.path.count(b"/")):
        facts = Facts.decode(each.facts)
        with contextlib.suppress(OSError, UnsafePath):
            place = job.mirror.place_of_folder(each.path)
            components = folder.split(place) if place else ()
            if place and job.owners is not None:
                job.owners.give(folder.directory(components[:-1]), components[-1], facts)
            folder.directory(components).dress(facts.mode if place else None, (time.time_ns(), facts.mtime_ns))

"""Removing from the device what is surely here: the digest is proved on both sides immediately before each removal.

Before the first one all that is here is brought to the disk, and so is the note that these files are here alone from
now on (see `pynetwork.backup.deleting`). Should a machine stop in the middle, the next backup finds which still are
there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from handshakes.deltas import RemoveHead
from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import Entry, Skipped
from handshakes.paths import from_bytes
from handshakes.survey import Facts
from handshakes.transfer import Code, Status, decode_receipt
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.finding import identity_of
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.records import FileRecord, State
from pynetwork.backup.verifying import digest_of
from pynetwork.client import CallerOperation, Client
from pynetwork.files.conversation import await_end, next_answer
from pynetwork.files.folders import Folder, reason_for

__all__ = ["PruneReport", "prune"]

_SHOWN: Final = "pruning was shown"


@dataclass
class PruneReport:
    """``removed`` paths of ``bytes`` altogether, with ``dry_run`` those that would be; ``kept`` ones, with reasons."""

    dry_run: bool
    removed: list[str] = field(default_factory=list)
    bytes: int = 0
    kept: list[Skipped] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "dry_run": self.dry_run,
            "removed": [path.encode("utf-8", "replace").decode() for path in self.removed],
            "bytes": self.bytes,
            "kept": [{"path": path.encode("utf-8", "replace").decode(), "reason": why} for path, why in self.kept],
        }


def prune(
    client: Client,
    share: str,
    mirror: Mirror,
    catalogue: Catalogue,
    *,
    older_than: float,
    dry_run: bool | None = None,
    chosen: Callable[[str, Facts], bool] | None = None,
    clock: Callable[[], float] = time.time,
) -> PruneReport:
    """Remove the files of ``share`` that were changed last more than ``older_than`` seconds ago and are backed up.

    ``dry_run``: None only shows it the first time for a destination, and removes from then on. Raises `Forbidden`
    unless the gateway grants the right ``remove``.
    """
    if dry_run is None:
        dry_run = catalogue.noted(_SHOWN) is None
    report = PruneReport(dry_run)
    limit = int((clock() - older_than) * 1e9)
    candidates = [
        (path, folder, record, entry)
        for path, folder, record in catalogue.all_files()
        if (entry := _candidate(path, record, limit, chosen)) is not None
    ]
    with mirror.open() as folder, client.open("files.remove", share) as operation:
        if not dry_run:
            catalogue.set_pruned([(number, record.name) for _, number, record, _ in candidates])
            mirror.flush()
            catalogue.flushed()
        for path, number, record, entry in candidates:
            reason = _prune_one(operation, folder, mirror, path, entry, record, dry_run=dry_run)
            if not reason:
                report.removed.append(entry.path)
                report.bytes += entry.size
                continue
            report.kept.append(Skipped(entry.path, reason))
            if not dry_run:
                catalogue.set_pruned([(number, record.name)], pruned=False)
        operation.send(Code.FINISH)
        await_end(operation)
    catalogue.note(_SHOWN, "yes")
    return report


def _candidate(
    folder_path: bytes, record: FileRecord, limit: int, chosen: Callable[[str, Facts], bool] | None
) -> Entry | None:
    """The file as it is at the source, if it is old enough, surely backed up and there."""
    if record.gone is not None or record.digest is None or record.state != State.SETTLED:
        return None
    facts = Facts.decode(record.facts)
    name = from_bytes(record.name)
    path = f"{from_bytes(folder_path)}/{name}" if folder_path else name
    if facts.mtime_ns > limit or (chosen is not None and not chosen(path, facts)):
        return None
    return Entry(path, facts.size, facts.mtime_ns, facts.mode, identity_of(record.device, facts.inode))


def _prune_one(
    operation: CallerOperation,
    folder: Folder,
    mirror: Mirror,
    folder_path: bytes,
    entry: Entry,
    record: FileRecord,
    *,
    dry_run: bool,
) -> str:
    """Remove one file from the device; why not, if it stays."""
    try:
        found = digest_of(folder, mirror.place_of(folder_path, record), record.size)
    except (OSError, UnsafePath) as error:
        return f"here: {reason_for(error)}"
    if found != record.digest:
        return "its copy here is not what was backed up; verify --repair mends it"
    if dry_run:
        return ""
    operation.send(Code.REMOVE, RemoveHead(entry, found).encode())
    message = next_answer(operation)
    if message is None or message.code != Code.RECEIPT:
        raise RemoteProtocolError("the gateway does not say whether it has removed a file")
    (receipt,) = decode_receipt(message.body, 1)
    return "" if receipt.status is Status.OK else receipt.reason or "the gateway does not say why"

"""What an upload needs beside the data of files: folders with their modes and times, symbolic links, modes of files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import Entry
from handshakes.messages import Bytes
from handshakes.paths import from_bytes, is_partial
from handshakes.survey import Facts, FileRow, FolderRow, LinkRow, read_rows
from handshakes.transfer import Receipt, Status
from pynetwork.files.directories import Directory
from pynetwork.files.folders import Folder, reason_for
from pynetwork.files.standing import StandingFile

__all__ = ["LEADS_OUT", "arrange", "leads_within"]

_MOST_ROWS = 1024
_FINE = Receipt(Status.OK)
LEADS_OUT = "symbolic link that leads out of the folder"
"""Why a link is not made."""
_KEPT = "such names are kept for partial files"

_Group = tuple[FolderRow, list[FileRow | LinkRow]]


def arrange(folder: Folder, prefix: str, body: Bytes) -> list[Receipt]:
    """Do what the rows say, below ``prefix`` (empty, or a path with a slash behind it); answers a receipt for each.

    A FOLDER is made if need be and gets its mode and time once the rows that follow it are done; the folder at
    ``prefix`` gets its time only, ``folder`` itself nothing. A LINK is made, in place of a file of that name. A FILE
    gets its mode if it has the size and time that the row says.
    Raises `RemoteProtocolError` for other rows, and for more of them than anybody needs at once.
    """
    receipts: list[Receipt] = []
    for row, within in _groups(body):
        receipts += _arrange_folder(folder, prefix, row, within)
    return receipts


def _groups(body: Bytes) -> Iterator[_Group]:
    """Each folder with the rows that follow it."""
    group: _Group | None = None
    for number, row in enumerate(read_rows(body)):
        if number >= _MOST_ROWS:
            raise RemoteProtocolError(f"more than {_MOST_ROWS} rows came at once")
        if isinstance(row, FolderRow):
            if group is not None:
                yield group
            group = row, []
        elif group is not None and isinstance(row, (FileRow, LinkRow)):
            group[1].append(row)
        else:
            raise RemoteProtocolError(f"a {type(row).__name__} is nothing that can be arranged here")
    if group is not None:
        yield group


def _arrange_folder(folder: Folder, prefix: str, row: FolderRow, within: list[FileRow | LinkRow]) -> list[Receipt]:
    path = from_bytes(row.path)
    where = (prefix + path).rstrip("/")
    try:
        directory = folder.directory(folder.split(where) if where else (), create=True).again()
    except (OSError, UnsafePath) as error:
        return [Receipt(Status.FAILED, reason_for(error))] * (1 + len(within))
    try:
        receipts = [_arrange_one(folder, directory, path, where, each) for each in within]
        try:
            if where:
                directory.dress(row.facts.mode if path else None, (time.time_ns(), row.facts.mtime_ns))
        except OSError as error:
            return [Receipt(Status.FAILED, reason_for(error)), *receipts]
        return [_FINE, *receipts]
    finally:
        directory.close()


def _arrange_one(folder: Folder, directory: Directory, path: str, where: str, row: FileRow | LinkRow) -> Receipt:
    name = from_bytes(row.name)
    try:
        folder.split(name)
        if is_partial(name):
            return Receipt(Status.FAILED, _KEPT)
        if isinstance(row, FileRow):
            return _set_mode(folder, f"{where}/{name}" if where else name, Facts.decode(row.facts))
        target = from_bytes(row.target)
        if not leads_within(path.count("/") + 1 if path else 0, target):
            return Receipt(Status.FAILED, LEADS_OUT)
        _make_link(directory, name, target)
    except (OSError, UnsafePath) as error:
        return Receipt(Status.FAILED, reason_for(error))
    return _FINE


def _set_mode(folder: Folder, path: str, facts: Facts) -> Receipt:
    with StandingFile(folder, path) as standing:
        if (standing.size, standing.mtime_ns) != (facts.size, facts.mtime_ns):
            return Receipt(Status.CHANGED, "it has changed meanwhile")
        standing.dress(Entry(path, facts.size, facts.mtime_ns, facts.mode))
    return _FINE


def _make_link(directory: Directory, name: str, target: str) -> None:
    """Make the link, in place of what has the name. Raises `OSError`; then that is as it was."""
    made = f".pynetwork-{os.getpid()}-{threading.get_ident()}.partial"
    directory.make_link(made, target)
    try:
        directory.replace(made, name)
    except BaseException:
        directory.remove(made)
        raise


def leads_within(depth: int, target: str) -> bool:
    """Whether a link to ``target``, in a folder ``depth`` below some other, leads to something in that other for sure.

    Wherever it leads there may be links, too: so what goes up has to come first, while it is known what is above.
    """
    parts = [part for part in target.split("/") if part not in {"", "."}]
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return not target.startswith("/") and up <= depth and ".." not in parts[up:]

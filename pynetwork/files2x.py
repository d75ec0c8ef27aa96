"""The file transfers of pynetwork 2.x: folders are named by paths, and one client moves the files by itself."""

from __future__ import annotations

import os
import posixpath
import re
import warnings
from collections.abc import Callable, Iterable, Sequence

from handshakes.errors import ConfigurationError, NotFound, PynetworkError
from handshakes.manifest import Skipped
from pynetwork import files as transfers
from pynetwork.client import Client
from pynetwork.files.folders import NO_FILE
from pynetwork.lanes import OneLane

__all__ = ["get_files", "send_files"]

Chosen = tuple[list[str], list[Skipped]]
"""Paths of files in a share, and what else was found there."""

_MOST_NAMED = 10


def get_files(
    client: Client,
    to: str | os.PathLike[str],
    say: Callable[[str], None],
    regex: str,
    files: Sequence[str],
    folder: str,
) -> None:
    """See `pynetwork.names2x.Client.get_files_from_gateway`."""
    if files:
        wanted = _look_up(client, files)
    elif folder:
        share, within = _locate(folder, _shares(client))
        wanted = {share: _choose(client, share, within, _matcher(regex, folder))}
    else:
        raise ConfigurationError("get_files_from_gateway needs files=, or folder= with or without regex=")
    passed: list[Skipped] = []
    failed: list[Skipped] = []
    for share, (paths, skipped) in wanted.items():
        report = transfers.download(OneLane(client), share, files=paths, to=to, flat=True)
        say(f"brought {report.files} files, {report.bytes} bytes, to {to}")
        passed += [each for each in skipped if each.reason in NO_FILE]
        failed += [each for each in skipped if each.reason not in NO_FILE] + report.skipped
    _conclude(passed, failed)


def send_files(
    client: Client, say: Callable[[str], None], dirname: str, files: Sequence[str | os.PathLike[str]]
) -> None:
    """See `pynetwork.names2x.Client.send_files_to_gateway`."""
    if not files:
        raise ConfigurationError("send_files_to_gateway needs files=, and that is empty")
    present = [path for path in files if os.path.isfile(path) and not os.path.islink(path)]
    passed = [Skipped(os.fspath(path), "no file, or a symbolic link") for path in files if path not in present]
    within = _plain(dirname)
    report = transfers.upload(OneLane(client), present, dirname="" if within == "." else within)
    say(f"sent {report.files} files, {report.bytes} bytes, to {client.peer}")
    _conclude(passed, report.skipped)


def _shares(client: Client) -> list[str]:
    return [str(share) for share in client.request("files.shares")]


def _look_up(client: Client, files: Sequence[str]) -> dict[str, Chosen]:
    """What these paths are, by share."""
    shares = _shares(client)
    asked: dict[str, list[str]] = {}
    for path in files:
        share, within = _locate(path, shares)
        asked.setdefault(share, []).append(within)
    wanted: dict[str, Chosen] = {}
    for share, paths in asked.items():
        pages = transfers.list_share(client, share, paths)
        found = [entry.path for page in pages for entry in page.files]
        wanted[share] = found, [entry for page in pages for entry in page.skipped]
    return wanted


def _choose(client: Client, share: str, within: str, matches: Callable[[str], bool]) -> Chosen:
    """What is in the folder ``within`` of a share and matches by its name."""
    files: list[str] = []
    skipped: list[Skipped] = []
    folders = {""}
    for page in transfers.list_share(client, share):
        folders.update(entry.path for entry in page.folders)
        files += [entry.path for entry in page.files if _is_in(within, entry.path, matches)]
        skipped += [entry for entry in page.skipped if _is_in(within, entry.path, matches) or entry.path == within]
    if within not in folders:
        raise NotFound(f"{within!r} is no folder in the shared folder {share!r}")
    # A folder that can't be read matters only when it is the one that was asked for.
    return files, [entry for entry in skipped if entry.path == within or entry.path not in folders]


def _plain(path: str) -> str:
    """A path of any system with slashes and nothing superfluous, so that it can be compared."""
    return posixpath.normpath(path.replace("\\", "/"))


def _locate(path: str, shares: Iterable[str]) -> tuple[str, str]:
    """The share that holds ``path``, and the path in it. The innermost one, if several do."""
    wanted = _plain(path)
    found: tuple[int, str] | None = None
    for share in shares:
        base = _plain(share).rstrip("/")
        if (wanted == base or wanted.startswith(f"{base}/")) and (found is None or len(base) > found[0]):
            found = len(base), share
    if found is None:
        known = ", ".join(map(repr, shares)) or "none"
        raise NotFound(
            f"{path!r} is in no folder that this gateway shares; it shares: {known}. Share the folder there under its "
            f"own path, Gateway(..., share=[FOLDER]), or use one of these names"
        )
    return found[1], wanted[found[0] + 1 :]


def _matcher(regex: str, folder: str) -> Callable[[str], bool]:
    """Whether a file of this name in ``folder`` is chosen."""
    try:
        matches = re.compile(regex).match
    except re.error as error:
        raise ConfigurationError(f"regex={regex!r} is no regular expression: {error}") from error
    before = folder if folder[-1] in "/\\" else folder + ("\\" if "\\" in folder else "/")
    return lambda name: matches(before + name) is not None or matches(name) is not None


def _is_in(folder: str, path: str, matches: Callable[[str], bool]) -> bool:
    above, _, name = path.rpartition("/")
    return above == folder and matches(name)


def _conclude(passed: list[Skipped], failed: list[Skipped]) -> None:
    """Warn of what 2.x passed over in silence, raise for what it would have failed at."""
    if passed:
        warnings.warn(f"passed over: {_some(passed)}", stacklevel=4)
    if failed:
        raise PynetworkError(f"{len(failed)} files could not be moved: {_some(failed)}")


def _some(skipped: list[Skipped]) -> str:
    named = ", ".join(f"{path} ({reason})" for path, reason in skipped[:_MOST_NAMED])
    return named if len(skipped) <= _MOST_NAMED else f"{named} and {len(skipped) - _MOST_NAMED} more"

"""The names of pynetwork 2.x, over what does the work now. ``docs/migration.md`` tells what became of each.

They take and give what they did in 2.x. Calls and streams wait for as long as the gateway is alive, as 2.x knew no
time-outs; the new names have them. Folders on the gateway are named by paths, as in 2.x, and must be shared there:
``Gateway(..., share=["/var/log"])`` shares a folder under its own path.
"""

from __future__ import annotations

import os
import posixpath
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from handshakes.errors import ConfigurationError, NotFound, PynetworkError
from handshakes.manifest import Skipped
from pynetwork import client
from pynetwork import files as transfers
from pynetwork.files.folders import NO_FILE
from pynetwork.lanes import OneLane
from pynetwork.link import Link

__all__ = ["Client", "ControllerNames", "controller_arguments", "gateway_arguments"]

Chosen = tuple[list[str], list[Skipped]]
"""Paths of files in a share, and what else was found there."""

_MOST_NAMED = 10


class Client(client.Client):
    """A client that answers to the names of 2.x too.

    It keeps downloads in ``download_dir`` and tells ``say`` what it moved.
    """

    def __init__(
        self,
        link: Link,
        timeout: float | None = 10.0,
        download_dir: str | os.PathLike[str] = "Downloads",
        say: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(link, timeout)
        self.download_dir = download_dir
        self._say = say

    # Subroutines

    def get_subroutine_stream(
        self,
        name: str,
        callback: Callable[[str, int, Any], object],
        eos_callback: Callable[[str], object] | None = None,
        arguments: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        """Run ``callback(name, ident, payload)`` for every item of the generator ``name`` until it answers False; then,
        when the generator came to its own end, ``eos_callback(name)``. Now ``stream``; raises as that.
        """
        stream = self.start_stream(name, tuple(arguments), kwargs, None)
        with stream:
            for ident, payload in stream:
                if callback(name, ident, payload) is False:
                    return
        if eos_callback is not None:
            eos_callback(name)

    def get_subroutine_batch(self, name: str, arguments: Sequence[Any] = (), **kwargs: Any) -> Any:
        """What the function ``name`` returns for these arguments. Now ``call``; raises as that."""
        return self.request("call", name, tuple(arguments), kwargs, timeout=None)

    def send_subroutine_batch(
        self, name: str = "", buffer: Any = None, arguments: Sequence[Any] = (), **kwargs: Any
    ) -> int:
        """The int that the function ``name`` returns for ``buffer`` and these arguments; 0 for anything else.

        Without a buffer, or with an empty one, the function gets no argument ``buffer``. Now ``send``; raises as that.
        """
        if buffer is not None and len(buffer):
            kwargs["buffer"] = buffer
        result = self.get_subroutine_batch(name, arguments, **kwargs)
        return result if type(result) is int else 0

    # Files

    def get_files_from_gateway(self, regex: str = "", files: Sequence[str] = (), folder: str = "") -> None:
        """Bring files of the gateway into ``download_dir``, without the folders they are in. Now ``swarm.download``.

        Either ``files``, by their paths, or those that are in ``folder`` itself, not below it. Of these ``regex``
        chooses the ones where it matches the beginning of the path, as in 2.x, or of the bare name. What is no file
        there, or a symbolic link, is passed over with a warning.

        Raises `ConfigurationError` when neither is given, `NotFound` for a path in no shared folder, and
        `PynetworkError`, when the others have arrived, for files that could not be moved.
        """
        if files:
            wanted = self._look_up(files)
        elif folder:
            share, within = _locate(folder, self._shares())
            wanted = {share: self._choose(share, within, _matcher(regex, folder))}
        else:
            raise ConfigurationError("get_files_from_gateway needs files=, or folder= with or without regex=")
        passed: list[Skipped] = []
        failed: list[Skipped] = []
        for share, (paths, skipped) in wanted.items():
            report = transfers.download(OneLane(self), share, files=paths, to=self.download_dir, flat=True)
            self._tell(f"brought {report.files} files, {report.bytes} bytes, to {self.download_dir}")
            passed += [each for each in skipped if each.reason in NO_FILE]
            failed += [each for each in skipped if each.reason not in NO_FILE] + report.skipped
        _conclude(passed, failed)

    def send_files_to_gateway(self, dirname: str = "", files: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Send ``files`` into ``dirname`` below the gateway's folder for uploads. Now ``swarm.upload``.

        What is no file, or a symbolic link, is passed over with a warning. Raises `ConfigurationError` when there are
        none, `UnsafePath` for a ``dirname`` that leads out of the folder, and as ``get_files_from_gateway``.
        """
        if not files:
            raise ConfigurationError("send_files_to_gateway needs files=, and that is empty")
        present = [path for path in files if os.path.isfile(path) and not os.path.islink(path)]
        passed = [Skipped(os.fspath(path), "no file, or a symbolic link") for path in files if path not in present]
        within = _plain(dirname)
        report = transfers.upload(OneLane(self), present, dirname="" if within == "." else within)
        self._tell(f"sent {report.files} files, {report.bytes} bytes, to {self.peer}")
        _conclude(passed, report.skipped)

    def _shares(self) -> list[str]:
        return [str(share) for share in self.request("files.shares")]

    def _look_up(self, files: Sequence[str]) -> dict[str, Chosen]:
        """What these paths are, by share."""
        shares = self._shares()
        asked: dict[str, list[str]] = {}
        for path in files:
            share, within = _locate(path, shares)
            asked.setdefault(share, []).append(within)
        wanted: dict[str, Chosen] = {}
        for share, paths in asked.items():
            pages = transfers.list_share(self, share, paths)
            found = [entry.path for page in pages for entry in page.files]
            wanted[share] = found, [entry for page in pages for entry in page.skipped]
        return wanted

    def _choose(self, share: str, within: str, matches: Callable[[str], bool]) -> Chosen:
        """What is in the folder ``within`` of a share and matches by its name."""
        files: list[str] = []
        skipped: list[Skipped] = []
        folders = {""}
        for page in transfers.list_share(self, share):
            folders.update(entry.path for entry in page.folders)
            files += [entry.path for entry in page.files if _is_in(within, entry.path, matches)]
            skipped += [entry for entry in page.skipped if _is_in(within, entry.path, matches) or entry.path == within]
        if within not in folders:
            raise NotFound(f"{within!r} is no folder in the shared folder {share!r}")
        # A folder that can't be read matters only when it is the one that was asked for.
        return files, [entry for entry in skipped if entry.path == within or entry.path not in folders]

    def _tell(self, text: str) -> None:
        if self._say is not None:
            self._say(text)

    # Its life

    @property
    def connected(self) -> bool:
        """Whether the pair still works, as far as is known. Now ``usable``."""
        return self.usable

    def close_handler(self) -> None:
        """End the pair, so that the handler is free for others. Now ``close``, or a ``with`` block."""
        self.close()

    def close_gateway(self) -> None:
        """Stop the gateway, and end this pair. Now ``controller.stop_gateway``.

        Raises `Forbidden` unless the gateway grants the right ``stop``: ``Gateway(..., rights="all")``, or beside a
        key ``key={KEY: "all"}``.
        """
        self.request("stop")
        self.close()


class ControllerNames(ABC):
    """What a controller had in 2.x besides what it has now."""

    host: str

    @property
    def gateway_ip(self) -> str:
        """Now ``host``."""
        return self.host

    def close_gateway(self) -> None:
        """Now ``stop_gateway``; raises as that."""
        self.stop_gateway()

    @abstractmethod
    def stop_gateway(self) -> None:
        """Stop the gateway."""


def controller_arguments(host: str, gateway_ip: str | None, key: Any, verbose: bool) -> tuple[str, Any, bool]:
    """Host, key and verbose of a controller, where they may be given as 2.x took them.

    There it was ``Controller(gateway_ip, port, download_dir, verbose)``, and an empty address meant this machine.
    """
    if isinstance(key, bool):
        key, verbose = None, key
    return (host if gateway_ip is None else gateway_ip) or "127.0.0.1", key, verbose


def gateway_arguments(host: Any, max_poolsize: Any, download_dir: Any) -> tuple[Any, Any, Any]:
    """The same for a gateway: 2.x took ``Gateway(port, max_poolsize, download_dir)``."""
    if isinstance(host, int):
        if isinstance(max_poolsize, (str, os.PathLike)):
            download_dir = max_poolsize
        host, max_poolsize = None, host
    return host, max_poolsize, download_dir or "Downloads"


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
        warnings.warn(f"passed over: {_some(passed)}", stacklevel=3)
    if failed:
        raise PynetworkError(f"{len(failed)} files could not be moved: {_some(failed)}")


def _some(skipped: list[Skipped]) -> str:
    named = ", ".join(f"{path} ({reason})" for path, reason in skipped[:_MOST_NAMED])
    return named if len(skipped) <= _MOST_NAMED else f"{named} and {len(skipped) - _MOST_NAMED} more"

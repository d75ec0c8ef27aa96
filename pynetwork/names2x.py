"""The names of pynetwork 2.x, over what does the work now. ``docs/migration.md`` tells what became of each.

They take and give what they did in 2.x. Calls and streams wait for as long as the gateway is alive, as 2.x knew no
time-outs; the new names have them. Folders on the gateway are named by paths, as in 2.x, and must be shared there:
``Gateway(..., share=["/var/log"])`` shares a folder under its own path.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from pynetwork import client
from pynetwork.link import Link

__all__ = ["Client", "ControllerNames", "controller_arguments", "gateway_arguments"]


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
        # Only now, as it takes a while.
        from pynetwork import files2x  # noqa: PLC0415

        files2x.get_files(self, self.download_dir, self._tell, regex, files, folder)

    def send_files_to_gateway(self, dirname: str = "", files: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Send ``files`` into ``dirname`` below the gateway's folder for uploads. Now ``swarm.upload``.

        What is no file, or a symbolic link, is passed over with a warning. Raises `ConfigurationError` when there are
        none, `UnsafePath` for a ``dirname`` that leads out of the folder, and as ``get_files_from_gateway``.
        """
        from pynetwork import files2x  # noqa: PLC0415 - see get_files_from_gateway

        files2x.send_files(self, self._tell, dirname, files)

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

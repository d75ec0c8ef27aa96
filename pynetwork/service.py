"""What a gateway can be given: services, which answer the verbs that callers open operations with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from handshakes.errors import ConnectionLost, OperationAborted, RemoteProtocolError
from handshakes.messages import Abort, Credit, Goodbye, Message, Rights
from pynetwork.link import Link, Operation

__all__ = ["Recording", "ServedOperation", "Service", "SubroutineFailed", "Verb"]


class SubroutineFailed(Exception):
    """A user's function raised; its exception is the cause. It never leaves the gateway as this."""


class ServedOperation(Operation):
    """A running operation, on the gateway. ``resting``: it only waits for the caller, and may be ended any time."""

    def __init__(self, link: Link, has_company: Callable[[], bool] = lambda: False) -> None:
        super().__init__(link)
        self._has_company = has_company
        self.resting = False

    @property
    def has_company(self) -> bool:
        """Whether the gateway serves somebody else now, with something that moves no bulk data."""
        return self._has_company()

    @property
    def link(self) -> Link:
        """The pair's driver, for services that send items."""
        return self._link

    def receive(self, timeout: float | None = None) -> Message:
        """The caller's next message.

        Raises `OperationAborted` when the caller left, `ConnectionLost` when it has gone, `DeadlineExceeded` after
        ``timeout`` seconds.
        """
        while self._link.connection.wants_data:
            event = self._link.next_event(timeout)
            if type(event) is Message:
                return event
            if type(event) is Abort:
                raise OperationAborted("the caller left the operation")
            if type(event) is Goodbye:
                raise ConnectionLost(f"{self.peer} said goodbye in the middle of an operation")
            if type(event) is not Credit:
                raise RemoteProtocolError(f"{type(event).__name__} is no part of this operation")
        raise OperationAborted("the caller left the operation")


@dataclass(frozen=True)
class Verb:
    """What answers a verb: ``function(operation, *parameters)``, and the right that the caller needs for it (one of
    them, where several are given); ``bulk``: it moves much data for long, and may give way to what does not.

    What the function returns travels back as the result. A `Refused` that it raises arrives as itself, any other
    exception as a `RemoteFault`.

    ``takes_over``: the caller is sent one message, without content, and from then on the pair's stream is the
    function's own, for another protocol; it gets no parameters, and when it returns or raises the pair ends.
    """

    function: Callable[..., Any]
    right: Rights | None = None
    bulk: bool = False
    takes_over: bool = False


class Service(Protocol):
    """A set of verbs that is mounted on a gateway with ``add_service``."""

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """The verbs by name; asked once, when the service is mounted."""

    def close(self) -> None:
        """The gateway has stopped: give everything back."""


@runtime_checkable
class Recording(Protocol):
    """A service that can record what a subroutine yields or returns."""

    def recorded(self, function: Callable[..., Any], series: Any, payload: Any = None) -> Callable[..., Any]:
        """A function that does as ``function`` does and stores each item in ``series`` besides.

        Raises `ConfigurationError` for a series or a payload that can't be.
        """

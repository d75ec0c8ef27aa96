"""Every error that pynetwork raises on purpose, in one tree.

::

    PynetworkError
    ├── Closed                   you closed it
    ├── ConnectionLost           the link broke; the OSError is its cause
    ├── ProtocolError
    │   ├── RemoteProtocolError  the peer broke the protocol
    │   └── LocalProtocolError   you used it against its rules
    │       └── Busy             a second operation on a pair that already runs one
    ├── Refused                  the gateway said no; ``status`` says why, as in HTTP
    │   ├── BadRequest           400: arguments that do not fit
    │   ├── AuthenticationFailed 401: a wrong key, on either side
    │   ├── Forbidden            403: the key does not grant this right
    │   ├── NotFound             404: no such subroutine, share or verb
    │   ├── PoolFull             503: every handler is taken
    │   └── VersionMismatch      505: no protocol version in common
    ├── RemoteFault              the remote code failed: its type, message and traceback as text
    ├── ItemFailed               one item of a ``map`` failed; which, and why, is in it
    ├── OperationAborted         the caller left the operation (seen on the gateway only)
    ├── DeadlineExceeded         also a TimeoutError
    ├── ConfigurationError       also a ValueError: options that contradict each other
    ├── UnsafePath               also a ValueError: a name that would leave its folder
    ├── ValueNotSupported        also a TypeError: a value that has no wire form
    └── ValueTooLarge            also a ValueError: more bytes than the receiver accepts

The five questions an ``except`` asks: did I close it, did the link break, did the peer break the rules, did
I, or did the remote code fail? Each has one class. A lost connection never looks like the end of a stream.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationFailed",
    "BadRequest",
    "Busy",
    "Closed",
    "ConfigurationError",
    "ConnectionLost",
    "DeadlineExceeded",
    "Forbidden",
    "ItemFailed",
    "LocalProtocolError",
    "NotFound",
    "OperationAborted",
    "PoolFull",
    "ProtocolError",
    "PynetworkError",
    "Refused",
    "RemoteFault",
    "RemoteProtocolError",
    "UnsafePath",
    "ValueNotSupported",
    "ValueTooLarge",
    "VersionMismatch",
    "refusal",
]


class PynetworkError(Exception):
    """The root: ``except PynetworkError`` catches everything that this package raises on purpose."""


class Closed(PynetworkError):
    """You closed this object; it does nothing more."""


class ConnectionLost(PynetworkError):
    """The connection broke before the operation ended. The error of the system is ``__cause__``."""


class ProtocolError(PynetworkError):
    """Somebody left the protocol; see the two subclasses for who."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow. The connection can't be used any more."""


class LocalProtocolError(ProtocolError):
    """This side asked for what the protocol does not allow. The connection is as it was."""


class Busy(LocalProtocolError):
    """A second operation was started on a pair that still runs one; take another client for it."""


class Refused(PynetworkError):
    """The gateway refused: ``status`` is a number as in HTTP, ``message`` says why and what to do."""

    status = 500

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status


class BadRequest(Refused):
    """The request can't be carried out as it stands, for example arguments that do not fit."""

    status = 400


class AuthenticationFailed(Refused):
    """One side could not prove that it knows the other's key."""

    status = 401


class Forbidden(Refused):
    """The caller's key does not grant the right that this needs."""

    status = 403


class NotFound(Refused):
    """The gateway has nothing under that name."""

    status = 404


class PoolFull(Refused):
    """Every handler of the gateway's pool serves somebody; try again, or raise ``max_poolsize``."""

    status = 503


class VersionMismatch(Refused):
    """The two sides speak no protocol version in common."""

    status = 505


_BY_STATUS: dict[int, type[Refused]] = {
    each.status: each for each in (BadRequest, AuthenticationFailed, Forbidden, NotFound, PoolFull, VersionMismatch)
}


def refusal(status: int, message: str) -> Refused:
    """The ``Refused`` subclass for ``status``, or a plain ``Refused`` that carries the number."""
    return _BY_STATUS.get(status, Refused)(message, status)


class RemoteFault(PynetworkError):
    """The code on the other side raised.

    ``type_name`` is the exception's class with its module, ``message`` its text, ``traceback`` the formatted
    remote traceback. All three are text: nothing of the remote exception is executed here.
    """

    def __init__(self, type_name: str, message: str, traceback: str = "") -> None:
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        text = f"{self.type_name}: {self.message}" if self.message else self.type_name
        return f"{text}\n\nOn the gateway:\n{self.traceback.rstrip()}" if self.traceback else text


class ItemFailed(PynetworkError):
    """The call for one item of a ``map`` failed: ``index`` and ``item`` say which, ``__cause__`` why.

    The reason is an argument, so that it also comes along to another process: a pickle has no ``__cause__``.
    """

    def __init__(self, index: int, item: object, reason: BaseException) -> None:
        super().__init__(index, item, reason)
        self.index = index
        self.item = item
        self.__cause__ = reason

    def __str__(self) -> str:
        index, item, reason = self.args
        return f"item {index} ({_short(item)}) failed: {reason}"


def _short(item: object) -> str:
    text = repr(item)
    return text if len(text) <= 80 else text[:77] + "..."


class OperationAborted(PynetworkError):
    """The caller left this operation; stop working on it."""


class DeadlineExceeded(PynetworkError, TimeoutError):
    """It did not happen in the time that was given."""


class ConfigurationError(PynetworkError, ValueError):
    """Options that can't be honoured together; the message names them and the way out."""


class UnsafePath(PynetworkError, ValueError):
    """A path from the wire, or for it, that could leave its folder or mean something else elsewhere."""


class ValueNotSupported(PynetworkError, TypeError):
    """A value that has no form on the wire; the message names its type and what to do."""


class ValueTooLarge(PynetworkError, ValueError):
    """A value with more bytes than the receiver said it accepts."""

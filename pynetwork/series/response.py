"""What requests are answered with: a status, the times that came, and why it failed.

Failures of the network and of the other side are answered, not raised: look at the truth of a response, or call its
`raise_for_status`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from handshakes.errors import BadRequest, ConnectionLost, PynetworkError, Refused, ValueNotSupported, ValueTooLarge
from handshakes.tstorage import Status as ResponseStatus
from pynetwork.series.record import DecodedRecords, RecordsSet

__all__ = ["Response", "ResponseAcq", "ResponseGet", "ResponsePut", "ResponseStatus"]

T = TypeVar("T")

_MEANINGS: dict[ResponseStatus, tuple[type[PynetworkError], str]] = {
    ResponseStatus.ERROR: (Refused, "the server could not do what was asked"),
    ResponseStatus.DISCONNECTED: (ConnectionLost, "there is no connection to the server; call connect()"),
    ResponseStatus.BAD_REQUEST: (BadRequest, "the request can't be sent as it is"),
    ResponseStatus.UNPARSEABLE_ENTITY: (ValueNotSupported, "a payload is not of the channel's payload type"),
    ResponseStatus.NO_MEMORY: (ValueTooLarge, "the answer is larger than memory_limit; use get_stream() or get_iter()"),
}


@dataclass(frozen=True)
class Response:
    """How a request ended. True when it succeeded; ``error`` is the reason when it did not, if there is more to say."""

    status: ResponseStatus
    error: PynetworkError | None = field(default=None, kw_only=True, compare=False)

    def __bool__(self) -> bool:
        return self.is_ok()

    def is_ok(self) -> bool:
        """Whether the request succeeded."""
        return self.status == ResponseStatus.OK

    def raise_for_status(self) -> None:
        """Raise why the request failed; nothing when it succeeded.

        That is ``error``, or by the status: `Refused` for ERROR, `ConnectionLost` for DISCONNECTED, `BadRequest` for
        BAD_REQUEST, `ValueNotSupported` for UNPARSEABLE_ENTITY, `ValueTooLarge` for NO_MEMORY.
        """
        if self.is_ok():
            return
        if self.error is not None:
            raise self.error
        kind, meaning = _MEANINGS.get(self.status, _MEANINGS[ResponseStatus.ERROR])
        raise kind(f"{meaning} (status {int(self.status)})")


@dataclass(frozen=True)
class ResponsePut(Response):
    """The answer to a put. ``acq_min``, ``acq_max``: the span of the times of acquisition that the server gave to its
    records; both -1 when it gave none.
    """

    acq_min: int = -1
    acq_max: int = -1


@dataclass(frozen=True)
class ResponseAcq(Response):
    """``acq``: the time of acquisition up to which an answer is complete, -1 after a failure."""

    acq: int = -1


@dataclass(frozen=True)
class ResponseGet(ResponseAcq, Generic[T]):
    """The answer to a get: its records in ``data``, which is empty after a failure."""

    data: RecordsSet[T] = field(default_factory=DecodedRecords)

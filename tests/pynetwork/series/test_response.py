"""Responses: their truth, their words and what they raise."""

from __future__ import annotations

import dataclasses

import pytest

from handshakes.errors import (
    BadRequest,
    ConnectionLost,
    DeadlineExceeded,
    PynetworkError,
    Refused,
    ValueNotSupported,
    ValueTooLarge,
)
from handshakes.records import Key
from handshakes.tstorage import Status
from pynetwork.series.record import Record
from pynetwork.series.response import Response, ResponseAcq, ResponseGet, ResponsePut, ResponseStatus

FAILURES = [status for status in ResponseStatus if status is not ResponseStatus.OK]
KINDS: list[type[Response]] = [Response, ResponsePut, ResponseAcq, ResponseGet]


def test_the_statuses_are_those_of_the_wire() -> None:
    """Whose numbers are in tests/handshakes/test_tstorage_words.py."""
    assert ResponseStatus is Status


@pytest.mark.parametrize("kind", KINDS)
def test_success(kind: type[Response]) -> None:
    response = kind(ResponseStatus.OK)
    assert response
    assert response.is_ok()
    assert response.error is None
    response.raise_for_status()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", FAILURES)
def test_failure(kind: type[Response], status: ResponseStatus) -> None:
    response = kind(status)
    assert not response
    assert not response.is_ok()
    with pytest.raises(PynetworkError, match=rf"\(status {int(status)}\)"):
        response.raise_for_status()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (ResponseStatus.ERROR, Refused),
        (ResponseStatus.DISCONNECTED, ConnectionLost),
        (ResponseStatus.BAD_REQUEST, BadRequest),
        (ResponseStatus.UNPARSEABLE_ENTITY, ValueNotSupported),
        (ResponseStatus.NO_MEMORY, ValueTooLarge),
    ],
)
def test_each_status_has_its_error(status: ResponseStatus, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Response(status).raise_for_status()
    assert caught.type is error


def test_the_error_that_is_known_is_raised() -> None:
    error = DeadlineExceeded("no answer within 3 s")
    with pytest.raises(DeadlineExceeded) as caught:
        ResponseGet[int](ResponseStatus.DISCONNECTED, error=error).raise_for_status()
    assert caught.value is error


def test_what_responses_hold() -> None:
    assert ResponseAcq(ResponseStatus.OK, 7).acq == 7
    assert ResponsePut(ResponseStatus.OK, 7, 9) == ResponsePut(ResponseStatus.OK, acq_min=7, acq_max=9)
    assert (ResponsePut(ResponseStatus.ERROR).acq_min, ResponseAcq(ResponseStatus.ERROR).acq) == (-1, -1)
    assert isinstance(ResponseGet(ResponseStatus.OK), ResponseAcq)
    assert isinstance(ResponsePut(ResponseStatus.OK), Response)


def test_each_answer_without_records_has_a_list_of_its_own() -> None:
    one: ResponseGet[int] = ResponseGet(ResponseStatus.OK)
    one.data.append(Record(Key(1, 2, 3), 4))
    assert len(one.data) == 1
    assert len(ResponseGet[int](ResponseStatus.OK).data) == 0
    assert ResponseGet(ResponseStatus.OK, 5, [Record(Key(1, 2, 3), 4)]).data == one.data


def test_a_response_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Response(ResponseStatus.OK).status = ResponseStatus.ERROR  # type: ignore[misc]

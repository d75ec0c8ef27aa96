from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from functools import partial

import pytest

from handshakes import errors

CLASSES = {name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}


def drawn_tree() -> dict[str, str]:
    """Class to base class, as the module's docstring draws them."""
    bases: dict[str, str] = {}
    open_at: dict[int, str] = {}
    for line in (errors.__doc__ or "").split("::", 1)[1].splitlines():
        match = re.match(r"( {4}(?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)", line)
        if match:
            depth = len(match[1])
            open_at[depth] = match[2]
            bases[match[2]] = open_at.get(depth - 4, "Exception")
    return bases


def test_the_drawn_tree_is_the_tree() -> None:
    assert drawn_tree() == {name: each.__bases__[0].__name__ for name, each in CLASSES.items()}


def test_all_names_are_exported() -> None:
    assert set(errors.__all__) == {*CLASSES, "refusal"}


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("DeadlineExceeded", TimeoutError),
        ("ConfigurationError", ValueError),
        ("UnsafePath", ValueError),
        ("ValueNotSupported", TypeError),
        ("ValueTooLarge", ValueError),
    ],
)
def test_some_are_also_what_python_calls_them(name: str, also: type[Exception]) -> None:
    assert issubclass(CLASSES[name], also)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, errors.BadRequest),
        (401, errors.AuthenticationFailed),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (503, errors.PoolFull),
        (505, errors.VersionMismatch),
        (418, errors.Refused),
        (0, errors.Refused),
    ],
)
def test_a_status_becomes_its_class(status: int, expected: type[errors.Refused]) -> None:
    error = errors.refusal(status, "because")
    assert type(error) is expected
    assert (error.status, error.message, str(error)) == (status, "because", "because")


def test_a_refusal_made_by_hand_has_the_status_of_its_class() -> None:
    assert errors.PoolFull("full").status == 503
    assert errors.Refused("no").status == 500
    assert errors.Refused("no", 402).status == 402


def test_a_fault_reads_like_a_traceback() -> None:
    fault = errors.RemoteFault("ValueError", "bad angle", "Traceback:\n  line\n")
    assert str(fault) == "ValueError: bad angle\n\nOn the gateway:\nTraceback:\n  line"
    assert str(errors.RemoteFault("ValueError", "bad angle")) == "ValueError: bad angle"
    assert str(errors.RemoteFault("KeyError", "")) == "KeyError"


SAMPLES = [
    errors.RemoteFault("E", "m", "t"),
    errors.RemoteFault("E", "", ""),
    errors.refusal(418, "tea"),
    *[errors.refusal(status, "because") for status in (400, 401, 403, 404, 503, 505)],
    errors.ItemFailed(3, {"x": [1]}, errors.RemoteFault("E", "m", "t")),
    errors.ItemFailed(3, "x" * 100, ValueError("too long")),
    *[
        each("why")
        for each in CLASSES.values()
        if not issubclass(each, (errors.Refused, errors.RemoteFault, errors.ItemFailed))
    ],
]
TWINS: list[Callable[[Exception], Exception]] = [
    copy.copy,
    copy.deepcopy,
    *[
        partial(lambda protocol, error: pickle.loads(pickle.dumps(error, protocol)), protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ],
]


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
@pytest.mark.parametrize("again", TWINS)
def test_errors_survive_a_copy_and_another_process(error: Exception, again: Callable[[Exception], Exception]) -> None:
    twin = again(error)
    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
    assert (type(twin.__cause__), str(twin.__cause__)) == (type(error.__cause__), str(error.__cause__))


def test_a_failed_item_says_which_and_why() -> None:
    error = errors.ItemFailed(3, "x" * 100, ValueError("too long"))
    assert str(error) == f"item 3 ('{'x' * 76}...) failed: too long"
    assert (error.index, error.item) == (3, "x" * 100)
    reason = OSError("gone")
    error = errors.ItemFailed(0, 5, reason)
    assert str(error) == "item 0 (5) failed: gone"
    assert error.__cause__ is reason

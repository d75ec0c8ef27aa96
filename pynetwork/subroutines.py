"""The functions that a gateway offers by name, and running them for callers.

========  ==============================================  ==========================================================
mode      the function                                    the caller gets
========  ==============================================  ==========================================================
stream    yields ``(ident, payload)`` or bare payloads    the items, as they are produced
call      returns a value                                 that value
send      takes ``buffer`` among its keyword arguments    the int that it returned, 0 for None
========  ==============================================  ==========================================================

A stream ends when the generator returns, yields an ident below 0, or yields a payload of None. When the caller leaves
first, the generator is closed at its next item, so that its ``finally`` runs: Python can't interrupt a generator that
is blocked between two items. A generator that waits long should wait in slices and yield nothing meanwhile, or use
time-outs of its own.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from handshakes.errors import BadRequest, ConfigurationError, NotFound
from handshakes.messages import Rights
from pynetwork.outlet import Outlet
from pynetwork.service import ServedOperation, SubroutineFailed, Verb

__all__ = ["Subroutine", "SubroutineService"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Subroutine:
    """A function under its name. ``kind`` is "stream" for a generator function, else "batch"."""

    name: str
    function: Callable[..., Any]
    kind: str
    signature: inspect.Signature | None
    doc: str
    takes_share: bool

    @classmethod
    def of(cls, name: str, function: Callable[..., Any]) -> Subroutine:
        """Raises `ConfigurationError` for what can't be called, and for coroutine functions."""
        if not callable(function):
            raise ConfigurationError(f"subroutine {name!r} must be a function, not {type(function).__name__}")
        if not name or not isinstance(name, str):
            raise ConfigurationError("a subroutine needs a name")
        plain = inspect.unwrap(function)
        if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
            raise ConfigurationError(
                f"subroutine {name!r} is asynchronous; a handler is a thread, so give it a plain function or generator"
            )
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None
        kind = "stream" if inspect.isgeneratorfunction(plain) else "batch"
        return cls(name, function, kind, signature, inspect.getdoc(function) or "", _takes_share(signature))

    def describe(self) -> dict[str, str]:
        """Name, kind, signature and documentation, for people."""
        return {"name": self.name, "kind": self.kind, "signature": str(self.signature or "(...)"), "doc": self.doc}

    def check_arguments(self, arguments: list[Any], keywords: dict[str, Any]) -> None:
        """Raises `BadRequest` when the arguments do not fit the signature."""
        if self.signature is not None:
            try:
                self.signature.bind(*arguments, **keywords)
            except TypeError as error:
                raise BadRequest(f"{self.name}{self.signature} can't take these arguments: {error}") from None


def _takes_share(signature: inspect.Signature | None) -> bool:
    if signature is None:
        return False
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return True
    return {"lane", "lanes"} <= set(signature.parameters)


class SubroutineService:
    """The registry of one gateway, and the verbs that run what is in it."""

    def __init__(self) -> None:
        self._subroutines: dict[str, Subroutine] = {}
        self._lock = threading.Lock()

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """call, send, stream and subroutines."""
        return {
            "call": Verb(self.call, Rights.CALL),
            "send": Verb(self.send, Rights.CALL),
            "stream": Verb(self.stream, Rights.STREAM),
            "subroutines": Verb(self.describe),
        }

    def close(self) -> None:
        """Nothing is held."""

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Offer ``function`` under ``name``, in place of what was offered under it before."""
        subroutine = Subroutine.of(name, function)
        with self._lock:
            self._subroutines = {**self._subroutines, name: subroutine}

    def remove(self, name: str) -> None:
        """Raises `NotFound` when there is none of that name. Running operations go on."""
        with self._lock:
            self._find(name)
            self._subroutines = {key: each for key, each in self._subroutines.items() if key != name}

    def names(self) -> list[str]:
        """What is offered."""
        return list(self._subroutines)

    def _find(self, name: str) -> Subroutine:
        found = self._subroutines.get(name)
        if found is None:
            known = ", ".join(map(repr, sorted(self._subroutines)[:20])) or "none"
            raise NotFound(f"this gateway has no subroutine {name!r}; it has: {known}")
        return found

    # The verbs

    def describe(self, _operation: ServedOperation) -> list[dict[str, str]]:
        """Every subroutine's description."""
        return [each.describe() for each in self._subroutines.values()]

    def call(self, _operation: ServedOperation, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Run a function and answer what it returned."""
        found = self._subroutines.get(name) or self._find(name)
        if found.kind == "stream":
            raise BadRequest(f"{name!r} is a stream; use client.stream({name!r}, ...)")
        try:
            return found.function(*arguments, **keywords)
        except BaseException as error:
            self._fail(found, arguments, keywords, error)

    def send(
        self, operation: ServedOperation, name: str, buffer: Any, arguments: list[Any], keywords: dict[str, Any]
    ) -> int:
        """Run a function with ``buffer`` among its keyword arguments and answer its int."""
        result = self.call(operation, name, arguments, {**keywords, "buffer": buffer})
        if result is None:
            return 0
        try:
            return int(result)
        except (TypeError, ValueError):
            raise BadRequest(
                f"{name!r} returned {type(result).__name__}; a function that is sent a buffer returns an int or None"
            ) from None

    def stream(
        self,
        operation: ServedOperation,
        name: str,
        arguments: list[Any],
        keywords: dict[str, Any],
        share: list[int] | None = None,
    ) -> int:
        """Run a generator and send its items; answers how many. ``share`` is ``[lane, lanes]`` within a swarm."""
        found = self._find(name)
        if share is not None and found.takes_share:
            keywords = {**keywords, "lane": share[0], "lanes": share[1]}
        source = self._start(found, arguments, keywords)
        try:
            return Outlet(operation.link).send_all(source)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def _start(self, found: Subroutine, arguments: list[Any], keywords: dict[str, Any]) -> Iterator[Any]:
        try:
            source = found.function(*arguments, **keywords)
        except BaseException as error:
            self._fail(found, arguments, keywords, error)
        if not hasattr(source, "__next__"):
            raise BadRequest(f"{found.name!r} is no stream; use client.call({found.name!r}, ...)")
        return source  # type: ignore[no-any-return]

    @staticmethod
    def _fail(found: Subroutine, arguments: list[Any], keywords: dict[str, Any], error: BaseException) -> Any:
        if isinstance(error, TypeError):
            # Most likely it was raised by the call itself, not by the function's own code.
            found.check_arguments(arguments, keywords)
        raise SubroutineFailed from error

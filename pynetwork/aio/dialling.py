"""What can be awaited, or entered with ``async with`` at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Dialled"]


class _Closable(Protocol):
    async def close(self) -> object:
        """End it."""


Made = TypeVar("Made", bound=_Closable)


class Dialled(Awaitable[Made], Generic[Made]):
    """What is being dialled: await it, or enter it with ``async with``, which closes it at the end."""

    def __init__(self, dial: Callable[[], Awaitable[Made]]) -> None:
        self._dial = dial
        self._made: Made | None = None

    def __await__(self) -> Generator[Any, Any, Made]:
        return self._dial().__await__()

    async def __aenter__(self) -> Made:
        self._made = await self._dial()
        return self._made

    async def __aexit__(self, *_exception: object) -> None:
        if self._made is not None:
            await self._made.close()

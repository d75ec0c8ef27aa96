"""Loops of asyncio for servers and for plain iterators."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any

__all__ = ["Arrivals", "held"]

_START_SECONDS = 30.0


@contextlib.contextmanager
def held(serving: Callable[[], AbstractAsyncContextManager[Any]]) -> Iterator[Any]:
    """Hold an asynchronous context open on a loop in a thread of its own; answers what it answers."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Any]] = Future()

    async def hold() -> None:
        ended = asyncio.Event()
        try:
            async with serving() as answer:
                ready.set_result((asyncio.get_running_loop(), ended, answer))
                await ended.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(hold(),), daemon=True)
    thread.start()
    loop, ended, answer = ready.result(_START_SECONDS)
    try:
        yield answer
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


class Arrivals:
    """A plain iterator over what arrives on a loop, which runs only while the iterator waits.

    What arrived together is handed out without a step of the loop between. A context manager; ``receive(put)``
    runs on the loop and puts what arrives.
    """

    def __init__(self, receive: Callable[[Callable[[Any], None]], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._held: deque[Any] = deque()
        self._leaving = False
        self._task = self._loop.create_task(receive(self._put))
        self._task.add_done_callback(self._pause)

    def _put(self, item: Any) -> None:
        self._held.append(item)
        self._pause()

    def _pause(self, _task: object = None) -> None:
        if not self._leaving:
            self._loop.stop()

    def __iter__(self) -> Iterator[Any]:
        held = self._held
        while True:
            while held:
                yield held.popleft()
            if self._task.done():
                self._task.result()
                raise ConnectionResetError("the server has left")
            self._loop.run_forever()

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, *_error: object) -> None:
        self._leaving = True
        try:
            if self._task.cancel():
                with contextlib.suppress(asyncio.CancelledError):
                    self._loop.run_until_complete(self._task)
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

"""Several clients used as one: work runs on all of them, and a lane that is lost is replaced."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handshakes.errors import Closed, ConfigurationError, ConnectionLost, PoolFull, PynetworkError
from pynetwork.client import Client
from pynetwork.transport import backoff

__all__ = ["MOST_SHORT_LIVES", "REDIALS", "SHORT_LIFE", "Lanes", "LanesReport", "OneLane", "all_or_none"]

REDIALS = 4
SHORT_LIFE = 1.0
MOST_SHORT_LIVES = 8
"""A lane that is lost again within a second, so many times in a row, is not replaced any more."""


@dataclass
class LanesReport:
    """How many lanes were replaced after their connection was lost, and how many could not be."""

    lost: int = 0
    replaced: int = 0


class _Dial:
    """Dials one lane on a thread of its own, so that the one that waits for it can still be interrupted."""

    def __init__(self, dial: Callable[[], Client], lane: int) -> None:
        self.client: Client | None = None
        self.failure: BaseException | None = None
        self._dial = dial
        self._lock = threading.Lock()
        self._wanted = True
        self.thread = threading.Thread(target=self._run, name=f"dial {lane}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            client = self._dial()
        except BaseException as error:
            self.failure = error
            return
        with self._lock:
            if self._wanted:
                self.client = client
                return
        client.close()

    def give_up(self) -> None:
        """Nobody needs this client any more: it is closed, now or as soon as it is there."""
        with self._lock:
            self._wanted = False
        if self.client is not None:
            self.client.close()


class Lanes:
    """``count`` clients of one gateway, dialled in parallel with ``dial``. Raises what ``dial`` raises, all or
    nothing.
    """

    def __init__(self, dial: Callable[[], Client], count: int) -> None:
        if count < 1:
            raise ConfigurationError(f"a swarm of {count} lanes can't do anything; it needs at least 1")
        self._dial = dial
        self._closed = threading.Event()
        self._running: _Run | None = None
        self.clients: list[Client] = self._dial_all(count)

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self.clients)

    def _dial_all(self, count: int) -> list[Client]:
        dials = [_Dial(self._dial, lane) for lane in range(count)]
        try:
            for dial in dials:
                dial.thread.join()
        except BaseException:
            # Ctrl-C, most likely. Whoever still dials can't be woken, and closes what comes of it.
            for dial in dials:
                dial.give_up()
            raise
        try:
            all_or_none([dial.failure for dial in dials if dial.failure is not None], count)
        except BaseException:
            for dial in dials:
                dial.give_up()
            raise
        return [dial.client for dial in dials if dial.client is not None]

    def run(self, work: Callable[[Client, int], None], over: Callable[[int], None] | None = None) -> LanesReport:
        """Run ``work(client, lane)`` on every lane, each on a thread of its own, and wait for all.

        When ``work`` raises `ConnectionLost` its lane is replaced and ``work`` is called again with the new client;
        when that can't be done the others go on without it. Raises `ConnectionLost` when no lane is left, and the
        first other exception, after every lane was stopped. ``over(lane)`` is called on a lane's thread when nothing
        more will come of that lane, however it ended.
        """
        self._running = _Run(self, work, over or _nothing)
        try:
            return self._running.run()
        finally:
            self._running = None

    @property
    def running(self) -> bool:
        """Whether a job runs."""
        return self._running is not None

    def take_one(self) -> Client:
        """One client less: it is the caller's from now on."""
        return self.clients.pop()

    def grow(self) -> bool:
        """One more lane for the job that runs; False when no job runs or no further connection can be had."""
        running = self._running
        if running is None or self._closed.is_set():
            return False
        try:
            client = self._dial()
        except PynetworkError:
            return False
        self.clients.append(client)
        if self._closed.is_set():
            client.close()
            return False
        return running.add(len(self.clients) - 1)

    def revive(self, lane: int, stopping: threading.Event) -> Client | None:
        """A new client for a lane whose connection was lost; None when there is none to be had."""
        self.clients[lane].close()
        for pause, _ in zip(backoff(), range(REDIALS), strict=False):
            if stopping.is_set() or self._closed.is_set():
                return None
            try:
                self.clients[lane] = client = self._dial()
            except PynetworkError:
                stopping.wait(pause)
                continue
            if self._closed.is_set():
                client.close()
                return None
            return client
        return None

    def revive_idle(self) -> None:
        """Replace, as far as possible, the lanes that are known to be lost."""
        if self._closed.is_set():
            raise Closed("this swarm is closed")
        for lane, client in enumerate(self.clients):
            if not client.usable:
                self.revive(lane, threading.Event())

    def interrupt(self) -> None:
        """End every connection at once, which wakes whoever waits on one; they are replaced before the next job."""
        for client in self.clients:
            client.link.stream.shutdown()

    def close(self) -> None:
        """End every pair, all at the same time: each goodbye takes a round trip."""
        self._closed.set()
        closing = [
            threading.Thread(target=client.close, name="close", daemon=True) for client in self.clients if client.usable
        ]
        for client in self.clients:
            if not client.usable:
                client.close()
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()


class OneLane:
    """A client that exists, as lanes for one job. It stays its owner's: nothing replaces it, and nothing closes it."""

    count = 1

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(self, work: Callable[[Client, int], None], over: Callable[[int], None] | None = None) -> LanesReport:
        """Run ``work(client, 0)`` here and now, then ``over(0)``. Raises what ``work`` raises."""
        try:
            work(self._client, 0)
        finally:
            (over or _nothing)(0)
        return LanesReport()


class _Run:
    """One job on all lanes."""

    def __init__(self, lanes: Lanes, work: Callable[[Client, int], None], over: Callable[[int], None]) -> None:
        self._lanes = lanes
        self._work = work
        self._over = over
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._lost_by: ConnectionLost | None = None
        self._report = LanesReport()
        self._over_and_out = False
        self._ended: list[threading.Event] = []
        self._threads: list[threading.Thread] = []
        for lane in range(lanes.count):
            self._prepare(lane)

    def _prepare(self, lane: int) -> threading.Thread:
        self._ended.append(threading.Event())
        thread = threading.Thread(target=self._run_lane, args=(lane,), name=f"lane {lane}", daemon=True)
        self._threads.append(thread)
        return thread

    def add(self, lane: int) -> bool:
        """Let a further lane take part; False when nothing is left to take part in."""
        with self._lock:
            if self._over_and_out or self._stopping.is_set():
                return False
            self._prepare(lane).start()
            return True

    def run(self) -> LanesReport:
        self._lanes.revive_idle()
        try:
            for thread in self._threads:
                thread.start()
            self._join()
        except BaseException:
            # Ctrl-C, most likely: wake every lane by ending its connection.
            self._stop()
            self._join()
            raise
        if self._failure is not None:
            raise self._failure
        # One that was dialled too late to take part is not a lane that is left.
        if self._report.lost == len(self._threads) and self._lost_by is not None:
            raise self._lost_by
        return self._report

    def _join(self) -> None:
        for number in itertools.count():
            with self._lock:
                self._over_and_out = number == len(self._threads)
                if self._over_and_out:
                    return
                ended, thread = self._ended[number], self._threads[number]
            if thread.ident is None:
                continue  # Ctrl-C came before it was started
            # Before 3.13, a join() that Ctrl-C interrupts takes the thread for ended: the next one would not wait.
            ended.wait()
            thread.join()

    def _run_lane(self, lane: int) -> None:
        try:
            self._keep_working(lane)
        finally:
            try:
                self._over(lane)
            finally:
                self._ended[lane].set()

    def _keep_working(self, lane: int) -> None:
        first = self._lanes.clients[lane]
        lost_before = ConnectionLost("the connection was lost before, and no other can be had")
        client = first if first.usable else self._replace(lane, lost_before, allowed=False)
        short_lives = 0
        while client is not None and not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._work(client, lane)
                return
            except ConnectionLost as error:
                if self._stopping.is_set():
                    return
                short_lives = short_lives + 1 if time.monotonic() - began < SHORT_LIFE else 0
                client = self._replace(lane, error, allowed=short_lives < MOST_SHORT_LIVES)
            except BaseException as error:
                self._fail(error)
                return

    def _replace(self, lane: int, error: ConnectionLost, allowed: bool) -> Client | None:
        client = self._lanes.revive(lane, self._stopping) if allowed else None
        with self._lock:
            if client is not None:
                self._report.replaced += 1
            elif not self._stopping.is_set():
                self._report.lost += 1
                self._lost_by = error
        return client

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._failure is None and not self._stopping.is_set():
                self._failure = error
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._lanes.interrupt()


def all_or_none(failures: Sequence[BaseException], count: int) -> None:
    """Raise the first of the failures in dialling ``count`` lanes, if there are any, with what to do about it."""
    if not failures:
        return
    if isinstance(failures[0], PoolFull) and count > 1:
        raise PoolFull(
            f"{count} connections were asked for, and only {count - len(failures)} found a free handler; ask "
            "for fewer lanes, wait for others to leave, or raise max_poolsize on the gateway"
        ) from failures[0]
    raise failures[0]


def _nothing(_lane: int) -> None:
    pass

"""Giving way: bulk data that leaves room for whatever else travels the same way.

A router keeps what comes faster than its line takes it, and a live item waits behind all of that. So the sender of
bulk data watches how much longer than it must a round trip takes (TCP_INFO), and sends a little slower or faster until
that is a few milliseconds: the line is busy, and its queue nearly empty. Other traffic that fills the queue is given
way to, down to next to nothing. The idea is LEDBAT's (RFC 6817); here the rate is steered, not a window. The lanes to
one peer share a `Bottleneck`, so that it is their sum that behaves.

The kernel spreads the bytes at the rate it is told (SO_MAX_PACING_RATE), on Linux and without privileges. Everywhere,
the packets are marked for lower effort (RFC 8622), which routers may heed; where there is no Linux, that is all.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from pynetwork.tcp_info import Flow, flow_of

__all__ = ["TARGET", "Bottleneck", "Bottlenecks", "Lane", "Regulator"]

TARGET = 0.004
"""Seconds that bulk data may wait in the queue of the slowest line; more where three packets take longer, or the way is
restless.
"""

# Times are in seconds, sizes in packets.
# The rate of the beginning, in packets a round trip; the rate below which nothing is slowed down; what a target holds.
_FIRST_PACKETS, _LEAST_PACKETS, _TARGET_PACKETS = 5, 4, 3
# A receiver acknowledges a lone packet when the next one of its lane comes. What takes no longer than so many times
# the gap between two packets of a lane, in the ramp and later, is no queue; else several slow lanes would be made
# slower for being slow.
_RAMP_GAPS, _LATE_GAPS = 2.0, 1.25
# The growth of each round of the ramp: what is sent too much before the queue is seen is that times a round trip. And
# what part of the rate the speed must have reached before it grows.
_RAMP = 1.3
_FOLLOWED = 0.6
_LEAST_ROUND = 0.01
# The rate beside the speed, at the least and the most; how much of an error is mended in the time that news takes:
# a round trip, and `_LEAD` until somebody looks.
_LEAST_GAIN, _MOST_GAIN = 0.5, 1.1
_CORRECTION = 0.5
_LEAD = 0.02
# A speed is measured over as much time and as many packets at least; usually for longer, as acknowledgements that were
# held up somewhere come all at once then. The kernel's mean round trip is one of so many packets.
_LEAST_WINDOW, _WINDOW_PACKETS = 0.05, 20
_LONG_WINDOW = 0.2
_MEAN_PACKETS = 10
# So many looks show what waits now, so many the usual, so many how far from the usual it is; and so many are kept.
_GLANCES, _SLOWNESS, _CALMNESS, _LOOKS = 3, 20, 300, 400
# Where packets wait for the line at random, as in the air, the target is so many times their deviation, within bounds.
_UNREST, _MOST_TARGET = 2.0, 0.025
# How long a drain looks at the empty line, at least; how often it is lengthened, at most; how much time is between
# drains, at first and later, as the first base is a guess; how many of the last bases count.
_LEAST_CALM = 0.02
_DRAINED_AGAIN = 2
_FIRST_EPOCH, _LAST_EPOCH = 2.0, 10.0
_BASES = 2
# After such a pause the speed of before says nothing.
_IDLE = 0.5


class Regulator:
    """Decides how fast all lanes together may send: ``rate`` in bytes per second, None before anything was seen.

    It knows no clock and no sockets. At first the rate grows with every round trip, until the queue does (*ramp*).
    Then it follows the speed at which bytes are acknowledged, a little below or above, so that they wait for `TARGET`
    (*steady*). How long a round trip takes without waiting is measured in the ramp and, as ways change, now and then
    while the rate is halved for some round trips (*drain*).
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self._step: Callable[[float, float, bool], None] = self._ramp
        self._packet = 0
        self._gap = 0
        self._past: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        self._lately: deque[float] = deque(maxlen=_GLANCES)
        self._slow = self._unrest = 0.0
        self._bases: deque[float] = deque(maxlen=_BASES)
        self._calm: list[float] = []
        self._until = 0.0
        self._emptied = 0.0
        self._again = 0
        self._resumed = 0.0
        self._proven = 0.0
        self._epoch = _FIRST_EPOCH

    @property
    def base(self) -> float:
        """Seconds that a round trip takes when nothing waits."""
        return min(*self._bases, self._slow)

    def observe(self, now: float, seen: Flow, lanes: int = 1) -> None:
        """Take in what was seen at ``now``, in seconds: of all ``lanes`` together, and of the quickest its rtt."""
        rtt = max(seen.rtt, 1e-6)
        if self.rate is None:
            self._slow = rtt
            self._bases.append(rtt)
            self._packet = seen.packet
            self.rate = _FIRST_PACKETS * self._packet / rtt
            self._begin_round(now, rtt)
        self._packet = seen.packet
        self._gap = seen.packet * lanes
        if self._past and now - self._past[-1][0] > _IDLE:
            self._past.clear()
        self._past.append((now, seen.acknowledged))
        self._lately.append(rtt)
        if seen.unsent:
            self._unrest += (abs(rtt - self._slow) - self._unrest) / _CALMNESS
        self._slow += (rtt - self._slow) / _SLOWNESS
        self._step(now, rtt, seen.unsent > 0)

    def _speed(self, now: float, window: float) -> float | None:
        """Bytes per second that were acknowledged in the last ``window`` seconds; None as long as that says little."""
        end, acknowledged = self._past[-1]
        began, before = next((each for each in reversed(self._past) if each[0] <= now - window), self._past[0])
        span = end - began
        return (acknowledged - before) / span if span >= window / 4 else None

    def _target(self, speed: float) -> float:
        unrest = min(_MOST_TARGET, _UNREST * self._unrest)
        packets = max(_TARGET_PACKETS * self._packet, _LATE_GAPS * self._gap)
        return max(TARGET, unrest, packets / max(speed, 1.0))

    def _measured(self) -> None:
        """What was seen since the round or the drain began is what a round trip takes without waiting."""
        # Not of a trickle: a receiver acknowledges that late.
        if self._calm:
            self._bases.append(sum(self._calm) / len(self._calm))

    # The ramp

    def _begin_round(self, now: float, rtt: float) -> None:
        self._step = self._ramp
        self._calm = []
        self._until = now + max(rtt, _LEAST_ROUND)

    def _ramp(self, now: float, rtt: float, hungry: bool) -> None:
        assert self.rate is not None
        speed = self._speed(now, max(rtt, _LEAST_ROUND))
        if speed is None:
            return
        if rtt - self.base > max(self._target(speed) / 2, _RAMP_GAPS * self._gap / max(speed, 1.0)):
            self._proven = speed
            self._begin_drain(now, rtt, speed, speed)
            return
        if hungry:
            self._calm.append(rtt)
        if now >= self._until:
            if hungry and speed > _FOLLOWED * self.rate:
                self.rate *= _RAMP
            self._measured()
            self._begin_round(now, rtt)

    # The drain

    def _begin_drain(self, now: float, rtt: float, speed: float, resumed: float) -> None:
        assert self.rate is not None
        self._step = self._drain
        self._calm = []
        least = _LEAST_PACKETS * self._packet / rtt
        self._resumed = max(resumed, least)
        # A lane that had nothing to send has shown no speed that says anything.
        self.rate = max(speed, self.rate / 4, least) / 2
        # At half the speed what waits takes twice its time, and the kernel's figure is a mean of the last packets.
        self._emptied = now + rtt + 2 * max(0.0, rtt - self.base) + _MEAN_PACKETS * self._packet / self.rate
        self._until = self._emptied + max(rtt / 2, _LEAST_CALM)
        self._again = _DRAINED_AGAIN

    def _drain(self, now: float, rtt: float, hungry: bool) -> None:
        if now < self._emptied:
            return
        waiting = rtt - self.base
        if waiting > TARGET and self._again:
            # More was on its way than was seen. If that does not help, others fill the queue.
            self._again -= 1
            self._emptied = now + 2 * waiting
            self._until = self._emptied + max(rtt / 2, _LEAST_CALM)
            return
        if hungry:
            self._calm.append(rtt)
        if now >= self._until:
            self._measured()
            self.rate = self._resumed
            self._until = now + self._epoch
            self._epoch = min(2 * self._epoch, _LAST_EPOCH)
            self._past.clear()
            self._step = self._steady

    # The steady state

    def _steady(self, now: float, rtt: float, hungry: bool) -> None:
        assert self.rate is not None
        window = max(rtt, _WINDOW_PACKETS * self._packet / self.rate)
        speed = self._speed(now, max(_LONG_WINDOW, window))
        recent = self._speed(now, max(_LEAST_WINDOW, window))
        if speed is None or recent is None:
            return
        if now >= self._until and hungry:
            self._begin_drain(now, rtt, speed, self.rate)
            return
        # The shortest of the last: a moment in which nobody had the processor is not a queue.
        base = self.base
        waiting = min(self._lately) - base
        self._proven = max(self._proven, speed)
        target = self._target(speed)
        if waiting < target / 2:
            # There is room. If we are slow nevertheless, then for reasons that a lower rate would not mend.
            if hungry and self.rate < self._proven / 2:
                self._begin_round(now, rtt)
            elif hungry:
                self.rate = max(self.rate, speed * _MOST_GAIN)
        elif hungry or waiting > target:
            excess = waiting - target
            if excess > target:
                # Something has changed.
                speed = min(speed, recent)
            gain = 1 - (_CORRECTION * excess + max(0.0, excess - target)) / (base + _LEAD)
            self.rate = max(speed * max(_LEAST_GAIN, min(_MOST_GAIN, gain)), _LEAST_PACKETS * self._packet / rtt)


# Linux; it has no name in `socket`.
_SO_MAX_PACING_RATE = 47
_UNLIMITED = 0xFFFFFFFF
_LOWER_EFFORT = 1 << 2

# No line that this is about is faster.
_FAST = 1.25e9
_MOST_PIECE, _LEAST_PIECE = 2 << 20, 2 << 10
# Of a lane and a bottleneck, in seconds.
_INTERVAL = 0.005
_AHEAD = 0.04
_LONGEST_PAUSE = 0.01
_ACTIVE, _STUCK = 0.1, 2.0


class Lane:
    """A connection while it gives way; made by `Bottleneck.join`.

    Where it is ``steered``, who sends does so in pieces of ``piece`` bytes at most, and calls ``steer`` before each.
    """

    def __init__(self, bottleneck: Bottleneck, sock: socket.socket) -> None:
        self.steered = False
        self.piece = _MOST_PIECE
        self.acknowledged = 0
        self.moved_at = 0.0
        self._bottleneck = bottleneck
        self._sock = sock
        self._limit = _UNLIMITED

    def steer(self) -> None:
        """Look at the way if it is time, let the kernel send faster or slower, and do not get far ahead of it."""
        self._bottleneck.steer(self)
        if self._limit != _UNLIMITED:
            seen = self.look()
            ahead = seen.unsent / self._limit if seen else 0.0
            if ahead > _AHEAD:
                time.sleep(min(ahead - _AHEAD * 3 / 4, _LONGEST_PAUSE))

    def leave(self) -> None:
        """The connection gives way no longer."""
        self._bottleneck.leave(self)

    def look(self) -> Flow | None:
        """The connection as it is; None where the system does not tell."""
        return flow_of(self._sock)

    def pace(self, rate: float | None) -> None:
        """Send at this many bytes per second from now on, None: as fast as TCP likes."""
        limit = _UNLIMITED if rate is None or rate > _FAST else max(1, int(rate))
        if limit != self._limit:
            self._limit = limit
            self.piece = max(_LEAST_PIECE, min(_MOST_PIECE, int(limit * _INTERVAL)))
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, struct.pack("=I", limit))

    def mark(self, service: int) -> None:
        """Tell routers what service the packets want: the second byte of an IP header."""
        with contextlib.suppress(OSError):
            if self._sock.family == socket.AF_INET6:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, service)
            else:
                self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, service)


class Bottleneck:
    """What the lanes to one peer share: the slowest line of the way there. They may be on different threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lanes: list[Lane] = []
        self._regulator = Regulator()
        self._next = 0.0
        self._acknowledged = 0

    def join(self, sock: socket.socket) -> Lane:
        """From now on this TCP connection gives way, until its lane ``leave``s."""
        lane = Lane(self, sock)
        lane.mark(_LOWER_EFFORT)
        seen = None if _on_one_machine(sock) else lane.look()
        if seen is not None:
            now = self._clock()
            lane.steered = True
            lane.acknowledged, lane.moved_at = seen.acknowledged, now
            with self._lock:
                self._lanes.append(lane)
                if self._regulator.rate is None:
                    self._regulator.observe(now, seen._replace(acknowledged=self._acknowledged))
                self._look(now)
        return lane

    def leave(self, lane: Lane) -> None:
        """See `Lane.leave`."""
        with self._lock:
            if lane in self._lanes:
                self._lanes.remove(lane)
        lane.pace(None)
        lane.mark(0)

    def steer(self, lane: Lane) -> None:
        """See `Lane.steer`: one looks for all, and it costs nothing where it is not time yet."""
        now = self._clock()
        if now - lane.moved_at > _ACTIVE:
            # It had nothing to send, and the others have taken its share.
            lane.moved_at, self._next = now, now
        if now < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            self._next = now + _INTERVAL
            self._look(now)
        finally:
            self._lock.release()

    def _look(self, now: float) -> None:
        rtts: list[float] = []
        unsent = packet = active = 0
        for lane in self._lanes:
            seen = lane.look()
            if seen is None:
                continue
            if seen.acknowledged != lane.acknowledged:
                self._acknowledged += seen.acknowledged - lane.acknowledged
                lane.acknowledged = seen.acknowledged
                lane.moved_at = now
                rtts.append(seen.rtt)
            unsent += seen.unsent
            packet = seen.packet
            active += now - lane.moved_at < (_STUCK if seen.unsent else _ACTIVE)
        regulator = self._regulator
        if rtts:
            regulator.observe(now, Flow(min(rtts), self._acknowledged, unsent, packet), max(1, active))
        if regulator.rate is not None:
            for lane in self._lanes:
                lane.pace(regulator.rate / max(1, active))


def _on_one_machine(sock: socket.socket) -> bool:
    """Whether both ends have one address: no line is in between, and what takes long there is the processor."""
    try:
        near, far = sock.getsockname(), sock.getpeername()
    except OSError:
        return False
    return bool(near[:1] == far[:1])


class Bottlenecks:
    """A bottleneck for each host that is talked to now, for whoever has many peers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_host: weakref.WeakValueDictionary[str, Bottleneck] = weakref.WeakValueDictionary()

    def to(self, peer: str) -> Bottleneck:
        """That of all streams to the host of ``peer``, HOST:PORT as streams name their peers."""
        host = peer.rpartition(":")[0] or peer
        with self._lock:
            found = self._by_host.get(host)
            if found is None:
                found = self._by_host[host] = Bottleneck()
            return found

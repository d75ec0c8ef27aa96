"""The regulator on lines that are reckoned, then lanes on real sockets."""

from __future__ import annotations

import itertools
import math
import random
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from pynetwork import tcp_info
from pynetwork.pacing import TARGET, Bottleneck, Bottlenecks, Lane, Regulator
from pynetwork.tcp_info import Flow

PACKET = 1448
FAST = 6_000_000.0
"""Bytes a second: 50 Mbit/s without headers."""
QUEUE = 262_144
STEP = 0.0005


class Line:
    """A sender that a regulator steers, and the slowest line of its way; all times are seconds, all sizes bytes.

    ``others`` is what others send over the line per second, ``supply`` what this sender has to send, ``base`` a round
    trip without waiting, ``access`` how long a shared medium makes packets wait for their turn at most; ``held`` while
    nothing comes back, ``looking`` while the regulator is asked.
    """

    def __init__(self) -> None:
        self.regulator = Regulator()
        self.capacity = FAST
        self.base = 0.02
        self.others = 0.0
        self.supply = math.inf
        self.access = 0.0
        self.looking = True
        self.held = False
        self.waits: list[float] = []
        self.acknowledged = 0
        self._now = 0.0
        self._chance = random.Random(1)
        self._backlog = self._owed = self._turn = self._smooth = self._next_look = 0.0
        self._coming: deque[tuple[float, float]] = deque()

    def run(self, seconds: float) -> float:
        """Let time go by; answers the part of the line that this sender has used. ``waits`` begins anew."""
        self.waits, before, end = [], self.acknowledged, self._now + seconds
        while self._now < end:
            self._send()
            self._hear()
            self.waits.append(self._backlog / self.capacity)
            self._now += STEP
        return (self.acknowledged - before) / seconds / self.capacity

    def wait(self, part: float) -> float:
        """What this part of all packets waited at most, in the last run."""
        return sorted(self.waits)[int(part * (len(self.waits) - 1))]

    def _send(self) -> None:
        rate = self.regulator.rate or PACKET / STEP / 10
        self._owed += min(rate, self.supply) * STEP
        self._backlog = min(QUEUE, max(0.0, self._backlog - self.capacity * STEP) + self.others * STEP)
        while self._owed >= PACKET:
            self._owed -= PACKET
            if self._backlog + PACKET > QUEUE:
                continue
            self._backlog += PACKET
            due = self._now + self.base + self._backlog / self.capacity
            while self._turn < due:
                self._turn += self._chance.uniform(0, self.access) or due
            self._coming.append((self._turn if self.access else due, self._now))

    def _hear(self) -> None:
        while not self.held and self._coming and self._coming[0][0] <= self._now:
            _, sent = self._coming.popleft()
            taken = self._now - sent
            self.acknowledged += PACKET
            self._smooth += (taken - self._smooth) / 8 if self._smooth else taken
        if self.looking and self._now >= self._next_look and self._smooth:
            hungry = self.supply > (self.regulator.rate or 0)
            self.regulator.observe(self._now, Flow(self._smooth, self.acknowledged, int(hungry), PACKET))
            self._next_look = self._now + self._chance.uniform(0.005, 0.012)


class LateLine(Line):
    """The same with ``lanes``; the receiver acknowledges the first packets of each at once, and then two at a time."""

    AT_ONCE, PATIENCE = 16, 0.04

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self._arrived = 0
        self._lone: list[tuple[float, float] | None] = [None] * lanes
        self._rtts = [0.0] * lanes
        self._moved: set[int] = set()

    def _hear(self) -> None:
        while self._coming and self._coming[0][0] <= self._now:
            lane, number = self._arrived % len(self._lone), self._arrived // len(self._lone)
            self._arrived += 1
            lone, sent = self._lone[lane], self._coming.popleft()[1]
            if lone is None and number > self.AT_ONCE:
                self._lone[lane] = self._now, sent
            else:
                self._acknowledge(lane, sent if lone is None else lone[1], 1 if lone is None else 2)
        for lane, lone in enumerate(self._lone):
            if lone is not None and self._now - lone[0] > self.PATIENCE:
                self._acknowledge(lane, lone[1], 1)
        if self._moved and self._now >= self._next_look:
            rtt = min(self._rtts[lane] for lane in self._moved)
            self.regulator.observe(self._now, Flow(rtt, self.acknowledged, 1, PACKET), len(self._lone))
            self._moved.clear()
            self._next_look = self._now + self._chance.uniform(0.005, 0.012)

    def _acknowledge(self, lane: int, sent: float, packets: int) -> None:
        self._lone[lane] = None
        self._moved.add(lane)
        self.acknowledged += packets * PACKET
        taken = self._now - sent
        self._rtts[lane] += (taken - self._rtts[lane]) / 8 if self._rtts[lane] else taken


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.mark.parametrize("base", [0.001, 0.004, 0.02, 0.1])
def test_the_line_is_busy_and_its_queue_short(line: Line, base: float) -> None:
    line.base = base
    line.run(4)
    assert line.run(8) > 0.95
    assert 0 < line.wait(0.5) < 2 * TARGET
    assert line.wait(0.99) < 5 * TARGET


@pytest.mark.parametrize("base", [0.004, 0.02])
def test_the_beginning_is_quick_and_gentle(line: Line, base: float) -> None:
    line.base = base
    assert line.run(2) > 0.8
    assert line.wait(0.99) < 0.02
    assert max(line.waits) < QUEUE / FAST / 2


@pytest.mark.parametrize("capacity", [125_000.0, 1_000_000.0, 60_000_000.0])
def test_slow_and_fast_lines(line: Line, capacity: float) -> None:
    line.capacity = capacity
    line.run(4)
    assert line.run(6) > 0.9
    assert line.wait(0.5) < max(2 * TARGET, 6 * PACKET / capacity)


def test_it_stays_so_for_long(line: Line) -> None:
    line.run(60)
    assert line.run(20) > 0.95
    assert line.wait(0.99) < 5 * TARGET


def test_a_queue_that_others_fill_is_left_to_them(line: Line) -> None:
    line.run(3)
    line.others = 1.1 * FAST
    line.run(1)
    assert line.run(3) < 0.05
    line.others = 0.0
    line.run(2)
    assert line.run(3) > 0.9


def test_what_others_leave_is_used(line: Line) -> None:
    line.run(3)
    line.others = FAST / 2
    line.run(1)
    assert 0.4 < line.run(4) < 0.51
    assert line.wait(0.5) < 2 * TARGET


def test_a_line_that_becomes_slower_and_faster(line: Line) -> None:
    line.run(3)
    line.capacity = FAST / 5
    line.run(8)
    assert line.run(3) > 0.9
    assert line.wait(0.5) < 3 * TARGET
    line.capacity = FAST
    line.run(2)
    assert line.run(3) > 0.9


@pytest.mark.parametrize("base", [0.01, 0.04])
def test_another_way_is_found_out(line: Line, base: float) -> None:
    line.run(8)
    line.base = base
    line.run(30)
    assert line.run(10) > 0.9
    assert line.wait(0.5) < 2 * TARGET


@pytest.mark.parametrize("access", [0.01, 0.04])
def test_a_shared_medium_that_lets_packets_wait_for_their_turn(line: Line, access: float) -> None:
    line.access = access
    line.run(8)
    assert line.run(10) > 0.9
    assert line.wait(0.5) < QUEUE / FAST / 2


@pytest.mark.parametrize("base", [0.004, 0.02])
def test_acknowledgements_that_are_held_up(line: Line, base: float) -> None:
    line.base = base
    line.run(4)
    for _ in range(10):
        line.held = True
        line.run(0.02)
        line.held = False
        assert line.run(0.5) > 0.9
        assert max(line.waits) < 5 * TARGET


def test_little_to_send_does_not_lower_the_rate(line: Line) -> None:
    line.run(3)
    before = line.regulator.rate
    assert before is not None
    line.supply = FAST / 10
    line.run(5)
    line.supply = math.inf
    line.run(0.2)
    assert line.run(1) > 0.9
    assert line.wait(0.99) < 5 * TARGET


def test_pauses_and_absent_lookers(line: Line) -> None:
    line.run(3)
    for _ in range(3):
        line.supply = 0.0
        line.run(1)
        line.supply = math.inf
        line.run(0.1)
        line.looking = False
        line.run(0.2)
        line.looking = True
        assert line.run(1) > 0.8
        assert line.wait(0.99) < 8 * TARGET


@pytest.mark.parametrize("base", [0.004, 0.02, 0.1])
@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_slow_lanes_whose_packets_are_acknowledged_late_become_fast(lanes: int, base: float) -> None:
    line = LateLine(lanes)
    line.base = base
    line.run(3)
    assert line.run(5) > 0.9
    assert line.wait(0.5) < 3 * TARGET


def test_a_trickle_that_is_acknowledged_late_says_nothing_of_the_way() -> None:
    regulator = Regulator()
    regulator.observe(0.0, Flow(0.02, 0, 1, PACKET))
    for look in range(1, 100):
        regulator.observe(look * 0.01, Flow(0.02, look * 10_000, 1, PACKET))
    for look in range(100, 2000):
        regulator.observe(look * 0.01, Flow(0.06, 1_000_000 + look * 100, 0, PACKET))
    assert regulator.base == pytest.approx(0.02)


def test_slowness_without_a_queue_is_not_made_worse() -> None:
    # Of a TCP that lost packets, say: there is no queue, and yet the speed breaks down.
    regulator = Regulator()
    for look in range(200):
        regulator.observe(look * 0.01, Flow(0.02, look * 10_000, 1, PACKET))
    before = regulator.rate
    assert before is not None
    assert before > 1_000_000
    for look in range(200, 400):
        regulator.observe(look * 0.01, Flow(0.02, 2_000_000 + look, 1, PACKET))
    assert regulator.rate == before


# Lanes

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_INFO and SO_MAX_PACING_RATE")
UNLIMITED = 0xFFFFFFFF


def limit_of(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, 47) & UNLIMITED


class Flows:
    """What lanes are told of their sockets, in place of the kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.by_socket: dict[socket.socket, Flow | None] = {}
        monkeypatch.setattr("pynetwork.pacing.flow_of", self.by_socket.get)

    def join(self, bottleneck: Bottleneck, sock: socket.socket, rtt: float = 0.02) -> Lane:
        self.by_socket[sock] = Flow(rtt, 0, 1, PACKET)
        return bottleneck.join(sock)

    def move(self, *socks: socket.socket, size: int = 10_000) -> None:
        """Time goes by, and these sockets get on."""
        self.now += 0.01
        for sock in socks:
            flow = self.by_socket[sock]
            assert flow is not None
            self.by_socket[sock] = flow._replace(acknowledged=flow.acknowledged + size)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of this machine are taken for those of two."""
    monkeypatch.setattr("pynetwork.pacing._on_one_machine", lambda _sock: False)


@pytest.fixture
def flows(apart: None, monkeypatch: pytest.MonkeyPatch) -> Flows:
    return Flows(monkeypatch)


@pytest.fixture
def socks() -> Iterator[list[socket.socket]]:
    """Connections to this process; of each pair the one that sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pairs = []
        for _ in range(3):
            near = socket.create_connection(server.getsockname())
            pairs.append((near, server.accept()[0]))
    yield [near for near, _ in pairs]
    for sock in itertools.chain(*pairs):
        sock.close()


@LINUX
def test_lanes_share_the_rate(flows: Flows, socks: list[socket.socket]) -> None:
    bottleneck = Bottleneck(lambda: flows.now)
    one = flows.join(bottleneck, socks[0])
    whole = limit_of(socks[0])
    assert whole == 5 * PACKET / 0.02
    other = flows.join(bottleneck, socks[1])
    assert limit_of(socks[0]) == limit_of(socks[1]) == whole // 2
    other.leave()
    assert limit_of(socks[1]) == UNLIMITED
    flows.move(socks[0])
    one.steer()
    assert limit_of(socks[0]) == whole
    one.leave()
    assert limit_of(socks[0]) == UNLIMITED


@LINUX
def test_a_lane_that_stands_still_takes_no_share(flows: Flows, socks: list[socket.socket]) -> None:
    bottleneck = Bottleneck(lambda: flows.now)
    lanes = [flows.join(bottleneck, sock) for sock in socks]
    flows.by_socket[socks[2]] = Flow(0.02, 0, 0, PACKET)
    for _ in range(100):
        flows.move(*socks[:2])
        lanes[0].steer()
    assert lanes[0].piece > 4000
    assert limit_of(socks[0]) == limit_of(socks[2])
    for _ in range(200):
        flows.move(socks[0])
        lanes[0].steer()
    alone = limit_of(socks[0])
    flows.move(*socks)
    lanes[0].steer()
    assert limit_of(socks[0]) == pytest.approx(alone / 3, rel=0.1)


@LINUX
def test_who_steers_too_early_or_beside_another_does_nothing(flows: Flows, socks: list[socket.socket]) -> None:
    bottleneck = Bottleneck(lambda: flows.now)
    lane = flows.join(bottleneck, socks[0])
    before = flows.by_socket.pop(socks[0])
    lane.steer()
    flows.by_socket[socks[0]] = before
    flows.move(socks[0])
    with bottleneck._lock:
        lane.steer()
    assert lane.acknowledged == 0
    lane.steer()
    assert lane.acknowledged == 10_000


@LINUX
def test_the_sender_does_not_get_far_ahead(
    flows: Flows, socks: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pynetwork.pacing.time.sleep", pauses.append)
    lane = flows.join(Bottleneck(lambda: flows.now), socks[0])
    limit = limit_of(socks[0])
    for ahead, pause in ((0.03, []), (0.05, [pytest.approx(0.01)]), (9.0, [pytest.approx(0.01)])):
        flows.by_socket[socks[0]] = Flow(0.02, 0, int(limit * ahead), PACKET)
        lane.steer()
        assert pauses == pause
        pauses.clear()


@LINUX
def test_a_line_without_a_limit_is_not_paced(flows: Flows, socks: list[socket.socket]) -> None:
    lane = flows.join(Bottleneck(lambda: flows.now), socks[0], rtt=1e-6)
    assert limit_of(socks[0]) == UNLIMITED
    assert lane.piece == 2 << 20


@LINUX
def test_on_one_machine_there_is_no_line_to_share(socks: list[socket.socket]) -> None:
    bottleneck = Bottleneck()
    lane = bottleneck.join(socks[0])
    lane.steer()
    assert not lane.steered
    assert limit_of(socks[0]) == UNLIMITED
    lane.leave()


def test_packets_are_marked_while_a_lane_gives_way(socks: list[socket.socket]) -> None:
    lane = Bottleneck().join(socks[0])
    assert socks[0].getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0b100
    lane.leave()
    assert socks[0].getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_packets_of_the_newer_protocol_too() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        lane = Bottleneck().join(sock)
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 0b100
        lane.leave()
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 0


def test_where_the_system_tells_nothing_nothing_is_paced(
    apart: None, socks: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tcp_info.socket, "TCP_INFO", raising=False)
    bottleneck = Bottleneck()
    lane = bottleneck.join(socks[0])
    assert not lane.steered
    assert socks[0].getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0b100
    lane.leave()


@LINUX
def test_a_socket_that_was_closed_harms_no_other(apart: None, socks: list[socket.socket]) -> None:
    now = itertools.count(100)
    bottleneck = Bottleneck(lambda: float(next(now)))
    lanes = [bottleneck.join(sock) for sock in socks]
    lanes[1].pace(1_000_000)
    assert limit_of(socks[1]) == 1_000_000
    socks[0].close()
    for lane in lanes:
        lane.steer()
    for lane in lanes:
        lane.leave()
    assert limit_of(socks[1]) == UNLIMITED


def test_lanes_come_steer_and_go_on_their_own_threads(apart: None, socks: list[socket.socket]) -> None:
    bottleneck = Bottleneck()
    errors: list[BaseException] = []

    def come_and_go(sock: socket.socket) -> None:
        try:
            for _ in range(50):
                lane = bottleneck.join(sock)
                for _ in range(20):
                    bottleneck._next = 0.0
                    lane.steer()
                lane.leave()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go, args=(sock,)) for sock in socks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not bottleneck._lanes


def test_peers_on_one_host_share_a_bottleneck() -> None:
    bottlenecks = Bottlenecks()
    to: Callable[[str], Bottleneck] = bottlenecks.to
    one = to("10.0.0.1:5000")
    assert to("10.0.0.1:6000") is one
    assert to("10.0.0.2:5000") is not one
    assert to("[::1]:5000") is not to("a local socket")
    del one
    assert list(bottlenecks._by_host) == []

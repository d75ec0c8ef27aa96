"""Compression where it pays: on simulated links, and what is refused of what comes compressed."""

from __future__ import annotations

import importlib
import itertools
import random
import struct
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import psutil
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from handshakes.errors import ConfigurationError, RemoteProtocolError
from pynetwork.files import compression
from pynetwork.files.compression import Compressor, Decompressor, available, decompress

try:
    python_zstd = importlib.import_module("compression.zstd")
except ImportError:
    python_zstd = importlib.import_module("backports.zstd")

MIB = 1 << 20
MB = 1_000_000.0
LOGS = b"L" * MIB
NUMBERS = b"#" * MIB
NOISE = b"N" * MIB
LEFT = {LOGS[0]: (0.23, 0.2), NUMBERS[0]: (0.8, 0.79), NOISE[0]: (1.0, 1.0)}
"""What either level leaves of each kind of data."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Line:
    """A sending system: a buffer that takes bytes at the speed of memory and empties at that of the link.

    ``takes``: bytes before compression that the other side can take in a second, whatever they are on the wire.
    """

    def __init__(self, clock: Clock, rate: float, buffer: float = 256 << 10, takes: float = 1e12) -> None:
        self.rate = rate
        self.takes = takes
        self._clock = clock
        self._buffer = buffer
        self._seen = clock.now
        # What is held of each body: its bytes on the wire, and how many it was before for each of them.
        self._held: deque[tuple[float, float]] = deque()

    def send(self, wire: int, raw: int) -> float:
        """Send a body, and answer for how long that blocked."""
        began = self._clock.now
        self._clock.now += wire / 3e9
        self._empty(self._clock.now - self._seen)
        self._held.append((wire, raw / wire))
        self._clock.now += self._empty(1e9, down_to=self._buffer)
        self._seen = self._clock.now
        return self._clock.now - began

    def end(self) -> None:
        """Wait until all is gone."""
        self._clock.now += self._empty(1e9)

    def _empty(self, seconds: float, down_to: float = 0.0) -> float:
        """Let bytes go for so long, or until so many are left; answers how long that took."""
        left = seconds
        surplus = sum(size for size, _ in self._held) - down_to
        while self._held and left > 0 and surplus > 0:
            size, before = self._held.popleft()
            rate = min(self.rate, self.takes / before)
            gone = min(size, surplus, left * rate)
            left -= gone / rate
            surplus -= gone
            if gone < size:
                self._held.appendleft((size - gone, before))
        return seconds - left


class Lane:
    """A lane that reads bodies, offers and sends them; compression has the speed and the effect given here.

    Only of bodies larger than a sample is it slower by ``crowd``: as where processors are shared. ``reads``: bytes a
    second that the lane gets hold of.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        rate: float,
        *,
        speeds: tuple[float, float] = (450 * MB, 100 * MB),
        crowd: float = 1.0,
        reads: float = 3e9,
        compresses: bool = True,
        round_trip: float = 0.0,
        **line: float,
    ) -> None:
        self.clock = Clock()
        self.line = Line(self.clock, rate, **line)
        self.reads = reads
        self.stall = 0.0
        self.began = self.clock.now
        self.packed: list[bool] = []
        self.levels: set[int] = set()
        self.wire = 0

        def packer(level: int) -> Callable[[memoryview], bytes]:
            def pack(data: memoryview) -> bytes:
                self.levels.add(level)
                slower = crowd if len(data) > 64 << 10 else 1.0
                self.clock.now += len(data) / (4e9 if data[0] == NOISE[0] else speeds[level]) * slower + self.stall
                self.stall = 0.0
                return bytes(int(len(data) * LEFT[data[0]][level]) + 9)

            return pack

        monkeypatch.setattr(compression, "_packers", lambda levels: [packer(level) for level in range(len(levels))])
        self.compressor = Compressor(round_trip=round_trip, clock=self.clock) if compresses else None

    def run(
        self, bodies: Iterable[bytes], pause: float = 0.0, limit: float = 1e12, hiccup: float = 0.0, every: int = 200
    ) -> Lane:
        """Send these, pausing before each for so many seconds, at most ``limit`` bytes a second, with hiccups."""
        for number, body in enumerate(bodies):
            self.clock.now += len(body) / self.reads + pause
            packed = None if self.compressor is None else self.compressor.offer(body)
            size = 30 + len(body if packed is None else packed)
            blocked = self.line.send(size, len(body))
            held_up = max(0.0, size / limit - blocked) + (hiccup if number % every == 3 else 0.0)
            self.clock.now += held_up
            if self.compressor is not None:
                self.compressor.sent(size, blocked + held_up)
            self.packed.append(packed is not None)
            self.wire += size
        return self

    def seconds(self) -> float:
        self.line.end()
        return self.clock.now - self.began

    def share(self, since: int = 0, until: int | None = None) -> float:
        """The part of the bodies that was compressed."""
        chosen = self.packed[since:until]
        return sum(chosen) / len(chosen)


def gain(monkeypatch: pytest.MonkeyPatch, bodies: list[bytes], rate: float, **options: Any) -> tuple[float, Lane]:
    """How many times as fast these are sent where compression is a choice; and the lane."""
    how = {key: options.pop(key) for key in ("pause", "limit", "hiccup", "every") if key in options}
    plain = Lane(monkeypatch, rate, compresses=False, **options).run(bodies, **how).seconds()
    lane = Lane(monkeypatch, rate, **options).run(bodies, **how)
    return plain / lane.seconds(), lane


# Links


def test_a_slow_link_is_known_by_the_first_body(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [LOGS] * 200, 6.25 * MB)
    assert lane.packed[1]
    assert lane.share() > 0.98
    assert faster > 4


def test_what_only_fills_the_buffer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [LOGS] * 100, 6.25 * MB, buffer=4 * MIB)
    assert lane.packed.index(True) in (5, 6, 7)
    assert lane.share(since=7) == 1
    assert faster > 3.5


@pytest.mark.parametrize("rate", [400 * MB, 1000 * MB, 3000 * MB])
@pytest.mark.parametrize("buffer", [64 << 10, 4 * MIB])
def test_a_fast_link_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch, rate: float, buffer: int) -> None:
    for bodies in ([LOGS] * 50, [LOGS] * 3000, [NOISE] * 1000):
        faster, lane = gain(monkeypatch, bodies, rate, buffer=buffer)
        assert faster > 0.99
        assert lane.share() == 0


def test_a_link_between_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """There compression, not the link, sets the pace, so that only a moment without it can tell that it still pays."""
    faster, lane = gain(monkeypatch, [LOGS] * 5000, 118 * MB, buffer=4 * MIB)
    assert faster > 2.8
    assert 0.9 < lane.share() < 1
    changes = sum(one != other for one, other in itertools.pairwise(lane.packed))
    assert 4 <= changes <= 20


def test_a_processor_that_is_slower_than_the_link_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [LOGS] * 500, 118 * MB, speeds=(90 * MB, 20 * MB))
    assert (lane.share(), faster > 0.98) == (0, True)


def test_a_link_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(monkeypatch, 1000 * MB, buffer=4 * MIB)
    lane.run([LOGS] * 2000)
    assert lane.share() == 0
    lane.line.rate = 6.25 * MB
    lane.run([LOGS] * 400)
    assert lane.share(since=-380) > 0.95
    lane.line.rate = 1000 * MB
    lane.run([LOGS] * 4000)
    assert lane.share(since=-2500) == 0


def test_a_lane_that_waits_for_its_other_side_finds_that_nothing_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [LOGS] * 1000, 1000 * MB, takes=20 * MB)
    assert faster > 0.98
    assert lane.share() < 0.15


def test_lanes_that_share_a_processor_find_that_nothing_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [LOGS] * 4000, 1000 * MB, takes=150 * MB, crowd=4.0)
    assert faster > 0.98
    assert lane.share() < 0.01
    # It is not even tried before there has been some time to look.
    assert lane.share(until=50) == 0


def test_a_lane_that_is_slow_itself_has_nothing_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reads, the link goes on with what is in the buffer."""
    faster, lane = gain(monkeypatch, [LOGS] * 500, 30 * MB, reads=36 * MB, speeds=(100 * MB, 20 * MB), buffer=4 * MIB)
    assert faster > 0.98
    assert lane.share() == 0


@pytest.mark.parametrize(("hiccup", "every"), [(0.06, 200), (0.2, 200), (0.2, 1000)])
def test_a_hiccup_is_no_slow_link(monkeypatch: pytest.MonkeyPatch, hiccup: float, every: int) -> None:
    faster, lane = gain(monkeypatch, [LOGS] * 50 * every, 1000 * MB, hiccup=hiccup, every=every)
    assert faster > 0.98
    assert lane.share() < 0.05


def test_on_a_long_way_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, far = gain(monkeypatch, [LOGS] * 5, 6.25 * MB, buffer=4 * MIB, round_trip=0.02)
    assert far.share() == 1
    after_a_word = Lane(monkeypatch, 6.25 * MB, buffer=4 * MIB, round_trip=0.02)
    assert after_a_word.compressor is not None
    after_a_word.compressor.sent(100, 0.0)
    assert after_a_word.run([LOGS] * 5).share() == 1
    _, near = gain(monkeypatch, [LOGS] * 100, 1000 * MB, round_trip=0.0001)
    assert near.share() == 0
    faster, wrong = gain(monkeypatch, [LOGS] * 4000, 1000 * MB, round_trip=0.02)
    assert wrong.packed[0]
    assert faster > 0.97


def test_waiting_for_something_to_do_is_no_slow_link(monkeypatch: pytest.MonkeyPatch) -> None:
    _, lane = gain(monkeypatch, [LOGS] * 100, 1000 * MB, pause=0.5)
    assert lane.share() == 0


def test_a_slow_link_stays_one_while_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    _, lane = gain(monkeypatch, [LOGS] * 100, 1 * MB, pause=2.0, buffer=64 << 10)
    assert lane.share() > 0.95


def test_a_limit_is_a_slow_link(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [LOGS] * 100, 1000 * MB, limit=2 * MB)
    assert lane.share() > 0.95
    assert faster > 3.5


def test_where_there_is_time_it_compresses_more_thoroughly(monkeypatch: pytest.MonkeyPatch) -> None:
    _, slow = gain(monkeypatch, [LOGS] * 100, 6.25 * MB)
    assert slow.levels == {0, 1}
    _, faster = gain(monkeypatch, [LOGS] * 500, 60 * MB)
    assert faster.levels == {0}


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_who_had_to_wait_for_a_processor_once_goes_on(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    lane = Lane(monkeypatch, 20 * MB, round_trip=0.002)
    lane.run([LOGS] * at)
    lane.stall = 0.1
    lane.run([LOGS] * 100)
    assert lane.share() > 0.85


# Data


def test_a_link_that_is_slower_than_it_seemed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hardly pays on one pays on the other."""
    assert Lane(monkeypatch, 6.25 * MB, round_trip=0.002).run([NUMBERS]).share() == 0
    assert Lane(monkeypatch, 6.25 * MB, round_trip=0.002).run([LOGS] * 30 + [NUMBERS] * 30).share() == 1


def test_what_can_not_be_compressed_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [NOISE] * 100, 6.25 * MB)
    assert (lane.share(), faster > 0.99) == (0, True)


def test_each_kind_of_data_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = ([LOGS] * 7 + [NOISE] * 7) * 20
    lane = Lane(monkeypatch, 6.25 * MB).run(bodies)
    right = [packed == (body is LOGS) for packed, body in zip(lane.packed, bodies, strict=True)]
    assert sum(right) / len(right) > 0.95


@pytest.mark.parametrize("size", [1, 511])
def test_the_smallest_bodies_are_let_alone(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    lane = Lane(monkeypatch, 0.1 * MB, buffer=0).run([b"L" * size] * 2000)
    assert lane.share() == 0
    assert lane.levels == set()


def test_small_bodies_are_their_own_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    faster, lane = gain(monkeypatch, [LOGS[:4096]] * 5000, 6.25 * MB)
    assert faster > 3
    assert lane.share() > 0.8


def test_a_body_that_is_hardly_smaller_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(monkeypatch, 6.25 * MB)
    monkeypatch.setattr(compression, "_packers", lambda levels: [lambda data: bytes(data)[: len(data) * 91 // 100]] * 2)
    lane.compressor = Compressor(clock=lane.clock)
    assert lane.run([LOGS] * 30).share() == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 511, 512, 4096, 300_000]),
            st.floats(0, 1e4),
            st.floats(0, 1e4),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_no_clock_and_no_order_of_calls_confuses_it(steps: list[tuple[int, float, float, bool]]) -> None:
    clock = Clock()
    compressor = Compressor(clock=clock)
    for size, seconds, more, offers in steps:
        packed = compressor.offer(bytes(size)) if offers else None
        assert packed is None or len(packed) < size
        clock.now += more
        compressor.sent(size if packed is None else len(packed), seconds)


# The real thing


def log_text(size: int) -> bytes:
    chance = random.Random(size)
    lines = []
    for number in range(size // 40 + 1):
        value = chance.gauss(21, 4)
        lines.append(f"2026-01-05T06:{number // 60 % 60:02}:{number % 60:02}Z sampler: t={value:.3f} seq={number} ok\n")
    return "".join(lines).encode()[:size]


@pytest.fixture(params=["zstandard", "compression.zstd"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Either of what there is for Zstandard."""
    chosen = zstandard if request.param == "zstandard" else python_zstd
    monkeypatch.setattr(compression, "_library", lambda: chosen)
    return chosen


def slow_compressor() -> Compressor:
    """One that knows that its link is slow, and waits for no clock."""
    compressor = Compressor(round_trip=10.0, clock=lambda: 0.0)
    assert compressor.offer(b"") is None
    return compressor


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("size", [512, 1023, 1024, 1025, 4096, 100_000, MIB, 3 * MIB + 1])
@pytest.mark.parametrize("as_it_comes", [bytes, bytearray, memoryview])
def test_what_is_compressed_comes_back(size: int, as_it_comes: Callable[[bytes], Any]) -> None:
    text = log_text(size)
    compressor = slow_compressor()
    decompressor = Decompressor()
    for _ in range(2):
        packed = compressor.offer(as_it_comes(text))
        assert packed is not None
        assert len(packed) < 0.6 * size
        assert decompressor.decompress(as_it_comes(packed), size) == text
        assert decompress(packed, size) == text


def test_either_library_reads_what_the_other_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    text = log_text(200_000)
    for writer, reader in itertools.permutations((zstandard, python_zstd)):
        monkeypatch.setattr(compression, "_library", lambda chosen=writer: chosen)
        packed = slow_compressor().offer(text)
        monkeypatch.setattr(compression, "_library", lambda chosen=reader: chosen)
        assert packed is not None
        assert decompress(packed, len(text)) == text


@pytest.mark.usefixtures("library")
def test_both_levels_come_back_and_the_second_is_more_thorough() -> None:
    text = log_text(MIB)
    quick, thorough = (pack(text) for pack in compression._packers(compression._LEVELS))
    assert len(thorough) < len(quick)
    assert decompress(quick, MIB) == decompress(thorough, MIB) == text


@pytest.mark.usefixtures("library")
def test_noise_is_not_worth_it() -> None:
    assert slow_compressor().offer(random.Random(1).randbytes(300_000)) is None


def frame(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


TEXT = log_text(3000)
GOOD = frame(TEXT)
STREAMED = zstandard.ZstdCompressor().compressobj()


def frame_head(size: int, window: int | None) -> bytes:
    """The beginning of a frame that announces so many bytes, and a window of its own or one as large as that."""
    return b"\x28\xb5\x2f\xfd" + (b"\xe0" if window is None else bytes([0xC0, window])) + struct.pack("<Q", size)


def stored(window: int | None) -> bytes:
    """The text in a frame made by hand, in one block as it is."""
    return frame_head(len(TEXT), window) + (len(TEXT) << 3 | 1).to_bytes(3, "little") + TEXT


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("window", [None, 0, 17 << 3])
def test_a_frame_may_have_a_window_of_its_own(window: int | None) -> None:
    assert decompress(stored(window), len(TEXT)) == TEXT


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"", 1, id="nothing for something"),
        pytest.param(GOOD, len(TEXT) - 1, id="more than announced"),
        pytest.param(GOOD, len(TEXT) + 1, id="less than announced"),
        pytest.param(GOOD, 0, id="something for nothing"),
        pytest.param(GOOD + b"x", len(TEXT), id="something behind it"),
        pytest.param(GOOD + GOOD, len(TEXT), id="two frames"),
        pytest.param(GOOD + GOOD, 2 * len(TEXT), id="two frames for both"),
        pytest.param(GOOD + frame(b""), len(TEXT), id="an empty frame behind it"),
        pytest.param(struct.pack("<II", 0x184D2A50, 40) + bytes(40), 40, id="a frame to be skipped"),
        pytest.param(struct.pack("<II", 0x184D2A50, 0) + GOOD, len(TEXT), id="a frame to be skipped before it"),
        pytest.param(frame(TEXT, write_content_size=False), len(TEXT), id="no size"),
        pytest.param(STREAMED.compress(TEXT) + STREAMED.flush(), len(TEXT), id="no size, streamed"),
        pytest.param(stored(17 << 3)[:-1], len(TEXT), id="a window of 128 MiB, and cut short"),
        pytest.param(frame(bytes(64 << 20)), 3000, id="64 MiB of zeros"),
        pytest.param(TEXT, len(TEXT), id="not compressed"),
        pytest.param(b"\x28\xb5\x2f\xfd", 1, id="the magic number alone"),
    ],
)
def test_what_is_not_the_one_body_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"body of {len(data)} bytes does not hold just the {size} announced"):
        Decompressor().decompress(data, size)


def announcing(size: int, window: int | None = None) -> bytes:
    """A frame that says it holds ``size`` bytes; the first of its blocks is there, 128 KiB as one byte to repeat."""
    return frame_head(size, window) + ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("window", [None, 0, 17 << 3, 31 << 3])
@pytest.mark.parametrize("announced", [0, 3000, 1 << 27, (1 << 64) - 3, (1 << 64) - 1])
@pytest.mark.parametrize("size", [3000, 200_000])
def test_a_bomb_takes_no_more_memory_than_was_announced(size: int, announced: int, window: int | None) -> None:
    decompressor = Decompressor()
    all_memory = psutil.Process().memory_info().vms
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decompressor.decompress(announcing(announced, window), size)
        assert tracemalloc.get_traced_memory()[1] < size + 100_000
    finally:
        tracemalloc.stop()
    # The library has memory of its own, which it keeps.
    assert psutil.Process().memory_info().vms < all_memory + (64 << 20)


@pytest.mark.usefixtures("library")
def test_a_frame_that_is_cut_short_is_refused_wherever_it_is_cut() -> None:
    decompressor = Decompressor()
    for end in range(len(GOOD)):
        with pytest.raises(RemoteProtocolError):
            decompressor.decompress(GOOD[:end], len(TEXT))
    assert decompressor.decompress(GOOD, len(TEXT)) == TEXT


@pytest.fixture(scope="module")
def decompressors() -> list[Decompressor]:
    made = []
    for chosen in (zstandard, python_zstd):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compression, "_library", lambda chosen=chosen: chosen)
            made.append(Decompressor())
    return made


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: GOOD[:8] + data), st.integers(0, 5000))
def test_garbage_is_refused(decompressors: list[Decompressor], data: bytes, size: int) -> None:
    for decompressor in decompressors:
        try:
            body = decompressor.decompress(data, size)
        except RemoteProtocolError:
            continue
        assert len(body) == size


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_damaged_frame_is_refused_or_has_its_size(
    decompressors: list[Decompressor], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(GOOD)
    for at, change in changes:
        data[at] ^= change
    for decompressor in decompressors:
        try:
            assert len(decompressor.decompress(data, len(TEXT))) == len(TEXT)
        except RemoteProtocolError:
            assert decompressor.decompress(GOOD, len(TEXT)) == TEXT


# What is installed


def only(monkeypatch: pytest.MonkeyPatch, names: dict[str, Any]) -> None:
    """Let these modules be all that can be imported."""

    def import_module(name: str) -> Any:
        if name not in names:
            raise ModuleNotFoundError(name)
        return names[name]

    monkeypatch.setattr(compression.importlib, "import_module", import_module)


def test_what_there_is_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available()
    only(monkeypatch, {"zstandard": zstandard, "compression.zstd": python_zstd})
    assert compression._library() is zstandard
    only(monkeypatch, {"compression.zstd": python_zstd})
    assert (available(), compression._library()) == (True, python_zstd)


@pytest.mark.parametrize("use", [Compressor, Decompressor, lambda: decompress(GOOD, len(TEXT))])
def test_without_anything_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[], object]
) -> None:
    only(monkeypatch, {})
    assert not available()
    with pytest.raises(ConfigurationError, match=r"pip install 'pynetwork\[compress\]'"):
        use()

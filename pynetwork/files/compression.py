"""Compression of bodies on their way, where it pays on the link as it is.

What a link costs is seen in how long the system takes to accept what is sent, what compression saves in what it makes
of the data: both are measured on what is sent anyway, so that nothing has to be known of the link or of the files. A
body is compressed when that, and sending what is left of it, takes clearly less time than sending it as it is.

The format is Zstandard, one frame with its content's size for each body, by the package ``zstandard`` (the extra
``compress``) or Python's own ``compression.zstd`` (3.14 and newer).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections.abc import Callable
from typing import Any, Final

from handshakes.errors import ConfigurationError, RemoteProtocolError
from handshakes.messages import Bytes

__all__ = ["Compressor", "Decompressor", "available", "decompress"]

# Of logs, level 3 leaves 1 to 3 % less than level 1 and takes half as long again: that never pays. Level 6 leaves 10
# to 15 % less in five times the time: that is for a lane that would wait for its link otherwise.
_LEVELS: Final = (1, 6)
_DEEPER: Final = 6.0
# Bodies of fewer bytes are not worth the look; so many show what would become of a larger one.
_LEAST: Final = 512
_SAMPLE: Final = 64 << 10
# It pays when it takes at most this part of the time.
_GAIN: Final = 0.9
# Seconds for which what was measured counts: then it fades.
_MEMORY: Final = 1.0
# So many of those seconds sending has to block before a link is taken for slow: less is not worth saving.
_BLOCKED: Final = 0.1
# Up to so many seconds for a byte it may as well be processors that are short, which lanes of one machine share. Then
# it takes so many seconds of blocking, until compression has shown to be of use.
_SURE: Final = 20e-9
_CLOSE: Final = 0.5
# What was sent before it blocked for so long went into the buffers of the system and says nothing of the link.
_FULL: Final = 0.02
# Seconds between two bodies that are the lane's own work; it has waited for something to do if there are more.
_IDLE: Final = 0.1
# A connection begins with about 15 KB for a round trip and doubles that: it takes so many for the first of its bytes.
_TRIPS: Final = 6
_BEGINNING: Final = 1 << 20
_LONG_WAY: Final = 1e-3
# After a sample in vain there is none for so many times as long as it took, after the next for twice as many, and so
# on; but never for more than so many seconds.
_CAUTION: Final = 100.0
_PATIENCE: Final = 0.25
# A link is the bottleneck while sending blocks for at least this part of the time.
_SLACK: Final = 0.1
# What can be told from what else goes on by chance: at most this part of the bytes.
_FEWER: Final = 0.75
# Seconds after which a look is taken at what compression has brought, and without any if that was nothing.
_TRIAL: Final = (0.1, 8.0)
_REST: Final = (2.0, 64.0)


def available() -> bool:
    """Whether bodies can be compressed and decompressed here."""
    return _library() is not None


class Compressor:
    """Decides for one sending lane, body by body; it belongs to one thread.

    Ask it with `offer` before a body is sent and tell it with `sent` how that went. With ``round_trip``, the seconds to
    the other side and back, it need not wait and see on a long way: a new connection begins slowly there, whatever it
    can do. Raises `ConfigurationError` when there is nothing to compress with.
    """

    def __init__(self, *, round_trip: float = 0.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._pack = _packers(_LEVELS)
        self._link = _Link(_TRIPS * round_trip / _BEGINNING if round_trip >= _LONG_WAY else 0.0)
        self._last = clock()
        self._offered = 0
        self._spent = 0.0
        # Seconds that compressing a byte takes; and whether the data at hand looks as if it were of no use.
        self._effort = math.nan
        self._doubtful = True
        self._sample_at = -math.inf
        self._caution = _CAUTION

    def offer(self, data: Bytes) -> bytes | None:
        """The compressed form of a body that is to be sent now, or None when it is better sent as it is."""
        size = len(data)
        self._offered += size
        if size < _LEAST or not self._link.price:
            return None
        now = self._clock()
        if self._doubtful and now < self._sample_at:
            return None
        packed = self._try(memoryview(data))
        self._spent += self._clock() - now
        return packed

    def sent(self, size: int, seconds: float) -> None:
        """It took the system ``seconds`` to accept ``size`` bytes: the last body, compressed or not, and its head.

        Time for which the lane was held up on purpose, to keep to a limit, belongs to these seconds too.
        """
        now = self._clock()
        idle = max(0.0, min(now - self._last - seconds - self._spent, _IDLE))
        self._last = now
        self._link.sent(now, idle, seconds, self._spent, self._offered or size or 1, size or 1)
        self._offered = 0
        self._spent = 0.0

    def _try(self, data: memoryview) -> bytes | None:
        size = len(data)
        if self._doubtful and size > 2 * _SAMPLE:
            _, pays = self._measure(data[:_SAMPLE], 0)
            if not pays:
                return None
        packed, pays = self._measure(data, self._link.level)
        if pays:
            self._doubtful = False
            self._caution = _CAUTION
            self._link.begin(self._clock())
        return packed if len(packed) < _GAIN * size else None

    def _measure(self, data: memoryview, level: int) -> tuple[bytes, bool]:
        """What becomes of ``data``, and whether doing so with more of its kind would pay."""
        size = len(data)
        began = self._clock()
        packed = self._pack[level](data)
        seconds = self._clock() - began
        if level == 0:
            self._learn(seconds / size, 2 if size > _SAMPLE else 8)
        price = self._link.price
        pays = self._effort + len(packed) / size * price < _GAIN * price
        if not pays:
            self._doubtful = True
            self._sample_at = began + seconds + min(self._caution * seconds, _PATIENCE)
            self._caution = min(2 * self._caution, 64 * _CAUTION)
        return packed, pays

    def _learn(self, effort: float, weight: int) -> None:
        """A byte has taken so many seconds; this counts one part in ``weight``."""
        if math.isnan(self._effort):
            self._effort = effort
        # Once it may have waited for a processor; if that is the rule, it is what is to be expected. A sample is often
        # too short to meet with that.
        known = min(self._effort, 8 * effort)
        self._effort = known + (effort - known) / weight


class _Traffic:
    """What a lane has done, in sums that fade: the seconds that passed, those of them in which sending blocked and
    those of compressing; the bytes before compression and those on the wire.
    """

    __slots__ = ("blocked", "packing", "raw", "seconds", "wire")

    def __init__(self) -> None:
        self.seconds = self.blocked = self.packing = self.raw = self.wire = 0.0

    def add(self, idle: float, blocked: float, packing: float, raw: int, wire: int) -> None:
        """This has happened since."""
        seconds = idle + blocked + packing
        keep = math.exp(-seconds / _MEMORY)
        self.seconds = keep * self.seconds + seconds
        self.blocked = keep * self.blocked + blocked
        self.packing = keep * self.packing + packing
        self.raw = keep * self.raw + raw
        self.wire = keep * self.wire + wire

    @property
    def price(self) -> float:
        """Seconds that sending a byte takes, if it is the link that sets the pace: without what the lane needs anyway
        to get hold of it.

        The buffer of the system goes on emptying while the lane does something else, so it is all the time that counts.
        """
        own = self.seconds - self.blocked - self.packing
        return max(0.0, self.seconds / self.wire - own / self.raw)


class _Link:
    """Whether a lane's link is so slow that compression may help, and whether it does.

    ``price``: the seconds that a byte takes on the link; 0 when there is nothing to be saved. ``level``: how thoroughly
    to compress. ``guess``: the price until the first of its bytes have shown it.
    """

    def __init__(self, guess: float) -> None:
        self.price = self._guess = guess
        self.level = 0
        self._traffic = _Traffic()
        self._active = False
        self._trial = _TRIAL[0]
        self._review_at = 0.0
        self._judged_at = 0.0
        self._full = False
        self._enough = _CLOSE
        self._rest = _REST[0]
        self._resumes_at = -math.inf
        # Bytes a second before compression began, until it has shown to be faster.
        self._pace = 0.0

    def begin(self, now: float) -> None:
        """Bodies are compressed from now on, at most all of them."""
        if self._active:
            return
        self._pace = self._traffic.raw / self._traffic.seconds if self._full else 0.0
        self._active = self._full = True
        self._traffic = _Traffic()
        self._review_at = now + self._trial
        self._judged_at = now + (_MEMORY if self.price > _SURE else self._trial)

    def sent(self, now: float, idle: float, blocked: float, packing: float, raw: int, wire: int) -> None:
        """This has happened since the last time: as `_Traffic.add`."""
        traffic = self._traffic
        traffic.add(idle, blocked, packing, raw, wire)
        if self._guess and (self._full or traffic.wire > _BEGINNING):
            self._guess = 0.0
        if not self._full and traffic.blocked >= _FULL:
            self._full = True
            traffic = self._traffic = _Traffic()
            traffic.add(idle, blocked, packing, raw, wire)
        if self._active:
            if now >= self._review_at:
                self._review(now)
        elif traffic.blocked >= _BLOCKED and now >= self._resumes_at:
            price = traffic.price
            self.price = price if price > _SURE or traffic.blocked >= self._enough else 0.0
        else:
            self.price = self._guess

    def _review(self, now: float) -> None:
        """Compression has gone on for a while: is it of use, and could there be more of it?"""
        traffic = self._traffic
        self._review_at = now + self._trial
        helps = traffic.wire < _FEWER * traffic.raw
        if helps and now >= self._judged_at:
            if self._has_failed():
                self._stop()
                self._enough = _CLOSE
                self._resumes_at = now + self._rest
                self._rest = min(2 * self._rest, _REST[1])
                return
            self._pace = 0.0
            self._rest = _REST[0]
            self._enough = _BLOCKED
        if traffic.blocked >= _SLACK * traffic.seconds:
            self._trial = _TRIAL[0]
            if not self._pace:
                self.price = traffic.price
            if helps and traffic.blocked > _DEEPER * traffic.packing:
                self.level = 1
        elif self.level:
            self.level = 0
        else:
            # The link could take more. How much more only shows without compression.
            self._stop()
            self._trial = min(2 * self._trial, _TRIAL[1])

    def _has_failed(self) -> bool:
        """Less goes over the wire and no more arrives: something else sets the pace, the other side or a processor."""
        before = self._pace * self._traffic.seconds
        return self._traffic.raw < before / _GAIN and self._traffic.wire < _FEWER * before

    def _stop(self) -> None:
        self._active = self._full = False
        self.price = 0.0
        self.level = 0
        self._traffic = _Traffic()


class Decompressor:
    """Decompresses bodies, one after the other. Raises `ConfigurationError` when there is nothing to do it with."""

    def __init__(self) -> None:
        self._unpack = _unpacker()

    def decompress(self, data: Bytes, size: int) -> bytes:
        """The body of ``size`` bytes whose compressed form ``data`` is.

        Raises `RemoteProtocolError` when it is not just that. Memory is taken for ``size`` bytes, whatever is in it.
        """
        body = self._unpack(data, size)
        if body is None or len(body) != size:
            raise RemoteProtocolError(f"a compressed body of {len(data)} bytes does not hold just the {size} announced")
        return body


def decompress(data: Bytes, size: int) -> bytes:
    """As `Decompressor.decompress`, for once."""
    return Decompressor().decompress(data, size)


def _library() -> Any:
    """What there is for Zstandard; None when there is nothing."""
    for name in ("zstandard", "compression.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


def _library_or_raise() -> Any:
    library = _library()
    if library is None:
        raise ConfigurationError(
            "compression needs the package zstandard: pip install 'pynetwork[compress]', on both sides"
        )
    return library


def _packers(levels: tuple[int, ...]) -> list[Callable[[Bytes], bytes]]:
    """A function for each level that makes one frame of a body."""
    library = _library_or_raise()
    return [_packer(library.ZstdCompressor(level=level)) for level in levels]


def _packer(compressor: Any) -> Callable[[Bytes], bytes]:
    whole_frame: int | None = getattr(compressor, "FLUSH_FRAME", None)
    if whole_frame is None:
        pack: Callable[[Bytes], bytes] = compressor.compress
        return pack
    return lambda data: bytes(compressor.compress(data, whole_frame))


def _unpacker() -> Callable[[Bytes, int], bytes | None]:
    """A function that answers what is in a frame of so many bytes, or None if that can't be or something is wrong.

    Of a frame that says how much is in it the libraries take no memory for more than that, whatever its window.
    """
    library = _library_or_raise()
    unpack = _unpacker_of_package if library.__name__ == "zstandard" else _unpacker_of_python
    return unpack(library)


def _unpacker_of_package(library: Any) -> Callable[[Bytes, int], bytes | None]:
    decompressor = library.ZstdDecompressor()

    def unpack(data: Bytes, size: int) -> bytes | None:
        try:
            if library.get_frame_parameters(data).content_size != size:
                return None
            body: bytes = decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
        except library.ZstdError:
            return None
        return body

    return unpack


def _unpacker_of_python(library: Any) -> Callable[[Bytes, int], bytes | None]:
    def unpack(data: Bytes, size: int) -> bytes | None:
        try:
            if library.get_frame_info(data).decompressed_size != size:
                return None
            # One of these is good for one frame.
            decompressor = library.ZstdDecompressor()
            body: bytes = decompressor.decompress(data, max_length=size)
        except library.ZstdError:
            return None
        return body if decompressor.eof and not decompressor.unused_data else None

    return unpack

"""What may stand in a file of the mirror: what was right once, at the source."""

from __future__ import annotations

import zlib
from pathlib import Path

from tools.soak.torture.lines import LINE, mark_at
from tools.soak.torture.scene import RING, RING_LINES, stream_of

__all__ = ["Truth"]


class Truth:
    """What may stand in a file, by the ``reference``: a file of all lines for each stream."""

    def __init__(self, reference: Path) -> None:
        self._reference = reference

    def fault(self, path: str, data: bytes) -> str | None:
        """What is wrong with ``data`` as the content of the file at ``path`` in the share at some time; None when
        nothing is.

        It has to be a run of whole consecutive lines of its stream, of which the last may be cut short; compressed or
        not. The ring is one round up to some line, and the round before from there on.
        """
        stream = stream_of(path)
        if stream is None:
            return "no file of this name was ever written"
        if stream == RING:
            return self._fault_of_ring(data)
        if path.endswith(".gz"):
            try:
                data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
            except zlib.error as error:
                return f"it can't be decompressed: {error}"
        return self._fault_of_run(stream, data)

    def _fault_of_run(self, stream: str, data: bytes) -> str | None:
        if len(data) < LINE:
            # Of less than a line nobody knows which one it is; small files and fresh logs get here.
            known = data[: len(stream) + 2] == f"#{stream} ".encode()[: len(data)]
            return None if known else f"{len(data)} bytes that begin no line"
        found = mark_at(data, 0)
        if found is None or found[0] != stream:
            return f"it begins with {data[:40]!r}, which is no line of {stream!r}"
        return self._difference(stream, found[1], data)

    def _difference(self, stream: str, first: int, data: bytes) -> str | None:
        """Where ``data`` is something else than the lines from number ``first`` on."""
        with (self._reference / stream).open("rb") as file:
            file.seek(first * LINE)
            expected = file.read(len(data))
        if data == expected:
            return None
        at = next(at for at in range(0, len(data), LINE) if data[at : at + LINE] != expected[at : at + LINE])
        return (
            f"at byte {at} of {len(data)} there is not line {first + at // LINE} of {stream!r} "
            f"but {data[at : at + 40]!r}"
        )

    def _fault_of_ring(self, data: bytes) -> str | None:
        if len(data) != RING_LINES * LINE:
            return f"it has {len(data)} bytes, never more or fewer than {RING_LINES * LINE} were written"
        marks = [mark_at(data, at) for at in range(0, len(data), LINE)]
        numbers = [-1 if mark is None or mark[0] != RING else mark[1] for mark in marks]
        fresh = next((at for at, number in enumerate(numbers) if number != numbers[0] + at), RING_LINES)
        parts = [(numbers[0], 0, fresh), (numbers[0] + fresh - RING_LINES, fresh, RING_LINES)]
        if any(number < 0 for number in numbers):
            return "a part of it is no line of the ring"
        for first, start, end in parts:
            if start < end and (fault := self._difference(RING, first, data[start * LINE : end * LINE])):
                return f"lines {start} to {end}: {fault}"
        return None

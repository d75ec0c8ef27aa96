"""The plan of a job: which chunks and packs are still to be moved, and which have arrived.

Pure bookkeeping, without threads, clocks or files. Whoever uses a plan from several threads holds a lock
around each call. Lanes ``take`` work until nothing is left to take; what a lane can't finish it gives back.
The job is ``finished`` when every file is settled, one way or the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from handshakes.errors import RemoteProtocolError
from handshakes.manifest import DIGEST_SIZE, Entry, chunk_count, digest

__all__ = ["TRIES", "Assembly", "ChunkPlan", "Compare", "LargeFile", "Pack", "Piece", "Run", "Seal", "Work"]

TRIES: Final = 3
"""How often a damaged chunk is asked for, and how often a file that changes is begun anew."""

_COMPARED_AT_ONCE: Final = 32 << 20
_MOST_COMPARED: Final = 1 << 10
_MORE_FILES: Final = 8
"""So many large files, and four a lane, are open at a time."""


class Assembly:
    """Which of ``count`` chunks have arrived, and their digests. Takes 17 bytes a chunk, once the first has
    arrived.
    """

    __slots__ = ("_arrived", "_digests", "count", "missing")

    def __init__(self, count: int) -> None:
        self.count = count
        self.missing = count
        self._arrived = bytearray()
        self._digests = bytearray()

    def accept(self, index: int, chunk_digest: bytes) -> bool:
        """Chunk ``index`` is in its place. False when it was before: then nothing changes.

        Raises `RemoteProtocolError` for an index that the file does not have.
        """
        if not 0 <= index < self.count:
            raise RemoteProtocolError(f"chunk {index} came for a file of {self.count} chunks")
        if self.has(index):
            return False
        if not self._arrived:
            self._arrived = bytearray(self.count)
            self._digests = bytearray(self.count * DIGEST_SIZE)
        self._arrived[index] = 1
        self._digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE] = chunk_digest
        self.missing -= 1
        return True

    def has(self, index: int) -> bool:
        """Whether chunk ``index`` has arrived."""
        return bool(self._arrived) and bool(self._arrived[index])

    def get(self, index: int) -> bytes | None:
        """The digest of chunk ``index``, None when it has not arrived."""
        if not self.has(index):
            return None
        return bytes(self._digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE])

    def digest(self) -> bytes:
        """The digest of the whole file, once nothing is missing."""
        assert not self.missing
        return bytes(self._digests) if self.count == 1 else digest(self._digests)


class LargeFile:
    """A file that moves chunk by chunk. ``origin``, ``handle`` and ``steady`` belong to whoever drives the
    plan.

    ``steady`` is to say whether every chunk so far came from the file as ``entry`` describes it. ``known``: so many
    bytes at its beginning may be there already; those chunks are compared before any of them is moved.
    """

    __slots__ = (
        "_bad",
        "_compared",
        "_returned",
        "assembly",
        "chunk",
        "cursor",
        "entry",
        "generation",
        "handle",
        "known",
        "origin",
        "settled",
        "steady",
    )

    def __init__(self, entry: Entry, chunk: int, origin: object = None, known: int = 0) -> None:
        self.origin = origin
        self.known = known
        self.handle: object = None
        self.chunk = chunk
        self.generation = 0
        self.settled = False
        self.begin(entry)

    def begin(self, entry: Entry) -> None:
        """Forget all chunks: the file is now ``entry``."""
        self.entry = entry
        self.assembly = Assembly(chunk_count(entry.size, self.chunk))
        self.steady = True
        self.cursor = chunk_count(min(self.known, entry.size), self.chunk)
        self._compared: deque[tuple[int, int]] = deque([(0, self.cursor)] if self.cursor else [])
        self._returned: deque[tuple[int, int]] = deque()
        self._bad: dict[int, int] = {}

    def length(self, index: int) -> int:
        """The bytes of chunk ``index``."""
        return min(self.chunk, self.entry.size - index * self.chunk)

    @property
    def pending(self) -> bool:
        """Whether chunks are left to take."""
        return bool(self._compared or self._returned) or self.cursor < self.assembly.count

    def take_comparison(self) -> tuple[int, int] | None:
        """First and count of consecutive chunks to compare next; None when all were."""
        if not self._compared:
            return None
        most = max(1, min(_MOST_COMPARED, _COMPARED_AT_ONCE // self.chunk))
        first, count = self._compared.popleft()
        if count > most:
            self._compared.appendleft((first + most, count - most))
        return first, min(count, most)

    def compare_again(self, first: int, count: int) -> None:
        """These chunks were not compared after all."""
        if count:
            self._compared.appendleft((first, count))

    def take(self, most: int) -> tuple[int, int]:
        """First and count of up to ``most`` consecutive chunks that are still to be moved."""
        if self._returned:
            first, count = self._returned.popleft()
            if count > most:
                self._returned.appendleft((first + most, count - most))
            return first, min(count, most)
        first = self.cursor
        count = min(most, self.assembly.count - first)
        self.cursor += count
        return first, count

    def put_back(self, first: int, count: int) -> int:
        """These chunks did not make it; answers how many of them are still wanted."""
        wanted = [index for index in range(first, first + count) if not self.assembly.has(index)]
        for index in wanted:
            if self._returned and sum(self._returned[-1]) == index:
                begin, length = self._returned.pop()
                self._returned.append((begin, length + 1))
            else:
                self._returned.append((index, 1))
        return len(wanted)

    def close(self) -> None:
        """The file is settled: nothing is left to take."""
        self.settled = True
        self.cursor = self.assembly.count
        self._compared.clear()
        self._returned.clear()

    @property
    def arrived(self) -> int:
        """Bytes of the chunks that have arrived."""
        assembly = self.assembly
        if not assembly.missing:
            return self.entry.size
        arrived = (assembly.count - assembly.missing) * self.chunk
        last = assembly.count - 1
        return arrived - (self.chunk - self.length(last)) * assembly.has(last)

    def note_bad(self, index: int) -> bool:
        """Chunk ``index`` came damaged; True while it may be tried again."""
        self._bad[index] = self._bad.get(index, 0) + 1
        return self._bad[index] < TRIES


@dataclass(slots=True, eq=False)
class Run:
    """``count`` chunks of ``file`` from number ``first``; void when the file has begun another generation."""

    file: LargeFile
    generation: int
    first: int
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        end = min(self.file.entry.size, (self.first + self.count) * self.file.chunk)
        return max(0, end - self.first * self.file.chunk)

    @property
    def void(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.file.settled or self.file.generation != self.generation


@dataclass(slots=True, eq=False)
class Compare:
    """``count`` chunks of ``file`` from number ``first``: which of them are there already?"""

    file: LargeFile
    generation: int
    first: int
    count: int
    size: int = 0

    @property
    def void(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.file.settled or self.file.generation != self.generation


@dataclass(slots=True, eq=False)
class Piece:
    """The end of chunk ``first`` of ``file``, of which the first ``skip`` bytes are there. What can't be had of it is
    compared anew.
    """

    file: LargeFile
    generation: int
    first: int
    skip: int

    @property
    def void(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.file.settled or self.file.generation != self.generation


@dataclass(slots=True, eq=False)
class Seal:
    """All chunks of ``file`` have arrived: compare its digest and complete it."""

    file: LargeFile
    generation: int
    size: int = 0

    @property
    def void(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.file.settled or self.file.generation != self.generation


@dataclass(slots=True, eq=False)
class Pack:
    """``count`` small files that move in one message; ``table`` holds their entries in wire form."""

    table: bytes
    count: int
    size: int
    origin: object = None
    tries: int = 0


Work = Run | Compare | Piece | Seal | Pack


class ChunkPlan:
    """The work of one job, shared by ``lanes`` lanes.

    Figures: ``files_done`` of ``files_total``, ``bytes_done`` of ``bytes_total``; ``chunks`` that arrived (a
    small file is one) and ``chunks_again``, how many had to be moved again after damage, a change or a lost
    lane. While it is ``open`` more may be added, and it does not finish.
    """

    def __init__(self, lanes: int = 1) -> None:
        self._lanes = max(1, lanes)
        self._seals: deque[Seal] = deque()
        self._active: deque[LargeFile] = deque()
        self._large: deque[LargeFile] = deque()
        self._packs: deque[Pack] = deque()
        self._unsettled = 0
        self._begun = 0
        self.open = False
        self.files_done = self.files_total = 0
        self.bytes_done = self.bytes_total = 0
        self.chunks = self.chunks_again = 0

    # Filling

    def add_file(self, file: LargeFile) -> None:
        """A file to move chunk by chunk; it has at least one chunk."""
        self._large.append(file)
        self._unsettled += 1
        self.files_total += 1
        self.bytes_total += file.entry.size

    def add_pack(self, pack: Pack) -> None:
        """Small files to move together."""
        self._packs.append(pack)
        self._unsettled += 1
        self.files_total += pack.count
        self.bytes_total += pack.size

    # Taking and giving back

    @property
    def finished(self) -> bool:
        """Whether every file is settled."""
        return self._unsettled == 0 and not self.open

    @property
    def unsettled(self) -> int:
        """How many packs and large files are not settled."""
        return self._unsettled

    def take(self, budget: int) -> Work | None:
        """The next piece of work, of about ``budget`` bytes at the most; None when nothing is left to take
        now.

        What completes files comes first, then large files in their order, so many at a time, then packs.
        Towards the end pieces become smaller, so that all lanes end together.
        """
        if self._seals:
            return self._seals.popleft()
        while self._active and not self._active[0].pending:
            self._active.popleft()
        if not self._active and self._large and self._begun < 4 * self._lanes + _MORE_FILES:
            self._active.append(self._large.popleft())
            self._begun += 1
        if self._active:
            file = self._active[0]
            comparison = file.take_comparison()
            if comparison is not None:
                return Compare(file, file.generation, *comparison)
            fair = (self.bytes_total - self.bytes_done) // (2 * self._lanes)
            first, count = file.take(max(1, min(budget, fair) // file.chunk))
            return Run(file, file.generation, first, count)
        return self._packs.popleft() if self._packs else None

    def give_back(self, work: Work) -> None:
        """A lane could not finish ``work``: somebody else will. Of a run, give back what has not arrived."""
        if isinstance(work, Pack):
            self._packs.appendleft(work)
            self.chunks_again += work.count
        elif work.void:
            return
        elif isinstance(work, Seal):
            self._seals.append(work)
        elif isinstance(work, (Compare, Piece)):
            work.file.compare_again(work.first, work.count if isinstance(work, Compare) else 1)
            self._activate(work.file)
        else:
            self._put_back(work.file, work.first, work.count)

    def _put_back(self, file: LargeFile, first: int, count: int) -> None:
        wanted = file.put_back(first, count)
        self.chunks_again += wanted
        self._activate(file)

    def _activate(self, file: LargeFile) -> None:
        if file.pending and file not in self._active:
            self._active.appendleft(file)

    # What became of it

    def chunk_differs(self, compare: Compare, index: int) -> None:
        """Chunk ``index`` was compared and is not there: it will be moved."""
        if not compare.void and compare.file.put_back(index, 1):
            self._activate(compare.file)

    def chunk_arrived(self, run: Run | Compare | Piece, index: int, chunk_digest: bytes) -> None:
        """Chunk ``index`` of ``run`` is verified and in its place. The last one of a file brings its seal up."""
        file = run.file
        if run.void or not file.assembly.accept(index, chunk_digest):
            return
        self.chunks += 1
        self.bytes_done += file.length(index)
        if not file.assembly.missing:
            self._seals.append(Seal(file, file.generation))

    def chunk_damaged(self, run: Run | Compare | Piece, index: int) -> bool:
        """Chunk ``index`` of ``run`` came damaged: it will be moved again. False when it was tried often
        enough.
        """
        if run.void or run.file.assembly.has(index):
            return True
        if not run.file.note_bad(index):
            return False
        self._put_back(run.file, index, 1)
        return True

    def begin_again(self, work: Run | Compare | Piece | Seal, entry: Entry) -> bool:
        """The file has changed and is now ``entry``: move it from the beginning. False when that happened too
        often.

        ``work`` must not be void. The caller puts a new file in place of what it has gathered.
        """
        file = work.file
        if file.generation + 1 >= TRIES:
            return False
        self.bytes_done -= file.arrived
        self.bytes_total += entry.size - file.entry.size
        self.chunks_again += file.assembly.count - file.assembly.missing
        file.generation += 1
        file.begin(entry)
        if file.pending:
            self._activate(file)
        else:
            self._seals.append(Seal(file, file.generation))
        return True

    def settle_file(self, file: LargeFile, *, done: bool) -> bool:
        """``file`` is complete under its name, or (not ``done``) given up. False when it was settled before."""
        if file.settled:
            return False
        if done:
            self.files_done += 1
        else:
            self.bytes_done -= file.arrived
            self.bytes_total -= file.entry.size
            self.files_total -= 1
        file.close()
        self._unsettled -= 1
        self._begun -= 1
        return True

    def settle_pack(self, pack: Pack, done: int, size: int) -> None:
        """``done`` files of ``pack`` with ``size`` bytes are complete; what is to be moved again is added anew."""
        self._unsettled -= 1
        self.files_done += done
        self.bytes_done += size
        self.chunks += done
        self.files_total += done - pack.count
        self.bytes_total += size - pack.size

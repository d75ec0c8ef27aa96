"""One lane of a backup: brings what is wanted, of each file only what is not here."""

from __future__ import annotations

from handshakes.chunks import Compare, Pack, Piece, Run, Seal, Work
from handshakes.deltas import (
    Beginning,
    GrownRow,
    PieceWant,
    Range,
    decode_grown_rows,
    decode_sums,
    encode_grown,
    encode_ranges,
)
from handshakes.errors import RemoteProtocolError, UnsafePath
from handshakes.manifest import Entry, Skipped, chunk_size_for, digest
from handshakes.messages import Bytes, Message
from handshakes.transfer import ChunkHead, Code, Compressed, Row, Status, Want, reason_text
from pynetwork.backup.finding import Wanted
from pynetwork.backup.gathering import Gathering, gathering_of, holds
from pynetwork.backup.mirror import Base
from pynetwork.backup.plan import BackupPlan, local_reason
from pynetwork.files.compression import Decompressor
from pynetwork.files.descriptors import read_into
from pynetwork.files.downloads import DownloadLane, other_entry
from pynetwork.files.folders import Folder
from pynetwork.files.jobs import Asked, Carrier
from pynetwork.files.partials import PartialFile, write_file

__all__ = ["BackupLane"]

_COMPRESSED = bytes((Status.COMPRESSED,))
_PLAIN = bytes((Status.OK,))


class BackupLane(DownloadLane):
    """One lane of a backup."""

    job: BackupPlan

    def __init__(self, job: BackupPlan, operation: Carrier, folder: Folder) -> None:
        super().__init__(job, operation, folder)
        self._buffer = memoryview(b"")
        self._decompressor: Decompressor | None = None

    def _room(self, size: int) -> memoryview:
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(size))
        return self._buffer[:size]

    def local_reason(self, error: Exception) -> str:
        return local_reason(error)

    # Asking

    def ask(self, work: Work) -> None:
        if isinstance(work, Pack) and isinstance(work.origin, list):
            files = [
                (each.entry, [Beginning(base.size, base.digest or b"") for base in each.bases]) for each in work.origin
            ]
            body = encode_grown(files)
            self.expect(work, work.size + 512 * work.count, len(body))
            self.operation.send(Code.GROWN, b"", body)
        elif isinstance(work, Compare):
            self._ask_sums(work)
        else:
            super().ask(work)

    def _prepare(self, work: Run | Compare | Piece | Seal) -> Entry | None:
        with self.job.changed:
            if work.void:
                return None
            if work.file.handle is None:
                gathering = gathering_of(work.file)
                place = gathering.wanted.place
                self.job.touched.add(gathering.wanted.folder)
                self.job.begin_file(gathering.wanted)
                self.job.keep(work.file, PartialFile(self._folder, work.file.entry._replace(path=place), keep=True))
                gathering.open(self.job.mirror, self._folder)
            return work.file.entry

    def _ask_sums(self, compare: Compare) -> None:
        try:
            entry = self._prepare(compare)
        except (UnsafePath, OSError) as error:
            self._give_up(compare, local_reason(error))
            return
        if entry is None:
            return
        with self.job.changed:
            if compare.void:
                return
            ranges = self._ranges(compare)
        body = encode_ranges(ranges)
        head = Want(entry, compare.file.chunk).encode()
        self.expect(compare, 20 * len(ranges), len(head) + len(body))
        self.operation.send(Code.SUMS, head, body)
        self.asked[-1].lengths = [each.length for each in ranges]

    def _ranges(self, compare: Compare) -> list[Range]:
        """The chunks, and before each of them its beginnings that end where something that is here ends."""
        file = compare.file
        gathering = gathering_of(file)
        ranges = []
        for index in range(compare.first, compare.first + compare.count):
            offset, length = index * file.chunk, file.length(index)
            sizes = {base.size - offset for base, _ in gathering.bases if offset < base.size < offset + length}
            ranges += [Range(offset, size) for size in sorted(sizes)]
            ranges.append(Range(offset, length))
        return ranges

    # Being answered

    def answered(self, asked: Asked, message: Message) -> int:
        work = asked.work
        self.job.count_received(len(message.body))
        message = self._expand(work, message)
        if isinstance(work, Compare) and message.code == Code.SUMS:
            self._compare(work, asked.lengths, ChunkHead.decode(message.head), message)
        elif isinstance(work, Piece) and message.code == Code.PIECE:
            self._keep_piece(work, ChunkHead.decode(message.head), message)
        elif isinstance(work, Pack) and isinstance(work.origin, list) and message.code == Code.GROWN:
            self._keep_grown(work, work.origin, message)
        else:
            return super().answered(asked, message)
        self.done(asked)
        return asked.cost

    def _expand(self, work: Work, message: Message) -> Message:
        """A message as it was before it was compressed."""
        if message.code in (Code.PACK, Code.GROWN):
            if not message.head:
                return message
            table, size = Compressed.decode(message.head, message.body)
            body = memoryview(message.body)
            data = self._decompress(body[table:], size)
            return Message(message.code, b"", b"".join((body[:table], data)))
        if message.code not in (Code.CHUNK, Code.PIECE) or message.head[:1] != _COMPRESSED:
            return message
        if isinstance(work, Run):
            length = work.file.length(self.asked[0].next)
        elif isinstance(work, Piece):
            length = work.file.length(work.first) - work.skip
        else:
            raise RemoteProtocolError(f"message {message.code} does not answer what was asked")
        return Message(message.code, _PLAIN + message.head[1:], self._decompress(message.body, length))

    def _decompress(self, data: Bytes, size: int) -> bytes:
        if self._decompressor is None:
            self._decompressor = Decompressor()
        return self._decompressor.decompress(data, size)

    # Small files

    def _write_pack(
        self, entries: list[Entry], rows: list[Row], data: memoryview, again: list[Entry], skipped: list[Skipped]
    ) -> tuple[int, int]:
        at = size = done = 0
        for entry, (status, mode, length, mtime_ns, expected) in zip(entries, rows, strict=True):
            piece = data[at : at + length]
            at += length
            if status is Status.FAILED:
                skipped.append(Skipped(entry.path, reason_text(piece)))
            elif status is Status.CHANGED:
                again.append(other_entry(entry, piece))
            elif status is not Status.OK or length > entry.size:
                raise RemoteProtocolError(f"{length} bytes of {entry.path!r} came in place of {entry.size}")
            elif digest(piece) != expected:
                again.append(entry)
            elif self._write_small(entry, Entry(entry.path, length, mtime_ns, mode), piece, expected, None, skipped):
                done += 1
                size += length
        return done, size

    def _write_small(
        self,
        asked: Entry,
        arrived: Entry,
        data: memoryview | bytes,
        whole: bytes,
        base: Base | None,
        skipped: list[Skipped],
    ) -> bool:
        """Write a small file; False when that can't be, which is told in ``skipped`` then."""
        job = self.job
        wanted = job.wanted[asked.path]
        try:
            # An empty beginning is one of every file, whatever stands there.
            grown = base is not None and base.place == wanted.place and job.is_in_place(self._folder, base)
            if not grown:
                job.hold(self._folder, wanted)
            write_file(self._folder, arrived._replace(path=wanted.place), data, durable=False)
        except (UnsafePath, OSError) as error:
            skipped.append(Skipped(asked.path, local_reason(error)))
            return False
        job.give_owner(self._folder, wanted)
        moved = base is not None and base.place != wanted.place
        change = "grown" if grown else "moved" if moved else ""
        job.done(wanted, asked, arrived, whole, change)
        return True

    def _keep_grown(self, pack: Pack, files: list[Wanted], message: Message) -> None:
        rows, data = decode_grown_rows(message.body, len(files))
        skipped: list[Skipped] = []
        again: list[Entry] = []
        with self.job.turn.taken():
            done, size = self._write_grown(files, rows, data, again, skipped)
        with self.job.changed:
            self.job.settle_pack(pack, done, size, again, skipped)

    def _write_grown(
        self,
        files: list[Wanted],
        rows: list[GrownRow],
        data: memoryview,
        again: list[Entry],
        skipped: list[Skipped],
    ) -> tuple[int, int]:
        at = size = done = 0
        for wanted, row in zip(files, rows, strict=True):
            piece = data[at : at + row.length]
            at += row.length
            entry = wanted.entry
            if row.status is Status.FAILED:
                skipped.append(Skipped(entry.path, reason_text(piece)))
            elif row.status is Status.CHANGED:
                again.append(other_entry(entry, piece))
            elif row.status is not Status.OK or row.known > len(wanted.bases):
                raise RemoteProtocolError(f"an answer about {entry.path!r} makes no sense")
            elif self._write_joined(wanted, entry, row, piece, again, skipped):
                done += 1
                size += entry.size
        return done, size

    def _write_joined(
        self,
        wanted: Wanted,
        entry: Entry,
        row: GrownRow,
        piece: memoryview,
        again: list[Entry],
        skipped: list[Skipped],
    ) -> bool:
        """Write a file that begins with what is here, if that is still what it was."""
        base = wanted.bases[row.known - 1] if row.known else None
        beginning = b"" if base is None else self.job.mirror.read_base(self._folder, base, wanted.place)
        whole = None if beginning is None else beginning + piece
        if whole is None or digest(whole) != row.digest:
            again.append(entry)
            return False
        if len(whole) > entry.size:
            raise RemoteProtocolError(f"{len(whole)} bytes of {entry.path!r} came in place of {entry.size}")
        arrived = Entry(entry.path, len(whole), row.mtime_ns, row.mode)
        if (
            base is not None
            and not len(piece)
            and base.place == wanted.place
            and self.job.is_in_place(self._folder, base)
        ):
            return self._touch(wanted, entry, arrived, row.digest, skipped)
        return self._write_small(entry, arrived, whole, row.digest, base, skipped)

    def _touch(self, wanted: Wanted, entry: Entry, arrived: Entry, whole: bytes, skipped: list[Skipped]) -> bool:
        """The content is in its place already: give it its mode and time."""
        try:
            self.job.set_metadata(self._folder, wanted.place, arrived)
        except OSError as error:
            skipped.append(Skipped(entry.path, local_reason(error)))
            return False
        self.job.give_owner(self._folder, wanted)
        self.job.done(wanted, entry, arrived, whole, "same")
        return True

    # Large files

    def _compare(self, compare: Compare, lengths: list[int], head: ChunkHead, message: Message) -> None:
        job, file = self.job, compare.file
        with job.changed:
            if compare.void or not self._may_go_on(compare, head, message):
                return
        found = decode_sums(message.body, len(lengths))
        at = 0
        for index in range(compare.first, compare.first + compare.count):
            beginnings: list[tuple[int, bytes]] = []
            while lengths[at] != file.length(index):
                beginnings.append((lengths[at], found[at]))
                at += 1
            try:
                self._compare_chunk(compare, index, found[at], beginnings)
            except OSError as error:
                self._give_up(compare, local_reason(error))
                return
            at += 1

    def _compare_chunk(
        self, compare: Compare, index: int, expected: bytes, beginnings: list[tuple[int, bytes]]
    ) -> None:
        """Take chunk ``index`` from what is here, or what can be had of it, or else have it moved."""
        file = compare.file
        partial = file.handle
        with self.job.changed:
            if compare.void or not isinstance(partial, PartialFile) or file.assembly.has(index):
                return
            gathering = gathering_of(file)
            bases = list(gathering.bases)
        offset, length = index * file.chunk, file.length(index)
        view = self._room(length)
        if partial.had > offset and partial.read_into(view, offset) == length and digest(view) == expected:
            self._arrived(compare, index, expected)
            return
        for base, handle in bases:
            if base.size < offset + length or not holds(bases, base, handle, view, offset, expected):
                continue
            if base.place != gathering.wanted.place:
                partial.write(view, offset)
            with self.job.changed:
                # Meanwhile another lane may have begun the file anew: then this is about another content.
                if base.place != gathering.wanted.place:
                    gathering.moved = True
                elif not compare.void:
                    gathering.own[index] = (length, expected)
                self.job.chunk_arrived(compare, index, expected)
            return
        for size, known in reversed(beginnings):
            if self._take_beginning(compare, gathering, bases, index, size, known, expected):
                return
        with self.job.changed:
            self.job.plan.chunk_differs(compare, index)
            self.job.notify()

    def _arrived(self, work: Compare | Piece, index: int, expected: bytes) -> None:
        with self.job.changed:
            self.job.chunk_arrived(work, index, expected)

    def _take_beginning(
        self,
        compare: Compare,
        gathering: Gathering,
        bases: list[tuple[Base, int]],
        index: int,
        size: int,
        known: bytes,
        expected: bytes,
    ) -> bool:
        """A file that is here ends within chunk ``index``, and the chunk begins as that ends: ask for the rest."""
        file = compare.file
        offset, length = index * file.chunk, file.length(index)
        view = self._room(length)
        for base, handle in bases:
            if base.size != offset + size or not holds(bases, base, handle, view[:size], offset, known):
                continue
            own = base.place == gathering.wanted.place
            with self.job.changed:
                partial = file.handle
                if compare.void or not isinstance(partial, PartialFile):
                    return True
                gathering.expected[index] = expected
                if own:
                    gathering.own[index] = (size, known)
                else:
                    gathering.moved = True
            if not own:
                partial.write(view[:size], offset)
            # An earlier try may have brought the rest before it was stopped.
            if partial.read_into(view[size:], offset + size) == length - size and digest(view) == expected:
                self._arrived(compare, index, expected)
                return True
            entry = file.entry
            head = PieceWant(Want(entry, file.chunk, index, 1), size).encode()
            self.expect(Piece(file, compare.generation, index, size), length - size, len(head))
            self.operation.send(Code.PIECE, head)
            return True
        return False

    def _keep_piece(self, piece: Piece, head: ChunkHead, message: Message) -> None:
        job, file = self.job, piece.file
        with job.changed:
            if piece.void or not self._may_go_on(piece, head, message):
                return
            partial = file.handle
            gathering = gathering_of(file)
            expected = gathering.expected.get(piece.first, b"")
            own = gathering.own.get(piece.first)
            handle = gathering.own_handle
        assert isinstance(partial, PartialFile)
        offset, length = piece.first * file.chunk, file.length(piece.first)
        if head.number != piece.first or len(message.body) != length - piece.skip:
            raise RemoteProtocolError(f"a piece of {len(message.body)} bytes came in place of {length - piece.skip}")
        view = self._room(length)
        try:
            if own is not None and handle is not None:
                got = read_into(handle, view[: piece.skip], offset)
            else:
                got = partial.read_into(view[: piece.skip], offset)
            view[piece.skip :] = message.body
            if got != piece.skip or digest(view) != expected:
                with job.changed:
                    gathering.own.pop(piece.first, None)
                    job.chunk_damaged(piece, piece.first)
                return
            partial.write(message.body, offset + piece.skip)
        except OSError as error:
            self._give_up(piece, local_reason(error))
            return
        self._arrived(piece, piece.first, expected)

    def _seal(self, seal: Seal, head: ChunkHead, message: Message) -> None:
        job, file = self.job, seal.file
        with job.changed:
            if seal.void or not self._is_whole(seal, head, message):
                return
            partial, entry, gathering = file.handle, file.entry, gathering_of(file)
            whole = file.assembly.digest()
            start = gathering.own_size if gathering.can_be_appended(file) else 0
        assert isinstance(partial, PartialFile)
        wanted = gathering.wanted
        target = entry._replace(path=wanted.place)
        try:
            change = self._complete(partial, target, gathering, start)
        except _OwnChanged:
            with job.changed:
                if not seal.void:
                    job.begin_again(seal, entry)
            return
        except OSError as error:
            self._give_up(seal, local_reason(error))
            return
        job.give_owner(self._folder, wanted)
        job.catalogue.end_file(wanted.place)
        job.done(wanted, entry, entry, whole, change, steady=head.shows(entry))
        with job.changed:
            if not seal.void:
                job.finish_file(file)

    def _complete(self, partial: PartialFile, target: Entry, gathering: Gathering, start: int) -> str:
        """Let the file have its name; answers in which way it had changed."""
        if gathering.is_in_place(target):
            self.job.set_metadata(self._folder, target.path, target)
            partial.discard()
            return "same"
        if start and partial.complete_by_appending(target, start):
            return "grown"
        wanted = gathering.wanted
        handle = gathering.own_handle
        chunk = chunk_size_for(target.size)
        for index, (length, expected) in gathering.own.items():
            view = self._room(length)
            if handle is None or read_into(handle, view, index * chunk) < length or digest(view) != expected:
                raise _OwnChanged
            partial.write(view, index * chunk)
        if not start:
            self.job.hold(self._folder, wanted)
        partial.complete(target)
        return "grown" if start else "moved" if gathering.moved and not gathering.own else ""


class _OwnChanged(Exception):
    """What stood under the file's name is not any more what it was a moment ago."""

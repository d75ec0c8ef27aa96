from __future__ import annotations

from typing import Any

import pytest

from handshakes.deltas import Beginning, PieceWant, Range, encode_grown, encode_ranges
from handshakes.errors import RemoteProtocolError
from handshakes.manifest import CHUNK_SIZE, digest, encode_file
from handshakes.messages import Message
from handshakes.transfer import ChunkHead, Code, Compressed, Status, Want
from pynetwork.files import answering
from pynetwork.files.answering import Answerer
from pynetwork.files.compression import Decompressor
from pynetwork.files.folders import Folder
from pynetwork.files.reading import DigestCache, Reader

TEXT = b"".join(b"line %d of a log that says much the same\n" % number for number in range(60000))


class Recorder:
    """An operation that keeps what is sent."""

    round_trip = 0.0

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes, bytes]] = []

    def send(self, code: int, head: bytes = b"", *buffers: Any) -> None:
        self.sent.append((code, head, b"".join(map(bytes, buffers))))


class Willing:
    """A compressor for which it always pays."""

    def __init__(self, *, round_trip: float = 0.0) -> None:
        import zstandard  # noqa: PLC0415 - where there is none, the tests that need it are skipped

        self._compress = zstandard.ZstdCompressor().compress
        self.told: list[tuple[int, float]] = []

    def offer(self, data: Any) -> bytes | None:
        return self._compress(bytes(data)) if len(data) else None

    def sent(self, size: int, seconds: float) -> None:
        self.told.append((size, seconds))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "large.log").write_bytes(TEXT)
    (tmp_path / "small.log").write_bytes(TEXT[:5000])
    with Folder(tmp_path) as opened:
        yield opened


def ask(folder: Folder, message: Message, *, compress: bool = False) -> list[tuple[int, bytes, bytes]]:
    operation = Recorder()
    reader = Reader(folder, DigestCache())
    try:
        Answerer(operation, reader, compress=compress).answer(message)  # type: ignore[arg-type]
    finally:
        reader.close()
    return operation.sent


def test_chunks_come_as_they_are_unless_the_caller_can_decompress(folder: Folder) -> None:
    entry = folder.look_up("large.log")
    ((code, head, body),) = ask(folder, Message(Code.RUN, Want(entry, CHUNK_SIZE, 0, 1).encode(), b""))
    assert code == Code.CHUNK
    assert ChunkHead.decode(head).status is Status.OK
    assert body == TEXT[:CHUNK_SIZE]


def test_a_chunk_that_is_compressed_says_so_and_keeps_its_digest(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zstandard")
    monkeypatch.setattr(answering.compression, "Compressor", Willing)
    entry = folder.look_up("large.log")
    last = len(TEXT) // CHUNK_SIZE
    for message, wanted in (
        (Message(Code.RUN, Want(entry, CHUNK_SIZE, last, 1).encode(), b""), TEXT[last * CHUNK_SIZE :]),
        (
            Message(Code.PIECE, PieceWant(Want(entry, CHUNK_SIZE, last, 1), 7).encode(), b""),
            TEXT[last * CHUNK_SIZE + 7 :],
        ),
    ):
        ((_, head, body),) = ask(folder, message, compress=True)
        chunk = ChunkHead.decode(head)
        assert (chunk.status, chunk.digest) == (Status.COMPRESSED, digest(wanted))
        assert Decompressor().decompress(body, len(wanted)) == wanted


def test_packs_and_grown_files_keep_their_tables_readable(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zstandard")
    monkeypatch.setattr(answering.compression, "Compressor", Willing)
    entry = folder.look_up("small.log")
    beginning = Beginning(1000, digest(TEXT[:1000]))
    for message, wanted in (
        (Message(Code.PACK, b"", encode_file(entry)), TEXT[:5000]),
        (Message(Code.GROWN, b"", encode_grown([(entry, [beginning])])), TEXT[1000:5000]),
    ):
        ((_, plain_head, plain),) = ask(folder, message)
        ((_, head, body),) = ask(folder, message, compress=True)
        table, size = Compressed.decode(head, body)
        assert not plain_head
        assert (body[:table], size) == (plain[:table], len(wanted))
        assert Decompressor().decompress(body[table:], size) == wanted == plain[table:]


def test_digests_of_ranges(folder: Folder) -> None:
    entry = folder.look_up("large.log")
    ranges = [Range(0, CHUNK_SIZE), Range(5, 10)]
    ((code, head, body),) = ask(folder, Message(Code.SUMS, Want(entry, CHUNK_SIZE).encode(), encode_ranges(ranges)))
    assert (code, ChunkHead.decode(head).status) == (Code.SUMS, Status.OK)
    assert body == digest(TEXT[:CHUNK_SIZE]) + digest(TEXT[5:15])


@pytest.mark.parametrize(
    ("code", "head"),
    [
        (Code.RUN, lambda entry: Want(entry, CHUNK_SIZE, 0, 1).encode()),
        (Code.SEAL, lambda entry: Want(entry, CHUNK_SIZE).encode()),
        (Code.PIECE, lambda entry: PieceWant(Want(entry, CHUNK_SIZE, 0, 1), 7).encode()),
        (Code.SUMS, lambda entry: Want(entry, CHUNK_SIZE).encode()),
    ],
)
def test_a_file_that_has_gone_is_a_failure_with_its_reason(folder: Folder, code: Code, head: Any) -> None:
    entry = folder.look_up("large.log")._replace(path="gone.log")
    body = encode_ranges([Range(0, 1)]) if code == Code.SUMS else b""
    ((_, answer, reason),) = ask(folder, Message(code, head(entry), body))
    assert ChunkHead.decode(answer).status is Status.FAILED
    assert reason == b"it is not there"


@pytest.mark.parametrize("code", [Code.PAGE, Code.RECEIPT, 77, 255])
def test_what_is_no_request_is_refused(folder: Folder, code: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"message {int(code)} is no part"):
        ask(folder, Message(code, b"", b""))


def test_without_the_library_nothing_is_compressed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering.compression, "available", lambda: False)
    entry = folder.look_up("large.log")
    ((_, head, _),) = ask(folder, Message(Code.RUN, Want(entry, CHUNK_SIZE, 0, 1).encode(), b""), compress=True)
    assert ChunkHead.decode(head).status is Status.OK

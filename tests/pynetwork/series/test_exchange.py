"""Requests as steps, without a connection."""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from typing import Any

import numpy
import pytest

from handshakes.errors import (
    AuthenticationFailed,
    Closed,
    ConnectionLost,
    DeadlineExceeded,
    PynetworkError,
    Refused,
    RemoteProtocolError,
    ValueNotSupported,
    ValueTooLarge,
)
from handshakes.messages import Bytes
from handshakes.records import KEY, Block, Key, Rows
from handshakes.tstorage import Status
from pynetwork.series.exchange import Deliver, Exchange, Receive, Send, ended, status_of, without
from pynetwork.series.options import Options
from pynetwork.series.payloads import BytesPayloadType, NumpyPayloadType, PayloadType
from pynetwork.series.record import Record
from pynetwork.series.response import ResponsePut
from tests.playing import PUT, answered, batch, full_key, header, record

BOX = (Key(0, 0, 0, 0, 0), Key(9, 9, 9, 9, 9))
TWO = [Record(Key(1, 2, 3, 4, 5), b"one"), Record(Key(1, 2, 3, 5, 6), b"second")]
TWO_BYTES = answered(*(record(full_key(*each.key), each.value) for each in TWO), acq=7)
PUT_OK = header(0, 16) + struct.pack("<qq", 10, 11)


def exchange_of(payload_type: PayloadType[Any] | None = None, memory_limit: int = 1 << 20) -> Exchange[Any]:
    return Exchange(Options(payload_type or BytesPayloadType(), None, memory_limit))


class Peer:
    """Carries out steps. What is sent is in ``heard``; it is answered with ``answer`` in pieces of ``piece`` bytes, the
    first ``early`` of them while there is still something to be sent.
    """

    def __init__(self, answer: bytes = b"", piece: int = 1 << 20, early: int = 0) -> None:
        self.heard = b""
        self.delivered: list[Any] = []
        self._answer = memoryview(answer)
        self._piece = piece
        self._early = early

    def run(self, steps: Generator[Any, Any, Any]) -> Any:
        """What comes of a request."""
        unsent: Sequence[Bytes] | None = None
        while True:
            try:
                step = steps.send(unsent)
            except StopIteration as end:
                return end.value
            unsent = ()
            if isinstance(step, Deliver):
                self.delivered.append(step.batch)
            elif isinstance(step, Receive):
                assert self._answer, "it waits for more than the answer"
                self._give(step.sink)
            else:
                unsent = self._take(step)

    def _give(self, sink: Any) -> None:
        space = sink.buffer()
        piece = self._answer[: min(self._piece, len(space))]
        space[: len(piece)] = piece
        self._answer = self._answer[len(piece) :]
        sink.received(len(piece))

    def _take(self, step: Send) -> Sequence[Bytes]:
        if not self._early or step.sink is None:
            self.heard += b"".join(step.buffers)
            return ()
        # Half of it, and then something arrives.
        self._early -= 1
        size = sum(map(len, step.buffers)) // 2
        self.heard += b"".join(step.buffers)[:size]
        self._give(step.sink)
        return without(step.buffers, size)


@pytest.mark.parametrize("piece", [1 << 20, 1, 7])
def test_answers_are_the_same_however_they_are_cut(piece: int) -> None:
    exchange = exchange_of()
    response = Peer(TWO_BYTES, piece).run(exchange.get(*BOX))
    assert (response.status, response.acq, list(response.data)) == (Status.OK, 7, TWO)
    streaming = Peer(TWO_BYTES, piece)
    assert streaming.run(exchange.get_stream(*BOX)).acq == 7
    assert [list(batch) for batch in streaming.delivered] == [TWO]
    iterating = Peer(TWO_BYTES, piece)
    assert iterating.run(exchange.get_iter(*BOX)).acq == 7
    assert [each for batch in iterating.delivered for each in batch] == TWO
    assert not exchange.mid_request


def test_a_request_is_under_way_until_it_has_succeeded() -> None:
    exchange = exchange_of()
    steps = exchange.get(*BOX)
    assert not exchange.mid_request
    next(steps)
    assert exchange.mid_request
    steps.close()
    assert exchange.mid_request


def test_what_is_not_sent_is_not_under_way() -> None:
    exchange = exchange_of()
    assert Peer().run(exchange.put([Record(Key(-1, 0, 0), b"")], False, 100, False)).status is Status.BAD_REQUEST
    assert Peer().run(exchange.get(BOX[0], Key(-1, 0, 0))).status is Status.BAD_REQUEST
    assert not exchange.mid_request


def test_keys_of_numpy_are_keys() -> None:
    peer = Peer(header(0, 8) + struct.pack("<q", 5))
    response = peer.run(exchange_of().get_acq(Key(*map(numpy.int64, BOX[0])), Key(*map(numpy.int32, BOX[1]))))
    assert response.acq == 5
    assert peer.heard[12:] == struct.pack("<iqiqqiqiqq", *BOX[0], *BOX[1])
    for key in (Key(0, 0, 0, 1.5), Key(0, 0, 0, "now"), None):  # type: ignore[arg-type]
        assert Peer().run(exchange_of().get_acq(BOX[0], key)).status is Status.BAD_REQUEST


def test_a_put_goes_on_after_a_part_of_an_answer() -> None:
    peer = Peer(PUT_OK, piece=1, early=5)
    records = [Record(Key(cid, 0, 0), bytes(300)) for cid in range(40)]
    response = peer.run(exchange_of().put(records, False, 1 << 20, False))
    assert response.status is Status.OK
    assert peer.heard == header(PUT, 0) + b"".join(batch(cid, bytes(320)) for cid in range(40)) + struct.pack("<i", -1)


@pytest.mark.parametrize("count", [1, 2, 32, 33])
@pytest.mark.parametrize("with_acq", [False, True])
def test_a_few_records_are_put_as_many_are(count: int, with_acq: bool) -> None:
    records = [Record(Key(1, index, 3, 4, 5), b"%d" % index) for index in range(count)]
    heard = []
    for given in (records, iter(records)):
        peer = Peer(PUT_OK)
        assert peer.run(exchange_of().put(given, with_acq, 1 << 20, False)) == ResponsePut(Status.OK, 10, 11)
        heard.append(peer.heard)
    assert heard[0] == heard[1]


class Whimsical(PayloadType[Any]):
    """Payloads of other kinds than bytes."""

    def to_bytes(self, value: Any) -> bytes:
        return memoryview(struct.pack("<d", value)).cast("d")  # type: ignore[return-value]

    def from_bytes(self, buffer: bytes) -> Any:
        return struct.unpack("<d", buffer)[0]


@pytest.mark.parametrize(
    ("payload_type", "value", "largest"),
    [(Whimsical(), 1.5, 1 << 20), (BytesPayloadType(), bytes(100_000), 1 << 20), (BytesPayloadType(), b"12345678", 30)],
)
def test_what_is_no_small_put_goes_the_other_way(payload_type: PayloadType[Any], value: Any, largest: int) -> None:
    peer = Peer(PUT_OK)
    records = [Record(Key(1, index, 3), value) for index in range(2)]
    assert peer.run(exchange_of(payload_type).put(records, False, largest, False)).status is Status.OK
    payload = value if isinstance(value, bytes) else struct.pack("<d", value)
    assert peer.heard.count(payload) == 2


def test_a_few_records_of_which_one_is_left_out() -> None:
    records = [Record(Key(1, 2, 3), b"kept"), Record(Key(-1, 2, 3), b"left")]
    peer = Peer(PUT_OK)
    assert peer.run(exchange_of().put(records, False, 1 << 20, True)).status is Status.OK
    assert b"kept" in peer.heard
    assert b"left" not in peer.heard


def test_a_put_ends_with_an_answer_that_comes_too_early() -> None:
    peer = Peer(header(-1, 0), early=1)
    exchange = exchange_of(NumpyPayloadType("f8"))
    rows = numpy.zeros(200_000, [*KEY.descr, ("value", "<f8")])
    response = peer.run(exchange.put(rows, False, 1 << 20, False))
    assert response.status is Status.ERROR
    assert len(peer.heard) < 200_000
    assert exchange.mid_request


def test_a_put_is_sent_in_bounded_pieces() -> None:
    rows = numpy.zeros(200_000, [*KEY.descr, ("value", "<f8")])
    steps = exchange_of(NumpyPayloadType("f8")).put(rows, False, 3_000_000, False)
    sizes = []
    step = next(steps)
    while isinstance(step, Send):
        sizes.append(sum(map(len, step.buffers)))
        step = steps.send(())
    steps.close()
    assert sum(sizes) == 12 + 3 * 8 + 200_000 * 32 + 4
    assert max(sizes) <= 512 * 1024


def test_what_was_thrown_in_ends_the_request_with_its_status() -> None:
    for method in ("get", "get_acq", "get_stream", "get_iter", "get_blocks"):
        steps = getattr(exchange_of(), method)(*BOX)
        next(steps)
        with pytest.raises(StopIteration) as end:
            steps.throw(ConnectionLost("it broke"))
        assert end.value.value.status is Status.DISCONNECTED
        assert str(end.value.value.error) == "it broke"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionLost("x"), Status.DISCONNECTED),
        (DeadlineExceeded("x"), Status.DISCONNECTED),
        (Closed("x"), Status.DISCONNECTED),
        (AuthenticationFailed("x"), Status.DISCONNECTED),
        (RemoteProtocolError("x"), Status.UNPARSEABLE_ENTITY),
        (ValueNotSupported("x"), Status.UNPARSEABLE_ENTITY),
        (ValueTooLarge("x"), Status.NO_MEMORY),
        (Refused("x"), Status.ERROR),
    ],
)
def test_statuses_of_errors(error: PynetworkError, status: Status) -> None:
    assert status_of(error) is status


def test_an_answer_in_dribbles_is_few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 3000
    answer = answered(*(record(full_key(1, 2, 3, cap), bytes(4)) for cap in range(count)))
    blocks: list[Block] = []
    peer = Peer(answer, piece=40)
    exchange = exchange_of(memory_limit=count * 36)
    monkeypatch.setattr(exchange, "_values", blocks.extend)
    assert peer.run(exchange.get_stream(*BOX))
    assert sum(map(len, blocks)) == count
    assert len(blocks) <= count // 256 + 1
    assert numpy.concatenate([block.column("cap") for block in blocks]).tolist() == list(range(count))


def test_blocks_are_delivered_as_they_come() -> None:
    peer = Peer(TWO_BYTES)
    peer.run(exchange_of(NumpyPayloadType("f8")).get_blocks(*BOX))
    assert [block.key(0) for blocks in peer.delivered for block in blocks] == [TWO[0].key]


def test_a_block_is_cut_at_the_limit() -> None:
    rows = numpy.zeros(10, KEY)
    rows["cap"] = range(10)
    answer = answered(*(record(row.tobytes()) for row in rows))
    peer = Peer(answer)
    peer.run(exchange_of(memory_limit=3 * 32 + 5).get_blocks(*BOX))
    assert [[len(block) for block in blocks] for blocks in peer.delivered] == [[3], [3], [3], [1]]
    assert all(isinstance(block, Rows) for blocks in peer.delivered for block in blocks)


@pytest.mark.parametrize("count", range(12))
def test_buffers_without_what_was_sent(count: int) -> None:
    assert b"".join(without([b"abc", b"", b"defg", b"hijk"], count)) == b"abcdefghijk"[count:]


def test_an_end_without_a_word_may_mean_that_something_is_missing() -> None:
    assert "key= or tls=" in ended("host:5", 0)
    assert ended("host:5", 1) == "host:5 ended the connection"

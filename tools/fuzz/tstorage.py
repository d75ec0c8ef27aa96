"""What is said on the wire of TStorage, in both directions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

from handshakes.errors import RemoteProtocolError
from handshakes.records import Block, joined
from handshakes.tstorage import (
    PUT_END,
    Command,
    Get,
    GetAcq,
    GetEnd,
    GetRecords,
    PutBegin,
    PutEnd,
    PutRecords,
    RequestReader,
    ResponseReader,
    batches,
    get_acq_request,
    get_answer_begin,
    get_answer_end,
    get_request,
    put_request,
    records,
)
from tools.fuzz.checking import Wrong, check

__all__ = ["tstorage_answers", "tstorage_requests"]

Record: TypeAlias = "tuple[tuple[int, ...], bytes]"

_LARGE = 1 << 16
_SMALL = 64
_BATCH = 100
_COMMANDS = list(Command)


def tstorage_requests(data: bytes) -> None:
    """Requests are the same however they are cut, and written again they are read as they were."""
    if not data:
        return
    whole = _read(RequestReader(_LARGE), data[1:], len(data))
    pieces = _read(RequestReader(_SMALL), data[1:], data[0] + 1)
    _compare(_said(whole), _said(pieces))
    for event in whole:
        if isinstance(event, (Get, GetAcq)):
            written = get_request(event.box) if isinstance(event, Get) else get_acq_request(event.box)
            check(_read(RequestReader(), written, len(written)) == [event], f"{event} was written as {written!r}")
    for begin, blocks in _puts(whole):
        parts = [put_request(begin.with_acq), *batches(joined(blocks), begin.with_acq, _BATCH), PUT_END]
        _, *found, _ = _said(_read(RequestReader(), b"".join(parts), _LARGE))
        once = [record for block in blocks for record in _records(block)]
        check(_by_cid(once) == _by_cid(found), f"{once} were read again as {found}")


def tstorage_answers(data: bytes) -> None:
    """Answers are the same however they are cut, and their records written again are read as they were."""
    if len(data) < 2:
        return
    command = _COMMANDS[data[0] % len(_COMMANDS)]
    whole = _read(_expecting(command, _LARGE), data[2:], len(data))
    pieces = _read(_expecting(command, _SMALL), data[2:], data[1] + 1)
    _compare(_said(whole), _said(pieces))
    blocks = [event.block for event in whole if isinstance(event, GetRecords)]
    written = b"".join([get_answer_begin(), *map(records, blocks), get_answer_end(0, 5)])
    found = _said(_read(_expecting(Command.GET, _SMALL), written, _LARGE))
    once = [record for block in blocks for record in _records(block)]
    check(found == [*once, GetEnd(0, 5)], f"{once} were read again as {found}")


def _compare(whole: list[Any], pieces: list[Any]) -> None:
    if whole != pieces:
        raise Wrong(f"in pieces: {pieces}, in whole: {whole}")


def _expecting(command: Command, capacity: int) -> ResponseReader:
    reader = ResponseReader(capacity)
    reader.expect(command)
    return reader


def _read(reader: RequestReader | ResponseReader, data: bytes, step: int) -> list[Any]:
    """What comes out of a reader that is fed ``step`` bytes at a time; the error at the end, if there is one."""
    found: list[Any] = []
    rest, most = memoryview(data), max(reader.held, 4 * len(data))
    try:
        while True:
            event = reader.next_event()
            if event is not None:
                found.append(event)
                continue
            if not rest:
                return found
            space = reader.buffer()
            check(len(space) > 0, "an empty buffer, which a driver would take for the end")
            check(reader.held <= most, f"{reader.held} bytes of memory were taken for {len(data)}")
            count = min(len(space), len(rest), step)
            space[:count] = rest[:count]
            reader.received(count)
            rest = rest[count:]
    except RemoteProtocolError:
        return [*found, "error"]


def _said(events: list[Any]) -> list[Any]:
    """Events, and records in place of their blocks: where those begin and end is of no meaning."""
    found: list[Any] = []
    for event in events:
        found += _records(event.block) if isinstance(event, (PutRecords, GetRecords)) else [event]
    return found


def _records(block: Block) -> list[Record]:
    check(len(block) > 0, "a block without records")
    return list(zip(block.keys().tolist(), map(bytes, block.payloads()), strict=True))


def _puts(events: list[Any]) -> Iterator[tuple[PutBegin, list[Block]]]:
    """The puts that are complete."""
    begin, blocks = PutBegin(False), list[Block]()
    for event in events:
        if isinstance(event, PutBegin):
            begin, blocks = event, []
        elif isinstance(event, PutRecords):
            blocks.append(event.block)
        elif isinstance(event, PutEnd):
            yield begin, blocks


def _by_cid(found: list[Record]) -> dict[int, list[Record]]:
    """Records of one cid keep their order, but those of another may come before or after."""
    cids: dict[int, list[Record]] = defaultdict(list)
    for record in found:
        cids[record[0][0]].append(record)
    return cids

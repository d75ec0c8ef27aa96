"""The wire of the TStorage time-series database, for both roles: requests and answers to bytes, and back.

Everything is little-endian and unpadded. A request is a header (int32 command, uint64 size), ``size`` bytes, of which
the last 64 are two keys where the command takes a box, and for the two puts batches that end with the int32 -1. A batch
is an int32 cid, an int32 count of bytes, and records that fill them exactly. A connection serves one request at a time,
any number in a row; the other side's records arrive in blocks as large as what has been received, however the bytes
were cut on their way.

Source: the protocol that the vendor's public clients (C, C++, C#, Java, Python) speak.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy

from handshakes.errors import LocalProtocolError, RemoteProtocolError
from handshakes.messages import MAGIC
from handshakes.records import KEY, Key, KeyRange, row_type
from handshakes.tstorage_reading import RecordReader
from handshakes.tstorage_words import (
    ACQ,
    ACQS,
    BATCH,
    BOX,
    HEADER,
    INT,
    KEY_SIZE,
    LARGEST_PAYLOAD,
    PUT_END,
    PUT_FIELDS,
    PUTA_FIELDS,
    AcqAnswer,
    Array,
    Command,
    Get,
    GetAcq,
    GetEnd,
    GetRecords,
    PutAnswer,
    PutBegin,
    PutEnd,
    PutRecords,
    Request,
    Response,
    Status,
    acq_answer,
    batches,
    check_sizes,
    failure,
    get_acq_request,
    get_answer_begin,
    get_answer_end,
    get_request,
    put_answer,
    put_request,
    record_head,
    records,
    small_put,
)

__all__ = [
    "LARGEST_PAYLOAD",
    "PUT_END",
    "AcqAnswer",
    "Command",
    "Get",
    "GetAcq",
    "GetEnd",
    "GetRecords",
    "PutAnswer",
    "PutBegin",
    "PutEnd",
    "PutRecords",
    "Request",
    "RequestReader",
    "Response",
    "ResponseReader",
    "Status",
    "acq_answer",
    "batches",
    "check_sizes",
    "failure",
    "get_acq_request",
    "get_answer_begin",
    "get_answer_end",
    "get_request",
    "put_answer",
    "put_request",
    "record_head",
    "records",
    "small_put",
]

_NO_ACQ = bytes(ACQ.size)
_LONGEST_TAIL = 1024  # bytes after an answer's header
_LOOKS_LIKE_HELLO = 1 << 32  # bytes after the header of a get
_ANSWERS: dict[Command, tuple[type[PutAnswer | AcqAnswer | GetEnd], struct.Struct]] = {
    Command.GET: (GetEnd, ACQ),
    Command.PUT: (PutAnswer, ACQS),
    Command.PUTA: (PutAnswer, ACQS),
    Command.GETACQ: (AcqAnswer, ACQ),
}
"""How the answer to each command ends: what it is, and its times."""


class RequestReader(RecordReader):
    """The server's side: bytes to requests.

    Receive into ``buffer()``, report it with ``received(count)``, then call ``next_event()`` until it answers None.
    ``capacity`` bounds the memory it takes, save while one record is larger.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        super().__init__(capacity)
        self._step: Callable[[], Request | None] = self._read_header
        self._command = Command.GET
        self._cid = 0
        self._left = 0  # bytes of the batch that are not read yet
        self._hidden = 0  # bytes that will be passed over, unless they are a hello

    @property
    def mid_request(self) -> bool:
        """Whether a request has begun and is not complete."""
        return self._step != self._read_header or self._start != self._end

    @property
    def wanted(self) -> int:
        """The bytes of the record that has begun, 0 where that is not known."""
        if self._step != self._read_records or self._end - self._start < INT.size:
            return 0
        return INT.size + int(INT.unpack_from(self._data, self._start)[0])

    def next_event(self) -> Request | None:
        """The next part of a request, or None when more bytes are needed.

        Raises `RemoteProtocolError` for what TStorage answers with a failure: unknown commands and sizes that do not
        add up. The reader is of no use then.
        """
        if not self._skip or self._skipped():
            return self._step()
        return None

    def _read_header(self) -> Request | None:
        header = self._take(HEADER)
        if header is None:
            return None
        code, size = header
        if code in (Command.PUT, Command.PUTA):
            self._command = Command(code)
            self._fields = PUTA_FIELDS if code == Command.PUTA else PUT_FIELDS
            self._skip = size
            self._step = self._read_batch
            return PutBegin(code == Command.PUTA)
        if code not in (Command.GET, Command.GETACQ):
            raise RemoteProtocolError(f"command {code} is unknown")
        if size < BOX.size:
            raise RemoteProtocolError(f"a request of {size} bytes came, which can't hold two keys")
        self._command = Command(code)
        self._skip = size - BOX.size
        self._step = self._read_box
        if size >= _LOOKS_LIKE_HELLO:
            # First a look at what is to be passed over.
            self._skip, self._hidden = 0, self._skip
            self._step = self._check_hello
            return self._check_hello()
        return self._read_box() if self._skipped() else None

    def _check_hello(self) -> Request | None:
        """The hello of a client that has a key looks like a get with much to pass over. But nothing would follow."""
        if self._end - self._start < len(MAGIC):
            return None
        if self._data.startswith(MAGIC, self._start):
            raise RemoteProtocolError("a hello came, as of a client that has a key; no key is asked for here")
        self._skip, self._hidden = self._hidden, 0
        self._step = self._read_box
        return self._read_box() if self._skipped() else None

    def _read_box(self) -> Request | None:
        fields = self._take(BOX)
        if fields is None:
            return None
        self._step = self._read_header
        box = KeyRange(Key(*fields[:5]), Key(*fields[5:]))
        return Get(box) if self._command is Command.GET else GetAcq(box)

    def _read_batch(self) -> Request | None:
        # Batches may be empty, and any number of those in a row.
        while self._end - self._start >= INT.size:
            (cid,) = INT.unpack_from(self._data, self._start)
            if cid == -1:
                self._start += INT.size
                self._step = self._read_header
                return PutEnd()
            if cid < 0:
                raise RemoteProtocolError(f"a batch came for the cid {cid}, which is negative")
            batch = self._take(BATCH)
            if batch is None:
                return None
            self._cid, self._left = batch
            if self._left < 0:
                raise RemoteProtocolError(f"a batch of {self._left} bytes came")
            if self._left:
                self._step = self._read_records
                return self._read_records()
        return None

    def _read_records(self) -> Request | None:
        before = self._start
        end = min(self._end, before + self._left)
        block = self._records(end)
        if block is None:
            self._check_rest(end - before)
            return None
        self._left -= self._start - before
        if len(self._data) > self.capacity >= 2 * (self._end - self._start):
            # Room that was made for a large record is not kept beside it until the next bytes come.
            self._resize(self.capacity)
        if not self._left:
            self._step = self._read_batch
        return PutRecords(block)

    def _check_rest(self, available: int) -> None:
        """The record that comes next must end within its batch; ``available`` bytes of both are there."""
        size = INT.unpack_from(self._data, self._start)[0] if available >= INT.size else self._fields
        needed = INT.size + size
        if needed > self._left:
            raise RemoteProtocolError(f"a batch has {self._left} bytes left where its next record needs {needed}")

    def _rows(self, start: int, count: int, width: int) -> Array:
        if count == 1:
            return self._one_row(start, width)
        size = INT.size + self._fields + width
        if self._fields == PUTA_FIELDS:
            # A record is as long as a row then, with its size where the row has the cid.
            rows = numpy.frombuffer(self._data, f"V{size}", count, start).copy().view(row_type(width))
        else:
            rows = numpy.empty(count, row_type(width))
            head = f"V{INT.size + PUT_FIELDS}"
            heads = numpy.ndarray(count, head, rows, 0, (rows.dtype.itemsize,))
            heads[:] = numpy.ndarray(count, head, self._data, start, (size,))
            rows["acq"] = 0
            if width:
                at = start + INT.size + PUT_FIELDS
                rows["payload"] = numpy.ndarray(count, f"V{width}", self._data, at, (size,))
        rows["cid"] = self._cid
        return rows

    def _one_row(self, start: int, width: int) -> Array:
        """As ``_rows``, of one record: so sensors put, and NumPy's way takes five times as long."""
        begin, end = start + INT.size, start + INT.size + self._fields
        acq = b"" if self._fields == PUTA_FIELDS else _NO_ACQ
        row = (INT.pack(self._cid), self._view[begin:end], acq, self._view[end : end + width])
        return numpy.frombuffer(bytearray().join(row), row_type(width))

    def _keys(self, heads: bytes, count: int) -> Array:
        keys = numpy.zeros(count, KEY)
        size = INT.size + self._fields
        matrix = keys.view(numpy.uint8).reshape(count, KEY_SIZE)
        matrix[:, :size] = numpy.frombuffer(heads, numpy.uint8).reshape(count, size)
        keys["cid"] = self._cid
        return keys


class ResponseReader(RecordReader):
    """The client's side: bytes to answers.

    ``expect`` says which request was sent; then feed it as a `RequestReader`. ``capacity`` bounds the memory it takes,
    save while one record is larger.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        super().__init__(capacity)
        self._fields = KEY_SIZE
        self._step: Callable[[], Response | None] = self._read_header
        self._command: Command | None = None
        self._status = 0
        self._tail = 0

    def expect(self, command: Command) -> None:
        """The answer to this command comes next.

        Raises `LocalProtocolError` while another has begun and is not complete, `RemoteProtocolError` when bytes came
        that nobody asked for.
        """
        if self._command is None:
            self._check_silence()
        elif self.mid_answer:
            raise LocalProtocolError("the answer to the request before is not complete")
        self._command = command

    def _check_silence(self) -> None:
        if self._start != self._end:
            raise RemoteProtocolError(f"{self._end - self._start} bytes came that nobody asked for")

    @property
    def mid_answer(self) -> bool:
        """Whether an answer has begun and is not complete, or bytes came that nobody asked for."""
        return self._step != self._read_header or self._start != self._end

    def next_event(self) -> Response | None:
        """The next part of the answer, or None when more bytes are needed.

        Raises `RemoteProtocolError` for what is no answer, or not asked for. The reader is of no use then.
        """
        return self._step()

    def _read_header(self) -> Response | None:
        if self._command is None:
            self._check_silence()
            return None
        return self._header(self._read_tail)

    def _header(self, then: Callable[[], Response | None]) -> Response | None:
        """Read a header; what follows it is for ``then``."""
        header = self._take(HEADER)
        if header is None:
            return None
        self._status, self._tail = header
        if self._tail > _LONGEST_TAIL:
            raise RemoteProtocolError(
                f"an answer came with {self._tail} bytes after its header, which is none of TStorage's protocol; a "
                "server with key= needs the key here, too"
            )
        self._step = then
        return then()

    def _read_tail(self) -> Response | None:
        if self._command is not Command.GET or self._status:
            return self._read_times()
        if self._end - self._start < self._tail:
            return None
        self._start += self._tail
        self._step = self._read_records
        return self._read_records()

    def _read_records(self) -> Response | None:
        if self._end - self._start >= INT.size and not INT.unpack_from(self._data, self._start)[0]:
            self._start += INT.size
            self._step = self._read_end
            return self._read_end()
        block = self._records(self._end)
        return None if block is None else GetRecords(block)

    def _read_end(self) -> Response | None:
        return self._header(self._read_times)

    def _read_times(self) -> Response | None:
        """What ends an answer: times, where the request has succeeded."""
        assert self._command is not None
        kind, form = _ANSWERS[self._command]
        if not self._status and self._tail < form.size:
            raise RemoteProtocolError(f"an answer came with {self._tail} bytes where {form.size} are due")
        if self._end - self._start < self._tail:
            return None
        times = (-1,) * (form.size // ACQ.size) if self._status else form.unpack_from(self._data, self._start)
        self._start += self._tail
        self._step, self._command = self._read_header, None
        return kind(self._status, *times)

    def _rows(self, start: int, count: int, width: int) -> Array:
        row = KEY_SIZE + width
        rows = numpy.ndarray(count, f"V{row}", self._data, start + INT.size, (INT.size + row,))
        return rows.copy().view(row_type(width))

    def _keys(self, heads: bytes, count: int) -> Array:
        matrix = numpy.frombuffer(heads, numpy.uint8).reshape(count, INT.size + KEY_SIZE)
        return numpy.ascontiguousarray(matrix[:, INT.size :]).view(KEY)[:, 0]

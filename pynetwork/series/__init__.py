"""Time series: records in an embedded store, and channels that speak the protocol of the TStorage database.

::

    with SeriesStore("data") as store, SeriesServer(store, port=2025):
        with Channel("127.0.0.1", 2025, TuplePayloadType("<dd")) as channel:
            channel.put([Record(Key(1, 4, 7, now_ns()), (21.5, 0.4))])
            for record in channel.get(*SeriesKey(1, 4, 7).range()).data:
                print(record.key, record.value)

The same `Channel` works with a TStorage cluster, and TStorage's own clients with `SeriesServer`. See docs/series.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# A sensor's program needs a few of these: each is imported once somebody asks for it.
_PLACES = {
    "AsyncChannel": "pynetwork.series.aio_channel",
    "AsyncRecordIterator": "pynetwork.series.aio_channel",
    "Block": "handshakes.records",
    "BytesPayloadType": "pynetwork.series.payloads",
    "Captured": "pynetwork.series.recording",
    "Channel": "pynetwork.series.channel",
    "Connector": "pynetwork.series.connector",
    "JsonPayloadType": "pynetwork.series.payloads",
    "GetCallback": "pynetwork.series.record",
    "Key": "handshakes.records",
    "KeyRange": "handshakes.records",
    "NumpyPayloadType": "pynetwork.series.payloads",
    "PayloadType": "pynetwork.series.payloads",
    "Record": "pynetwork.series.record",
    "RecordIterator": "pynetwork.series.channel",
    "Recording": "pynetwork.series.recording",
    "RecordsSet": "pynetwork.series.record",
    "RegisteredPayloadType": "pynetwork.series.payloads",
    "Response": "pynetwork.series.response",
    "ResponseAcq": "pynetwork.series.response",
    "ResponseGet": "pynetwork.series.response",
    "ResponsePut": "pynetwork.series.response",
    "ResponseStatus": "pynetwork.series.response",
    "SeriesKey": "pynetwork.series.record",
    "SeriesServer": "pynetwork.series.server",
    "SeriesService": "pynetwork.series.service",
    "SeriesStore": "pynetwork.series.store",
    "StoreBusy": "pynetwork.series.store",
    "StoreDamaged": "pynetwork.series.store",
    "StructPayloadType": "pynetwork.series.payloads",
    "Tstoragedatetime": "pynetwork.series.timestamps",
    "TuplePayloadType": "pynetwork.series.payloads",
    "UnitPayloadType": "pynetwork.series.payloads",
    "from_datetime64": "pynetwork.series.timestamps",
    "from_unix": "pynetwork.series.timestamps",
    "from_unix_ns": "pynetwork.series.timestamps",
    "now": "pynetwork.series.timestamps",
    "now_ns": "pynetwork.series.timestamps",
    "to_datetime64": "pynetwork.series.timestamps",
    "to_unix": "pynetwork.series.timestamps",
    "to_unix_ns": "pynetwork.series.timestamps",
}

__all__ = [
    "AsyncChannel",
    "AsyncRecordIterator",
    "Block",
    "BytesPayloadType",
    "Captured",
    "Channel",
    "Connector",
    "GetCallback",
    "JsonPayloadType",
    "Key",
    "KeyRange",
    "NumpyPayloadType",
    "PayloadType",
    "Record",
    "RecordIterator",
    "Recording",
    "RecordsSet",
    "RegisteredPayloadType",
    "Response",
    "ResponseAcq",
    "ResponseGet",
    "ResponsePut",
    "ResponseStatus",
    "SeriesKey",
    "SeriesServer",
    "SeriesService",
    "SeriesStore",
    "StoreBusy",
    "StoreDamaged",
    "StructPayloadType",
    "Tstoragedatetime",
    "TuplePayloadType",
    "UnitPayloadType",
    "from_datetime64",
    "from_unix",
    "from_unix_ns",
    "now",
    "now_ns",
    "to_datetime64",
    "to_unix",
    "to_unix_ns",
]

if TYPE_CHECKING:
    from handshakes.records import Block, Key, KeyRange
    from pynetwork.series.aio_channel import AsyncChannel, AsyncRecordIterator
    from pynetwork.series.channel import Channel, RecordIterator
    from pynetwork.series.connector import Connector
    from pynetwork.series.payloads import (
        BytesPayloadType,
        JsonPayloadType,
        NumpyPayloadType,
        PayloadType,
        RegisteredPayloadType,
        StructPayloadType,
        TuplePayloadType,
        UnitPayloadType,
    )
    from pynetwork.series.record import GetCallback, Record, RecordsSet, SeriesKey
    from pynetwork.series.recording import Captured, Recording
    from pynetwork.series.response import Response, ResponseAcq, ResponseGet, ResponsePut, ResponseStatus
    from pynetwork.series.server import SeriesServer
    from pynetwork.series.service import SeriesService
    from pynetwork.series.store import SeriesStore, StoreBusy, StoreDamaged
    from pynetwork.series.timestamps import (
        Tstoragedatetime,
        from_datetime64,
        from_unix,
        from_unix_ns,
        now,
        now_ns,
        to_datetime64,
        to_unix,
        to_unix_ns,
    )
else:  # where it is no function for every name: a misspelt one would not be told from these

    def __getattr__(name: str) -> Any:
        """What is imported once somebody asks for it."""
        place = _PLACES.get(name)
        if place is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(place), name)


def __dir__() -> list[str]:
    """Its names, with those that nobody has asked for yet."""
    return sorted({*globals(), *__all__})

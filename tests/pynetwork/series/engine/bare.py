"""A store without a thread of its own: nothing happens in it but what a test does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from handshakes.records import Block, KeyRange
from pynetwork.series.engine.core import Core
from pynetwork.series.engine.putting import Acquired, Put, Putter
from pynetwork.series.engine.snapshots import Snapshot
from pynetwork.series.engine.staging import Staging
from tests.pynetwork.series.engine.small import Clock, Full, block, records

EVERYTHING = KeyRange.everything()


class Bare:
    """The store in ``folder``: a context manager. ``clock`` stands until a test sets it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.core = Core(folder, self.clock)
        self.putter = Putter(self.core)

    def __enter__(self) -> Bare:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.core.close()

    def put(self, *told: tuple[Full, bytes]) -> Acquired:
        return self.put_block(block(*told), with_acq=False)

    def puta(self, *told: tuple[Full, bytes]) -> Acquired:
        return self.put_block(block(*told), with_acq=True)

    def puta_all(self, puts: Iterable[Sequence[tuple[Full, bytes]]], *, folds: bool = False) -> dict[Full, bytes]:
        """Put them one after the other, and fold then if it ``folds``; answers what there has to be."""
        model: dict[Full, bytes] = {}
        for told in puts:
            self.puta(*told)
            model.update(told)
        if folds:
            self.fold()
        return model

    def put_block(self, given: Block, *, with_acq: bool) -> Acquired:
        put = Put(given, with_acq=with_acq)
        self.putter.put([put])
        return put.result()

    def stage(self, *, with_acq: bool) -> Staging:
        return Staging(self.core, self.putter, with_acq=with_acq)

    def fold(self) -> None:
        with self.core.changing() as (connection, change):
            self.core.fold(connection, change)

    def snapshot(self, box: KeyRange = EVERYTHING) -> Snapshot:
        return Snapshot(self.core, box)

    def there(self, box: KeyRange = EVERYTHING) -> dict[Full, bytes]:
        """All records in ``box``; each is there once."""
        with self.snapshot(box) as snapshot:
            found = records(snapshot.together())
        assert len(dict(found)) == len(found)
        return dict(found)

    def contents(self) -> int:
        """How many contents stand in the file, seen or not."""
        with self.core.database.reading() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM content").fetchall()[0][0])

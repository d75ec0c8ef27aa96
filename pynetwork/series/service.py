"""A series store on a gateway: the verb that gives a pair over to TStorage, and the recording of subroutines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pynetwork.series.memory import Budget
from pynetwork.series.recording import Recorder, Recording
from pynetwork.series.session import BOTH, Ledger, serve_pair
from pynetwork.service import ServedOperation, Verb

if TYPE_CHECKING:
    from pynetwork.series.payloads import PayloadType
    from pynetwork.series.record import SeriesKey
    from pynetwork.series.store import SeriesStore

__all__ = ["SeriesService"]

_MOST_PAIRS = 256

Function = TypeVar("Function", bound=Callable[..., Any])


class SeriesService:
    """Serves ``store`` on the gateway on which it is mounted: ``gateway.add_service("series", SeriesService(store))``.

    Callers open a `Channel` with ``client.series()``, which takes a handler for as long as it is open. To get records
    they need the right ``read``, to put some the right ``write``.

    - ``memory``: bytes that all requests may hold together.
    - ``interval``: seconds after which what is recorded is durable at the latest, as long as the disk keeps up.

    The store stays yours: close it after the gateway.
    """

    def __init__(self, store: SeriesStore, *, memory: int = 48 * 1024 * 1024, interval: float = 0.2) -> None:
        self.store = store
        self._budget = Budget(memory, _MOST_PAIRS)
        self._ledger = Ledger()
        self._recorder = Recorder(store, interval=interval)

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """The one verb, series."""
        return {"series": Verb(self._serve, BOTH, bulk=True, takes_over=True)}

    def _serve(self, operation: ServedOperation) -> None:
        serve_pair(operation, self.store, self._budget, self._ledger)

    def recorded(self, function: Function, series: SeriesKey, payload: PayloadType[Any] | None = None) -> Function:
        """A function that does as ``function`` does and stores each item in ``series`` besides: what
        ``add_subroutine(..., series=)`` uses, see `pynetwork.series.recording`.
        """
        return self._recorder.recorded(function, series, payload)

    def record(
        self,
        name: str,
        source: Callable[[], Iterable[Any]] | Iterable[Any],
        series: SeriesKey,
        payload: PayloadType[Any] | None = None,
    ) -> Recording:
        """Store what ``source`` yields, a generator function without arguments or an iterable, until it ends, is
        stopped, or the gateway stops. Nobody needs to call.
        """
        return self._recorder.record(name, source, series, payload)

    def close(self) -> None:
        """End all recordings, with what they yielded stored. Called when the gateway has stopped."""
        self._budget.close()
        self._recorder.close()

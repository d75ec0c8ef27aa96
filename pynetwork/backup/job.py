"""A backup: one thread surveys and compares, lanes bring what is wanted, and the catalogue keeps account of it."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from handshakes.errors import ConnectionLost, PynetworkError, RemoteProtocolError
from handshakes.manifest import Skipped
from handshakes.transfer import Code
from pynetwork.backup.catalogue import Catalogue
from pynetwork.backup.comparing import Comparer
from pynetwork.backup.growth import MOST_LANES
from pynetwork.backup.growth import grow as grow_lanes
from pynetwork.backup.lane import BackupLane
from pynetwork.backup.mirror import Mirror
from pynetwork.backup.plan import BackupPlan, Options
from pynetwork.client import CallerOperation, Client
from pynetwork.files.conversation import next_answer
from pynetwork.files.folders import is_no_file
from pynetwork.files.jobs import Carrier
from pynetwork.files.progress import Progress
from pynetwork.lanes import Lanes
from pynetwork.transport import backoff

__all__ = ["MOST_LANES", "BackupJob", "BackupReport"]

_SURVEY_TRIES: Final = 5
_SURVEYS: Final = 3
_INTERVAL: Final = 0.2


@dataclass
class BackupReport:
    """What a backup did.

    Of the ``files`` at the source (``bytes`` altogether) so many were ``unchanged``; others were ``new``, had ``grown``
    (only what was added was moved), had been ``changed`` elsewhere, or ``moved``: their content was here under another
    name. ``gone``: not at the source any more; ``deleted``: removed here for that. ``received``: bytes of answers with
    file data that came, compressed or not, in ``seconds``; ``chunks_again``: moved again after damage, a change of the
    file or a lost lane. ``skipped``: paths that are not backed up, with reasons; ``escaped``: paths of files, links and
    folders that have another place here since this run, as the destination can't hold their names, with these places;
    ``run``: its number in the catalogue; ``catalogue_aside``: where that is which was damaged, so that a new one was
    begun.
    """

    run: int = 0
    files: int = 0
    bytes: int = 0
    unchanged: int = 0
    new: int = 0
    grown: int = 0
    changed: int = 0
    moved: int = 0
    gone: int = 0
    deleted: int = 0
    received: int = 0
    seconds: float = 0.0
    chunks_again: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    escaped: list[tuple[str, str]] = field(default_factory=list)
    lanes_lost: int = 0
    lanes_replaced: int = 0
    catalogue_aside: str = ""

    @property
    def complete(self) -> bool:
        """Whether all files are backed up; what is no file, or a link that leads away, is not missed."""
        return all(is_no_file(reason) for _, reason in self.skipped)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; undecodable bytes of names are replaced."""
        values = dataclasses.asdict(self)
        values["skipped"] = [{"path": _shown(path), "reason": reason} for path, reason in self.skipped]
        values["escaped"] = [{"path": _shown(path), "place": _shown(place)} for path, place in self.escaped]
        return values


class BackupJob(BackupPlan):
    """One run of a backup of ``share`` into ``mirror``, over so many ``lanes``."""

    def __init__(
        self,
        share: str,
        mirror: Mirror,
        catalogue: Catalogue,
        options: Options,
        *,
        lanes: int,
        progress: bool | Progress | None = None,
    ) -> None:
        super().__init__(share, mirror, catalogue, options, lanes=lanes, progress=progress)
        self._failure: BaseException | None = None
        self._survey_client: Client | None = None
        self.surveyed = False
        self.rounds = 0
        self._between_rounds = False

    def make_lane(self, operation: Carrier) -> BackupLane:
        """A lane with a folder of its own."""
        return BackupLane(self, operation, self.mirror.open())

    # Surveying

    def survey(self, dial: Callable[[], Client]) -> None:
        """Compare everything, and go on with what changes if that is wanted. The plan stays open as long."""
        try:
            with contextlib.closing(self._make_comparer()) as comparer:
                self.comparer = comparer
                self._survey_until_settled(dial, comparer)
        except BaseException as error:
            if not self._stopping.is_set():
                self._failure = error
        finally:
            with self.changed:
                self.plan.open = False
                self.notify()

    def _make_comparer(self) -> Comparer:
        return Comparer(
            self.mirror,
            self.catalogue,
            self.holdings,
            want=self.want,
            skip=lambda skipped: self.skip(*skipped),
            touched=self.touched,
            chosen=self.options.chosen,
            checksum=self.options.checksum,
            owners=self.owners,
            mirror_deletes=self.options.mirror_deletes,
        )

    def _survey_until_settled(self, dial: Callable[[], Client], comparer: Comparer) -> None:
        """Survey again when files were replaced before they could be read: a new survey knows what has which name."""
        for left in reversed(range(_SURVEYS)):
            self.last_survey = not left
            self._survey_until_done(dial, comparer)
            if self.options.follow or not self.wait_until_settled():
                return
            comparer.begin_anew()

    def _survey_until_done(self, dial: Callable[[], Client], comparer: Comparer) -> None:
        pauses = backoff()
        for left in reversed(range(_SURVEY_TRIES)):
            try:
                with contextlib.closing(dial()) as client:
                    self._survey_client = client
                    if not self._stopping.is_set():
                        self._take_pages(client, comparer)
                return
            except ConnectionLost:
                if not left or self._stopping.wait(next(pauses)):
                    raise
                comparer.begin_anew()
            finally:
                self._survey_client = None

    def _take_pages(self, client: Client, comparer: Comparer) -> None:
        interval = _INTERVAL if self.options.follow else None
        with client.open("files.survey", self.share, interval) as operation:
            while not self._stopping.is_set():
                message = next_answer(operation)
                if message is None:
                    if not self.surveyed:
                        raise RemoteProtocolError("the gateway ended a survey before its end")
                    return
                if message.code != Code.PAGE:
                    raise RemoteProtocolError(f"message {message.code} came in place of a page of a survey")
                operation.send(Code.MORE)
                if self._between_rounds:
                    self._begin_round(comparer)
                # Not while a lane writes small files: the two would wait for the interpreter's lock at each of them.
                with self.turn.taken():
                    ended = comparer.take_page(message.body)
                    self._flush_small()
                if ended:
                    self._end_round(comparer)
                self.wait_for_room()
            _finish(operation)

    def _end_round(self, comparer: Comparer) -> None:
        self.surveyed = True
        self.rounds += 1
        if not self.options.follow:
            return
        self._between_rounds = True
        with self.changed:
            ready = [wanted for path, wanted in self._later.items() if path not in self.wanted]
            for wanted in ready:
                del self._later[wanted.path]
        for wanted in ready:
            comparer.renew(wanted)
        self._flush_small()

    def _begin_round(self, comparer: Comparer) -> None:
        """What the last round brought is what this one is compared with."""
        self._between_rounds = False
        self.catalogue.commit()
        if not self.wanted:
            comparer.forget_held()

    # Running

    def back_up(self, lanes: Lanes, dial: Callable[[], Client], *, grow: bool = False) -> BackupReport:
        """Do it on all lanes, and the survey on one more connection, and say how it went. With ``grow`` there will be
        more lanes while that helps.
        """
        began = time.perf_counter()
        self.holdings.set_left_aside()
        surveyor = threading.Thread(target=self.survey, args=(dial,), name="survey", daemon=True)
        helpers = [surveyor]
        if grow:
            growing = (lanes, self._most_lanes, self._brought, self._stopping)
            helpers.append(threading.Thread(target=grow_lanes, args=growing, name="growth", daemon=True))
        for helper in helpers:
            helper.start()
        try:
            used = lanes.run(self._work)
            with self.changed:
                self.show()
        finally:
            self.stop()
            for helper in helpers:
                helper.join()
            self.close()
        if self._failure is not None:
            raise self._failure
        counts, counted = self.comparer.counts, self.counts
        return BackupReport(
            run=self.catalogue.run,
            files=counts.files,
            bytes=counts.bytes,
            unchanged=counts.unchanged + counted["same"],
            new=counts.new + counted["new"],
            grown=counted["grown"],
            changed=counts.changed + counted["changed"],
            moved=counted["moved"],
            gone=counts.gone,
            deleted=counts.deleted,
            received=self._received,
            seconds=time.perf_counter() - began,
            chunks_again=self.plan.chunks_again,
            skipped=sorted(Skipped(*each) for each in self.refused.items()),
            escaped=sorted(self.comparer.escaped),
            lanes_lost=used.lost,
            lanes_replaced=used.replaced,
            catalogue_aside=str(self.catalogue.aside or ""),
        )

    def _most_lanes(self) -> int:
        """The survey has a connection too, as long as it goes on."""
        return MOST_LANES - (not self.surveyed)

    def _brought(self) -> int | None:
        with self.changed:
            return self._received if self.plan.unsettled else None

    def stop(self) -> None:
        """End the survey, and with it the job once what is planned has been done."""
        self._stopping.set()
        with self.changed:
            self.notify()
        client = self._survey_client
        if client is not None:
            client.link.stream.shutdown()


def _shown(path: str) -> str:
    return path.encode("utf-8", "replace").decode()


def _finish(operation: CallerOperation) -> None:
    with contextlib.suppress(PynetworkError):
        operation.send(Code.FINISH)

"""The way back: a mirror, or any folder, is brought to a gateway; what is there already is not moved again."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from handshakes.errors import ConfigurationError, ConnectionLost, RemoteProtocolError
from handshakes.manifest import Entry, Skipped
from handshakes.paths import check_path, from_bytes, partial_name, to_bytes
from handshakes.survey import (
    FACTS,
    Facts,
    FolderRow,
    LinkRow,
    encode_file_row,
    encode_folder_row,
    encode_link_row,
    read_rows,
)
from handshakes.transfer import Code
from pynetwork.backup.finding import is_same_time
from pynetwork.backup.growth import MOST_LANES, grow
from pynetwork.backup.lock import DestinationLock
from pynetwork.backup.meeting import Meeting, TargetFolder
from pynetwork.backup.names import fold_key
from pynetwork.backup.sending import RestoreOptions, RestorePlan, Wanted
from pynetwork.backup.source import Key, Source, SourceFolder
from pynetwork.client import Client
from pynetwork.files.conversation import next_answer
from pynetwork.files.progress import Progress
from pynetwork.lanes import Lanes
from pynetwork.transport import backoff

__all__ = ["RestoreOptions", "RestoreReport", "restore"]

_FIRST_LANES: Final = 2
_SURVEY_TRIES: Final = 5
_SAME_NAME: Final = "another file that was restored has the same name there"
_NO_FACTS: Final = Facts(0, 0, 0, 0, 0, 0)


@dataclass
class RestoreReport:
    """What a restore did.

    Of the ``files`` that were to be restored (``bytes`` altogether) so many were ``unchanged``, with the right content
    already; others were ``new`` or had been ``changed`` at the gateway. ``sent``: bytes of messages with file data, in
    ``seconds``; ``chunks_again``: sent again after damage, a change of the file or a lost lane. ``skipped``: paths that
    are not restored, with reasons. After a dry run ``planned`` has the paths that would be restored, and nothing was.
    """

    files: int = 0
    bytes: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    sent: int = 0
    seconds: float = 0.0
    chunks_again: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    lanes_lost: int = 0
    lanes_replaced: int = 0
    dry_run: bool = False
    planned: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything that was to be restored is there."""
        return not self.skipped and not self.dry_run

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; undecodable bytes of names are replaced."""
        values = dataclasses.asdict(self)
        values["planned"] = [_shown(path) for path in self.planned]
        values["skipped"] = [{"path": _shown(path), "reason": reason} for path, reason in self.skipped]
        return values


def restore(
    dial: Callable[[], Client],
    source: str | os.PathLike[str],
    dirname: str,
    options: RestoreOptions,
    *,
    lanes: int | None = None,
    progress: bool | Progress | None = None,
) -> RestoreReport:
    """Bring the folder ``source`` into ``dirname`` below the gateway's folder for uploads; see
    `pynetwork.Controller.restore`. ``dial`` makes a new client.
    """
    if lanes is not None and lanes < 1:
        raise ConfigurationError(f"a restore over {lanes} lanes can't do anything; it needs at least 1")
    if options.dry_run and options.checksum:
        raise ConfigurationError("checksum=True compares contents, which a dry run does not; leave one of them out")
    if dirname:
        check_path(dirname)
    with Source(source, include_gone=options.include_gone) as found, _held(found):
        job = RestoreJob(found, dirname, options, lanes=lanes or MOST_LANES, progress=progress)
        if options.dry_run:
            return job.look(dial)
        # One more, for the survey.
        used = Lanes(dial, (lanes or _FIRST_LANES) + 1)
        first = used.take_one()
        spare = [first]
        try:
            return job.restore(used, lambda: spare.pop() if spare else dial(), growing=lanes is None)
        finally:
            first.close()
            used.close()


@contextlib.contextmanager
def _held(source: Source) -> Iterator[None]:
    """Within this no backup changes the source. Raises `DestinationBusy` when one does just now."""
    with contextlib.ExitStack() as stack:
        if source.is_mirror:
            try:
                stack.enter_context(DestinationLock(source.root, "restore"))
            except OSError as error:
                # Where nothing can be written, no backup can.
                if error.errno != errno.EROFS:
                    raise
        yield


class RestoreJob(RestorePlan):
    """One run of a restore: one thread surveys the target and compares, lanes send what is wanted."""

    def __init__(
        self,
        source: Source,
        dirname: str,
        options: RestoreOptions,
        *,
        lanes: int,
        progress: bool | Progress | None = None,
    ) -> None:
        super().__init__(source, dirname, options, lanes=lanes, progress=progress)
        self._report = RestoreReport(dry_run=options.dry_run)
        self._failure: BaseException | None = None
        self._survey_client: Client | None = None
        self._surveyed = False
        # Whether it was asked if names that differ in case only are one at the gateway, and if they are what there was.
        self._asked = False
        self._clashes: _Clashes | None = None
        # The folders on the way to the one that is compared, and whether they are there; and the rows of those that
        # are to get their mode and time in the end.
        self._above: list[tuple[SourceFolder, bool]] = []
        self._to_dress: dict[bytes, bytes] = {}

    # Running

    def restore(self, lanes: Lanes, dial: Callable[[], Client], *, growing: bool = False) -> RestoreReport:
        """Do it on all lanes, and the survey on one more connection, and say how it went. With ``growing`` there will
        be more lanes while that helps.
        """
        began = time.perf_counter()
        helpers = [threading.Thread(target=self.survey, args=(dial,), name="survey", daemon=True)]
        if growing:
            arguments = (lanes, lambda: MOST_LANES - (not self._surveyed), self._sent_till_now, self._stopping)
            helpers.append(threading.Thread(target=grow, args=arguments, name="growth", daemon=True))
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
        if self.options.durable and (self.sent or self.arranged):
            _flush(lanes, dial)
        self._report.lanes_lost, self._report.lanes_replaced = used.lost, used.replaced
        return self._told(began)

    def look(self, dial: Callable[[], Client]) -> RestoreReport:
        """Only compare, and say what there would be to do."""
        began = time.perf_counter()
        self._survey_until_done(dial)
        return self._told(began)

    def _told(self, began: float) -> RestoreReport:
        report = self._report
        report.unchanged += self.done["same"]
        report.new += self.done["new"]
        report.changed += self.done["changed"]
        report.sent = self.sent
        report.chunks_again = self.plan.chunks_again
        report.skipped = sorted(set(self.skipped))
        report.seconds = time.perf_counter() - began
        return report

    def _sent_till_now(self) -> int | None:
        with self.changed:
            return self.sent if self.plan.unsettled else None

    def stop(self) -> None:
        """End the survey, and with it the job once what is planned has been done."""
        self._stopping.set()
        with self.changed:
            self.notify()
        client = self._survey_client
        if client is not None:
            client.link.stream.shutdown()

    # Surveying

    def survey(self, dial: Callable[[], Client]) -> None:
        """Compare everything, and when all is sent see to the folders. The plan stays open as long."""
        try:
            self._survey_until_done(dial)
            self._surveyed = True
            self._dress()
        except BaseException as error:
            if not self._stopping.is_set():
                self._failure = error
        finally:
            with self.changed:
                self.plan.open = False
                self.notify()

    def _survey_until_done(self, dial: Callable[[], Client]) -> None:
        pauses = backoff()
        after = None
        for left in reversed(range(_SURVEY_TRIES)):
            with contextlib.closing(self.source.folders(self.turn)) as folders:
                meeting = Meeting(folders, self._meet, after)
                try:
                    with contextlib.closing(dial()) as client:
                        self._survey_client = client
                        if not self._stopping.is_set():
                            self._take_pages(client, meeting)
                    return
                except ConnectionLost:
                    after = meeting.after
                    if not left or self._stopping.wait(next(pauses)):
                        raise
                finally:
                    self._survey_client = None

    def _take_pages(self, client: Client, meeting: Meeting) -> None:
        if not self.options.dry_run and not self._asked:
            target = client.request("files.target", self.dirname)
            if not isinstance(target, dict) or not isinstance(target.get("folds_case"), bool):
                raise RemoteProtocolError("the gateway does not tell what its folder for uploads is like")
            self._clashes = _Clashes() if target["folds_case"] else None
            self._asked = True
        with client.open("files.survey_target", self.dirname) as operation:
            while not self._stopping.is_set():
                message = next_answer(operation)
                if message is None:
                    raise RemoteProtocolError("the gateway ended a survey before its end")
                if message.code != Code.PAGE:
                    raise RemoteProtocolError(f"message {message.code} came in place of a page of a survey")
                operation.send(Code.MORE)
                for row in read_rows(message.body):
                    if meeting.take(row):
                        self.flush()
                        return
                self.flush()

    def _dress(self) -> None:
        """When everything is sent, and nothing will change in any folder any more, give them their modes and times."""
        with self.changed:
            while self.plan.unsettled and not self._stopping.is_set():
                self.changed.wait(0.1)
        for row in self._to_dress.values():
            self.arrange([row], [])
        self.flush()

    # Comparing

    def _meet(self, folder: SourceFolder, found: TargetFolder | None) -> None:
        """Want what is not there of one folder."""
        with self.changed:
            self.skipped += folder.skipped
        while self._above and folder.key[: len(self._above[-1][0].key)] != self._above[-1][0].key:
            self._above.pop()
        self._above.append((folder, found is not None))
        if self._clashes is not None and self._clashes.refuses(folder):
            self._leave_out(from_bytes(folder.path))
            return
        rows: list[bytes] = []
        links: list[Wanted] = []
        touched = self._meet_files(folder, found, rows)
        self._meet_links(folder, found, rows, links)
        if self.options.dry_run:
            return
        # Of what is restored in part, only the folders that are needed are made.
        whole = self.options.chosen is None and not folder.gone
        if rows or (whole and found is None and not touched):
            self.arrange([_row_of(folder), *rows], links)
        if touched or rows or (whole and (found is None or _differs(folder, found))):
            self._dress_later()

    def _dress_later(self) -> None:
        """The folder that is compared is to get its mode and time, as are those on the way to it that are made for it,
        and the one that those are made in.
        """
        for folder, there in reversed(self._above):
            self._to_dress[folder.path] = _row_of(folder)
            if there:
                return

    def _meet_files(self, folder: SourceFolder, found: TargetFolder | None, rows: list[bytes]) -> bool:
        """Want the files that are not as they are to be; rows for those that lack nothing but their mode. Answers
        whether there are any of the former.
        """
        report, chosen, checksum = self._report, self.options.chosen, self.options.checksum
        files = {} if found is None else found.files
        digests: dict[bytes, tuple[int, int, bytes]] | None = None
        for name, raw in sorted(folder.files.items()) if self._clashes else folder.files.items():
            facts = Facts(*FACTS.unpack(raw))
            if chosen is not None and not chosen(folder.path_of(name), facts):
                continue
            if self._clashes is not None and not self._clashes.admits(name):
                self._leave_out(folder.path_of(name))
                continue
            report.files += 1
            report.bytes += facts.size
            there = files.get(name)
            if (
                there is not None
                and there.size == facts.size
                and is_same_time(there.mtime_ns, facts.mtime_ns)
                and not checksum
            ):
                report.unchanged += 1
                if there.mode != facts.mode:
                    rows.append(encode_file_row(name, there._replace(mode=facts.mode)))
                continue
            if digests is None:
                digests = self.source.digests(folder.path)
            self._want_file(folder, found, name, digests.get(name))
        return digests is not None

    def _want_file(
        self,
        folder: SourceFolder,
        found: TargetFolder | None,
        name: bytes,
        recorded: tuple[int, int, bytes] | None,
    ) -> None:
        entry = folder.entry(name)
        there = None if found is None else found.files.get(name)
        if self.options.dry_run:
            self._plan_only(entry.path, new=there is None)
            return
        digest = None
        if recorded is not None and recorded[:2] == (entry.size, entry.mtime_ns):
            digest = recorded[2]
        known = 0 if there is None else there.size
        if found is not None and found.partials:
            known = max(known, found.partials.get(to_bytes(partial_name(from_bytes(name))), 0))
        alike = there is not None and there.size == entry.size
        self.want(Wanted(entry, folder.place_of(name), digest, there is None, alike), known)

    def _meet_links(
        self, folder: SourceFolder, found: TargetFolder | None, rows: list[bytes], links: list[Wanted]
    ) -> None:
        """Rows for the links that do not lead where they are to lead, which are added to ``links``, too."""
        there = {} if found is None else found.links
        for name, target in folder.links.items():
            path = folder.path_of(name)
            if self.options.chosen is not None and not self.options.chosen(path, _NO_FACTS):
                continue
            if self._clashes is not None and not self._clashes.admits(name):
                self._leave_out(path)
                continue
            self._report.files += 1
            if there.get(name) == target:
                self._report.unchanged += 1
            elif self.options.dry_run:
                self._plan_only(path, new=name not in there)
            else:
                rows.append(encode_link_row(LinkRow(name, _NO_FACTS, target)))
                links.append(Wanted(Entry(path, 0, 0, 0), "", None, name not in there, alike=False))

    def _plan_only(self, path: str, *, new: bool) -> None:
        self._report.planned.append(path)
        if new:
            self._report.new += 1
        else:
            self._report.changed += 1

    def _leave_out(self, path: str) -> None:
        with self.changed:
            self.skip(path, _SAME_NAME)


class _Clashes:
    """Names that would be one at the gateway, where names that differ in case only are."""

    def __init__(self) -> None:
        self._folders: set[str] = set()
        self._refused: Key | None = None
        self._names: set[str] = set()

    def refuses(self, folder: SourceFolder) -> bool:
        """Whether another folder was there before this one, or one that it is in. Else its names come next."""
        if self._refused is not None and folder.key[: len(self._refused)] == self._refused:
            return True
        folded = fold_key(from_bytes(folder.path))
        if folded in self._folders:
            self._refused = folder.key
            return True
        self._folders.add(folded)
        self._names.clear()
        return False

    def admits(self, name: bytes) -> bool:
        """Whether no other name in the same folder was there before this one."""
        folded = fold_key(from_bytes(name))
        if folded in self._names:
            return False
        self._names.add(folded)
        return True


def _flush(lanes: Lanes, dial: Callable[[], Client]) -> None:
    """Wait until everything is on the gateway's disk, however long that takes."""
    with contextlib.suppress(ConnectionLost):
        for client in lanes.clients:
            if client.usable:
                client.request("files.flush", timeout=None)
                return
    with contextlib.closing(dial()) as client:
        client.request("files.flush", timeout=None)


def _row_of(folder: SourceFolder) -> bytes:
    return encode_folder_row(FolderRow(folder.path, folder.facts, 0, 0, complete=True))


def _differs(folder: SourceFolder, found: TargetFolder) -> bool:
    """Whether a folder has another mode or time at the gateway. It can always be written to by its owner there; the
    mode of the one that everything goes into is not looked at.
    """
    if not is_same_time(found.facts.mtime_ns, folder.facts.mtime_ns):
        return True
    return bool(folder.path) and found.facts.mode != folder.facts.mode | 0o700


def _shown(path: str) -> str:
    return path.encode("utf-8", "replace").decode()

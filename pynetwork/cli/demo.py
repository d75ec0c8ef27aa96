"""``pynetwork demo``: the main job on this machine, with its own sensors and logs.

A gateway runs in a process of its own. A controller pulls batches, streams the sensors live over a swarm,
downloads the logs and compares what arrived with what is there. Every figure that is printed was measured in
that run.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from pynetwork.cli.child import GatewayProcess
from pynetwork.cli.common import CommandFailed, Exit, Output, add_output_options, positive, seconds, swarm_of
from pynetwork.cli.display import on_terminal, size, visible
from pynetwork.cli.gateway import port_number
from pynetwork.cli.inspection import Verdict, readable_files, verify
from pynetwork.cli.live import LiveView, describe
from pynetwork.controller import Controller
from pynetwork.files import TransferReport
from pynetwork.swarm import Swarm

__all__ = ["add_parser", "run"]

LOG_FOLDERS = ("/var/log", "/Library/Logs")
RATE = 20.0
"""Readings of each sensor a second."""
PINGS = 200
MOST_BYTES = 256_000_000
MOST_FILES = 20_000

_GATEWAY = '''"""The gateway of this run of `pynetwork demo`: the machine's sensors, and a folder of logs."""

import os

from pynetwork import Gateway
from pynetwork.cli.sensors import LogWriter, add_sensors

gateway = Gateway(
    {port},
    host="127.0.0.1",
    max_poolsize={places},
    download_dir={uploads!r},
    share={{"logs": {logs!r}}},
    key=os.environ["PYNETWORK_KEY"],
)
add_sensors(gateway)
'''
_WRITER = "LogWriter({logs!r}).start()\n"


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "demo",
        help="show the main job on this machine",
        description="Start a gateway in a process of its own, stream this machine's sensors from it over a "
        "swarm, download a folder of logs, and verify it. Exit code 0 says that everything held.",
    )
    parser.add_argument("--seconds", type=seconds, default=5.0, metavar="S", help="stream for so long (default 5)")
    parser.add_argument("--lanes", type=positive, default=4, metavar="N", help="connections of the swarm (default 4)")
    parser.add_argument("--port", type=port_number, default=0, help="of the gateway (default 0: any that is free)")
    parser.add_argument("--folder", metavar="DIR", help="download this folder in place of the machine's logs")
    add_output_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show it; 0 when all held."""
    output = Output(arguments)
    with tempfile.TemporaryDirectory(prefix="pynetwork-demo-", ignore_cleanup_errors=True) as folder:
        demo = _Demo(arguments, output, Path(folder))
        demo.run()
    failures = demo.failures
    verdict = "All held." if not failures else "Did not hold:\n" + "\n".join(f"  {each}" for each in failures)
    output.event("summary", f"\n{verdict}", held=not failures, failures=failures)
    return Exit.ERROR if failures else Exit.OK


@dataclass
class _Tally:
    """What the stream brought."""

    rounds: dict[str, list[int]] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, ident: int, reading: dict[str, Any], sensors: int) -> None:
        self.delays.append(time.time() - reading["time"])
        self.rounds.setdefault(reading["sensor"], []).append(ident // sensors)

    @property
    def count(self) -> int:
        return len(self.delays)

    def missing(self) -> int:
        """How many readings are not where they belong: each sensor's come one by one, from the first."""
        return sum(got != due for rounds in self.rounds.values() for due, got in enumerate(rounds))


class _Demo:
    """One run."""

    def __init__(self, arguments: argparse.Namespace, output: Output, folder: Path) -> None:
        self.failures: list[str] = []
        self._arguments = arguments
        self._output = output
        self._folder = folder
        self._logs, self._written = self._find_logs()

    def _expect(self, held: bool, failure: str) -> None:
        if not held:
            self.failures.append(failure)

    def _find_logs(self) -> tuple[Path, bool]:
        """The folder to download, and whether its logs are still to be written."""
        if self._arguments.folder is not None:
            chosen = Path(self._arguments.folder).resolve()
            if not chosen.is_dir():
                raise CommandFailed(f"there is no folder {str(chosen)!r}", Exit.FILE_NOT_FOUND)
            return chosen, False
        for name in LOG_FOLDERS:
            if any(found.st_size for _, found in readable_files(Path(name))):
                return Path(name), False
        return self._folder / "logs", True

    def run(self) -> None:
        key = secrets.token_urlsafe()
        text = _GATEWAY + (_WRITER if self._written else "")
        (self._folder / "gateway.py").write_text(
            text.format(
                port=self._arguments.port,
                places=self._arguments.lanes + 1,
                uploads=str(self._folder / "uploads"),
                logs=str(self._logs),
            ),
            encoding="utf-8",
        )
        with GatewayProcess(self._folder / "gateway.py", key) as gateway:
            controller = Controller("127.0.0.1", gateway.port, key=key)
            with swarm_of(controller, self._arguments.lanes, 5.0) as swarm:
                sensors = self._pull_batches(swarm, gateway)
                self._stream(swarm, sensors)
                self._download(swarm)
            code = gateway.stop()
        self._expect(code == 0, f"the gateway ended with {code}: {gateway.last_words()}")

    # Batches

    def _pull_batches(self, swarm: Swarm, gateway: GatewayProcess) -> list[str]:
        client = swarm.clients[0]
        facts = client.call("machine")
        self._expect(facts["process"] == gateway.pid, "the gateway does not run in the process that was started for it")
        origin = "written while this runs" if self._written else str(self._logs)
        self._output.event(
            "gateway",
            f"gateway    {visible(facts['name'])}, process {facts['process']}, port {gateway.port}, "
            f"with a key; sensors: {', '.join(facts['sensors'])}; logs: {visible(origin)}",
            port=gateway.port,
            logs=str(self._logs),
            written=self._written,
            **facts,
        )
        trips = sorted(client.ping() for _ in range(PINGS))
        began = time.perf_counter()
        rows = client.call("record_cpu", 50, 0.01)
        elapsed = time.perf_counter() - began
        self._expect(rows.shape[0] == 50, f"50 readings were asked for, an array of shape {rows.shape} came")
        self._output.event(
            "batches",
            f"batches    {PINGS} pings: median {statistics.median(trips) * 1e6:.0f} us, 99 % below "
            f"{trips[PINGS * 99 // 100 - 1] * 1e6:.0f} us; {rows.shape[0]} x {rows.shape[1]} CPU readings "
            f"in {elapsed:.2f} s, mean {rows.mean():.0f} %",
            pings=PINGS,
            round_trip=statistics.median(trips),
            round_trip_99=trips[PINGS * 99 // 100 - 1],
            readings=list(rows.shape),
            seconds=elapsed,
            mean=float(rows.mean()),
        )
        return list(facts["sensors"])

    # The stream

    def _stream(self, swarm: Swarm, sensors: list[str]) -> None:
        tally = _Tally()
        view = LiveView(self._arguments.seconds, quiet=self._output.json)
        began = time.monotonic()
        try:
            with swarm.stream("sensors", RATE) as stream:
                for ident, reading in stream:
                    tally.add(ident, reading, len(sensors))
                    view.show(reading)
                    tally.seconds = time.monotonic() - began
                    if tally.seconds >= self._arguments.seconds:
                        break
        finally:
            view.close()
        if not tally.count:
            raise CommandFailed("the stream of sensors ended before its first reading")
        missing = tally.missing()
        came = sorted(tally.rounds)
        self._expect(set(came) == set(sensors), f"readings came of {came}, not of {sensors}")
        self._expect(missing == 0, f"{missing} readings were lost or came twice")
        self._tell_stream(tally, missing, len(swarm), stream.report.replaced, view.last)

    def _tell_stream(
        self, tally: _Tally, missing: int, lanes: int, replaced: int, last: dict[str, dict[str, Any]]
    ) -> None:
        delay, most = statistics.median(tally.delays), max(tally.delays)
        rate = tally.count / max(tally.seconds, 1e-9)
        text = (
            f"stream     {tally.count} readings of {len(tally.rounds)} sensors over {lanes} lanes in "
            f"{tally.seconds:.1f} s: {rate:.0f}/s, {missing or 'none'} missing, "
            f"delay median {delay * 1e3:.2f} ms, most {most * 1e3:.2f} ms; the last:"
        )
        for name, reading in sorted(last.items()):
            text += f"\n             {name}: {describe(reading)}"
        self._output.event(
            "stream",
            text,
            lanes=lanes,
            lanes_replaced=replaced,
            readings=tally.count,
            missing=missing,
            seconds=tally.seconds,
            rate=rate,
            delay=delay,
            delay_most=most,
            last=last,
        )

    # The files

    def _most_bytes(self) -> int:
        """How much may be copied: a folder that somebody chose may be larger than one that happens to be there."""
        free = shutil.disk_usage(self._folder).free
        return free // 2 if self._arguments.folder is not None else min(MOST_BYTES, free // 4)

    def _choose(self) -> tuple[list[tuple[str, Any]], bool]:
        """The files to download, with what is known of them, and whether those are all that can be read."""
        found = sorted(readable_files(self._logs), key=lambda each: each[1].st_size)
        most = self._most_bytes()
        totals = accumulate(each[1].st_size for each in found)
        chosen = [each for each, total in zip(found, totals, strict=True) if total <= most][:MOST_FILES]
        return chosen, len(chosen) == len(found)

    def _download(self, swarm: Swarm) -> None:
        target = self._folder / "copy"
        wanted, complete = self._choose()
        report = swarm.download(
            "logs",
            files=None if complete else [path for path, _ in wanted],
            to=target,
            progress=on_terminal() and not self._output.json,
        )
        self._tell_download(report, len(swarm), len(wanted), complete)
        began = time.perf_counter()
        verdict = verify(self._logs, target, wanted, (path for path, _ in report.skipped))
        self._tell_verdict(verdict, time.perf_counter() - began)

    def _tell_download(self, report: TransferReport, lanes: int, wanted: int, complete: bool) -> None:
        self._expect(report.files > 0, "nothing was downloaded")
        text = (
            f"download   {report.files} files, {size(report.bytes)} over {lanes} lanes "
            f"in {report.seconds:.2f} s: {size(report.rate)}/s; "
            f"{report.chunks_again} chunks again, {report.lanes_lost} lanes lost"
        )
        if not complete:
            text += f"; only the {wanted} smallest files, up to {size(self._most_bytes())}"
        if report.skipped:
            text += f"; {len(report.skipped)} left out:"
        for path, reason in report.skipped[:3]:
            text += f"\n             {visible(path)}: {visible(reason)}"
        if len(report.skipped) > 3:
            text += "\n             ..."
        self._output.event("download", text, lanes=lanes, complete=complete, **report.to_dict())

    def _tell_verdict(self, verdict: Verdict, elapsed: float) -> None:
        for path in verdict.wrong:
            self._expect(False, f"the copy of {visible(path)} is not what is in the file")
        for path in verdict.missing:
            self._expect(False, f"{visible(path)} did not arrive, and was not named as left out")
        text = (
            f"verified   {len(verdict.same)} files are the same, byte for byte "
            f"({size(verdict.bytes)} read again in {elapsed:.2f} s)"
        )
        if verdict.grown:
            text += f"; {len(verdict.grown)} have grown since, and begin with their copy"
        if verdict.changed:
            text += f"; {len(verdict.changed)} have changed since: {', '.join(map(visible, verdict.changed[:3]))}"
        self._output.event(
            "verified",
            text,
            bytes=verdict.bytes,
            same=len(verdict.same),
            grown=verdict.grown,
            changed=verdict.changed,
            wrong=verdict.wrong,
            missing=verdict.missing,
            seconds=elapsed,
        )

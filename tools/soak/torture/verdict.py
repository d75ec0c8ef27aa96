"""What is checked when nothing is written any more."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from handshakes.manifest import CHUNK_SIZE
from tools.soak.torture.damage import flip_bit
from tools.soak.torture.mirror import Mirror, differences, final_files
from tools.soak.torture.options import Options
from tools.soak.torture.report import Report
from tools.soak.torture.truth import Truth

__all__ = ["Verdict"]

_ROOT = Path(__file__).resolve().parents[3]
_LONGEST_VERIFY = 300.0


class Verdict:
    """Looks at what is there, notes what is right in the ``report``, and tells ``find`` what is not."""

    def __init__(
        self, options: Options, report: Report, places: Mapping[str, Path], find: Callable[[str], None]
    ) -> None:
        self._options = options
        self._report = report
        self._places = places
        self._find = find

    def _judge(self, check: str, faults: Sequence[str]) -> None:
        for fault in faults:
            self._find(fault)
        if not faults:
            self._report.checks.append(check)

    def mirror(self, when: str = "in the end") -> None:
        """Every byte of it."""
        source, mirror, reference = (self._places[name] for name in ("source", "mirror", "reference"))
        count = sum(1 for _ in final_files(source))
        exactly = self._options.mirror_deletes
        self._judge(
            f"{when} {count} files are in the mirror{' and nothing else' if exactly else ''}, and the parts of each "
            "log make what was written, by SHA-256",
            list(differences(source, mirror, reference, exactly=exactly)),
        )
        faults = [
            f"in the mirror carries a final name {when}, but is wrong: {fault}"
            for fault in Mirror(mirror, Truth(reference)).faults()
        ]
        self._judge(f"whatever else is in the mirror {when} was right once", faults)

    def unchanged(self, carried: int) -> None:
        """A backup with nothing new has carried so many bytes of files' data."""
        self._judge(
            "a backup of what has not changed carried no data",
            [f"a backup of what has not changed carried {carried} bytes of data"] if carried else [],
        )

    def amounts(self) -> None:
        """What was carried again."""
        if self._options.compress:
            return
        amounts = self._report.amounts
        amounts.flips, amounts.chunk, amounts.share = self._options.flips, CHUNK_SIZE, self._options.again
        words = f"{amounts.again:,} bytes of files' data were carried again, of {amounts.needed:,} that had to be"
        right = amounts.again <= amounts.allowed
        self._judge(
            f"{words}; up to {amounts.allowed:,.0f} may be",
            [] if right else [f"{words}, and up to {amounts.allowed:,.0f} may be"],
        )

    def verify(self, when: str = "in the end") -> None:
        """The backup's own check of the mirror."""
        code, text = self._run([str(self._places["mirror"])])
        self._judge(f"{when} the mirror is verified", [f"verify ended with {code} {when}: {text}"] if code else [])

    def repair(self, carried: Callable[[], int]) -> None:
        """Flip bits in files of the mirror: they are named, and only their chunks are carried anew."""
        mirror = self._places["mirror"]
        chance = random.Random(f"{self._options.seed} damage")
        present = [path for path in sorted(final_files(mirror)) if self._source_of(path).is_file()]
        files = [path for path in present if path.stat().st_size]
        chosen = chance.sample(files, min(len(files), self._options.damage))
        for path in chosen:
            flip_bit(path, chance)
        names = [path.relative_to(mirror).as_posix() for path in chosen]
        code, text = self._run([str(mirror)])
        missing = [name for name in names if name not in text]
        self._judge(
            f"{len(names)} damaged files are found",
            [f"verify ended with {code} and does not name {missing}: {text}"] if missing or not code else [],
        )
        before = carried()
        code, text = self._run([str(mirror), "--repair", "--no-compress"])
        moved, allowed = carried() - before, len(chosen) * CHUNK_SIZE
        faults = [f"verify --repair ended with {code}: {text}"] if code else []
        if moved > allowed:
            faults.append(f"the repair carried {moved:,} bytes, for {len(chosen)} chunks")
        self._judge(f"the repair carried {moved:,} bytes for {len(chosen)} damaged chunks", faults)
        self.mirror("after the repair")
        self.verify("after the repair")

    def _source_of(self, path: Path) -> Path:
        return self._places["source"] / path.relative_to(self._places["mirror"])

    def _run(self, arguments: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of the command."""
        command = [sys.executable, *self._options.verify, *arguments]
        try:
            done = subprocess.run(
                command, cwd=_ROOT, capture_output=True, text=True, timeout=_LONGEST_VERIFY, check=False
            )
        except subprocess.TimeoutExpired:
            return -1, f"it takes more than {_LONGEST_VERIFY:g} s"
        return done.returncode, done.stdout + done.stderr

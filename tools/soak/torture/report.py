"""What came of a torture run: what was checked, what was counted, and the verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tools.soak.torture.troubles import Ill
from tools.soak.torture.wire import ROW

__all__ = ["SHARE_AGAIN", "Amounts", "Report"]

SHARE_AGAIN = 0.01
"""The part of what had to be carried that may be carried twice."""

_MOST_FINDINGS = 50


@dataclass
class Amounts:
    """Bytes on the way from the gateway to the controller.

    ``carried``: in messages with files' data. ``needed`` of them had not been carried before: numbered lines at their
    first time, and what lies in compressed files, each once. ``rows``: files in messages that carry several, which have
    `ROW` bytes for each. ``flips``: flipped bits, each of which makes a chunk of ``chunk`` bytes move again.
    ``total``: everything. The part ``share`` of what is needed may be carried again.
    """

    carried: int = 0
    needed: int = 0
    rows: int = 0
    flips: int = 0
    chunk: int = 0
    total: int = 0
    share: float = SHARE_AGAIN

    @property
    def again(self) -> int:
        """Files' data that was carried more often than needed."""
        return self.carried - self.needed - self.rows * ROW

    @property
    def allowed(self) -> float:
        """The most that may be carried again."""
        return self.share * self.needed + self.flips * self.chunk

    @property
    def messages(self) -> int:
        """All that is no files' data."""
        return self.total - self.carried + self.rows * ROW

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "carried": self.carried,
            "needed": self.needed,
            "again": self.again,
            "allowed": round(self.allowed),
            "messages": self.messages,
            "total": self.total,
        }


@dataclass
class Report:
    """What is known so far. ``failed``: backups that failed because of a trouble, as they should."""

    seed: int
    seconds: float = 0.0
    interrupted: bool = False
    backups: int = 0
    slowest: float = 0.0
    failed: int = 0
    troubles: Counter[Ill] = field(default_factory=Counter)
    damaged: int = 0
    """Bits that were flipped in partial files."""
    written: int = 0
    """Bytes of numbered lines."""
    rotations: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    """Files of the mirror that were read while backups ran."""
    amounts: Amounts = field(default_factory=Amounts)
    checks: list[str] = field(default_factory=list)
    """What was looked at in the end, and was right."""
    findings: list[str] = field(default_factory=list)
    more: int = 0
    """Findings that are not among them, as there are enough."""

    def find(self, finding: str) -> bool:
        """Something is not as it should be. False when it is only counted."""
        if len(self.findings) >= _MOST_FINDINGS:
            self.more += 1
            return False
        self.findings.append(finding)
        return True

    @property
    def verdict(self) -> str:
        """In a few words."""
        found = len(self.findings) + self.more
        words = "all is well" if not found else f"{found} finding{'s' if found > 1 else ''}"
        return f"{words}{', as far as it went' if self.interrupted else ''}"

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "verdict": self.verdict,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "findings": self.findings,
            "more": self.more,
            "checks": self.checks,
            "backups": {"right": self.backups, "failed": self.failed, "slowest": round(self.slowest, 2)},
            "troubles": {ill.value: self.troubles[ill] for ill in Ill},
            "damaged": self.damaged,
            "written": self.written,
            "rotations": dict(self.rotations),
            "looks": self.looks,
            "bytes": self.amounts.to_json(),
        }

    def text(self) -> str:
        """Short tables."""
        rows = [
            ("backups that came out right", f"{self.backups:,}"),
            ("backups that failed, for a reason", f"{self.failed:,}"),
            ("the slowest", f"{self.slowest:.2f} s"),
            *((ill.value, f"{self.troubles[ill]:,}") for ill in Ill),
            ("a bit flipped in a partial file", f"{self.damaged:,}"),
            ("rotations", f"{self.rotations.total():,}"),
            ("files of the mirror that were read meanwhile", f"{self.looks:,}"),
            ("MB of lines written", _megabytes(self.written)),
            ("MB of files' data carried", _megabytes(self.amounts.carried)),
            ("MB of it that had to be carried", _megabytes(self.amounts.needed)),
            ("MB of it carried again", _megabytes(self.amounts.again)),
            ("MB that may be", _megabytes(self.amounts.allowed)),
            ("MB of messages", _megabytes(self.amounts.messages)),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = "\n".join(f"{name:<{widths[0]}}  {figure:>{widths[1]}}" for name, figure in rows)
        checks = "\n".join(f"+ {check}" for check in self.checks)
        more = [f"and {self.more:,} more"] if self.more else []
        findings = "\n".join(f"- {finding}" for finding in [*self.findings, *more])
        verdict = f"{self.seconds:.0f} s, seed {self.seed}: {self.verdict}"
        return "\n\n".join(part for part in (table, checks, findings, verdict) if part)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.2f}"

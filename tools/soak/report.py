"""What came of a soak: a verdict, tables for people, and everything as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tools.soak.figures import FIGURES, Life
from tools.soak.troubles import Ill
from tools.soak.turns import Count

__all__ = ["Report"]


@dataclass
class Report:
    """What is known so far. ``lost`` are operations that failed as they should, because of a trouble."""

    seed: int
    seconds: float = 0.0
    interrupted: bool = False
    counts: dict[str, Count] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    troubles: Counter[Ill] = field(default_factory=Counter)
    lives: list[Life] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def all_findings(self) -> list[str]:
        """What should not have been; with what grew."""
        return [*self.findings, *(text for life in self.lives for text in _grown(life))]

    @property
    def verdict(self) -> str:
        """In a few words."""
        found = len(self.all_findings)
        words = "all is well" if not found else f"{found} finding{'s' if found > 1 else ''}"
        return f"{words}{', as far as it went' if self.interrupted else ''}"

    def to_json(self) -> dict[str, Any]:
        """Everything, with the figures of each process over time."""
        return {
            "verdict": self.verdict,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "findings": self.all_findings,
            "operations": {
                name: {**asdict(count), "lost": self.lost[name]} for name, count in sorted(self._counts().items())
            },
            "troubles": {ill.value: self.troubles[ill] for ill in Ill},
            "processes": [
                {"name": life.name, "pid": life.pid, "samples": [sample._asdict() for sample in life.samples]}
                for life in self.lives
            ],
        }

    def text(self) -> str:
        """Short tables."""
        parts = [_table(self._operations()), _table(self._troubles()), _table(self._processes())]
        findings = [f"- {finding}" for finding in self.all_findings]
        rate = sum(count.right for count in self.counts.values()) / max(self.seconds, 1e-9)
        verdict = f"{self.seconds:.0f} s, seed {self.seed}, {rate:,.0f} operations a second: {self.verdict}"
        return "\n\n".join([*parts, *findings, verdict])

    def _counts(self) -> dict[str, Count]:
        return {name: self.counts.get(name, Count()) for name in {*self.counts, *self.lost}}

    def _operations(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = [("operation", "right", "lost", "slowest")]
        for name, count in sorted(self._counts().items()):
            rows.append((name, f"{count.right:,}", f"{self.lost[name]:,}", f"{count.slowest:.2f} s"))
        return rows

    def _troubles(self) -> list[Sequence[str]]:
        return [("trouble", "times"), *((ill.value, f"{self.troubles[ill]:,}") for ill in Ill)]

    def _processes(self) -> list[Sequence[str]]:
        """The longest life of each, as that of the others can be short."""
        rows: list[Sequence[str]] = [
            ("process", "lives", "longest", *(f"{figure.name}{' MiB' * (figure.unit > 1)}" for figure in FIGURES))
        ]
        for name in dict.fromkeys(life.name for life in self.lives):
            lives = [life for life in self.lives if life.name == name]
            longest = max(lives, key=lambda life: len(life.samples))
            grown = [str(growth) for growth in longest.growth()] or ["too short"] * len(FIGURES)
            rows.append((name, str(len(lives)), f"{_length(longest):.0f} s", *grown))
        return rows


def _length(life: Life) -> float:
    return life.samples[-1].at - life.samples[0].at if life.samples else 0.0


def _grown(life: Life) -> list[str]:
    return [
        f"{life.name} (process {life.pid}): {growth.figure.name} grew from {growth.first:,.0f} to {growth.last:,.0f} "
        f"within {_length(life):.0f} s, medians of the first and the last third"
        for growth in life.growth()
        if growth.too_much
    ]


def _table(rows: list[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )

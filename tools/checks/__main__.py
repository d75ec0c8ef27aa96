"""Run every check on the tree that holds this file, print what was found, exit 1 when anything was."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.checks import mirror, readme, version


def main() -> int:
    """Print one line a finding, to stderr; return the exit code."""
    root = Path(__file__).resolve().parents[2]
    findings = [finding for check in (version, readme, mirror) for finding in check.find(root)]
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

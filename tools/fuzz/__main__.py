"""``python -m tools.fuzz``."""

from __future__ import annotations

import sys

from tools.fuzz.cli import main

if __name__ == "__main__":
    sys.exit(main())

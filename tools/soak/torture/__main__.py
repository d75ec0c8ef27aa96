"""``python -m tools.soak.torture``."""

from __future__ import annotations

import sys

from tools.soak.torture.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m pynetwork.series``: see `pynetwork.series.example`."""

from __future__ import annotations

import sys

from pynetwork.series.example import main

if __name__ == "__main__":
    sys.exit(main())

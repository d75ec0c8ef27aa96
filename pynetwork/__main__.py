"""``python -m pynetwork`` is the command ``pynetwork``."""

from __future__ import annotations

import sys

from pynetwork.cli import main

if __name__ == "__main__":
    sys.exit(main())

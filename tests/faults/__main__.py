"""``python -m tests.faults`` writes docs/faults.md."""

from __future__ import annotations

from tests.faults.table import PATH, page

PATH.write_text(page(), encoding="utf-8")
print(f"wrote {PATH}")

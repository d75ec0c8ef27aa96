from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tools.soak.torture.lines import LINE, Lines
from tools.soak.torture.logs import Log, Reference
from tools.soak.torture.scene import DEPTH, OLD, LogPlan, Style, in_order


class Written:
    """A log that is rotated in these styles, and its reference."""

    def __init__(self, folder: Path, *styles: Style) -> None:
        self.source, self._references = folder / "source", folder / "reference"
        (self.source / OLD).mkdir(parents=True)
        self._references.mkdir()
        self.reference = Reference(Lines("app", "1"), self._references)
        self.log = Log(LogPlan("app", 1.0, styles), self.source, self.reference)

    def close(self) -> None:
        self.log.close()
        self.reference.close()

    @property
    def names(self) -> list[str]:
        return [path.name for path in self.parts]

    @property
    def parts(self) -> list[Path]:
        return in_order(self.source.rglob("*"), "app")

    def whole(self) -> bytes:
        return b"".join(
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in self.parts
        )

    def expected(self) -> bytes:
        return (self._references / "app").read_bytes()


@pytest.mark.parametrize(
    ("styles", "names"),
    [
        ([Style.RENAME], ["app.log.4", "app.log.3", "app.log.2", "app.log.1", "app.log"]),
        ([Style.COPYTRUNCATE], ["app.log.4", "app.log.3", "app.log.2", "app.log.1", "app.log"]),
        ([Style.GZIP], ["app.log.4.gz", "app.log.3.gz", "app.log.2.gz", "app.log.1", "app.log"]),
        ([*Style], ["app.log.4", "app.log.3.gz", "app.log.2", "app.log.1", "app.log"]),
    ],
)
def test_nothing_is_lost_by_rotation(tmp_path: Path, styles: list[Style], names: list[str]) -> None:
    written = Written(tmp_path, *styles)
    for turn in range(4):
        written.log.write(10 + turn, 77)
        written.log.rotate()
    written.log.write(3, 0)
    written.close()
    assert written.log.rotations == 4
    assert written.names == names
    assert written.whole() == written.expected() == Lines("app", "1").text(0, 49)
    assert written.parts[-1].stat().st_size == 3 * LINE


def test_nothing_is_deleted(tmp_path: Path) -> None:
    written = Written(tmp_path, *Style)
    for _ in range(DEPTH + 3):
        written.log.write(10, 5)
        written.log.rotate()
    written.close()
    assert written.names[:4] == ["app.log-1", "app.log-2.gz", "app.log-3", f"app.log.{DEPTH}"]
    assert [path.parent.name for path in written.parts[:4]] == [OLD, OLD, OLD, "source"]
    assert written.whole() == written.expected()


def test_who_keeps_its_identity(tmp_path: Path) -> None:
    for style, stays in ((Style.RENAME, True), (Style.COPYTRUNCATE, False)):
        written = Written(tmp_path / style.name, style)
        written.log.write(5, 0)
        before = written.parts[-1].stat().st_ino
        written.log.rotate()
        assert (written.parts[-2].stat().st_ino == before) == stays
        assert (written.parts[-1].stat().st_ino == before) != stays
        written.close()


def test_the_compressed_file_has_the_time_of_the_other(tmp_path: Path) -> None:
    written = Written(tmp_path, Style.GZIP)
    written.log.write(5, 0)
    before = written.parts[-1].stat().st_mtime_ns
    written.log.rotate()
    written.log.rotate()
    written.close()
    assert written.names[0] == "app.log.2.gz"
    assert written.parts[0].stat().st_mtime_ns == before

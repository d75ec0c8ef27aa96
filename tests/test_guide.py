"""The guide's Python is Python, and its chapters on files, backups and asyncio do what they say, as printed but for the
port.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from pynetwork import AsyncController, Controller, Gateway
from tests.serving import PATIENCE
from tests.waiting import wait_until

GUIDE = Path(__file__).parent.parent / "docs" / "guide.md"
MAIN, WATCH, CANCEL, SWARM = range(4)


def blocks(chapter: str = "") -> list[str]:
    """The Python blocks of a chapter, or of them all."""
    text = GUIDE.read_text(encoding="utf-8")
    if chapter:
        text = re.split(r"^## ", text.split(f"\n## {chapter}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def compiled(block: str) -> CodeType:
    return compile(block, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def execute(block: str, **names: Any) -> dict[str, Any]:
    """Run a block that may await, with these names; answers the names that there are then."""
    running = eval(compiled(block), names)
    if running is not None:
        await running
    return names


def test_every_block_is_python() -> None:
    assert len(blocks()) > len(blocks("asyncio")) == 4
    for block in blocks():
        compiled(block)


class Offered:
    """What the chapter's gateway offers."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.scan = threading.Event()

    def disk_usage(self, path: str) -> str:
        return f"the disk of {path}"

    def cpu(self, rate: float) -> Iterator[list[float]]:
        try:
            while True:
                yield [rate]
        finally:
            self.closed.set()

    def temperature(self) -> Iterator[float]:
        yield from (20.5, 21.0)

    def humidity(self) -> Iterator[float]:
        yield from (60.0, 61.0)

    def slow_scan(self) -> str:
        self.scan.wait(PATIENCE)
        return "too late"

    def last_scan(self) -> str:
        self.scan.set()
        return "the last scan"

    def resize(self, picture: int) -> int:
        return picture // 2

    def scan_rows(self, lane: int, lanes: int) -> Iterator[tuple[int, str]]:
        for row in range(lane, 20, lanes):
            yield row, f"row {row}"


@pytest.fixture
def offered() -> Offered:
    return Offered()


REMOVE, MOVE = 1, 2


@pytest.fixture
def gateway(offered: Offered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "one.log").write_text("a line\n")
    (tmp_path / "shared" / "other.txt").write_text("a text\n")
    (tmp_path / "model.bin").write_bytes(b"model")
    with Gateway(0, share={"logs": tmp_path / "shared"}, download_dir=tmp_path / "uploads") as gateway:
        for name in ("disk_usage", "cpu", "temperature", "humidity", "slow_scan", "last_scan", "resize"):
            gateway.add_subroutine(name, getattr(offered, name))
        gateway.add_subroutine("scan", offered.scan_rows)
        yield gateway


def test_files_are_moved_once_they_are_safe(gateway: Gateway, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for block in (REMOVE, MOVE):
        exec(compiled(blocks("Files")[block]), names)
    gateway.add_subroutine("remove", names["remove"])
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "shared" / "link").symlink_to(tmp_path / "precious")
    with Controller(port=gateway.port).get_swarm(2) as swarm:
        assert names["move"](swarm, ["one.log", "ghost"]) == {"one.log": "removed"}
        refused = list(swarm.map("remove", [["one.log", ""], ["../precious", ""], ["link", ""], ["other.txt", ""]]))
    assert refused == ["it is none of the files, or gone already"] * 3 + ["it is not what was copied"]
    assert (tmp_path / "moved" / "one.log").read_text() == "a line\n"
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == ["link", "other.txt"]


def test_a_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "old.log").write_text("a line\n")
    os.utime(tmp_path / "shared" / "old.log", (1_700_000_000, 1_700_000_000))
    with Gateway(0, share={"logs": tmp_path / "shared"}, rights="read, remove") as gateway:
        for _ in range(2):
            exec(compiled(blocks("Backups")[0].replace("1857", str(gateway.port))), {})
    assert capsys.readouterr().out.splitlines() == [
        "1 0 0 0 0",
        "['old.log'] []",
        "0 0 0 0 1",
        "['old.log'] []",
    ]
    assert not (tmp_path / "shared" / "old.log").exists()
    assert (tmp_path / "backup" / "old.log").read_text() == "a line\n"


def test_the_whole_program(
    gateway: Gateway, offered: Offered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compiled(blocks("asyncio")[MAIN].replace("1857", str(gateway.port))), {"__name__": "__main__"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the disk of /"
    assert lines[1:102] == [f"{ident} [50]" for ident in range(101)]
    assert lines[102].startswith("TransferReport(files=1, bytes=7")
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["one.log"]
    wait_until(offered.closed.is_set, PATIENCE)


def test_a_client_for_each_task(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    controller = AsyncController(port=gateway.port)
    asyncio.run(execute(blocks("asyncio")[WATCH], asyncio=asyncio, controller=controller))
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "humidity 0 60.0",
        "humidity 1 61.0",
        "temperature 0 20.5",
        "temperature 1 21.0",
    ]


def test_a_call_that_takes_too_long(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        controller = AsyncController(port=gateway.port)
        async with controller.get_client() as client:
            await execute(blocks("asyncio")[CANCEL], asyncio=asyncio, controller=controller, client=client)
            assert await client.call("disk_usage", "/") == "the disk of /"

    asyncio.run(run())
    assert capsys.readouterr().out == "the last scan\n"


def test_a_swarm(gateway: Gateway, tmp_path: Path) -> None:
    stored: list[str] = []

    async def run() -> dict[str, Any]:
        async with AsyncController(port=gateway.port).get_swarm(3) as swarm:
            return await execute(blocks("asyncio")[SWARM], swarm=swarm, pictures=[2, 4, 6, 8], store=stored.append)

    names = asyncio.run(run())
    assert names["thumbnails"] == [1, 2, 3, 4]
    assert stored == [f"row {row}" for row in range(20)]
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == ["one.log", "other.txt"]
    assert (tmp_path / "uploads" / "incoming" / "model.bin").read_bytes() == b"model"
    assert names["report"].files == 1

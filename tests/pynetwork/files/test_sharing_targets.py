"""What a gateway tells of the folder that uploads go to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.errors import BadRequest
from handshakes.paths import partial_name
from handshakes.survey import End, FileRow, FolderRow, LinkRow, Row, read_rows
from handshakes.transfer import Code
from pynetwork.client import Client
from tests.pynetwork.files.transferring import write
from tests.serving import PATIENCE, paired


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
def client(uploads: Path) -> Iterator[Client]:
    with paired(download_dir=uploads) as (_, opened):
        yield opened


def survey(client: Client, dirname: str) -> list[Row]:
    rows: list[Row] = []
    with client.open("files.survey_target", dirname) as operation:
        while (message := operation.receive(PATIENCE)) is not None:
            assert message.code == Code.PAGE
            rows += read_rows(message.body)
            operation.send(Code.MORE)
    return rows


def named(rows: list[Row]) -> list[bytes]:
    return [row.path if isinstance(row, FolderRow) else row.name for row in rows if hasattr(row, "facts")]  # type: ignore[union-attr]


def test_a_target_that_is_not_there_has_no_rows_and_is_not_made(client: Client, uploads: Path) -> None:
    assert survey(client, "in/here") == [End(0, 0)]
    assert not uploads.exists()
    uploads.mkdir()
    assert survey(client, "in/here") == [End(0, 0)]
    assert list(uploads.iterdir()) == []


def test_a_target_is_surveyed_with_what_was_left_there(client: Client, uploads: Path) -> None:
    write(uploads / "other", b"x")
    write(uploads / "in/here/file", b"12345")
    write(uploads / "in/here/sub" / partial_name("large"), b"123")
    write(uploads / "in/here/sub/back\\slash", b"")
    (uploads / "in/here/link").symlink_to("file")
    rows = survey(client, "in/here")
    assert named(rows) == [b"", b"file", b"link", b"sub", b".large.partial", b"back\\slash"]
    assert rows[-1] == End(3, 2)
    assert [type(row) for row in rows[:3]] == [FolderRow, FileRow, LinkRow]
    assert named(survey(client, ""))[:3] == [b"", b"other", b"in"]


def test_no_target_is_outside(client: Client, uploads: Path, tmp_path: Path) -> None:
    uploads.mkdir()
    write(tmp_path / "outside/secret", b"x")
    (uploads / "link").symlink_to(tmp_path / "outside")
    for dirname in ("link", "..", "../outside", str(tmp_path / "outside")):
        with pytest.raises(BadRequest):
            survey(client, dirname)


def test_what_was_uploaded_is_flushed(client: Client, uploads: Path) -> None:
    uploads.mkdir()
    assert client.request("files.flush") is None


@pytest.mark.parametrize("options", [1, [], {"keep": 1}, {"portable": None}])
def test_options_that_make_no_sense_are_refused(client: Client, options: object) -> None:
    with pytest.raises(BadRequest, match="mapping of names to true or false"):
        client.request("files.store", "", "token", False, options)

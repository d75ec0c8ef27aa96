from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handshakes.errors import BadRequest, Forbidden, NotFound
from handshakes.manifest import PACK_FILES, PACK_SIZE, Entry, Page, decode_page, digest, encode_file, encode_folder
from handshakes.messages import Message, Rights
from handshakes.transfer import (
    PAGE_WINDOW,
    ChunkHead,
    Code,
    PutHead,
    Status,
    Want,
    decode_receipt,
    decode_rows,
    encode_names,
)
from pynetwork.client import CallerOperation, Client
from pynetwork.files.folders import entry_of
from pynetwork.files.sharing import FileService
from pynetwork.gateway import Gateway
from tests.serving import PATIENCE, controller_of, paired, serving
from tests.waiting import wait_until

CHUNK = 1000
STAMP = 1_500_000_000_000_000_001


@pytest.fixture
def share(tmp_path: Path) -> Path:
    path = tmp_path / "share"
    path.mkdir()
    return path


@pytest.fixture
def pair(tmp_path: Path, share: Path) -> Iterator[tuple[Gateway, Client]]:
    with paired(share={"logs": share, "gone": tmp_path / "gone"}, download_dir=tmp_path / "uploads") as both:
        yield both


@pytest.fixture
def client(pair: tuple[Gateway, Client]) -> Client:
    return pair[1]


def write(path: Path, data: bytes) -> Entry:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(STAMP, STAMP))
    return entry_of(path.name, path.stat())


def receive(operation: CallerOperation) -> Message:
    message = operation.receive(PATIENCE)
    assert message is not None
    return message


def listing(client: Client, share: str) -> Page:
    whole = Page([], [], [])
    with client.open("files.list", share, False) as operation:
        while (message := operation.receive(PATIENCE)) is not None:
            assert message.code == Code.PAGE
            for part, more in zip(whole, decode_page(message.body), strict=True):
                part.extend(more)  # type: ignore[arg-type]
            operation.send(Code.MORE)
    return whole


# What there is


def test_shares_have_names(client: Client) -> None:
    assert client.request("files.shares") == ["logs", "gone"]


def test_a_share_that_is_not_there_is_named(client: Client, tmp_path: Path) -> None:
    for verb, further in (("files.list", [False]), ("files.fetch", [])):
        with pytest.raises(NotFound, match=r"no folder 'data'.*'logs', 'gone'"):
            client.request(verb, "data", *further)
        with pytest.raises(NotFound, match="no folder"):
            client.request(verb, ["logs"], *further)
        with pytest.raises(NotFound, match="can't be opened: it is not there") as caught:
            client.request(verb, "gone", *further)
        assert str(tmp_path) not in str(caught.value)


def test_a_share_that_is_not_there_at_the_start_is_told(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    FileService({"here": tmp_path, "usb": tmp_path / "usb"}, tmp_path).close()
    (record,) = caplog.records
    assert record.getMessage().startswith("the shared folder 'usb' is not there now")


def test_a_gateway_without_shares_says_so() -> None:
    with paired() as (_, client), pytest.raises(NotFound, match="none"):
        client.request("files.list", "x", False)


def test_each_verb_needs_its_right(tmp_path: Path) -> None:
    asked: dict[str, tuple[Any, ...]] = {
        "files.shares": (),
        "files.list": ("s", False),
        "files.survey": ("s",),
        "files.fetch": ("s",),
        "files.remove": ("s",),
        "files.store": ("", "t", False),
        "files.target": ("",),
        "files.folders": ("", b""),
        "files.survey_target": ("",),
        "files.flush": (),
    }
    reading = {"files.shares", "files.list", "files.survey", "files.fetch"}
    granted = {"key of a reader": reading, "key of a remover": {"files.remove"}}
    granted["key of a writer"] = asked.keys() - reading - {"files.remove"}
    keys = {"key of a reader": "read", "key of a writer": "write", "key of a remover": "remove"}
    with serving(key=keys, share={"s": tmp_path}) as gateway:
        for key, denied in ((key, asked.keys() - allowed) for key, allowed in granted.items()):
            with controller_of(gateway, key=key).get_client() as client:
                for verb in sorted(denied):
                    with pytest.raises(Forbidden):
                        client.request(verb, *asked[verb])
    verbs = FileService({}, tmp_path).verbs
    rights = {Rights.READ: reading, Rights.WRITE: granted["key of a writer"], Rights.REMOVE: {"files.remove"}}
    assert {verb: each.right for verb, each in verbs.items()} == {
        verb: right for right, allowed in rights.items() for verb in allowed
    }


# Listing


def test_an_empty_folder_has_an_empty_listing(client: Client) -> None:
    assert listing(client, "logs") == Page([], [], [])


def test_a_folder_is_listed_with_what_is_skipped(client: Client, share: Path) -> None:
    entry = write(share / "sub" / "a.log", b"12345")
    (share / "link").symlink_to("/etc/passwd")
    page = listing(client, "logs")
    assert page.files == [entry._replace(path="sub/a.log")]
    assert [folder.path for folder in page.folders] == ["sub"]
    assert page.skipped == [("link", "symbolic link")]
    assert listing(client, "logs") == page


@pytest.fixture
def long_listing(share: Path) -> int:
    """Files for many pages; how many."""
    for number in range(1200):
        write(share / ("d" * 200 + f"{number % 20}") / ("f" * 200 + f"{number}"), b"")
    return 1200


def test_a_gateway_does_not_run_ahead_of_who_reads_a_listing(client: Client, long_listing: int) -> None:
    with client.open("files.list", "logs", False) as operation:
        pages = [receive(operation) for _ in range(PAGE_WINDOW)]
        assert not operation.ready()
        operation.send(Code.MORE)
        pages.append(receive(operation))
        assert not operation.ready()
        operation.send(Code.MORE)
        while (message := operation.receive(PATIENCE)) is not None:
            pages.append(message)
            operation.send(Code.MORE)
    assert sum(len(decode_page(page.body).files) for page in pages) == long_listing
    assert max(len(page.body) for page in pages) < 300_000


def test_files_are_looked_up_by_name(client: Client, share: Path) -> None:
    write(share / "a.log", b"12345")
    names = ["a.log", "none", "../share/a.log", "sub"]
    (share / "sub").mkdir()
    with client.open("files.list", "logs", True) as operation:
        for _ in range(2):
            operation.send(Code.NAMES, b"", encode_names(names))
            page = decode_page(receive(operation).body)
            assert [entry.path for entry in page.files] == ["a.log"]
            assert [path for path, _ in page.skipped] == names[1:]
        operation.send(Code.FINISH)
        assert operation.result(PATIENCE) is None


# Fetching


def test_requests_are_answered_in_order(client: Client, share: Path) -> None:
    contents = os.urandom(2 * CHUNK + 5)
    large, small = write(share / "large", contents), write(share / "small", b"small")
    parts = [contents[:CHUNK], contents[CHUNK : 2 * CHUNK], contents[2 * CHUNK :]]
    with client.open("files.fetch", "logs") as operation:
        operation.send(Code.RUN, Want(large, CHUNK, 1, 2).encode())
        operation.send(Code.PACK, b"", encode_file(small) + encode_file(large))
        operation.send(Code.SEAL, Want(large, CHUNK).encode())
        operation.send(Code.RUN, Want(large, CHUNK, 0, 1).encode())
        operation.send(Code.FINISH)
        for number in (1, 2):
            message = receive(operation)
            assert (message.code, bytes(message.body)) == (Code.CHUNK, parts[number])
            expected = ChunkHead(Status.OK, number, digest(parts[number]), *large[1:])
            assert ChunkHead.decode(message.head) == expected
        message = receive(operation)
        rows, data = decode_rows(message.body, 2)
        assert (message.code, bytes(data)) == (Code.PACK, b"small" + contents)
        assert [row.digest for row in rows] == [digest(b"small"), digest(contents)]
        message = receive(operation)
        assert ChunkHead.decode(message.head).digest == digest(b"".join(map(digest, parts)))
        assert bytes(receive(operation).body) == parts[0]
        assert operation.result(PATIENCE) is None


def test_what_cannot_be_read_is_told_with_the_reason(client: Client, share: Path) -> None:
    (share / "link").symlink_to("/etc/passwd")
    with client.open("files.fetch", "logs") as operation:
        for path, words in (("none", "not there"), ("link", "symbolic link"), ("../up", "component '..'")):
            want = Want(Entry(path, 2500, 0, 0), CHUNK, 0, 2)
            operation.send(Code.RUN, want.encode())
            operation.send(Code.SEAL, want.encode())
            operation.send(Code.PACK, b"", encode_file(want.entry))
            for number in (0, 1):
                message = receive(operation)
                head = ChunkHead.decode(message.head)
                assert (head.status, head.number) == (Status.FAILED, number)
                assert words in bytes(message.body).decode()
            message = receive(operation)
            assert ChunkHead.decode(message.head).status is Status.FAILED
            assert words in bytes(message.body).decode()
            rows, data = decode_rows(receive(operation).body, 1)
            assert rows[0].status is Status.FAILED
            assert words in bytes(data).decode()


@pytest.mark.parametrize(
    ("code", "head", "body"),
    [
        (99, b"", b""),
        (Code.CHUNK, b"", b""),
        (Code.RUN, b"short", b""),
        (Code.RUN, Want(Entry("a", 100, 0, 0), CHUNK, 0, 2).encode(), b""),
        (Code.SEAL, Want(Entry("a", 100, 0, 0), 0).encode(), b""),
        (Code.PACK, b"", b""),
        (Code.PACK, b"", b"torn"),
        (Code.PACK, b"", encode_file(Entry("a", PACK_SIZE + 1, 0, 0))),
        (Code.PACK, b"", encode_file(Entry("a", 0, 0, 0)) * (PACK_FILES + 1)),
    ],
)
def test_nonsense_ends_the_pair_and_nothing_else(
    pair: tuple[Gateway, Client], code: int, head: bytes, body: bytes
) -> None:
    gateway, client = pair
    with client.open("files.fetch", "logs") as operation:
        operation.send(code, head, body)
        with pytest.raises(BadRequest):
            operation.receive(PATIENCE)
    with controller_of(gateway).get_client() as other:
        assert other.request("files.shares") == ["logs", "gone"]


@pytest.mark.parametrize(
    ("verb", "parameters", "code"),
    [
        ("files.list", ("logs", True), Code.MORE),
        ("files.store", ("", "token", False), Code.RUN),
    ],
)
def test_a_message_out_of_place_ends_the_pair(
    client: Client, verb: str, parameters: tuple[Any, ...], code: int
) -> None:
    with client.open(verb, *parameters) as operation:
        operation.send(code)
        with pytest.raises(BadRequest):
            operation.receive(PATIENCE)


def test_a_message_out_of_place_within_a_listing_ends_the_pair(client: Client, long_listing: int) -> None:
    with client.open("files.list", "logs", False) as operation:
        operation.send(Code.NAMES)
        for _ in range(PAGE_WINDOW):
            receive(operation)
        with pytest.raises(BadRequest):
            operation.receive(PATIENCE)


def test_parameters_that_do_not_fit_are_refused(client: Client) -> None:
    for verb in ("files.list", "files.fetch", "files.store", "files.target", "files.folders"):
        with pytest.raises(BadRequest):
            client.request(verb)


# Storing


def test_an_upload_is_stored_below_the_folder_for_uploads(client: Client, tmp_path: Path) -> None:
    contents = os.urandom(CHUNK + 5)
    entry = Entry("sub/file", len(contents), STAMP, 0o640)
    assert client.request("files.target", "in") == {"folds_case": False}
    page = client.request(
        "files.folders", "in", encode_folder(Entry("empty", 0, 0, 0)) + encode_folder(Entry("nul", 0, 0, 0))
    )
    assert [path for path, _ in decode_page(page).skipped] == ["nul"]
    parts = [contents[:CHUNK], contents[CHUNK:]]
    with client.open("files.store", "in", "token", False) as operation:
        for number in (1, 0):
            head = PutHead(Status.OK, 0, entry, CHUNK, number, digest(parts[number]))
            operation.send(Code.CHUNK, head.encode(), parts[number])
        head = PutHead(Status.OK, 0, entry, CHUNK, 0, digest(b"".join(map(digest, parts))))
        operation.send(Code.SEAL, head.encode())
        for _ in range(3):
            message = receive(operation)
            assert message.code == Code.RECEIPT
            assert decode_receipt(message.body, 1)[0].status is Status.OK
        operation.send(Code.FINISH)
        assert operation.result(PATIENCE) is None
    assert (tmp_path / "uploads/in/sub/file").read_bytes() == contents
    assert (tmp_path / "uploads/in/empty").is_dir()


def test_a_stopped_gateway_leaves_no_partial_files(tmp_path: Path) -> None:
    head = PutHead(Status.OK, 0, Entry("file", 5000, STAMP, 0o640), CHUNK, 0, digest(b"x" * CHUNK))
    with paired(download_dir=tmp_path) as (gateway, client):
        operation = client.open("files.store", "", "token", False)
        operation.send(Code.CHUNK, head.encode(), b"x" * CHUNK)
        assert receive(operation).code == Code.RECEIPT
        client.link.stream.shutdown()
        wait_until(lambda: gateway.stats()["handlers"] == [], what="the handler to notice")
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []

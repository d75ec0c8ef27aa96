"""What is to be restored, as a survey would tell it."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from handshakes.manifest import CHUNK_SIZE, Skipped, digest
from handshakes.survey import FACTS
from pynetwork.backup.schema import VERSION, CatalogueDamaged, CatalogueTooNew
from pynetwork.backup.source import Source, SourceFolder, key_of
from pynetwork.files.directories import HandleDirectory
from pynetwork.files.folders import Folder, entry_of
from tests.pynetwork.backup.mirroring import LARGE, STAMP, Scene, new, scene, write

CATALOGUE = ".pynetwork/catalogue.sqlite"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def folders(root: Path, *, include_gone: bool = False) -> dict[bytes, SourceFolder]:
    with Source(root, include_gone=include_gone) as source:
        return {folder.path: folder for folder in source.folders()}


def paths(root: Path, **options: bool) -> list[str]:
    return sorted(
        folder.path_of(name) for folder in folders(root, **options).values() for name in (*folder.files, *folder.links)
    )


# Any folder


def test_folders_come_in_the_order_of_a_survey(tmp_path: Path) -> None:
    for path in ("b/x/y", "b/x-/y", "a", "b-c", "b/é"):
        (tmp_path / path).mkdir(parents=True)
    found = list(folders(tmp_path))
    assert found == [b"", b"a", b"b", b"b/x", b"b/x/y", b"b/x-", b"b/x-/y", "b/é".encode(), b"b-c"]
    assert found == sorted(found, key=key_of)


def test_files_and_links_come_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "sub/a%41b", b"12345", 0o640)
    (tmp_path / "sub/link").symlink_to("../sub/a%41b")
    (tmp_path / "sub").chmod(0o751)
    os.utime(tmp_path / "sub", ns=(STAMP, STAMP))
    folder = folders(tmp_path)[b"sub"]
    assert folder.entry(b"a%41b") == entry_of("sub/a%41b", path.stat())
    assert folder.place_of(b"a%41b") == "sub/a%41b"
    assert folder.links == {b"link": b"../sub/a%41b"}
    assert (folder.facts.mode, folder.facts.mtime_ns, folder.gone) == (0o751, STAMP, False)


def test_nothing_is_a_name_too_odd(tmp_path: Path) -> None:
    names = [b"\xff\xfe", "é".encode(), b"back\\slash", b"CON", b"a\nb", b"x" * 255]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    folder = folders(tmp_path)[b""]
    assert sorted(folder.files) == sorted(names)
    assert [os.fsencode(folder.place_of(name)) for name in names] == names


def test_what_is_no_file_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").symlink_to("../elsewhere")
    (tmp_path / "far").symlink_to("/etc/passwd")
    write(tmp_path / ".file.partial", b"unfinished")
    write(tmp_path / "good", b"x")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    folder = folders(tmp_path)[b""]
    assert list(folder.files) == [b"good"]
    assert sorted(folder.skipped) == [
        Skipped("far", "symbolic link that leads out of the folder"),
        Skipped("out", "symbolic link that leads out of the folder"),
        Skipped("pipe", "named pipe"),
        Skipped("socket", "socket"),
    ]


def test_not_every_folder_with_such_a_name_in_it_is_a_mirror(tmp_path: Path) -> None:
    for name in (".pynetwork/file", "a%41b"):
        write(tmp_path / name, b"x")
    assert paths(tmp_path) == [".pynetwork/file", "a%41b"]
    for name in ("held", "lock", "catalogue.sqlite"):
        (tmp_path / ".pynetwork" / name).mkdir()
        assert paths(tmp_path) == ["aAb"]
        (tmp_path / ".pynetwork" / name).rmdir()


def test_what_is_no_folder_can_not_be_restored(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Source(tmp_path / "none")
    with pytest.raises(NotADirectoryError):
        Source(write(tmp_path / "file", b""))


def test_a_folder_that_can_not_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bad/file", b"x")
    write(tmp_path / "good/file", b"x")
    directory = Folder.directory

    def refuse(folder: Folder, components: tuple[str, ...], *, create: bool = False) -> object:
        if components == ("bad",):
            raise PermissionError(errno.EACCES, "no")
        return directory(folder, components, create=create)

    monkeypatch.setattr(Folder, "directory", refuse)
    found = folders(tmp_path)
    assert found[b"bad"].skipped == [Skipped("bad", "permission denied")]
    # It must not be made there as if it were empty.
    assert found[b"bad"].gone
    assert list(found[b"good"].files) == [b"file"]


def test_what_goes_away_meanwhile_is_not_missed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "file", b"x")
    with Source(tmp_path) as source:
        found = source.folders()
        assert next(found).path == b""
        (tmp_path / "a").rename(tmp_path / "c")
        assert [folder.path for folder in found] == [b"b"]


def test_a_folder_that_breaks_off_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_directory: HandleDirectory) -> Iterator[os.DirEntry[str]]:
        with os.scandir(tmp_path) as found:
            yield next(found)
        raise OSError(errno.EIO, "broken")

    write(tmp_path / "file", b"x")
    monkeypatch.setattr(HandleDirectory, "entries", broken)
    folder = folders(tmp_path)[b""]
    assert (list(folder.files), folder.skipped) == ([b"file"], [Skipped(".", "broken")])


def test_only_large_files_may_have_been_left_unfinished(tmp_path: Path) -> None:
    write(tmp_path / "small", bytes(CHUNK_SIZE))
    write(tmp_path / "large", bytes(CHUNK_SIZE + 1))
    assert folders(tmp_path)[b""].partials == {b".large.partial"}


# A mirror


def test_the_names_of_a_mirror_are_what_they_were(at: Scene) -> None:
    odd = [".pynetwork", "a%41b", "100%", ".x.PARTIAL", "%2Epynetwork"]
    for name in odd:
        at.put(f"{name}/file", b"x")
    (at.share / "100%/link").symlink_to("file")
    assert at.backup().complete
    assert paths(at.to) == sorted([*(f"{name}/file" for name in odd), "100%/link"])
    found = folders(at.to)
    for name in odd:
        folder = found[name.encode()]
        assert (at.to / folder.place_of(b"file")).read_bytes() == b"x"
    assert (at.to / ".pynetwork").is_dir()
    assert (at.to / "%2Epynetwork").is_dir()


def test_what_has_gone_is_left_out_unless_it_is_wanted(at: Scene) -> None:
    for path in ("stays", "goes", "sub/stays", "sub/goes", "all/goes"):
        at.put(path, b"x")
    (at.share / "link").symlink_to("stays")
    at.backup()
    for path in ("goes", "sub/goes", "all/goes", "link"):
        (at.share / path).unlink()
    (at.share / "all").rmdir()
    at.backup()
    assert paths(at.to) == ["stays", "sub/stays"]
    assert paths(at.to, include_gone=True) == ["all/goes", "goes", "link", "stays", "sub/goes", "sub/stays"]
    found = folders(at.to)
    assert {path for path, folder in found.items() if folder.gone} == {b"all"}


def test_what_somebody_put_there_is_restored_too(at: Scene) -> None:
    at.put("sub/file", b"x")
    at.backup()
    write(at.to / "new/file", b"x")
    assert paths(at.to) == ["new/file", "sub/file"]


def test_a_mirror_knows_its_digests(at: Scene) -> None:
    at.put("sub/file", b"12345")
    at.put("sub/large", new(LARGE))
    (at.share / "sub/link").symlink_to("file")
    at.backup()
    with Source(at.to) as source:
        assert source.is_mirror
        known = source.digests(b"sub")
        assert known[b"file"] == (5, STAMP, digest(b"12345"))
        assert known.keys() == {b"file", b"large"}
        assert source.digests(b"none") == {}
    with Source(at.share) as source:
        assert not source.is_mirror
        assert source.digests(b"sub") == {}


def test_names_that_are_none_are_skipped(at: Scene) -> None:
    at.put("good", b"x")
    at.backup()
    write(at.to / "%2E%2E", b"x")
    write(at.to / "%67ood", b"another")
    folder = folders(at.to)[b""]
    assert [folder.path_of(name) for name in folder.files] == ["good"]
    assert {path.removeprefix("./"): reason for path, reason in folder.skipped} == {
        "%2E%2E": "what it was called is no name of a file",
        "good": "another file of this backup has the same name",
    }


# Its catalogue


def test_a_mirror_without_a_catalogue_is_all_there(at: Scene) -> None:
    at.put("a%41/file", b"x")
    at.put("goes", b"x")
    at.backup()
    (at.share / "goes").unlink()
    at.backup()
    (at.to / CATALOGUE).unlink()
    assert paths(at.to) == ["a%41/file", "goes"]


def test_a_catalogue_that_fails_in_the_middle_says_so(at: Scene) -> None:
    at.put("file", b"x")
    at.backup()
    for include_gone in (False, True):
        with Source(at.to, include_gone=include_gone) as source:
            assert source._records is not None
            source._records._connection.close()
            if include_gone:
                assert source.digests(b"") == {}
                assert [folder.path for folder in source.folders()] == [b""]
            else:
                for fail in (lambda opened: opened.digests(b""), lambda opened: list(opened.folders())):
                    with pytest.raises(OSError, match="the catalogue fails"):
                        fail(source)


@pytest.mark.parametrize("damage", ["no catalogue", "a folder", "no table", "torn"])
def test_a_catalogue_that_can_not_be_read_says_so(at: Scene, damage: str) -> None:
    for number in range(300):
        at.put(f"sub/file{number}", b"x")
    at.backup()
    path = at.to / CATALOGUE
    if damage == "no catalogue":
        path.write_bytes(b"no catalogue at all" * 100)
    elif damage == "no table":
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE files")
        connection.close()
    elif damage == "torn":
        os.truncate(path, 8192)
    else:
        path.unlink()
        path.mkdir()
        # Then there is none.
        assert len(paths(at.to)) == 300
        return
    before = path.read_bytes()
    with pytest.raises(CatalogueDamaged, match="those that had gone"):
        folders(at.to)
    assert path.read_bytes() == before
    assert len(paths(at.to, include_gone=True)) == 300
    with Source(at.to, include_gone=True) as source:
        assert source.digests(b"none") == {}


def test_a_catalogue_of_a_later_version_is_refused(at: Scene) -> None:
    at.put("file", b"x")
    at.backup()
    with sqlite3.connect(at.to / CATALOGUE) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    with pytest.raises(CatalogueTooNew):
        Source(at.to)
    assert paths(at.to, include_gone=True) == ["file"]


def test_a_catalogue_that_is_left_open_is_read(at: Scene) -> None:
    """As after a kill: what it says is in its log then."""
    at.put("stays", b"x")
    at.put("goes", b"x")
    at.backup()
    (at.share / "goes").unlink()
    with at.catalogue() as catalogue:
        at.backup()
        assert (at.to / f"{CATALOGUE}-wal").stat().st_size
        assert paths(at.to) == ["stays"]
        assert catalogue.runs()


def test_nothing_is_written(at: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a medium that can't be: there even a table of readers can't be made."""
    at.put("stays", b"x")
    at.put("goes", b"x")
    at.backup()
    (at.share / "goes").unlink()
    at.backup()
    connect = sqlite3.connect
    opened = []

    def refuse(database: str, **options: object) -> sqlite3.Connection:
        opened.append(database.partition("?")[2])
        if "immutable" not in database:
            connection = connect(":memory:")
            connection.close()
            return connection
        return connect(database, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", refuse)
    before = sorted((at.to / ".pynetwork").iterdir())
    assert paths(at.to) == ["stays"]
    assert opened == ["mode=ro", "mode=ro&immutable=1"]
    assert sorted((at.to / ".pynetwork").iterdir()) == before


def test_facts_are_those_of_what_is_here(at: Scene) -> None:
    at.put("file", b"12345", mode=0o640)
    at.backup()
    facts = FACTS.unpack(folders(at.to)[b""].files[b"file"])
    assert (facts[0], facts[3], facts[4]) == (0o640, 5, STAMP)

"""Names that a destination can't hold, and back."""

from __future__ import annotations

import errno
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from handshakes.errors import UnsafePath
from handshakes.paths import COMPONENT_LIMIT, DEVICES, from_bytes, is_partial, to_bytes
from pynetwork.backup.names import Limits, escape, escape_case, fold_key, limits_of, unescape
from pynetwork.files.directories import HAS_HANDLES, HandleDirectory
from pynetwork.files.folders import Folder

UNDECODABLE = from_bytes(b"\xff")
ACCENT = "\N{COMBINING ACUTE ACCENT}"

# What has a meaning here, or folds into something that has.
PIECES = ["%", "%2", "41", "4a", "C", "con", "nul.", ".", " ", ":", "<", "\\", "\n", ".partial", ".PYNETWORK", "a", "B"]
PIECES += [
    "é",
    "E" + ACCENT,
    ACCENT,
    "ß",
    "\N{LATIN SMALL LETTER LONG S}",
    "İ",
    "ς",
    "Σ",
    "\N{KELVIN SIGN}",
    "\N{LATIN SMALL LIGATURE FF}",
]
PIECES += [
    "\N{HANGUL CHOSEONG KIYEOK}",
    "\N{HANGUL JUNGSEONG A}",
    "\N{GRINNING FACE}",
    UNDECODABLE,
    from_bytes(b"\xc3"),
]


def is_name(name: str) -> bool:
    return name not in {"", ".", ".."}


# Joined pieces may be bytes that belong together: names as a system gives them never have those apart.
raw_names = (
    st.binary(min_size=1, max_size=60).map(lambda raw: raw.replace(b"\0", b"").replace(b"/", b"")).map(from_bytes)
)
odd_names = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join).map(to_bytes).map(from_bytes)
names = (raw_names | odd_names).filter(is_name)
limits = st.fixed_dictionaries({"top": st.booleans(), "windows": st.booleans(), "utf8": st.booleans()})


def is_held(place: str, top: bool, windows: bool, utf8: bool) -> bool:
    """Said in other words than those of the module."""
    if is_partial(fold_key(place)) or (top and fold_key(place) == ".pynetwork"):
        return False
    if windows and (DEVICES.fullmatch(place) or place.endswith((".", " ")) or set(place) & set('<>:"|?*\\')):
        return False
    if windows and any(ord(character) < 32 for character in place):
        return False
    return not (utf8 and any(unicodedata.category(character) == "Cs" for character in place))


@pytest.mark.parametrize(
    "name",
    ["app.log", "App.LOG", "100%", "50%of it", "%", "%%", "%g1", "%1", ".partial.log", ".hidden", "café", "x" * 255],
)
def test_a_name_that_needs_nothing_is_its_own_place(name: str) -> None:
    for windows, utf8, top in itertools.product((False, True), repeat=3):
        assert escape(name, windows=windows, utf8=utf8, top=top) is name
    assert unescape(name) == name


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("%41", "%2541"),
        ("%%41", "%%2541"),
        ("%2525", "%252525"),
        ("%aF", "%25aF"),
        ("%\N{LATIN SMALL LIGATURE FF}", "%25\N{LATIN SMALL LIGATURE FF}"),
        (".app.log.partial", "%2Eapp.log.partial"),
        (".APP.Partial", "%2EAPP.Partial"),
        (".partial", "%2Epartial"),
        ("..partial", "%2E.partial"),
    ],
)
def test_what_no_destination_holds(name: str, place: str) -> None:
    assert escape(name, windows=False, utf8=False) == place
    assert unescape(place) == name


@pytest.mark.parametrize("name", [".pynetwork", ".PyNetwork", ".pynetwor\N{KELVIN SIGN}"])
def test_the_folder_of_the_backup_itself_is_at_the_top_only(name: str) -> None:
    assert escape(name) == name
    assert escape(name, top=True) == "%2E" + name[1:]
    assert escape(name + "s", top=True) == name + "s"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ('a<b>c:d"e|f?g*h\\i', "a%3Cb%3Ec%3Ad%22e%7Cf%3Fg%2Ah%5Ci"),
        ("line\nfeed\x1f", "line%0Afeed%1F"),
        ("ends.", "ends%2E"),
        ("ends..", "ends.%2E"),
        ("ends ", "ends%20"),
        ("CON", "%43ON"),
        ("nul.tar.gz", "%6Eul.tar.gz"),
        ("LPT\N{SUPERSCRIPT ONE}", "%4CPT\N{SUPERSCRIPT ONE}"),
        ("aux ", "%61ux%20"),
        ("nul:", "%6Eul%3A"),
        (":" + ACCENT + "a", "%3A%CC%81a"),
        ("%:", "%%3A"),
        ("CONSOLE", "CONSOLE"),
    ],
)
def test_what_windows_does_not_hold(name: str, place: str) -> None:
    assert escape(name, windows=True, utf8=False) == place
    assert unescape(place) == name
    assert escape(name, windows=False, utf8=False) == name


def test_what_only_holds_utf8() -> None:
    name = from_bytes(b"caf\xe9 caf\xc3\xa9 \xff")
    assert escape(name, windows=False, utf8=True) == "caf%E9 café %FF"
    assert unescape("caf%E9 café %FF") == name
    assert escape(name, windows=False, utf8=False) == name


@given(names, limits)
@example("%" + ":", {"top": False, "windows": True, "utf8": False})
def test_every_place_is_held_and_is_the_name_again(name: str, flags: dict[str, bool]) -> None:
    place = escape(name, **flags)
    assert unescape(place) == name
    assert is_held(place, **flags)
    assert is_name(place)
    assert not {"/", "\0"} & set(place)
    if place != name:
        assert not is_held(name, **flags) or "%" in name
    again = escape_case(name, **flags)
    assert unescape(again) == name
    assert is_held(again, **flags)


@given(names, names, limits, limits)
def test_two_names_have_two_places_whatever_was_escaped(
    one: str, other: str, flags: dict[str, bool], others: dict[str, bool]
) -> None:
    assume(one != other)
    assert len({escape(one, **flags), escape(other, **others)}) == 2
    assert len({escape_case(one, **flags), escape(other, **others)}) == 2


def variants(name: str) -> Iterator[str]:
    """Names that many a file system takes for ``name``."""
    for form in ("NFC", "NFD"):
        for change in (str.lower, str.upper, str.swapcase, str.title, str.casefold):
            yield from_bytes(to_bytes(unicodedata.normalize(form, change(name))))


@given(names, limits)
@example("foo", {"top": False, "windows": False, "utf8": False})
@example(UNDECODABLE + ACCENT + "a", {"top": False, "windows": False, "utf8": True})
@example("%ß", {"top": False, "windows": False, "utf8": False})
@example(".foo.partial", {"top": False, "windows": False, "utf8": False})
@example("\N{LATIN SMALL LIGATURE FF}", {"top": False, "windows": False, "utf8": True})
@example("e" + ACCENT + ":", {"top": False, "windows": True, "utf8": True})
def test_names_that_fold_to_the_same_have_places_that_do_not(name: str, flags: dict[str, bool]) -> None:
    clashing = {each for each in variants(name) if is_name(each)} | {name}
    by_case = {each: fold_key(escape_case(each, **flags)) for each in clashing}
    assert len(set(by_case.values())) == len(clashing)
    for one, other in itertools.permutations(clashing, 2):
        assert by_case[one] != fold_key(escape(other, **flags)), (one, other)


@given(names, names, limits)
def test_no_other_name_has_the_place_of_an_escaped_case(one: str, other: str, flags: dict[str, bool]) -> None:
    assume(one != other)
    place = fold_key(escape_case(one, **flags))
    assert place != fold_key(escape_case(other, **flags))
    assert place != fold_key(escape(other, **flags))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("App.LOG", "%41pp.%4C%4F%47"),
        ("app.log", "%61pp.log"),
        ("Café", "%43afé"),
        ("Cafe" + ACCENT, "%43afe%CC%81"),
        ("straße", "stra%C3%9Fe"),
        ("%41", "%25%341"),
        ("%", "%"),
        ("100%", "%3100%"),
    ],
)
def test_a_case_is_escaped_no_more_than_need_be(name: str, place: str) -> None:
    assert escape_case(name, windows=False, utf8=False) == place
    assert unescape(place) == name


def test_names_that_fold_to_the_same() -> None:
    for one, other in [
        ("Straße", "STRASSE"),
        ("é", "E" + ACCENT),
        ("ΣΑΣ", "σας"),
        ("\N{KELVIN SIGN}", "k"),
        ("A", "a"),
    ]:
        assert fold_key(one) == fold_key(other)
    assert fold_key("a") != fold_key("b")
    assert fold_key("é") != fold_key("e")


@pytest.mark.parametrize(("function", "name"), [(escape, "%41" * 64), (escape_case, "A" * 100), (escape, "\\" * 255)])
def test_a_name_that_gets_too_long_is_refused_and_named(function: type[str], name: str) -> None:
    with pytest.raises(UnsafePath, match="more than 255") as caught:
        function(name, windows=True)
    assert repr(name) in str(caught.value)


def test_a_name_that_just_fits() -> None:
    name = "x" * (COMPONENT_LIMIT - 3) + ":"
    assert len(escape(name, windows=True)) == COMPONENT_LIMIT
    with pytest.raises(UnsafePath):
        escape("x" + name, windows=True)


@given(st.text(max_size=30) | st.lists(st.sampled_from(["%2F", "%2f", "%00", "%41", "%", "25"])).map("".join))
def test_no_place_becomes_a_path(place: str) -> None:
    name = unescape(place)
    assert name.count("/") == place.count("/")
    assert name.count("\0") == place.count("\0")


def test_this_system_is_what_is_asked_about_if_nothing_is_said() -> None:
    assert (escape("a:b") == "a:b") == (os.name != "nt")
    assert escape_case("A:b", windows=True) == "%41%3Ab"


# Asking the destination


def test_a_folder_of_this_system(tmp_path: Path) -> None:
    with Folder(tmp_path / "made", create=True) as folder:
        found = limits_of(folder)
    assert found == Limits(os.name == "nt", found.utf8, found.folds)
    if not found.folds:
        assert found == Limits(False, False, False)
    assert os.listdir(tmp_path / "made") == []


@pytest.fixture
def stick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a stick with the file system of Windows."""
    create = HandleDirectory.open
    look = HandleDirectory.status

    def open_as_there(self: HandleDirectory, name: str, flags: int, mode: int = 0o600) -> int:
        if ":" in name or UNDECODABLE in name:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return create(self, name, flags, mode)

    def status_as_there(self: HandleDirectory, name: str) -> os.stat_result:
        return look(self, next(entry.name for entry in self.entries() if fold_key(entry.name) == fold_key(name)))

    monkeypatch.setattr(HandleDirectory, "open", open_as_there)
    monkeypatch.setattr(HandleDirectory, "status", status_as_there)


@pytest.mark.skipif(not HAS_HANDLES, reason="its folder is asked through handles")
@pytest.mark.usefixtures("stick")
def test_a_stick_has_limits_of_its_own(tmp_path: Path) -> None:
    with Folder(tmp_path) as folder:
        assert limits_of(folder) == Limits(True, True, True)
    assert os.listdir(tmp_path) == []


def test_a_full_folder_has_no_limits_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Something").touch()

    def refuse(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(HandleDirectory, "open", refuse)
    with Folder(tmp_path, handles=True) as folder, pytest.raises(OSError, match="No space left"):
        limits_of(folder)


def test_a_folder_that_can_not_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(HandleDirectory, "open", refuse)
    with Folder(tmp_path, handles=True) as folder, pytest.raises(OSError, match="Read-only"):
        limits_of(folder)

"""Paths from the wire and onto it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handshakes.errors import UnsafePath
from handshakes.paths import (
    COMPONENT_LIMIT,
    PATH_LIMIT,
    check_component,
    check_path,
    from_bytes,
    is_partial,
    partial_name,
    split_native,
    to_bytes,
)

SAFE = [
    "a",
    "a/b/c.log",
    "with space/file name.txt",
    ".hidden",
    "..almost",
    "...",
    "a..b",
    "console/comment",
    "COM",
    "COM10",
    "auxiliary.log",
    "nul_",
    "ab:c",
    "1:2",
    "café",
    "cafe\N{COMBINING ACUTE ACCENT}",
    "\N{SNOWMAN}/\N{GRINNING FACE}",
    "new\nline",
    "tab\there",
    "trailing.",
    "trailing ",
    "-rf",
    "~root",
    "*",
    "a" * COMPONENT_LIMIT,
    "\N{GRINNING FACE}" * 63,
    "/".join(["d" * 50] * 80),
    b"bytes-\xff\xfe".decode("utf-8", "surrogateescape"),
]

REFUSED = {
    "": "empty",
    "/": "absolute",
    "/etc/passwd": "absolute",
    "//server/share": "absolute",
    ".": "component '.'",
    "..": "component '..'",
    "../a": "component '..'",
    "a/..": "component '..'",
    "a/../b": "component '..'",
    "./a": "component '.'",
    "a/./b": "component '.'",
    "a//b": "empty component",
    "a/": "empty component",
    "a\0b": "NUL",
    "\0": "NUL",
    "a/b\0": "NUL",
    "..\\a": "backslash",
    "a\\b": "backslash",
    "\\": "backslash",
    "\\\\?\\C:\\x": "backslash",
    "C:": "drive letter",
    "c:/windows": "drive letter",
    "C:evil": "drive letter",
    "a/D:b": "drive letter",
    "CON": "device",
    "con": "device",
    "aux.log": "device",
    "Prn.tar.gz": "device",
    "sub/NUL": "device",
    "NUL/sub": "device",
    "com1": "device",
    "COM9.txt": "device",
    "lpt0": "device",
    "COM\N{SUPERSCRIPT ONE}": "device",
    "conin$": "device",
    "CONOUT$.x": "device",
    "nul ": "device",
    "aux .log": "device",
    "nul:": "device",
    "nul:stream": "device",
    "a" * (COMPONENT_LIMIT + 1): "more than 255 bytes",
    "\N{GRINNING FACE}" * 64: "more than 255 bytes",
    "x/" + "é" * 128: "more than 255 bytes",
    "/".join(["d" * 60] * 80): f"more than {PATH_LIMIT} bytes",
    "\ud800": "lone surrogate",
    "a\udc2fb": "lone surrogate",
}


@pytest.mark.parametrize("path", SAFE)
def test_a_safe_path_is_its_components(path: str) -> None:
    assert check_path(path) == tuple(path.split("/"))


@pytest.mark.parametrize(("path", "reason"), REFUSED.items())
def test_an_unsafe_path_is_refused_with_its_name_and_the_reason(path: str, reason: str) -> None:
    with pytest.raises(UnsafePath, match=reason.replace("$", r"\$")) as caught:
        check_path(path)
    assert repr(path[:100])[1:-1] in str(caught.value)


@pytest.mark.parametrize("folder", ["..", "a/..", "CON", "C:", "a//b", "x" * 256, ".", "a\\b", "/abs"])
def test_an_ordinary_name_does_not_make_its_folder_safe(folder: str) -> None:
    """The quick way looks at the last name alone, and remembers folders."""
    for _ in range(2):
        with pytest.raises(UnsafePath):
            check_path(f"{folder}/ordinary.log")


def test_a_long_folder_before_an_ordinary_name() -> None:
    assert len(check_path("/".join(["d" * 100] * 20 + ["file"]))) == 21


def test_a_slash_before_a_name_is_no_folder() -> None:
    with pytest.raises(UnsafePath, match="absolute"):
        check_path("/name")


@given(st.text(st.characters(exclude_categories=[]), max_size=80))
@example("a/b")
def test_what_is_accepted_stays_below_its_folder(path: str) -> None:
    try:
        components = check_path(path)
    except UnsafePath:
        return
    assert "/".join(components) == path
    assert all(part and part not in {".", ".."} and not set(part) & set("/\\\0") for part in components)


@given(st.lists(st.sampled_from(["a", "..", ".", "", "con", "C:", "b.txt", "\\", "x" * 300, "é"]), max_size=5))
def test_the_quick_way_and_the_whole_way_agree(parts: list[str]) -> None:
    """A component that is refused alone is refused anywhere."""
    path = "/".join(parts)

    def accepts(candidate: str) -> bool:
        try:
            check_path(candidate)
        except UnsafePath:
            return False
        return True

    assert accepts(path) == (bool(parts) and all(accepts(part) for part in parts))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_path_and_come_back(raw: bytes) -> None:
    assert to_bytes(from_bytes(raw)) == raw


@pytest.mark.parametrize("text", ["café", "cafe\N{COMBINING ACUTE ACCENT}", "\N{ANGSTROM SIGN}", "plain"])
def test_no_unicode_form_is_changed(text: str) -> None:
    assert from_bytes(to_bytes(text)) == text


# Paths that stay with systems of one kind


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b.log",
        "CON",
        "nul:",
        "C:/x",
        "back\\slash",
        " ",
        "trailing.",
        "...",
        "x" * 300,
        "é",
        from_bytes(b"b\xff"),
        "a\n/\r",
        "/".join(["d" * 63] * 64),
    ],
)
def test_a_native_path_is_its_components(path: str) -> None:
    assert split_native(path) == tuple(path.split("/"))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc",
        "a/",
        "a//b",
        ".",
        "..",
        "a/..",
        "../a",
        "./a",
        "a/./b",
        "a\0b",
        "\0",
        "/".join(["d" * 63] * 64) + "dd",
    ],
)
def test_a_native_path_leads_to_something_below(path: str) -> None:
    with pytest.raises(UnsafePath, match="leads to nothing below a folder") as caught:
        split_native(path)
    assert repr(path[:100])[1:-1] in str(caught.value)


def test_a_native_path_has_bytes() -> None:
    with pytest.raises(UnsafePath, match="lone surrogate"):
        split_native("a/\ud800")


@given(st.text(st.characters(exclude_categories=[]), max_size=80))
@example("a/../b")
def test_what_is_safe_everywhere_is_safe_here(path: str) -> None:
    try:
        components = split_native(path)
    except UnsafePath:
        with pytest.raises(UnsafePath):
            check_path(path)
        return
    assert "/".join(components) == path
    assert all(part and part not in {".", ".."} and not set(part) & set("/\0") for part in components)


def test_a_component_has_no_slash() -> None:
    assert check_component("name") == "name"
    with pytest.raises(UnsafePath, match="slash"):
        check_component("a/b")
    with pytest.raises(UnsafePath, match="component"):
        check_component("..")


def test_partial_names() -> None:
    assert partial_name("data.bin") == ".data.bin.partial"
    assert is_partial(partial_name("data.bin"))
    assert not is_partial("data.partial")
    assert not is_partial(".data.bin")


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=255))
@example("x" * 63)
@example("x" * 245)
@example("x" * 246)
@example("x" * 247)
@example("x" * 255)
@example("\N{GRINNING FACE}" * 63)
def test_a_partial_name_always_fits_and_is_known_as_one(name: str) -> None:
    partial = partial_name(name)
    assert is_partial(partial)
    assert len(to_bytes(partial)) <= COMPONENT_LIMIT or len(to_bytes(name)) > COMPONENT_LIMIT


def test_long_names_have_partial_names_of_their_own() -> None:
    assert len({partial_name("x" * 254 + letter) for letter in "abc"}) == 3

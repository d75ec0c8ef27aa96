"""Paths that travel: what may be a path on the wire, and which names a transfer keeps for itself.

A path on the wire is relative, its components are separated by ``/``, and it must mean the same file on every
system: what is a plain name here and a device or a drive there is refused everywhere. Both sides check every
path for themselves, whether it came from the wire or goes onto it; `check_path` is that check. It judges the
name alone. That no component is a symbolic link, nor on Windows the stream of another file (``name:stream``),
is seen to where files are opened (`pynetwork.files.folders`).

Names are text with undecodable bytes kept as surrogates (``surrogateescape``), as Python's ``os`` gives them;
they travel as those bytes, in whatever Unicode form they have.
"""

from __future__ import annotations

import functools
import re
from typing import Final

import xxhash

from handshakes.errors import UnsafePath

__all__ = [
    "COMPONENT_LIMIT",
    "DEVICES",
    "PATH_LIMIT",
    "check_component",
    "check_path",
    "from_bytes",
    "is_partial",
    "partial_name",
    "split_native",
    "to_bytes",
]

PATH_LIMIT: Final = 4096
"""The most bytes in a path: PATH_MAX of Linux."""

COMPONENT_LIMIT: Final = 255
"""The most bytes in one component: NAME_MAX of Linux, macOS and NTFS."""

DEVICES: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])[ ]*(?:[.:].*)?", re.IGNORECASE | re.DOTALL
)
"""Matches, as a whole, the names of devices of Windows, with any extension."""

_DEVICE_NAMES: Final = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *(f"{kind}{n}" for kind in ("COM", "LPT") for n in range(10))]
)

# So many characters have at most 252 bytes, whatever they are; and with so much before it a path is not too
# long.
_SHORT: Final = 63

_PARTIAL: Final = ".partial"


def to_bytes(path: str) -> bytes:
    """The bytes of ``path`` on the wire. Raises `UnsafePath` when a surrogate in it stands for no byte."""
    if path.isascii():
        return path.encode("ascii")
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UnsafePath(f"the path {path!r} is refused: it has a lone surrogate, which has no bytes") from None


def from_bytes(raw: bytes) -> str:
    """The path whose bytes on the wire are ``raw``; any bytes are some path, and `to_bytes` gives them back."""
    return raw.decode("utf-8", "surrogateescape")


def check_path(path: str) -> tuple[str, ...]:
    """The components of ``path``; raises `UnsafePath`, naming path and reason, unless it is safe everywhere.

    Refused are: an empty path, an absolute one, ``.`` and ``..``, an empty component, NUL, a backslash, a
    drive letter, a device name of Windows with any extension and in any case, a component of more than
    `COMPONENT_LIMIT` bytes and a path of more than `PATH_LIMIT` bytes.
    """
    folder, _, name = path.rpartition("/")
    if (
        0 < len(name) <= _SHORT
        and name[0] != "."
        and name.isascii()
        and ":" not in name
        and "\\" not in name
        and "\0" not in name
        and " " not in name
        and name.partition(".")[0].upper() not in _DEVICE_NAMES
    ):
        # An ordinary name: what is before it was most likely seen a moment ago.
        if not folder and len(path) == len(name):
            return (name,)
        components = _folder_components(folder)
        if components:
            return (*components, name)
    return _check_whole(path)


@functools.lru_cache(maxsize=256)
def _folder_components(folder: str) -> tuple[str, ...]:
    """The components of a path's beginning, when that is safe and leaves room for a short name; else none."""
    if len(folder) > PATH_LIMIT // 8 or _why_unsafe(folder):
        return ()
    return tuple(folder.split("/"))


def _check_whole(path: str) -> tuple[str, ...]:
    reason = _why_unsafe(path)
    if reason:
        raise UnsafePath(f"the path {_shown(path)} is refused: {reason}")
    return tuple(path.split("/"))


def split_native(path: str) -> tuple[str, ...]:
    """The components of ``path``; refused is only what is no path below a folder of a POSIX system.

    For paths that never leave systems of one kind, or that are escaped before they do. Raises `UnsafePath`.
    """
    components = tuple(path.split("/"))
    if "\0" in path or len(to_bytes(path)) > PATH_LIMIT or not all(components) or _UPWARDS.intersection(components):
        raise UnsafePath(f"the path {_shown(path)} is refused: it leads to nothing below a folder")
    return components


_UPWARDS: Final = frozenset([".", ".."])


def check_component(name: str) -> str:
    """``name``, when it is safe as one component of a path; raises `UnsafePath` as `check_path` does."""
    if "/" in name:
        raise UnsafePath(f"the name {_shown(name)} is refused: it has a slash")
    check_path(name)
    return name


def is_partial(name: str) -> bool:
    """True when ``name`` (one component) is kept for partial files: transfers neither list nor write such
    names.
    """
    return name.startswith(".") and name.endswith(_PARTIAL)


def partial_name(name: str) -> str:
    """The name beside ``name`` under which its data is gathered until it is complete and verified.

    A name too long to be extended is replaced by its digest.
    """
    partial = f".{name}{_PARTIAL}"
    if len(name) < _SHORT:
        return partial
    raw = to_bytes(partial)
    if len(raw) <= COMPONENT_LIMIT:
        return partial
    return f".{xxhash.xxh3_128_hexdigest(raw)}{_PARTIAL}"


def _shown(path: str) -> str:
    return repr(path) if len(path) <= 200 else f"{path[:200]!r}..."


def _why_unsafe(path: str) -> str:
    """Why ``path`` is refused, or an empty string."""
    if not path:
        return "it is empty"
    if len(to_bytes(path)) > PATH_LIMIT:
        return f"it has more than {PATH_LIMIT} bytes"
    if path.startswith("/"):
        return "it is absolute"
    if "\0" in path:
        return "it has a NUL character"
    if "\\" in path:
        return "it has a backslash, which separates folders on Windows"
    for component in path.split("/"):
        reason = _why_unsafe_component(component)
        if reason:
            return reason
    return ""


def _why_unsafe_component(name: str) -> str:
    if not name:
        return "it has an empty component"
    if name in {".", ".."}:
        return f"it has the component {name!r}"
    if len(name) > 1 and name[1] == ":" and name[0].isascii() and name[0].isalpha():
        return f"{name[:2]!r} is a drive letter on Windows"
    if DEVICES.fullmatch(name):
        return f"{name!r} names a device on Windows"
    if len(to_bytes(name)) > COMPONENT_LIMIT:
        return f"it has a component of more than {COMPONENT_LIMIT} bytes"
    return ""

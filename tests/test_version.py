from __future__ import annotations

import re
from importlib import metadata

from pynetwork._version import __version__


def test_version_has_the_form_of_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", __version__)


def test_installed_metadata_says_the_same() -> None:
    assert metadata.version("pynetwork") == __version__

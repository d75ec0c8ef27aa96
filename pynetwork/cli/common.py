"""What the commands share: address, credentials, output, and the way from an error to an exit code."""

from __future__ import annotations

import argparse
import contextlib
import enum
import ipaddress
import os
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from handshakes.errors import (
    AuthenticationFailed,
    BadRequest,
    Busy,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    Forbidden,
    ItemFailed,
    NotFound,
    PoolFull,
    PynetworkError,
    RemoteFault,
    RemoteProtocolError,
    UnsafePath,
    VersionMismatch,
)
from handshakes.messages import Registry
from pynetwork.cli.display import dumps, visible
from pynetwork.cli.quantities import age, byte_count, positive, room, seconds, time_span
from pynetwork.client import Client
from pynetwork.controller import Controller
from pynetwork.swarm import Swarm

if TYPE_CHECKING:
    from pynetwork.tls import TLS

__all__ = [
    "Address",
    "CommandFailed",
    "Exit",
    "FolderAddress",
    "Output",
    "add_connection_options",
    "add_credential_options",
    "add_output_options",
    "age",
    "byte_count",
    "dialled_client",
    "dialled_swarm",
    "exit_code",
    "explain",
    "make_controller",
    "parse_address",
    "parse_folder_address",
    "positive",
    "read_key",
    "reason_of",
    "room",
    "run_guarded",
    "seconds",
    "swarm_of",
    "time_span",
    "tls_of",
]

DEFAULT_PORT = 1857


class Exit(enum.IntEnum):
    """Exit codes. Scripts may rely on them."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    FILE_NOT_FOUND = 4
    RETRY = 5
    FATAL = 7
    NOTHING = 9
    INTERRUPTED = 130
    TERMINATED = 143


class CommandFailed(Exception):
    """A command can't go on; ``hint`` says what to do about it."""

    def __init__(self, message: str, code: int = Exit.ERROR, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


# What is written on the command line


@dataclass(frozen=True)
class Address:
    """Where a gateway listens."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """``HOST``, ``HOST:PORT``, ``[::1]:PORT``, ``[::1]`` or ``::1``. Raises `argparse.ArgumentTypeError`."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        host = _ipv6(host)
        if not bracket or (rest and not rest.startswith(":")):
            raise argparse.ArgumentTypeError(f"{text!r} is no address; write [::1]:{DEFAULT_PORT}")
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = _ipv6(text), ""
    else:
        host, _, port = text.partition(":")
    if not host or any(letter.isspace() or letter == "/" for letter in host):
        raise argparse.ArgumentTypeError(f"{text!r} names no host; write HOST or HOST:PORT")
    if not port:
        return Address(host)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{port!r} in {text!r} is no port (1 to 65535); write HOST or HOST:PORT")
    return Address(host, int(port))


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no IPv6 address; write HOST:PORT or [::1]:PORT") from None
    return text


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add --json and -v."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line, each with its message_type")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what happens; show tracebacks")


@dataclass(frozen=True)
class FolderAddress:
    """A folder of a gateway."""

    address: Address
    folder: str

    def __str__(self) -> str:
        return f"{self.address}:{self.folder}"


def parse_folder_address(text: str) -> FolderAddress:
    """``HOST:FOLDER`` or ``HOST:PORT:FOLDER``; what is behind the last colon is the folder.

    Raises `argparse.ArgumentTypeError`.
    """
    host, colon, folder = text.rpartition(":")
    if not colon or not folder or folder.endswith("]"):
        raise argparse.ArgumentTypeError(
            f"{text!r} names no folder of a gateway; write HOST:FOLDER or HOST:PORT:FOLDER"
        )
    return FolderAddress(parse_address(host), folder)


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add HOST[:PORT], credentials and time-outs."""
    parser.add_argument(
        "address",
        metavar="HOST[:PORT]",
        type=parse_address,
        help=f"the gateway (port {DEFAULT_PORT} unless said)",
    )
    add_credential_options(parser)


def add_credential_options(parser: argparse.ArgumentParser) -> None:
    """Add credentials and time-outs."""
    group = parser.add_argument_group("connection")
    group.add_argument("--key-file", metavar="FILE", help="file that holds the key; else PYNETWORK_KEY is the key")
    group.add_argument("--tls", action="store_true", help="TLS; the system's authorities are trusted")
    group.add_argument("--tls-ca", metavar="FILE", help="TLS; the authority in this PEM file is trusted")
    group.add_argument("--tls-fingerprint", metavar="SHA256", help="TLS; only this certificate is trusted")
    group.add_argument("--tls-certificate", metavar="FILE", help="certificate to show, where the gateway asks for one")
    group.add_argument("--tls-private-key", metavar="FILE", help="its private key")
    group.add_argument(
        "--timeout",
        type=seconds,
        default=10.0,
        metavar="S",
        help="for connecting and for answers (default 10; 0: none)",
    )
    group.add_argument("--wait", type=seconds, default=0.0, metavar="S", help="wait so long while the gateway is full")


# Connecting


class _AnyClass(Registry):
    """Shows instances of classes that this process does not know as mappings."""

    def build(self, name: str, fields: Mapping[str, Any]) -> object:
        return {"class": name, **fields}


def read_key(key_file: str | None, output: Output) -> str | None:
    """The key from a file or, without one, from the environment. Raises `CommandFailed`."""
    if key_file is None:
        return os.environ.get("PYNETWORK_KEY") or None
    try:
        with open(key_file, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(65536).strip("\r\n")
    except FileNotFoundError:
        raise CommandFailed(f"there is no key file {key_file!r}", Exit.FILE_NOT_FOUND) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"the key file {key_file!r} can't be read: {reason_of(error)}") from error
    if not key:
        raise CommandFailed(f"the key file {key_file!r} is empty", Exit.USAGE)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        output.note(f"others on this machine may read {key_file!r}: chmod 600 it")
    return key


def tls_of(arguments: argparse.Namespace) -> TLS | None:
    """What the options say of TLS; None when nothing. Raises `ConfigurationError`."""
    names = {
        "ca": arguments.tls_ca,
        "fingerprint": arguments.tls_fingerprint,
        "certificate": arguments.tls_certificate,
        "private_key": arguments.tls_private_key,
    }
    if not (arguments.tls or any(names.values())):
        return None
    # Only now, as it takes a while.
    from pynetwork.tls import TLS  # noqa: PLC0415

    return TLS(**names)


def make_controller(arguments: argparse.Namespace) -> Controller:
    """The controller that a command line describes. Raises `CommandFailed` or `ConfigurationError`."""
    return Controller(
        arguments.address.host,
        arguments.address.port,
        key=read_key(arguments.key_file, Output(arguments, wanted=False)),
        tls=tls_of(arguments),
        timeout=arguments.timeout or None,
        verbose=arguments.verbose,
        registry=_AnyClass(),
    )


@contextlib.contextmanager
def dialled_client(arguments: argparse.Namespace) -> Iterator[Client]:
    """A client that is closed at the end; after Ctrl-C at once, without a goodbye."""
    client = make_controller(arguments).get_client(arguments.wait or None)
    try:
        yield client
    except KeyboardInterrupt as error:
        client.lose(error)
        raise
    finally:
        client.close()


@contextlib.contextmanager
def dialled_swarm(arguments: argparse.Namespace) -> Iterator[Swarm]:
    """As `dialled_client`, a swarm of ``arguments.lanes``."""
    with swarm_of(make_controller(arguments), arguments.lanes, arguments.wait or None) as swarm:
        yield swarm


@contextlib.contextmanager
def swarm_of(controller: Controller, lanes: int, wait: float | None) -> Iterator[Swarm]:
    """A swarm that is closed at the end; after Ctrl-C at once, without a goodbye."""
    swarm = controller.get_swarm(lanes, wait)
    try:
        yield swarm
    except KeyboardInterrupt as error:
        for client in swarm.clients:
            client.lose(error)
        raise
    finally:
        swarm.close()


# Telling


class Output:
    """Results go to stdout, everything else to stderr; with --json each is one object a line.

    ``wanted``: the results are what the command is run for. It ends with a `BrokenPipeError` when nobody reads them any
    more, and does not begin when there is no stdout: `CommandFailed`. Else they only tell of its work, which goes on to
    its end whoever listens. What goes to stderr does so for all commands.
    """

    def __init__(self, arguments: argparse.Namespace, *, wanted: bool = True) -> None:
        self.json: bool = arguments.json
        self.verbose: bool = arguments.verbose
        self._wanted = wanted
        if wanted and sys.stdout is None:
            raise CommandFailed("standard output is closed, and the results would go there", Exit.USAGE)

    def result(self, message_type: str, text: str | None, **fields: Any) -> None:
        """Print a result: ``fields`` with --json, else ``text`` (None: nothing). Not flushed."""
        with self._telling():
            if self.json:
                _write(_line(message_type, fields))
            elif text is not None:
                _write(text + "\n")

    def event(self, message_type: str, text: str | None, **fields: Any) -> None:
        """As `result`, and flushed: for what somebody waits for."""
        self.result(message_type, text, **fields)
        with self._telling():
            _flush()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._wanted:
                raise
            _silence(sys.stdout)
            if not isinstance(error, BrokenPipeError):
                self.note(f"standard output can't be written: {reason_of(error)}")

    def note(self, text: str) -> None:
        """Tell something that is no result."""
        _write_error(_line("note", {"message": text}) if self.json else f"pynetwork: {text}\n")

    def failure(self, error: BaseException, code: int) -> None:
        """Tell what went wrong, and what to do about it where that is known."""
        text, hint = explain(error)
        if self.verbose and "-v shows" in hint:
            hint = ""
        if self.json:
            fields = {"code": code, "error": type(error).__name__, "message": text, "hint": hint}
            _write_error(_line("error", fields))
        else:
            text = visible(text, keep="\n")
            _write_error(f"pynetwork: {text}\n" + (f"  {hint}\n" if hint else ""))
        if self.verbose:
            _write_error("".join(traceback.format_exception(error)))


def _write(text: str) -> None:
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _write_error(text: str) -> None:
    """Write to stderr if anybody reads that: nothing ends, and no exit code changes, because nobody does."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let what is written from now on, and what waits to be, go nowhere. The interpreter flushes again at exit."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _line(message_type: str, fields: dict[str, Any]) -> str:
    return dumps({"message_type": message_type, **fields}) + "\n"


# Errors

_CODES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Exit], ...] = (
    (NotFound, Exit.NOT_FOUND),
    (FileNotFoundError, Exit.FILE_NOT_FOUND),
    ((BadRequest, ConfigurationError, UnsafePath), Exit.USAGE),
    ((ConnectionLost, DeadlineExceeded, PoolFull, Busy), Exit.RETRY),
    ((AuthenticationFailed, Forbidden, VersionMismatch, RemoteProtocolError), Exit.FATAL),
)

_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (AuthenticationFailed, "The key comes from --key-file FILE or, without that, from PYNETWORK_KEY."),
    (Forbidden, "The gateway's owner grants rights with its key: Gateway(key={KEY: 'call, stream, read'})."),
    (NotFound, "pynetwork ls HOST[:PORT] lists what there is."),
    (PoolFull, "--wait SECONDS tries until there is room."),
    (
        DeadlineExceeded,
        "--timeout SECONDS allows more time; is the gateway's machine up, and its port reachable?",
    ),
    (
        ConnectionLost,
        "Does the gateway run there, and are host and port right? It may be worth trying again.",
    ),
    (RemoteFault, "That happened on the gateway; -v shows where."),
)


def exit_code(error: BaseException) -> int:
    """The exit code for an error that ended a command."""
    if isinstance(error, CommandFailed):
        return error.code
    if isinstance(error, ItemFailed) and error.__cause__ is not None:
        return exit_code(error.__cause__)
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), Exit.ERROR)


def reason_of(error: BaseException) -> str:
    """What an error says, for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__


def explain(error: BaseException) -> tuple[str, str]:
    """What went wrong, in a sentence, and a hint, which may be empty."""
    if isinstance(error, CommandFailed):
        return str(error), error.hint
    if isinstance(error, RemoteFault):
        text = f"{error.type_name}: {error.message}" if error.message else error.type_name
    elif isinstance(error, (PynetworkError, OSError)):
        text = reason_of(error)
    else:
        return f"an error in pynetwork itself: {type(error).__name__}: {error}", "-v shows where it happened."
    if isinstance(error, AuthenticationFailed) and "certificate" in text:
        return text, "--tls-ca FILE or --tls-fingerprint HEX say which certificate to trust."
    return text, next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")


def run_guarded(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command; whatever happens becomes an exit code and, where it went wrong, a message."""
    try:
        code = int(run(arguments))
        _flush()
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough, as in `| head`.
        _silence(sys.stdout)
        code = Exit.OK
    except Exception as error:
        code = exit_code(error)
        Output(arguments, wanted=False).failure(error, code)
    try:
        _flush()
    except OSError:
        # Told already, or nobody reads it.
        _silence(sys.stdout)
    return code

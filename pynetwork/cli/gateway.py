"""``pynetwork gateway FILE.py``: run the gateway that a Python file defines."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from handshakes.errors import LocalProtocolError
from pynetwork.cli.common import CommandFailed, Exit, Output, add_output_options
from pynetwork.gateway import Gateway

__all__ = ["add_parser", "load_gateway", "logged", "port_number", "run", "signals"]

FACTORY = "make_gateway"
_MODULE = "pynetwork_gateway_file"


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "gateway",
        help="run the gateway that a Python file defines",
        description="Run the Gateway that a Python file defines, at its top level or as what its function "
        f"{FACTORY}() returns, until Ctrl-C or SIGTERM. What happens is logged on stderr.",
        epilog=f"--port and --host are handed to {FACTORY}(), which must have parameters of these names.",
    )
    parser.add_argument("file", metavar="FILE.py", help="the Python file")
    parser.add_argument("--name", metavar="NAME", help="which of several gateways, by the name of its variable")
    parser.add_argument("--port", type=port_number, help="listen on this port; 0 takes any that is free")
    parser.add_argument("--host", help="listen on this address")
    parser.add_argument(
        "--stop-on-eof", action="store_true", help="stop when standard input ends, as when a parent dies"
    )
    add_output_options(parser)
    parser.set_defaults(run=run)


def port_number(text: str) -> int:
    """A port to listen on. Raises `argparse.ArgumentTypeError`."""
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Serve until somebody ends it: 0 for SIGTERM or a stop from afar, 130 for Ctrl-C."""
    output = Output(arguments, wanted=False)
    path = Path(arguments.file)
    wanted = {name: getattr(arguments, name) for name in ("port", "host") if getattr(arguments, name) is not None}
    with signals() as interrupts, _imported(path) as module, logged():
        gateway = load_gateway(module, path, arguments.name, wanted)
        try:
            _start(gateway, path)
            if arguments.stop_on_eof:
                _stop_on_eof(gateway)
            output.event("listening", None, name=gateway.name, port=gateway.port)
            gateway.wait()
        finally:
            gateway.stop(drain=0.3)
    return Exit.INTERRUPTED if interrupts else Exit.OK


def _start(gateway: Gateway, path: Path) -> None:
    try:
        gateway.start()
    except LocalProtocolError as error:
        raise CommandFailed(
            f"{path} starts its gateway itself",
            Exit.USAGE,
            f"Run it with: python {path}; or put its start under: if __name__ == '__main__':",
        ) from error


# The file


@contextlib.contextmanager
def _imported(path: Path) -> Iterator[ModuleType]:
    """The file as a module, for as long as its gateway runs. Raises `CommandFailed`."""
    if not path.is_file():
        raise CommandFailed(f"there is no file {str(path)!r}", Exit.FILE_NOT_FOUND)
    spec = importlib.util.spec_from_file_location(_MODULE, path.resolve())
    if spec is None or spec.loader is None:
        raise CommandFailed(f"{path} is no Python file: its name must end in .py", Exit.USAGE)
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    # As under `python FILE.py`: modules beside the file can be imported.
    sys.path.insert(0, folder)
    sys.modules[_MODULE] = module
    try:
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise CommandFailed(f"{path} could not be run: {_where(error, path)}", Exit.ERROR, _TRACE) from error
        yield module
    finally:
        sys.modules.pop(_MODULE, None)
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


_TRACE = "-v shows the traceback."


def _where(error: BaseException, path: Path) -> str:
    """An exception of the file, with the line of the file that it comes from."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    trail = error.__traceback__
    while trail is not None:
        if trail.tb_frame.f_code.co_filename == str(path.resolve()):
            line = trail.tb_lineno
        trail = trail.tb_next
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")


def load_gateway(module: ModuleType, path: Path, name: str | None, wanted: dict[str, Any]) -> Gateway:
    """The gateway that the file defines, with the ``wanted`` port and host. Raises `CommandFailed`."""
    found = {key: each for key, each in vars(module).items() if isinstance(each, Gateway)}
    if name is not None:
        if name not in found:
            known = f"it has: {', '.join(found)}" if found else "it has none at its top level"
            raise CommandFailed(f"{path} has no gateway {name!r}; {known}", Exit.NOT_FOUND)
        found = {name: found[name]}
    factory = getattr(module, FACTORY, None)
    if found:
        return _defined(found, path, wanted)
    if callable(factory):
        return _made(factory, path, wanted)
    raise CommandFailed(
        f"{path} defines no gateway",
        Exit.USAGE,
        f"Write: gateway = pynetwork.Gateway(...), or a function {FACTORY}() that returns one.",
    )


def _defined(found: dict[str, Gateway], path: Path, wanted: dict[str, Any]) -> Gateway:
    if len(set(map(id, found.values()))) > 1:
        raise CommandFailed(
            f"{path} defines several gateways: {', '.join(found)}", Exit.USAGE, "Choose with --name NAME."
        )
    if wanted:
        options = " and ".join(f"--{option}" for option in wanted)
        raise CommandFailed(
            f"{options} can't change the gateway that {path} has made already",
            Exit.USAGE,
            f"Write a function in place of it: def {FACTORY}({', '.join(wanted)}): return Gateway(...).",
        )
    return next(iter(found.values()))


def _made(factory: Callable[..., Any], path: Path, wanted: dict[str, Any]) -> Gateway:
    try:
        inspect.signature(factory).bind(**wanted)
    except TypeError as error:
        raise CommandFailed(
            f"{FACTORY}() of {path} can't be called with ({', '.join(wanted)}): {error}",
            Exit.USAGE,
            "Its parameters may be port and host; all others need defaults.",
        ) from error
    try:
        gateway = factory(**wanted)
    except (Exception, SystemExit) as error:
        raise CommandFailed(f"{FACTORY}() failed: {_where(error, path)}", Exit.ERROR, _TRACE) from error
    if not isinstance(gateway, Gateway):
        raise CommandFailed(f"{FACTORY}() of {path} returned {type(gateway).__name__}, not a Gateway", Exit.USAGE)
    return gateway


# Its life


@contextlib.contextmanager
def signals(terminated: int = Exit.OK) -> Iterator[list[int]]:
    """Let SIGTERM end the process cleanly from the beginning, with this code; after Ctrl-C the list holds something.

    The first signal counts, and the process is about to end then: another one would break into that.
    """
    interrupts: list[int] = []
    # No lock: a handler that runs within another one would wait for itself.
    ending: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        if not ending:
            ending.append(number)
            interrupts.append(number)
            raise KeyboardInterrupt

    def terminate(number: int, _frame: object) -> None:
        if not ending:
            ending.append(number)
            raise SystemExit(terminated)

    try:
        before = [signal.signal(signal.SIGINT, interrupt), signal.signal(signal.SIGTERM, terminate)]
    except ValueError:
        # Not the main thread: whoever runs this there has signals of their own.
        yield interrupts
        return
    try:
        yield interrupts
    finally:
        if not ending:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGTERM, before[1])


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """The log of what serves on stderr, unless somebody has arranged for that."""
    logger = logging.getLogger("pynetwork")
    if logger.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _stop_on_eof(gateway: Gateway) -> None:
    """Stop the gateway when standard input ends."""

    def watch() -> None:
        # Not through sys.stdin: its lock, held by a thread that never ends, breaks the interpreter's exit.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        gateway.stop(drain=0.3)

    threading.Thread(target=watch, name="stdin", daemon=True).start()

"""The program that carries a link's packets: it makes the two namespaces, and they end with it.

A TUN device in each namespace hands over whole IP packets. Where neither rate nor loss depend on the packets, they may
be as large as the kernel likes (64 KiB, segmentation offload): that is several times as fast.

It is started by `tools.link.link.Link`, which it tells by one line of JSON what it made. When its input ends it ends,
and with it every process that is still in its namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import mmap
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tools.link.namespaces import end_processes
from tools.link.wire import TRAFFIC_SIZE, Wire

__all__ = ["main"]

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 1, 2, 4
_DEVICE = "wire"
_OFFLOAD_HEADER = 10
_MTU = 1500
_LARGEST = 65536 + _OFFLOAD_HEADER
# Packets that are read before those that are due are looked after.
_BURST = 32
_SYSTEM = ctypes.CDLL(None, use_errno=True)


class End:
    """One end: a network namespace that is held by an open descriptor, and the device in it."""

    def __init__(self, address: str, peer: str, *, offload: bool) -> None:
        _call("unshare", _CLONE_NEWNET)
        self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if offload else 0)
        fcntl.ioctl(self.device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), flags))
        if offload:
            fcntl.ioctl(self.device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)
        # What one connection has learned of the link must not be there for the next; and no chatter of IPv6.
        _set("ipv4/tcp_no_metrics_save", "1")
        _set("ipv6/conf/all/disable_ipv6", "1")
        commands = (
            "link set dev lo up",
            f"addr add {address} peer {peer} dev {_DEVICE}",
            f"link set dev {_DEVICE} mtu {_MTU} txqueuelen 10000 up",
        )
        subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True, capture_output=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_SYSTEM, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _set(setting: str, value: str) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/sys/net", setting).write_text(value, encoding="ascii")


@contextlib.contextmanager
def _made(addresses: list[str], *, offload: bool) -> Iterator[tuple[End, End]]:
    """Both ends; this process is in neither of their namespaces."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    near, far = addresses
    ends = End(near, far, offload=offload), End(far, near, offload=offload)
    _call("setns", home, _CLONE_NEWNET)
    try:
        yield ends
    finally:
        for end in ends:
            end_processes(os.fstat(end.namespace).st_ino, f"/proc/{os.getpid()}/fd/{end.namespace}")


class _Direction:
    """Packets on their way from one device to the other."""

    def __init__(self, source: int, target: int, wire: Wire, header: int) -> None:
        self._source, self._target, self._wire, self._header = source, target, wire, header
        self._size = _LARGEST if header else _MTU
        self._waiting: deque[tuple[int, bytes]] = deque()

    def take(self, now: int) -> None:
        """Read what has come from the source."""
        source, size, header, waiting, admit = self._source, self._size, self._header, self._waiting, self._wire.admit
        for _ in range(_BURST):
            try:
                packet = os.read(source, size)
            except BlockingIOError:
                return
            due = admit(now, len(packet) - header)
            if due is not None:
                waiting.append((due, packet))

    def give(self, now: int) -> int | None:
        """Hand over what is due; answers when (monotonic nanoseconds) the next will be."""
        waiting, target = self._waiting, self._target
        while waiting:
            due, packet = waiting[0]
            if due > now:
                return due
            waiting.popleft()
            # The device may have been taken down by whoever tries that.
            with contextlib.suppress(OSError):
                os.write(target, packet)
        return None


def _carry(directions: tuple[_Direction, _Direction], devices: tuple[int, int], control: int) -> None:
    """Carry packets both ways until ``control`` ends."""
    awaited = [*devices, control]
    one, other = directions
    by_device = dict(zip(devices, directions, strict=True))
    clock, ask = time.monotonic_ns, select.select
    while True:
        now = clock()
        dues = [due for due in (one.give(now), other.give(now)) if due is not None]
        wait = max(0.0, (min(dues) - clock()) / 1e9) if dues else None
        readable = ask(awaited, (), (), wait)[0]
        if readable:
            if control in readable:
                return
            now = clock()
            for device in readable:
                by_device[device].take(now)


def _be_punctual() -> None:
    """A packet that is due goes before all else: at a given rate there is little to do, but that at its time."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main() -> int:
    """Carry packets as the one argument (JSON) says, until the input ends."""
    settings = json.loads(sys.argv[1])
    rate, delay, loss = settings["rate"], settings["delay"], settings["loss"]
    offload = rate is None and not loss
    memory = mmap.mmap(settings["memory"], 2 * TRAFFIC_SIZE)
    figures = memoryview(memory).cast("Q")
    half = TRAFFIC_SIZE // 8
    with contextlib.ExitStack() as stack:
        try:
            near, far = stack.enter_context(_made(settings["addresses"], offload=offload))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None)
            print(json.dumps({"error": (said or str(error)).strip()}), flush=True)
            return 1
        print(json.dumps({"namespaces": [near.namespace, far.namespace]}), flush=True)
        gc.disable()
        if rate is not None:
            _be_punctual()
        queue, seed, header = settings["queue"], settings["seed"], _OFFLOAD_HEADER if offload else 0
        there = Wire(rate, delay, loss, queue, seed, figures[:half])
        back = Wire(rate, delay, loss, queue, seed + 1, figures[half:])
        directions = (
            _Direction(near.device, far.device, there, header),
            _Direction(far.device, near.device, back, header),
        )
        _carry(directions, (near.device, far.device), sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())

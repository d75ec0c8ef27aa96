"""Text as a small machine's logs have it: kernel, services, sensors, a web server."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

__all__ = ["log_text"]

_BEGIN = datetime(2026, 1, 5, 6, 25, tzinfo=timezone.utc)
_UNITS = ("cron", "sshd", "avahi-daemon", "systemd", "dhcpcd", "NetworkManager", "chronyd", "wpa_supplicant")
_PAGES = ("/", "/index.html", "/api/v1/readings", "/static/app.js", "/favicon.ico", "/metrics", "/api/v1/devices")
_SENSORS = ("temperature", "humidity", "pressure", "voltage", "current", "light")


def log_text(chance: random.Random, size: int) -> bytes:
    """So many bytes of lines, all of one kind and in the order of their times; the last may be cut, but ends as a line
    does. The same ``chance`` gives the same text.
    """
    host = f"pi-{chance.randrange(100):02}"
    write = chance.choice((_system, _readings, _requests))
    now = _BEGIN + timedelta(seconds=chance.randrange(20_000_000))
    lines: list[bytes] = []
    rest = size
    while rest > 0:
        now += timedelta(microseconds=chance.randrange(5_000_000))
        line = write(chance, now, host).encode("ascii")
        lines.append(line)
        rest -= len(line)
    return b"".join(lines)[: max(0, size - 1)] + b"\n" * (size > 0)


def _system(chance: random.Random, now: datetime, host: str) -> str:
    unit = chance.choice(_UNITS)
    number = chance.getrandbits(32)
    text = chance.choice(_SAID)(number)
    return f"{now:%b %d %H:%M:%S} {host} {unit}[{300 + number % 31000}]: {text}\n"


_SAID: tuple[Callable[[int], str], ...] = (
    lambda number: f"session opened for user pi by (uid={number % 1000})",
    lambda number: f"Accepted publickey for pi from 192.168.1.{number % 254} port {number >> 16} ssh2",
    lambda number: f"wlan0: CTRL-EVENT-BEACON-LOSS signal=-{40 + number % 50} noise=-95 txrate={number % 650}",
    lambda number: f"Selected source 10.0.{number % 256}.{number >> 24}, offset {number / 2**34:+.9f} seconds",
    lambda number: f"(root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 {number % 60})",
    lambda number: f"usb 1-1.{number % 5}: reset high-speed USB device number {number % 127} using dwc_otg",
    lambda number: f"Started session-{number % 90000}.scope, cgroup 0x{number:08x}.",
)


def _readings(chance: random.Random, now: datetime, host: str) -> str:
    sensor = chance.choice(_SENSORS)
    return (
        f"{now:%Y-%m-%dT%H:%M:%S.%f}Z INFO {host} sampler: {sensor}={chance.gauss(21.0, 4.0):.4f} "
        f"seq={chance.getrandbits(24)} lag={chance.expovariate(200.0) * 1000:.2f}ms ok\n"
    )


def _requests(chance: random.Random, now: datetime, host: str) -> str:
    number = chance.getrandbits(32)
    return (
        f"10.0.{number % 4}.{number >> 24} - - [{now:%d/%b/%Y:%H:%M:%S} +0000] "
        f'"GET {chance.choice(_PAGES)}?id={number >> 8 & 0xFFFF} HTTP/1.1" {200 if number % 9 else 404} '
        f'{number % 20000} "http://{host}.local/" "Mozilla/5.0 (X11; Linux aarch64) Firefox/128.0"\n'
    )

"""The loopback, and links with a namespace at either end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.bench.network import Shape
from tools.link import LinkUnavailable

SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    with listener.accept()[0] as sock:
        print(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(bytes(1)).decode(), flush=True)
        sock.sendall(bytes(1_000_000))
"""
CLIENT = """
import socket, sys
from tools.bench.network import arrived
before = arrived()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    while sock.recv(65536):
        pass
print(arrived() - before)
"""


@pytest.fixture
def network():
    try:
        with Shape(rate=50e6 / 8, trip=0.002).opened() as opened:
            yield opened
    except LinkUnavailable as error:
        pytest.skip(str(error))


def test_programs_at_the_ends_see_each_other_and_what_has_arrived(network):
    server = network.server([sys.executable, "-c", SERVER, network.host], stdout=subprocess.PIPE, text=True)
    with server:
        port = server.stdout.readline().strip()
        command = [sys.executable, "-c", CLIENT, network.host, port]
        client = network.client(command, stdout=subprocess.PIPE, text=True)
        with client:
            count = int(client.stdout.read())
        assert server.stdout.read().strip() == "cubic"
    assert 1_000_000 < count < 1_100_000


def test_a_congestion_control_that_the_kernel_does_not_have():
    with pytest.raises(LinkUnavailable), Shape(congestion="none-such").opened():
        pass

"""Tests of gateways and controllers: real sockets and threads, in this process."""

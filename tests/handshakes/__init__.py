"""Tests of the wire contract: no sockets, no threads, no clocks."""

"""Tests of the actions of `pynetwork series`."""

"""The engine of `pynetwork.series.store`: blocks of records in one SQLite file, found by the extents of their keys.

It knows blocks of records (`handshakes.records`) and nothing of what their payloads mean.
"""

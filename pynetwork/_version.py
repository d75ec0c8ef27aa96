"""The version of pynetwork: the one place where it is written."""

__version__ = "3.0.0.dev0"

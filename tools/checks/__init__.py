"""The project's own checks, run by `make check`: what no linter knows about this tree."""

"""The tests: a mirror of the tree, file for file, and what concerns more than one module beside it."""

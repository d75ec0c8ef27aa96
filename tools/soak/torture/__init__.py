"""Backups of logs that are written and rotated all the while, under kill -9, cut links and flipped bits."""

"""Tests of whole processes: what is killed, stopped, signalled or fed with nonsense."""

"""Whatever bytes arrive: random, mutated and coverage-guided inputs for everything that reads what a peer sent."""

"""Real architectures: `python -m tests.zoo` checks each in a process of its own and writes docs/coverage.md."""

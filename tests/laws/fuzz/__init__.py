"""Programs as people write them, made at random as source files, and every promise of a plan held against them.

`python -m tests.laws.fuzz --programs 20000` runs many; `--only SEED` runs one again and prints it.
"""

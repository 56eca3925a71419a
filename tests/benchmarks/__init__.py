"""Measurements, as ratios within one process on one machine. Run with `python -m tests.benchmarks NAME`."""

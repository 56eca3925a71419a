"""A sweep in a process of its own, for `test_one_file.py`."""

from __future__ import annotations

import time
from pathlib import Path

import torch

import surgery
from tests.measuring.scoring import loss, wrapped

QUIET = {"progress": False, "measure_latency": False}


def run(path: Path, widths: list[float], log: Path, seconds: float, count: int) -> None:
    """Sweep when so many runs are ready, and write each call into a log."""
    torch.set_num_threads(1)
    twin = wrapped()
    log.touch()
    while len(list(log.parent.glob("*.log"))) < count:
        time.sleep(0.01)

    def validate(model):
        with log.open("a") as file:
            file.write(f"{surgery.widths(model)['0.o']}\n")
        time.sleep(seconds)
        return loss(model)

    surgery.sweep(twin, validate, widths, resume=path, **QUIET)

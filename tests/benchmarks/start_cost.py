"""What a start without training costs: seconds and memory, against depth: `python -m tests.benchmarks start_cost`.

The decoder of `language` with more and more blocks, on 64 windows of random bytes. Each measurement has a process of
its own; memory is the most that it ever had, above what it had before.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F

import surgery
from tests.benchmarks.decoder import BYTES, Decoder
from tests.benchmarks.language import BATCH, LENGTH
from tests.benchmarks.run import Run

Value = dict[str, Any]
DEPTHS = (2, 4, 8, 16)
WINDOWS = 64
WHAT = ("training", "sort", "refit", "nest")


def measured(what: str, depth: int, threads: int) -> Value:
    """Processor seconds, and MiB: of one pass of training over the windows, or of a part of the start."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Decoder(depth=depth).eval()
    batches = list(torch.randint(BYTES, (WINDOWS, LENGTH)).split(BATCH))
    wrapped = surgery.wrap(model, batches[0][:2], rehearse=False).eval()
    before, start = peak(), time.process_time()
    if what == "training":
        for batch in batches:
            F.cross_entropy(model(batch).flatten(0, 1), batch.flatten()).backward()
    elif what == "sort":
        surgery.sort(wrapped, by=surgery.absorbed(batches))
    elif what == "refit":
        surgery.shrink(wrapped, 0.5, refit=batches)
    else:
        surgery.nest(wrapped, batches)
    return {"seconds": round(time.process_time() - start, 2), "MiB": round(peak() - before)}


def peak() -> float:
    """The most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(what: str, depth: int, threads: int) -> Value:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, what, depth, threads).result()


def main(run: Run) -> list[Value]:
    """Print and return a row for each depth."""
    rows: list[Value] = []
    for depth in DEPTHS[:2] if run.quick else DEPTHS:
        found = {what: run.cell(apart, what=what, depth=depth, threads=torch.get_num_threads()) for what in WHAT}
        rows.append({"blocks": depth, **{what: (value["seconds"], value["MiB"]) for what, value in found.items()}})
        print(rows[-1], flush=True)
    return rows

"""`python -m tests.benchmarks NAME [--seeds N] [--quick] [--json FILE]`: run one benchmark, print its rows.

FILE keeps the rows, the settings, and every part as it finishes: the same command again goes on where it stopped, and
another benchmark takes from it what both need.
"""

from __future__ import annotations

import argparse
import importlib
import platform
from pathlib import Path

import torch

from tests.benchmarks.cells import Cells
from tests.benchmarks.run import Run

NAMES = (
    "training", "planning", "shrunk", "latency", "digits", "ablations", "adaptive",
    "fashion_mlp", "fashion_cnn", "first_hour", "language", "pretrained", "choice",
    "start", "start_cost", "orders", "choice_start", "compared", "distilled", "language_start", "optimizers", "scale",
    "compiled", "depth", "depth_draws",
    "paper", "paper.mlp", "paper.mnist", "paper.pointnet", "paper.liif", "paper.crops",
)  # fmt: skip


def positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, got {text}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seeds", type=positive, help="how many seeds, where a benchmark has seeds")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, for a look")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--png", type=Path, help="plot the rows into this file, where a benchmark has a plot")
    parser.add_argument("--json", type=Path, help="keep rows, settings and finished parts here; go on from it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {"torch": torch.__version__, "threads": options.threads, "machine": platform.machine(),
                "seeds": options.seeds, "quick": options.quick}  # fmt: skip
    print(options.name, settings)
    run = Run(options.quick, options.seeds, Cells(options.json, options.name, settings))
    module = importlib.import_module(f"tests.benchmarks.{options.name}")
    if options.png and not hasattr(module, "plot"):
        parser.error(f"{options.name} has no plot: leave out --png")
    rows = module.main(run)
    run.cell.rows(rows)
    if options.png:
        module.plot(rows, options.png)


if __name__ == "__main__":
    main()

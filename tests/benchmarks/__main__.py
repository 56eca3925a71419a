"""`python -m tests.benchmarks NAME [--quick] [--json FILE]`: run one benchmark, print its rows."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import torch

NAMES = ("training", "planning", "shrunk", "digits")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, for a look")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s)")
    rows = importlib.import_module(f"tests.benchmarks.{options.name}").main(options.quick)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

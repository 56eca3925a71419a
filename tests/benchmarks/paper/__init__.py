"""The experiments of the paper (Knodt 2022, arXiv:2205.06906), in its mode and in ours: what docs/paper.md tells.

`python -m tests.benchmarks paper` runs all three, `paper.mlp`, `paper.pointnet` and `paper.liif` one each.
`paper.mnist` is the first on MNIST, where it can be downloaded; `paper.crops` is a picture of the third. What is
trained is kept in the file of `--json`, for all of them.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from tests.benchmarks.run import Run

NAMES = ("mlp", "pointnet", "liif", "crops")


def module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


def main(run: Run) -> list[dict[str, Any]]:
    """Print and return the rows of all experiments."""
    # What is missing is said before hours of training.
    for name in NAMES:
        module(name).EXPERIMENT.task.calibration()
    return [row for name in NAMES for row in module(name).main(run)]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """A picture of each experiment, beside `path`: `paper.png` becomes `paper-mlp.png` and so on."""
    for name in NAMES:
        module(name).plot([row for row in rows if row["experiment"] == name], path.with_stem(f"{path.stem}-{name}"))

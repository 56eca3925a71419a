"""What compiling a wrapped model saves of its training steps: `python -m tests.benchmarks compiled`.

An MLP and a decoder of two blocks, each as two twins, one of them compiled: their steps take turns in one process. So
do those of two plain models, which tell what compiling is worth by itself.
Times of steps are of the processor: one thread computes, so that is the time where nothing else runs. Seconds of
compiling are those on the clock that the first steps take beyond the eager ones beside them; compilers run beside.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache

import surgery
from tests.benchmarks.decoder import BYTES, Decoder
from tests.benchmarks.run import Run
from tests.benchmarks.training import mlp

WIDTHS = [0.75, 0.5, 0.25]
FIRST = 24  # steps that do not count: each of the four widths comes twice in them, seeds being fixed


@dataclass(frozen=True)
class Setup:
    """A model, and inputs and labels of a batch."""

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]


def decoder() -> nn.Module:
    return Decoder(dim=256, depth=2, heads=8, hidden=1024)


SETUPS = {
    "mlp 4x1024, batch 256": Setup(mlp, lambda: (torch.randn(256, 784), torch.randint(10, (256,)))),
    "mlp 4x1024, batch 32": Setup(mlp, lambda: (torch.randn(32, 784), torch.randint(10, (32,)))),
    "decoder 2x256, batch 8x128": Setup(
        decoder, lambda: (torch.randint(BYTES, (8, 128)), torch.randint(BYTES, (8, 128)))
    ),
}


def loss(output: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, -2), labels.flatten())


def nested(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Forward and backward of `train_step` at the full width and three narrow ones."""
    surgery.train_step(model, x, lambda output: loss(output, y), narrow=WIDTHS)


def unchanged(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Forward and backward at one width that is drawn."""
    loss(model(x), y).backward()


PLAIN = "the plain model"
STEPS = {"train_step, 4 widths": nested, "unchanged loop, a grid of 4": unchanged, PLAIN: unchanged}


def made(model: nn.Module, step: str, x: Tensor) -> nn.Module:
    """A copy of a model to train: a twin, but for steps of the plain model."""
    copied = copy.deepcopy(model)
    draw = surgery.grid([1.0, *WIDTHS])
    return copied if step == PLAIN else surgery.wrap(copied, x, draw=draw, generator=torch.Generator().manual_seed(1))


def measured(name: str, step: str, rounds: int) -> dict[str, Any]:
    """One row: milliseconds of an eager step, the ratio of a compiled one, and what compiling took."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    counters.clear()
    setup = SETUPS[name]
    model, (x, y) = setup.build(), setup.batch()
    twins = {}
    for kind in ("eager", "compiled"):
        twin = made(model, step, x)
        twins[kind] = twin.train(), torch.optim.Adam(twin.parameters())
    order = list(twins.items())
    twins["compiled"][0].compile()
    times: dict[str, list[float]] = {kind: [] for kind in twins}
    clocked: dict[str, list[float]] = {kind: [] for kind in twins}
    with fresh_cache():
        for _ in range(FIRST + rounds):
            order.reverse()
            for kind, (twin, optimizer) in order:
                start, clock = time.process_time(), time.perf_counter()
                optimizer.zero_grad()
                STEPS[step](twin, x, y)
                optimizer.step()
                times[kind].append(time.process_time() - start)
                clocked[kind].append(time.perf_counter() - clock)
    late = {kind: found[FIRST:] for kind, found in times.items()}
    ratios = [fast / slow for fast, slow in zip(late["compiled"], late["eager"], strict=True)]
    return {
        "setup": name,
        "step": step,
        "eager ms": round(1e3 * statistics.median(late["eager"]), 1),
        "compiled / eager": round(statistics.median(ratios), 3),
        "seconds of compiling": round(sum(clocked["compiled"][:FIRST]) - sum(clocked["eager"][:FIRST]), 1),
        "compilations": counters["stats"]["unique_graphs"],
        "graph breaks": sum(counters["graph_break"].values()),
    }


def main(run: Run) -> list[dict[str, Any]]:
    """Print and return one row for each model and way of training."""
    rows = []
    for name in SETUPS:
        for step in STEPS:
            rows.append(run.cell(measured, name=name, step=step, rounds=8 if run.quick else 40))
            print(rows[-1], flush=True)
    return rows

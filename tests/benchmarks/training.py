"""What a wrapped training step costs, relative to a plain one: `python -m tests.benchmarks training`."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import surgery
from tests.benchmarks.run import Run


@dataclass(frozen=True)
class Setup:
    """A model, a batch, and the ratio that is aimed at for steps at drawn widths."""

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    target: float


def mlp() -> nn.Module:
    """Four hidden layers of 1024."""
    layers: list[nn.Module] = []
    for i in range(4):
        layers += [nn.Linear(784 if i == 0 else 1024, 1024), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1024, 10))


def cnn() -> nn.Module:
    """Four convolutions of 128 channels on 32x32."""
    layers: list[nn.Module] = []
    for i in range(4):
        layers += [nn.Conv2d(3 if i == 0 else 128, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


SETUPS = (
    Setup("mlp 4x1024, batch 256", mlp, lambda: (torch.randn(256, 784), torch.randint(10, (256,))), 0.60),
    Setup("cnn 4x128 on 32x32, batch 32", cnn, lambda: (torch.randn(32, 3, 32, 32), torch.randint(10, (32,))), 0.40),
)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """One ordinary training step."""
    optimizer.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()


def measure(setup: Setup, rounds: int) -> dict[str, float]:
    """Median seconds per step of the plain model, of the twin at drawn widths, and of the twin held at full width."""
    torch.manual_seed(0)
    x, y = setup.batch()
    plain = setup.build()
    drawn = surgery.wrap(copy.deepcopy(plain), x, draw=surgery.paper(p=1.0))
    held = surgery.wrap(copy.deepcopy(plain), x, draw=surgery.grid([1.0]))
    runs = {
        name: (model.train(), torch.optim.Adam(model.parameters()))
        for name, model in {"plain": plain, "drawn": drawn, "held": held}.items()
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 2):
        for name, (model, optimizer) in runs.items():
            start = time.perf_counter()
            step(model, optimizer, x, y)
            if i >= 2:
                times[name].append(time.perf_counter() - start)
    # widths vary from step to step, so their cost is a mean; outliers of the machine are cut off
    return {
        name: statistics.mean(sorted(values)[: max(1, round(len(values) * 0.95))]) for name, values in times.items()
    }


def main(run: Run) -> list[dict[str, object]]:
    """Print and return one row per setup."""
    rows: list[dict[str, object]] = []
    for setup in SETUPS:
        seconds = measure(setup, 10 if run.quick else 100)
        row = {
            "setup": setup.name,
            "plain ms": round(1e3 * seconds["plain"], 1),
            "drawn / plain": round(seconds["drawn"] / seconds["plain"], 3),
            "target": setup.target,
            "full / plain": round(seconds["held"] / seconds["plain"], 3),
        }
        print(row)
        rows.append(row)
    return rows

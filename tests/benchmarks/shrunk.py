"""A shrunk model against the same architecture built small: `python -m tests.benchmarks shrunk`."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

import surgery
from tests.benchmarks.run import Run


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(256, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def cnn(width: int) -> nn.Module:
    block = [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), *block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )


class Transformer(nn.Module):
    """Four blocks of torch's encoder; only the feed-forward width varies, which its class can express."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(64, 4, width, batch_first=True) for _ in range(4))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


SETUPS = {
    "mlp": (mlp, 1024, torch.randn(64, 256), {}),
    "cnn": (cnn, 128, torch.randn(4, 3, 32, 32), {}),
    "transformer": (Transformer, 512, torch.randn(8, 32, 64), {"only": ["layers.*.linear1.o"]}),
}


def main(run: Run) -> list[dict[str, object]]:
    """Print and return one row per setup: the ratio of median times, alternating in one process."""
    rows: list[dict[str, object]] = []
    for name, (build, width, x, options) in SETUPS.items():
        wrapped = surgery.wrap(build(width), x, **options)
        pair = {"shrunk": surgery.shrink(wrapped, 0.5, recalibrate=False).eval(), "built": build(width // 2).eval()}
        alike = [type(a) is type(b) for a, b in zip(pair["shrunk"].modules(), pair["built"].modules(), strict=True)]
        times: dict[str, list[float]] = {key: [] for key in pair}
        with torch.inference_mode():
            for i in range(20 if run.quick else 300):
                for key, model in pair.items():
                    start = time.perf_counter()
                    model(x)
                    if i >= 5:
                        times[key].append(time.perf_counter() - start)
        ratio = statistics.median(times["shrunk"]) / statistics.median(times["built"])
        rows.append({"setup": name, "shrunk / built": round(ratio, 3), "target": 1.02, "class for class": all(alike)})
        print(rows[-1])
    return rows

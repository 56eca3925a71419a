"""What `inspect` costs: `python -m tests.benchmarks planning`.

Three tables: against one forward and backward of small models; against depth and width of a transformer; and of a Llama
with 7 billion parameters on the meta device, where transformers is installed.
"""

from __future__ import annotations

import importlib.util
import resource
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.benchmarks.run import Run
from tests.laws.laws import loss
from tests.models import CASES

Rows = list[dict[str, object]]
DEPTHS = (2, 6, 12, 24, 48, 96)
WIDTHS = (32, 128, 512, 1024)


class Block(nn.Module):
    """A transformer's block with a fused projection; its code computes the width of a head."""

    def __init__(self, c: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.qkv, self.proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.up, self.down = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(b, n, c))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def transformer(depth: int, width: int = 32) -> nn.Module:
    """`depth` blocks between two linear layers."""
    blocks = (Block(width, heads=4) for _ in range(depth))
    return nn.Sequential(nn.Linear(8, width), *blocks, nn.Linear(width, 5)).eval()


def in_turn(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The least CPU seconds of two calls, run in turn after one that is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for run, taken in zip((first, second), times, strict=True):
            start = time.process_time()
            run()
            taken.append(time.process_time() - start)
    return min(times[0][1:]), min(times[1][1:])


def small_models(repeats: int) -> Rows:
    """One row per architecture, and the median ratio."""
    rows: Rows = []
    for case in CASES:
        model, inputs = case.build().eval(), case.inputs(0)
        step, plan = in_turn(
            lambda: loss(model(*inputs)).backward(),  # noqa: B023
            lambda: surgery.inspect(model, inputs),  # noqa: B023
            repeats,
        )
        rows.append({"model": case.name, "step ms": round(1e3 * step, 1), "inspect ms": round(1e3 * plan, 1),
                     "ratio": round(plan / step, 1)})  # fmt: skip
        print(rows[-1])
    ratios = [float(str(row["ratio"])) for row in rows]
    rows.append({"model": "median", "ratio": statistics.median(ratios)})
    rows.append({"model": "largest", "ratio": max(ratios)})
    return rows


def grown(what: str, sizes: tuple[int, ...], build: Callable[[int], nn.Module], repeats: int) -> Rows:
    """The time of planning against one size of a transformer on the meta device, where its kernels take no time."""
    rows: Rows = []
    for size in sizes:
        with torch.device("meta"):
            model, x = build(size), torch.zeros(1, 4, 8)
        _, plan = in_turn(lambda: None, lambda: surgery.inspect(model, x), repeats)  # noqa: B023
        rows.append({what: size, "inspect ms": round(1e3 * plan, 1), f"ms per {what}": round(1e3 * plan / size, 2)})
        print(rows[-1])
    return rows


def llama() -> Rows:
    """A Llama of 7 billion parameters on the meta device: seconds, and the most memory that the process ever had."""
    if importlib.util.find_spec("transformers") is None:
        return []
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig()).eval()
        tokens = torch.zeros(1, 16, dtype=torch.long)
    start = time.perf_counter()
    plan = surgery.inspect(model, {"input_ids": tokens})
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [{"model": "Llama", "parameters": plan.total, "groups": len(plan.groups), "seconds": round(seconds, 1),
             "peak GiB of the process": round(peak, 2)}]  # fmt: skip


def main(run: Run) -> Rows:
    """Print and return the rows of all tables."""
    repeats = 3 if run.quick else 9
    rows = small_models(repeats)
    print(*rows[-2:], sep="\n")
    rows += grown("depth", DEPTHS, transformer, repeats)
    rows += grown("width", WIDTHS, lambda width: transformer(6, width), repeats)
    found = llama()
    print(*found, sep="\n")
    return rows + found

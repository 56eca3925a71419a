"""What half the width does to the time of a call: `python -m tests.benchmarks latency`.

Eleven models with random weights, each in full, at half width, at 0.45 (where widths are odd: 29 of 64), and at both
with widths rounded to multiples of 16; and, for a batch of one, half the width against half the depth. Rounds take the
models in turn. Times are of the processor: one thread computes, so that is the latency where nothing else runs.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import surgery
from surgery.modules.inputs import Inputs, call
from tests.benchmarks.run import Run
from tests.benchmarks.training import mlp

SMALLER = {"0.5": (0.5, 1), "0.5 by 16": (0.5, 16), "0.45": (0.45, 1), "0.45 by 16": (0.45, 16)}  # fraction, multiple


@dataclass(frozen=True)
class Setup:
    """A model, the package that it comes from, and the shape of a batch: tokens where the shape has two dimensions."""

    package: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    vocabulary: int = 0

    def inputs(self, batch: int | None = None) -> Inputs:
        shape = self.shape if batch is None else (batch, *self.shape[1:])
        if self.vocabulary:
            return call({"input_ids": torch.randint(self.vocabulary, shape)})
        return call(torch.randn(shape))


def vision(name: str) -> Setup:
    """A classifier of torchvision."""

    def build() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None)

    return Setup("torchvision", build, (4, 3, 224, 224))


def timm(name: str) -> Setup:
    """A classifier of timm."""

    def build() -> nn.Module:
        import timm

        return timm.create_model(name)

    return Setup("timm", build, (4, 3, 224, 224))


def language(kind: str, **sizes: Any) -> Setup:
    """A language model of transformers, without a cache."""

    def build() -> nn.Module:
        import transformers

        config = transformers.AutoConfig.for_model(kind, vocab_size=8192, use_cache=False, **sizes)
        task = transformers.AutoModelForMaskedLM if kind == "bert" else transformers.AutoModelForCausalLM
        return task.from_config(config)

    return Setup("transformers", build, (4, 128), vocabulary=8192)


SMALL = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
SETUPS = {
    "mlp 4x1024": Setup("torch", mlp, (64, 784)),
    "resnet18": vision("resnet18"),
    "densenet121": vision("densenet121"),
    "mobilenet_v2": vision("mobilenet_v2"),
    "mobilenet_v3_small": vision("mobilenet_v3_small"),
    "efficientnet_b0": vision("efficientnet_b0"),
    "convnext_atto": timm("convnext_atto"),
    "vit_small_patch16_224": timm("vit_small_patch16_224"),
    "swin_tiny_patch4_window7_224": timm("swin_tiny_patch4_window7_224"),
    "bert 6x512": language("bert", **SMALL, intermediate_size=2048),
    "llama 6x512": language("llama", **SMALL, num_key_value_heads=4, intermediate_size=1408),
}


def in_turn(models: dict[str, nn.Module], inputs: Inputs, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call of each model, after two that do not count. Who is first changes from round to round."""
    times: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    with torch.inference_mode():
        for i in range(rounds + 2):
            order.append(order.pop(0))
            for name in order:
                start = time.process_time()
                models[name](*inputs.args, **inputs.kwargs)
                if i >= 2:
                    times[name].append(time.process_time() - start)
    return times


def measured(name: str, rounds: int) -> dict[str, Any]:
    """One row: milliseconds of the full model, and the share of its multiply-adds and of its time that is left."""
    torch.manual_seed(0)
    setup = SETUPS[name]
    model, inputs = setup.build().eval(), setup.inputs()
    wrapped = surgery.wrap(model, inputs)
    small = {
        key: surgery.shrink(wrapped, part, multiple=multiple, recalibrate=False)
        for key, (part, multiple) in SMALLER.items()
    }
    times = in_turn({"full": model, **small}, inputs, rounds)
    row: dict[str, Any] = {"model": name, "batch": list(setup.shape)}
    row["full ms"] = round(1e3 * statistics.median(times["full"]), 1)
    for key, made in small.items():
        work = surgery.cost(wrapped, made.surgery_record["widths"]).macs / surgery.cost(wrapped).macs
        ratios = [part / whole for part, whole in zip(times[key], times["full"], strict=True)]
        row |= {f"{key}: MACs": round(work, 3), f"{key}: time": round(statistics.median(ratios), 3)}
    return row | at_batch_one(model, setup, rounds)


def at_batch_one(model: nn.Module, setup: Setup, rounds: int) -> dict[str, Any]:
    """For a batch of one, the share of multiply-adds and of time that half the width and half the depth leave."""
    inputs = setup.inputs(1)
    wrapped = surgery.wrap(model, setup.inputs(2), depth=True)
    plan = surgery.inspect(wrapped)
    modules = [name for name, group in plan.groups.items() if group.kind == "depth"]
    specs = {"width": {"*": 0.5, **dict.fromkeys(modules, 1.0)}, "depth": dict.fromkeys(modules, 0.5)}
    small = {key: surgery.shrink(wrapped, spec, recalibrate=False) for key, spec in specs.items() if spec}
    times = in_turn({"full": model, **small}, inputs, rounds)
    row: dict[str, Any] = {"batch 1: full ms": round(1e3 * statistics.median(times["full"]), 2)}
    for key in small:
        ratios = [part / whole for part, whole in zip(times[key], times["full"], strict=True)]
        work = surgery.cost(wrapped, specs[key]).macs / surgery.cost(wrapped).macs
        row |= {
            f"batch 1, half {key}: MACs": round(work, 3),
            f"batch 1, half {key}: time": round(statistics.median(ratios), 3),
        }
    return row


def main(run: Run) -> list[dict[str, Any]]:
    """Print and return one row per model, one model at a time. One whose package is missing is skipped, and said so."""
    rows = []
    for name, setup in SETUPS.items():
        if importlib.util.find_spec(setup.package) is None:
            rows.append({"model": name, "skipped": f"{setup.package} is not installed"})
        else:
            rows.append(run.cell(measured, name=name, rounds=5 if run.quick else 20))
        print(rows[-1], flush=True)
    return rows

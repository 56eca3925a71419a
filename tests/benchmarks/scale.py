"""Memory that each step takes beside a large model: `python -m tests.benchmarks scale` (Linux, glibc, transformers).

A decoder of 1.1 billion parameters in bfloat16 (with `--quick` one of 0.15 billion), and one of 7 billion on the meta
device. Figures are peaks of the process beyond what it had before the step.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

import surgery
import surgery.shrinking.shrink as shrinking
from tests.benchmarks.run import Run

SIZES: dict[str, dict[str, int]] = {
    "0.15B": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_key_value_heads": 4},
    "1.1B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_key_value_heads": 4},
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_key_value_heads": 32},
}
EVERY = 0.005  # seconds between two looks at the memory


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """Bytes that the process has had at most, beyond those of the beginning, and seconds."""

    bytes = 0
    seconds = 0.0


@contextmanager
def watched() -> Iterator[Peak]:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier steps have freed is no room of this one
    found, before, done, start = Peak(), resident(), threading.Event(), time.perf_counter()

    def look() -> None:
        while not done.wait(EVERY):
            found.bytes = max(found.bytes, resident() - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found.seconds = time.perf_counter() - start


def config(size: str) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(vocab_size=32000, num_attention_heads=32, use_cache=False, **SIZES[size])


def decoder(size: str) -> nn.Module:
    """With random weights, without the time that its own way of drawing them takes."""
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    with torch.device("meta"):
        model = LlamaForCausalLM(config(size)).to(torch.bfloat16)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02, generator=generator)
    model.model.rotary_emb = LlamaRotaryEmbedding(config(size))
    model.eval()
    return model


def bytes_of(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def main(run: Run) -> list[dict[str, object]]:
    """Print and return one row per step: what it takes, as a multiple of the model that stands beside it."""
    rows: list[dict[str, object]] = []

    def row(step: str, beside: str, peak: Peak, size: int, less: int = 0) -> None:
        rows.append({"step": step, "beside": beside, "memory": max(0, peak.bytes - less) / size, "s": peak.seconds})
        print(f"{step:34} {rows[-1]['memory']:6.3f}x the {beside} model  {peak.seconds:7.1f} s", flush=True)

    model = decoder("0.15B" if run.quick else "1.1B")
    full, ids = bytes_of(model), torch.randint(32000, (2, 8), generator=torch.Generator().manual_seed(0))
    x = {"input_ids": ids}
    with watched() as peak:
        surgery.wrap(model, x)
    row("wrap", "full", peak, full)
    with watched() as peak:
        wrapped = surgery.wrap(model, x, tie="config")
    row("wrap, tie='config'", "full", peak, full)
    parts: dict[str, Peak] = {}
    with _parts_watched(parts), watched() as peak:
        small = surgery.shrink(wrapped, 0.5)
    cut = bytes_of(small)
    row("shrink to a half, its proof", "small", parts["prove"], cut)
    row("shrink to a half, its config", "small", parts["tell"], cut)
    row("shrink to a half, beside the small", "small", peak, cut, less=cut)
    assert "config" not in small.surgery_record
    del small
    with watched() as peak:
        surgery.sweep(wrapped, lambda m: -m(**x, labels=ids).loss.float(), (1.0, 0.5), progress=False)
    row("sweep of 1 and 1/2, with latency", "full", peak, full)
    del model, wrapped
    rows.append(_on_meta("1.1B" if run.quick else "7B"))
    print(rows[-1])
    return rows


@contextmanager
def _parts_watched(parts: dict[str, Peak]) -> Iterator[None]:
    """What single parts of `shrink` take."""
    own: dict[str, Callable[..., Any]] = {name: getattr(shrinking, name) for name in ("prove", "tell")}

    def watching(name: str) -> Callable[..., Any]:
        def watch(*args: Any, **kwargs: Any) -> Any:
            with watched() as parts[name]:
                return own[name](*args, **kwargs)

        return watch

    for name in own:
        setattr(shrinking, name, watching(name))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(shrinking, name, function)


def _on_meta(size: str) -> dict[str, object]:
    """A model without numbers: analysed, wrapped, and told what it would be at a half."""
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(config(size)).eval()
        x = {"input_ids": torch.zeros((2, 8), dtype=torch.long), "use_cache": True}  # else masks ask for numbers
    with watched() as peak:
        plan = surgery.inspect(model, x)
        wrapped = surgery.wrap(model, x)
    costs = plan.cost_model.at(plan.widths(0.5))
    return {
        "step": f"inspect and wrap, {size} on meta", "groups": len(plan.groups), "MB": round(peak.bytes / 1e6),
        "s": peak.seconds, "parameters": sum(p.numel() for p in wrapped.parameters()), "at a half": costs.params,
    }  # fmt: skip

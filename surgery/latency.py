"""How long one call of a model takes, measured where the program runs."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from surgery.errors import InputError
from surgery.inputs import Examples, runs
from surgery.modes import evaluating


def latency(
    model: nn.Module, example_inputs: Examples, *, repeats: int = 30, warmup: int = 3, threads: int | None = None
) -> float:
    """Seconds per call of `model` in eval mode: the median, which a few disturbed calls do not move.

    Several example inputs (`surgery.batches`) are run one after the other, and the mean over them is timed.
    The model's train/eval modes and torch's thread count are restored; an accelerator is waited for.

    Args:
        repeats: calls that are timed.
        warmup: calls before them, at least one: a model may fill caches at its first call.
        threads: CPU threads to measure with; None leaves torch's setting.

    Raises:
        InputError: `repeats`, `warmup` or `threads` is below 1.
    """
    for name, value in {"repeats": repeats, "warmup": warmup, "threads": threads}.items():
        if value is not None and value < 1:
            raise InputError(f"latency: {name}={value}, but it must be at least 1")
    calls = runs(example_inputs)
    wait = _synchroniser(model)

    def timed() -> float:
        start = time.perf_counter()
        for run in calls:
            model(*run.args, **run.kwargs)
        wait()
        return time.perf_counter() - start

    with evaluating(model), using_threads(threads):
        with torch.no_grad():  # what the model caches at its first call must stay usable in training
            for _ in range(warmup):
                timed()
        with torch.inference_mode():
            return statistics.median(timed() for _ in range(repeats)) / len(calls)


def _synchroniser(model: nn.Module) -> Callable[[], object]:
    """What to call before reading the clock: accelerators run behind the program."""
    device = next((p.device for p in model.parameters() if p.device.type not in ("cpu", "meta")), None)
    return (lambda: None) if device is None else torch.get_device_module(device).synchronize


@contextlib.contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Torch uses `count` CPU threads inside; None leaves its setting."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""How long one call of a model takes, measured where the program runs."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from surgery.errors import InputError
from surgery.modules.inputs import Examples, runs, tensors
from surgery.modules.modes import evaluating

REPEATS, WARMUP, TURNS = 30, 3, 7


@dataclass(frozen=True)
class Timing:
    """How long a call takes.

    Attributes:
        seconds: the median over calls.
        spread: the standard error of that median, in seconds, from the spread of the calls.
    """

    seconds: float
    spread: float


def latency(
    model: nn.Module,
    example_inputs: Examples,
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    threads: int | None = None,
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
    return timing(model, example_inputs, repeats=repeats, warmup=warmup, threads=threads).seconds


def timing(
    model: nn.Module,
    example_inputs: Examples,
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    threads: int | None = None,
) -> Timing:
    """What `latency` measures, and how sure it is."""
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
            return _timing([timed() / len(calls) for _ in range(repeats)])


def _timing(seconds: Sequence[float]) -> Timing:
    """The spread is taken from the median deviation, so that a few disturbed calls do not move it either.

    1.4826 makes that a standard deviation, 1.2533 makes the error of a mean one of a median, both for normal noise.
    """
    middle = statistics.median(seconds)
    deviation = statistics.median(abs(value - middle) for value in seconds)
    return Timing(middle, 1.2533 * 1.4826 * deviation / math.sqrt(len(seconds)))


def side_by_side(first: nn.Module, second: nn.Module, example_inputs: Examples) -> tuple[Timing, Timing]:
    """The times of two models measured in turns, so that what slows the machine for a while slows both.

    The spread is that of the turns: it holds what comes and goes.
    """
    turns = [[timing(model, example_inputs, repeats=10) for model in (first, second)] for _ in range(TURNS)]
    times = [[turn[i].seconds for turn in turns] for i in (0, 1)]
    a, b = (Timing(statistics.median(values), statistics.stdev(values)) for values in times)
    return a, b


def where(model: nn.Module, example_inputs: Examples) -> dict[str, str | int]:
    """What the times of a model depend on, and are stated with: device, CPU threads, timed calls, shapes of inputs."""
    device = next((str(parameter.device) for parameter in model.parameters()), "cpu")
    several = [
        ", ".join("x".join(map(str, x.shape)) or "1" for x in tensors((run.args, run.kwargs)))
        for run in runs(example_inputs)
    ]
    shapes = "; ".join(several)
    counts: dict[str, str | int] = {"threads": torch.get_num_threads(), "calls": REPEATS, "warm-up calls": WARMUP}
    return {"device": device, **counts, "inputs": shapes}


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

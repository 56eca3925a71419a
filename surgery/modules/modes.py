"""Eval mode for a while, and the random state in which models are recorded and compared. The user's is put back."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Set

import torch
from torch import Tensor, nn

from surgery.modules.restoring import restored
from surgery.modules.tensors import named_tensors
from surgery.modules.tree import named_modules


def refresh(model: nn.Module) -> None:
    """Let modules clear what they keep between runs, as they do when their mode changes. Modes and tensors stay."""
    before = {module: module.training for _, module in named_modules(model)}
    with restored(tensor for _, tensor in named_tensors(model)):
        model.train(not model.training).train(before[model])
    _set(before)


@contextlib.contextmanager
def evaluating(model: nn.Module, training: bool = False) -> Iterator[None]:
    """Every module in eval mode inside (or in training mode); afterwards each one is in the mode that it was in before.

    `train()` is called on the way back as well, since a module may do more there than to set a flag.
    """
    before = {module: module.training for _, module in named_modules(model)}
    model.train(training)
    try:
        yield
    finally:
        model.train(before[model])
        _set(before)


def _set(modes: Mapping[nn.Module, bool]) -> None:
    for module, training in modes.items():
        if module.training != training:
            module.training = training


def devices_of(tensors: Iterable[Tensor]) -> frozenset[torch.device]:
    """Where tensors are: a run with them may draw there."""
    return frozenset({tensor.device for tensor in tensors})


_GENERATORS = threading.RLock()
PATIENCE = 10.0  # seconds


@contextlib.contextmanager
def forked(devices: Set[torch.device]) -> Iterator[None]:
    """What code inside draws, on the CPU and on CUDA devices, leaves no trace.

    Threads share torch's generators, so they take turns: else what one draws would depend on the others. Where a
    forward waits for another thread that waits here, patience ends, and they go on together.
    """
    mine = _GENERATORS.acquire(timeout=PATIENCE)
    try:
        with torch.random.fork_rng(devices=_cuda(devices)), _python_forked():
            yield
    finally:
        if mine:
            _GENERATORS.release()


@contextlib.contextmanager
def _python_forked() -> Iterator[None]:
    """What code inside draws from the generators of Python and numpy leaves no trace either."""
    numpy = sys.modules.get("numpy")
    before, arrays = random.getstate(), None if numpy is None else numpy.random.get_state()
    try:
        yield
    finally:
        random.setstate(before)
        if numpy is not None and arrays is not None:
            numpy.random.set_state(arrays)


def seed(devices: Set[torch.device]) -> None:
    """Seed the generators of the CPU and of some devices, and those of Python and numpy.

    Torch's own `manual_seed` would seed those of every device, and formats a stack trace each time.
    """
    torch.default_generator.manual_seed(0)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    for index in _cuda(devices):
        torch.cuda.default_generators[index].manual_seed(0)
    if any(device.type not in ("cpu", "meta", "cuda") for device in devices):
        torch.manual_seed(0)


def _cuda(devices: Set[torch.device]) -> list[int]:
    return sorted(device.index or 0 for device in devices if device.type == "cuda")

"""The random state in which models are recorded and compared, and that of the user, which is put back after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Set

import torch
from torch import Tensor


def devices_of(tensors: Iterable[Tensor]) -> frozenset[torch.device]:
    """Where tensors are: a run with them may draw there."""
    return frozenset({tensor.device for tensor in tensors})


@contextlib.contextmanager
def forked(devices: Set[torch.device]) -> Iterator[None]:
    """What code inside draws, on the CPU and on CUDA devices, leaves no trace."""
    with torch.random.fork_rng(devices=_cuda(devices)):
        yield


def seed(devices: Set[torch.device]) -> None:
    """Seed the generators of the CPU and of some devices.

    Torch's own `manual_seed` would seed those of every device, and formats a stack trace each time.
    """
    torch.default_generator.manual_seed(0)
    for index in _cuda(devices):
        torch.cuda.default_generators[index].manual_seed(0)
    if any(device.type not in ("cpu", "meta", "cuda") for device in devices):
        torch.manual_seed(0)


def _cuda(devices: Set[torch.device]) -> list[int]:
    return sorted(device.index or 0 for device in devices if device.type == "cuda")

"""Models that a class builds from a configuration, over tensors that are there already."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.configs.fields import Config
from surgery.modules.restoring import TorchFunction
from surgery.modules.tensors import named_tensors

SMALL = 4096  # elements: what is smaller may be computed with, and takes no room


def built_over(
    make: Callable[[Config], nn.Module], config: Config, tensors: Mapping[str, Tensor], training: bool
) -> nn.Module:
    """The model that `make` builds from a configuration, with the tensors of a state_dict in it, which are not copied.

    Large tensors that it would fill with random numbers, to be replaced at once, are not made. Where a constructor
    needs their numbers, it is called again, and they are. Raises what the class and `load_state_dict` raise.
    """
    with contextlib.suppress(Exception), _Hollow():  # what is truly wrong is raised by the second call
        built = _over(make, config, tensors, training)
        if not any(tensor.is_meta for _, tensor in named_tensors(built)):
            return built
    return _over(make, config, tensors, training)


def _over(
    make: Callable[[Config], nn.Module], config: Config, tensors: Mapping[str, Tensor], training: bool
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        built = make(copy.deepcopy(config)).train(training)
    built.load_state_dict(tensors, assign=True)
    return built


def unlike(own: Mapping[str, Tensor], built: nn.Module) -> str | None:
    """The first buffer of a built model that no checkpoint holds, and that is another one than ours of its name."""
    buffers = dict(built.named_buffers())
    for name, tensor in own.items():
        other = buffers.get(name)
        if other is not None and not (
            other.shape == tensor.shape
            and torch.allclose(tensor, other.to(tensor), rtol=1e-5, atol=1e-8, equal_nan=True)
        ):
            return name
    return None


class _Hollow(TorchFunctionMode):
    """Large tensors without numbers, or with random ones, are made on the meta device."""

    def __torch_function__(
        self, func: TorchFunction, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        given = dict(kwargs or {})
        if func in (torch.empty, torch.rand, torch.randn) and given.get("out") is None:
            size = given.get("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
            if math.prod(size) > SMALL:
                given["device"] = "meta"
        return func(*args, **given)

"""Example inputs: what a model is run on when it is captured, proven and measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

from surgery.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """The arguments of one call of a model."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batches:
    """Several calls, for a model that one run does not reach in full."""

    runs: tuple[Inputs, ...]


Examples: TypeAlias = "Inputs | Batches | torch.Tensor | tuple[object, ...] | dict[str, object] | object"


def inputs(*args: object, **kwargs: object) -> Inputs:
    """Positional and keyword arguments of one call."""
    return Inputs(args, kwargs)


FORMS = (
    "Example inputs are a tensor, a tuple of positional arguments, or a dict of named ones: one batch, without labels"
)


def batches(runs: Iterable[Examples]) -> Batches:
    """Several example inputs, when one run does not reach every part of the model."""
    if isinstance(runs, torch.Tensor | Mapping | str | Inputs | Batches) or not isinstance(runs, Iterable):
        raise InputError(f"batches() takes a list of example inputs, got one {type(runs).__name__}: put it into a list")
    result = Batches(tuple(call(run) for run in runs))
    if not result.runs:
        raise InputError("batches() was given no inputs: give at least one")
    return result


def call(examples: Examples) -> Inputs:
    """One example: a tuple is positional arguments, a mapping is keyword arguments, anything else one argument."""
    if isinstance(examples, Inputs):
        return examples
    if isinstance(examples, Batches):
        raise InputError("batches cannot be nested: pass the inputs themselves to surgery.batches")
    if type(examples) is tuple:
        return Inputs(examples)
    if isinstance(examples, Mapping) and all(isinstance(name, str) for name in examples):
        return Inputs((), dict(examples))
    return Inputs((examples,))


def runs(examples: Examples) -> tuple[Inputs, ...]:
    """All the calls that example inputs stand for."""
    return examples.runs if isinstance(examples, Batches) else (call(examples),)


def detached(examples: Examples) -> Batches:
    """A copy of example inputs that later changes to the user's tensors do not reach."""
    return Batches(tuple(cloned(run) for run in runs(examples)))


def cloned(run: Inputs) -> Inputs:
    """A copy of one call's arguments; a tensor that is given twice is given twice in the copy."""
    clones: dict[int, torch.Tensor] = {}

    def copy(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) not in clones:
            clones[id(leaf)] = leaf.detach().clone()
        return clones[id(leaf)]

    return Inputs(*pytree.tree_map(copy, (run.args, run.kwargs)))


def tensors(value: object) -> list[torch.Tensor]:
    """Every tensor in a nested value, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def check_device(parameters: Iterable[torch.Tensor], run: Inputs) -> None:
    """Raise InputError where a tensor input is on a device that holds none of the model's parameters."""
    devices = {parameter.device for parameter in parameters}
    for tensor in tensors((run.args, run.kwargs)):
        if devices and tensor.device not in devices and tensor.device.type != "cpu":
            names = ", ".join(sorted(map(str, devices)))
            raise InputError(f"an example input is on {tensor.device}, the model on {names}: move one of them")


Placed: TypeAlias = "tuple[torch.dtype, torch.device]"


def placed(parameters: Iterable[torch.Tensor]) -> Placed | None:
    """The float type and the device that all parameters have; None where they are of several kinds."""
    kinds = {(parameter.dtype, parameter.device) for parameter in parameters if parameter.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 else None


def followed(examples: Batches, before: Placed | None, now: Placed | None) -> Batches:
    """Example inputs for a model that has been moved or converted since they were given."""
    if before is None or now is None or before == now:
        return examples

    def moved(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor) or leaf.is_meta:  # that has no numbers to move
            return leaf
        leaf = leaf.to(now[1]) if leaf.device == before[1] else leaf
        return leaf.to(now[0]) if leaf.dtype == before[0] else leaf

    return Batches(tuple(Inputs(*pytree.tree_map(moved, (run.args, run.kwargs))) for run in examples.runs))


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """A float or complex tensor in double precision; others as they are."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor

"""Whether modules side by side may stand in any order: found by running them in other ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.utils import _pytree as pytree

from surgery.modules.copying import copy_of
from surgery.modules.inputs import Examples, Inputs, runs
from surgery.modules.modes import forked, seed
from surgery.modules.tensors import Parts
from surgery.modules.verify import compare
from surgery.planning.listed.calls import inside
from surgery.planning.listed.candidates import Candidate

SPREAD = 0.1  # of the noise on weights: trained ones may be alike, or zero


def order_matters(candidate: Candidate, parts: Parts, examples: Examples) -> str | None:
    """Why units are not interchangeable; None where they are.

    The model runs with the weights of its units in reverse, and with those of the first one last, as `reorder` moves
    them: units that hold other numbers beside, such as dilations, are not. With noise on all weights, since units that
    hold the same ones would come to the same in any order. In float64 where it runs in that.
    """
    if not _alike(candidate, parts):
        return "they are not of one class with tensors of the same shapes"
    units = list(range(candidate.size))
    if any(tensor.is_meta for tensor in parts.tensors.values()):
        return "they hold no values to prove it with"
    for order in (units[::-1], [*units[1:], 0]):
        wrong = _differs(candidate, parts, examples, order, torch.float64)
        if wrong is not None and "does not run" in wrong:
            wrong = _differs(candidate, parts, examples, order, None)
        if wrong is not None:
            return f"the model returns something else where they are in another order: {wrong}"
    return None


def _alike(candidate: Candidate, parts: Parts) -> bool:
    for listed in candidate.lists:
        children = [[parts.modules.get(listed.child(name)) for name in unit] for unit in listed.units]
        if len({tuple(map(_description, unit)) for unit in children}) > 1:
            return False
    return True


def _description(module: nn.Module | None) -> object:
    if module is None:
        return None
    inner = tuple((path, type(one)) for path, one in module.named_modules())
    return inner, tuple((name, tensor.shape, tensor.dtype) for name, tensor in module.state_dict().items())


def _differs(
    candidate: Candidate, parts: Parts, examples: Examples, order: list[int], dtype: torch.dtype | None
) -> str | None:
    with forked(frozenset()):
        seed(frozenset())
        tensors = {name: _noisy(name in parts.parameters, tensor, dtype) for name, tensor in parts.tensors.items()}
    taken = {name: tensors[other] for name, other in _moved(candidate, tensors, order).items()}
    first = copy_of(parts, lambda name, _: tensors[name])
    second = copy_of(parts, lambda name, _: taken.get(name, tensors[name]))
    given = tuple(_cast(run, dtype) for run in runs(examples))
    try:
        for run in given:
            compare(first.model, second.model, run, None, ("it", "it, in another order,"))
    except Exception as error:  # whatever fails here must not end planning: the modules stay
        return str(error)
    return None


def _moved(candidate: Candidate, tensors: Iterable[str], order: list[int]) -> dict[str, str]:
    """For each tensor of a unit, that of the unit that takes its place: modules stay, with what else they hold."""
    moved = {}
    for unit, other in enumerate(order):
        for child, from_child in zip(candidate.children(unit), candidate.children(other), strict=True):
            moved.update({name: from_child + name[len(child) :] for name in tensors if inside(name, child)})
    return moved


def _noisy(learned: bool, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    value = tensor.detach().clone()
    if value.is_floating_point():
        value = value.to(dtype or value.dtype)
        if learned:
            value += SPREAD * torch.randn(value.shape, dtype=value.dtype, device="cpu").to(value.device)
    return nn.Parameter(value, tensor.requires_grad) if learned else value


def _cast(run: Inputs, dtype: torch.dtype | None) -> Inputs:
    def cast(leaf: object) -> object:
        if dtype is not None and isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            return leaf.to(dtype)
        return leaf

    return Inputs(*pytree.tree_map(cast, (run.args, run.kwargs)))

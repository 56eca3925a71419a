"""What tells the architecture that a file is of from one that is here: tensors and their shapes, then groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from surgery.errors import some
from surgery.modules.tensors import named_tensors
from surgery.plan.plan import Plan

MOST = 4  # differences that are told
SAME = "the tensors have the same shapes, but the code connects their axes otherwise"


def apart(saved: Mapping[str, object], tensors: Mapping[str, Tensor], model: nn.Module, plan: Plan | None) -> str:
    """How the model of a file differs from this one, in words.

    Args:
        saved: the JSON of the file. Since it tells shapes of the full model, they are compared; before, only tensors
            that are in one model alone, or too large for this one.
        tensors: those of the file.
        plan: of the model that is here, where it has one with the file's options.
    """
    shapes = saved.get("shapes")
    if not isinstance(shapes, dict) or not all(isinstance(shape, list) for shape in shapes.values()):
        shapes = None
    found = list(_tensors(shapes, tensors, model))
    if not found and plan is not None:
        full = saved.get("full")
        found = list(_groups(full if isinstance(full, dict) else {}, plan.full()))
    if not found:
        return SAME
    return some(found, MOST, "; ")


def _tensors(
    shapes: Mapping[str, Sequence[int]] | None, tensors: Mapping[str, Tensor], model: nn.Module
) -> Iterator[str]:
    stored = set(model.state_dict(keep_vars=True))
    here = {name: list(tensor.shape) for name, tensor in named_tensors(model) if name in stored or name in tensors}
    there = {name: list((shapes or {}).get(name, tensor.shape)) for name, tensor in tensors.items()}
    for name, shape in there.items():
        if name not in here:
            yield f"{name} is in the file only"
        elif shape != here[name] and (shapes is not None or not _could_be_cut(here[name], shape)):
            yield f"{name} is {shape} there and {here[name]} here"
    yield from (f"{name} is here only" for name in here if name not in there)


def _could_be_cut(full: Sequence[int], small: Sequence[int]) -> bool:
    return len(full) == len(small) and all(a >= b for a, b in zip(full, small, strict=True))


def _groups(there: Mapping[str, int], here: Mapping[str, int]) -> Iterator[str]:
    for name, size in there.items():
        if name not in here:
            yield f"the group {name} is in the file only"
        elif size != here[name]:
            yield f"the group {name} has {size} units there and {here[name]} here"
    yield from (f"the group {name} is here only" for name in here if name not in there)

"""What an earlier run has left in a model for the next one: tables that forwards fill, masks that they make once.

They hide the code that makes them, and fit the widths and lengths that they were made at. Whether something is such a
cache is found by experiment: a copy that has forgotten it fills it again, and comes to the same outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from surgery.modules.code.bytecode import assigned, filled
from surgery.modules.copying import copy_of
from surgery.modules.differences import difference
from surgery.modules.inputs import Batches, Examples, Inputs, runs
from surgery.modules.tensors import Parts, parts_of
from surgery.modules.tree import OF_ANY
from surgery.modules.verify import proving

CONTAINERS = (dict, list, set)

# The path of a module, an attribute of it, and whether that is absent before the first run. Else it is empty, or None.
Cache: TypeAlias = "tuple[str, str, bool]"


def forget(module: nn.Module, name: str, absent: bool) -> None:
    """Leave an attribute as it is before the first run."""
    value = vars(module).get(name)
    if isinstance(value, CONTAINERS):
        value.clear()  # modules may share it
    elif absent:
        delattr(module, name)
    else:
        setattr(module, name, None)


def without_caches(parts: Parts, examples: Examples) -> tuple[Parts, tuple[Cache, ...]]:
    """A model, over the same tensors, that has forgotten its caches, and what these are; else the model itself."""
    found = list(_candidates(parts))
    if not found or any(parameter.is_meta for parameter in parts.parameters.values()):
        return parts, ()
    try:
        right = _outputs(_forgetful(parts, ()), examples)
    except Exception:  # the recording says why it does not run
        return parts, ()
    caches: list[Cache] = []
    for cache in found:
        known = any(other[:2] == cache[:2] for other in caches)
        if not known and _same(parts, [*caches, cache], examples, right):
            caches.append(cache)
    return (parts_of(_forgetful(parts, caches)), tuple(caches)) if caches else (parts, ())


def _candidates(parts: Parts) -> Iterator[Cache]:
    for path, module in parts.modules.items():
        cls: type = type(module)
        for name, value in vars(module).items():
            if name in OF_ANY:
                continue
            if isinstance(value, CONTAINERS):
                items = value.values() if isinstance(value, dict) else value
                if name in filled(cls) and not all(isinstance(item, str) for item in items):  # nor where there are none
                    yield path, name, False
            elif isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter) and name in assigned(cls):
                yield path, name, False
                yield path, name, True


def _forgetful(parts: Parts, caches: Sequence[Cache]) -> nn.Module:
    copied = copy_of(parts, lambda _, tensor: tensor)
    for path, name, absent in caches:
        forget(copied.modules[path], name, absent)
    return copied.model


def _same(parts: Parts, caches: Sequence[Cache], examples: Examples, right: list[object]) -> bool:
    """Whether a model that has forgotten these fills them again, and comes to the same, also after other values."""
    try:
        for before in ([], [Batches(tuple(map(_others, runs(examples))))]):
            model = _forgetful(parts, caches)
            for given in before:
                _outputs(model, given)
            for known, made in zip(right, _outputs(model, examples), strict=True):
                difference(known, made)
    except Exception:  # it cannot do without
        return False
    modules = dict(model.named_modules())
    return all(_is_there(modules[path], parts.modules[path], name) for path, name, _ in caches)


def _others(run: Inputs) -> Inputs:
    """Inputs of the same shapes with other values."""

    def other(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        turned = leaf.flip(tuple(range(leaf.dim())))
        return 0.5 * turned + 0.25 if turned.is_floating_point() else turned

    return Inputs(*pytree.tree_map(other, (run.args, run.kwargs)))


def _is_there(module: nn.Module, before: nn.Module, name: str) -> bool:
    value, old = vars(module).get(name), vars(before)[name]
    if isinstance(old, dict | set):
        return isinstance(value, dict | set) and set(old) <= set(value)
    return len(value) >= len(old) if isinstance(value, list) and isinstance(old, list) else value is not None


def _outputs(model: nn.Module, examples: Examples) -> list[object]:
    with proving(model) as output:
        return [output(model, run) for run in runs(examples)]

"""Parts of a model that a configuration of their own may tell of: which they are, and what they are called with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from surgery.modules.inputs import Examples, Inputs, cloned, runs
from surgery.modules.modes import evaluating
from surgery.modules.tree import named_modules


def outermost(model: nn.Module, method: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules with a method of this name that are in no other such module, with their paths."""
    for path, child in model.named_children():
        if hasattr(type(child), method):
            yield path, child
        else:
            yield from ((f"{path}.{inner}", part) for inner, part in outermost(child, method))


@torch.no_grad()
def first_calls(model: nn.Module, parts: Mapping[str, nn.Module], examples: Examples) -> dict[str, Inputs]:
    """What each part is given first, when a model runs on examples. Parts that no run reaches are left out."""
    found: dict[str, Inputs] = {}

    def seen(path: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.setdefault(path, cloned(Inputs(args, kwargs)))

    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluating(model))
        modules = dict(named_modules(model))
        for path in parts:
            handle = modules[path].register_forward_pre_hook(partial(seen, path), with_kwargs=True)
            stack.callback(handle.remove)
        for run in runs(examples):
            model(*run.args, **run.kwargs)
    return found

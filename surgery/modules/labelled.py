"""Batches as a training has them: inputs, or inputs and labels. What of them a model takes is told by an example."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.modules.arguments import binds
from surgery.modules.batchnorm import several
from surgery.modules.inputs import Batches, Examples, Inputs, call, cloned
from surgery.modules.modes import forked

Batch: TypeAlias = "Examples | list[object]"

MOST = 16  # batches that are taken of a loader: more make statistics no better


def taken(batches: Iterable[Batch], name: str) -> tuple[Batch, ...]:
    """Copies of batches, to keep: all of a list, the first of a loader. Random states stay as they were.

    Raises InputError where there are none, or where one batch was given instead of several.
    """
    listed = isinstance(batches, list | tuple | Batches)
    with forked(frozenset()):
        found = tuple(itertools.islice(several(batches, name), None if listed else MOST))
    if not found:
        raise InputError(f"{name} was given no batches: pass a few batches of training inputs")
    return tuple(_copied(batch) for batch in found)


def _copied(batch: Any) -> Any:
    if isinstance(batch, Inputs):
        return cloned(batch)
    return pytree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, batch)


def as_inputs(batch: Any, examples: Batches | None, model: nn.Module, name: str, sure: bool = True) -> Inputs:
    """What of a batch a model takes, on the device and of the float type of its example inputs.

    That is the batch itself; or where it has labels, the first part of it that is like an example. What is not `sure`
    to have labels is taken as it is, wherever the model could be called with it. Raises InputError where nothing fits.
    """
    known = examples.runs if examples is not None else ()
    if isinstance(batch, Inputs):
        return _like(batch, known[0]) if sure and known else batch
    parts = list(_readings(batch, model, known))
    foreign = isinstance(batch, Mapping) and type(batch) is not dict  # an object of names, as tokenizers give
    if not sure and type(batch) is not list and not foreign and callable_with(model, call(batch)):
        return call(batch)
    for run in parts:
        for example in known:
            if alike(run, example) and callable_with(model, run):
                return _like(run, example)
    if (not sure and callable_with(model, call(batch))) or not known:
        return call(batch)
    raise InputError(
        f"{name}: {type(model).__name__} takes {_shown(known[0])}, and a batch is {_shown(call(batch))}: give batches "
        "of inputs as one call of the model takes them, or of (inputs, labels)"
    )


def _readings(batch: Any, model: nn.Module, examples: Iterable[Inputs]) -> Iterator[Inputs]:
    """What a batch may mean: itself; its items as arguments; its first item; its first few items; its known names."""
    yield call(batch)
    if isinstance(batch, list | tuple) and batch:
        items = tuple(batch)
        yield Inputs(items)
        yield call(tuple(items[0]) if isinstance(items[0], list) else items[0])
        yield from (Inputs(items[: len(example.args)]) for example in examples if 0 < len(example.args) < len(items))
        batch = items[0]
    if isinstance(batch, Mapping):
        yield from _named(batch, model)


def _named(batch: Mapping[str, Any], model: nn.Module) -> Iterator[Inputs]:
    """Those entries of a batch that are arguments of the forward."""
    parameters = inspect.signature(model.forward).parameters
    yield Inputs((), {name: value for name, value in batch.items() if name in parameters})
    yield Inputs(tuple(batch[name] for name in parameters if name in batch))  # where the examples were by place


def alike(run: Inputs, example: Inputs) -> bool:
    """Whether a call is like an example: its arguments, and of tensors their kind and number of dimensions."""
    if len(run.args) != len(example.args) or not example.kwargs.keys() <= run.kwargs.keys():
        return False
    pairs = [*zip(run.args, example.args, strict=True), *((run.kwargs[n], v) for n, v in example.kwargs.items())]
    return all(map(_alike, *zip(*pairs, strict=True))) if pairs else True


def _alike(value: Any, example: Any) -> bool:
    (found, ours), (known, theirs) = pytree.tree_flatten(value), pytree.tree_flatten(example)
    return ours == theirs and all(map(_kind_is, found, known))


def _kind_is(leaf: Any, example: Any) -> bool:
    if not isinstance(leaf, Tensor) or not isinstance(example, Tensor):
        return isinstance(leaf, Tensor) == isinstance(example, Tensor)
    return leaf.dim() == example.dim() and leaf.is_floating_point() == example.is_floating_point()


def _like(run: Inputs, example: Inputs) -> Inputs:
    """A call with tensors on the device of the example's, and floats of their type."""
    known = [leaf for leaf in pytree.tree_leaves((example.args, example.kwargs)) if isinstance(leaf, Tensor)]
    devices, floats = {leaf.device for leaf in known}, {leaf.dtype for leaf in known if leaf.is_floating_point()}

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        leaf = leaf.to(next(iter(devices))) if len(devices) == 1 else leaf
        return leaf.to(next(iter(floats))) if len(floats) == 1 and leaf.is_floating_point() else leaf

    return Inputs(*pytree.tree_map(placed, (run.args, run.kwargs)))


def callable_with(model: nn.Module, run: Inputs) -> bool:
    """Whether a model takes so many inputs, of these names."""
    return binds(model.forward, *run.args, **run.kwargs)


def _shown(run: Inputs) -> str:
    """The arguments of a call, tensors by their shapes."""

    def word(value: Any) -> str:
        if isinstance(value, Tensor):
            return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__} of {', '.join(map(word, value[:3]))}"
        return type(value).__name__

    return ", ".join([*map(word, run.args), *(f"{name}={word(value)}" for name, value in run.kwargs.items())])

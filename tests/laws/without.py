"""Modules that are left out, checked by what knows nothing of plans: the original code, in which they hand on."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

import surgery
from surgery.modules.inputs import Examples, call
from surgery.modules.verify import difference, proving


class HandsOn(nn.Module):
    """Runs a module, and gives what the module was given in the place of what it has made of that."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else next(iter(kwargs.values()))
        made = self.inner(*args, **kwargs)
        return given if isinstance(made, Tensor) else type(made)([given, *made[1:]])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


def one_in_one_out(model: nn.Module, paths: Collection[str], inputs: Examples) -> bool:
    """Whether each of these modules is called once, and gives a tensor first that has the shape of the first given."""
    seen: dict[str, int] = {}

    def note(path: str, args: Any, kwargs: Any, made: Any) -> None:
        given = args[0] if args else next(iter(kwargs.values()), None)
        first = made[0] if isinstance(made, tuple | list) and made else made
        alike = isinstance(given, Tensor) and isinstance(first, Tensor) and given.shape == first.shape
        seen[path] = seen.get(path, 0) + (1 if alike else 2)

    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda _, args, kwargs, made, path=path: note(path, args, kwargs, made), with_kwargs=True
        )
        for path in paths
    ]
    try:
        run = call(inputs)
        with proving(model) as output:
            output(model, run)
    finally:
        for hook in hooks:
            hook.remove()
    return all(seen.get(path) == 1 for path in paths)


def gone(plan: surgery.Plan, widths: Mapping[str, int]) -> list[str]:
    """The paths of the modules that are not there at some widths."""
    groups = [group for group in plan.groups.values() if group.lists and not any(one.own for one in group.lists)]
    return [
        listed.child(name)
        for group in groups
        for listed in group.lists
        for unit, names in enumerate(listed.units)
        for name in names
        if unit not in group.kept(widths[group.name])
    ]


def handing_on(model: nn.Module, paths: Collection[str]) -> nn.Module:
    """A copy in which these modules hand on what they are given."""
    made = copy.deepcopy(model)
    outermost = [path for path in paths if not any(path.startswith(f"{other}.") for other in paths)]
    for path in outermost:
        parent, _, name = path.rpartition(".")
        owner = made.get_submodule(parent)
        owner._modules[name] = HandsOn(owner._modules[name])  # type: ignore[arg-type]
    return made


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of what a model returns that are there at any depth: not the states of its layers."""
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(item, tuple | list):
                yield from leaves(item, f"{place}.{key}")
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            if isinstance(item, Tensor):
                yield f"{place}.{i}", item


def leaving_out_is_handing_on(
    model: nn.Module,
    small: nn.Module,
    plan: surgery.Plan,
    widths: Mapping[str, int],
    inputs: Examples,
    tolerance: float,
) -> bool:
    """Law 13: without some modules a model computes what it computes where these hand on what they are given.

    Returns False where that cannot be said: features are cut, or a module does more than to make one tensor of one.
    """
    full = plan.full()
    paths = gone(plan, widths)
    cut = [name for name, group in plan.groups.items() if not group.lists and widths[name] != full[name]]
    other, run = handing_on(model, paths), call(inputs)  # before the model runs: it may keep what it has seen
    if cut or not paths or not one_in_one_out(model, paths, inputs):
        return False
    with proving(other, small) as output:
        expected, made = dict(leaves(output(other, run))), dict(leaves(output(small, run)))
    compared = {name for name, tensor in made.items() if name in expected and expected[name].shape == tensor.shape}
    assert compared, f"nothing to compare: {list(made)} against {list(expected)}"
    for name in compared:
        assert difference(expected[name], made[name]) <= tolerance, f"{name} is not that of the model without {paths}"
    return True

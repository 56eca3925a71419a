"""Plain models made of a twin: modules of their own classes, with the sizes that they have at some widths."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from surgery.adapters.base import adapter_for, decisions
from surgery.axes import layout
from surgery.modules.code.rewritten import Method, Rewritten
from surgery.modules.code.untraced import Untraced
from surgery.modules.copying import copy_tree
from surgery.modules.passing import Passing
from surgery.modules.sharded import whole
from surgery.modules.tree import named_modules
from surgery.plan.groups import Swap
from surgery.plan.plan import Plan
from surgery.twin.elastic import KEY
from surgery.twin.following import following
from surgery.twin.foreign import check_untouched, is_forward
from surgery.twin.parallel import check_there
from surgery.twin.setting import ready
from surgery.twin.writing import stored_kept

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Plain(Generic[M]):
    """A plain model, and the paths of what is not as its classes say: forwards that are rewritten, replaced layers."""

    model: M
    rewritten: list[str]
    replaced: list[str]


def plain_at(wrapped: M, plan: Plan, take: Callable[[str, Tensor], Tensor], widths: dict[str, int]) -> Plain[M]:
    """A plain model with the tensors that `take` gives and the attributes of `widths`.

    Sharded tensors are gathered for it one after another, so that no rank ever has more of them than one.
    Raises InputError where others have put modules or forwards into the twin.
    """
    state = ready(wrapped)
    check_untouched(wrapped)
    with stored_kept(wrapped, state, cleared=True):
        small = copy_tree(wrapped, functools.partial(_taken, plan, take, widths), {id(state): state})
    strip(small)
    modules: dict[str, nn.Module] = dict(small.named_modules())
    for path, (name, *keys), formula in plan.formulas:
        attributes = vars(modules[path])
        attributes[name] = following(plan, formula, widths, attributes[name], keys, renamed=True)
    if widths == plan.full():
        return Plain(small, [], [])
    for path in plan.rewrites:
        _rewrite(modules, plan, path, widths)
    swapped = [swap.path for swap in plan.swaps if _swap(modules[swap.path], swap, widths)]
    _leave_out(modules, plan, widths)
    for _, module in named_modules(small):
        vars(module).update({name: d(module) for name, d in decisions(module).items() if hasattr(module, name)})
    return Plain(small, _staying(plan, plan.rewrites, widths), _staying(plan, swapped, widths))


def _leave_out(modules: Mapping[str, nn.Module], plan: Plan, widths: dict[str, int]) -> None:
    """Take the modules away that are not there at these widths, and name the others anew."""
    for path, lists in plan.units.lists.items():
        module = modules[path]
        for _, listed in lists:
            gone = set(plan.units.gone(path, widths)) & {name for names in listed.units for name in names}
            if listed.passing is not None:
                module._modules.update({name: Passing(listed.passing) for name in gone})
        module._modules = plan.units.children_of(path, module._modules, widths)
        module._parameters = plan.units.children_of(path, module._parameters, widths)


def _staying(plan: Plan, paths: Iterable[str], widths: dict[str, int]) -> list[str]:
    """The paths of those modules that are there, in the small model."""
    return [name for path in paths if (name := plan.units.name(path, widths)) is not None]


def _taken(
    plan: Plan, take: Callable[[str, Tensor], Tensor], widths: dict[str, int], name: str, tensor: Tensor
) -> Tensor:
    """What `take` gives; of a module that goes, the tensor itself, which goes with it."""
    return take(name, _there(plan, name, tensor)) if plan.units.there(name, widths) else tensor


def _there(plan: Plan, name: str, tensor: Tensor) -> Tensor:
    """The whole of a tensor. Raises InputError where an engine has taken its numbers."""
    dims = plan.layouts.get(name)
    if not tensor.is_meta:
        shape = tensor.shape if dims is None else tuple(layout.width(dim, {}) for dim in dims)
        check_there(name, tensor, shape)
    return whole(tensor)


def strip(model: M) -> M:
    """Make the modules of a twin plain again, in place: their own classes, at full width."""
    for _, module in named_modules(model):
        elastic = vars(module).pop(KEY, None)
        if elastic is not None:
            kept = [name for name, value in vars(module).items() if is_forward(value, module)]
            for name in ("forward", *elastic.methods, *kept):  # what others put, `check_forwards` has seen
                vars(module).pop(name, None)
            module.__class__ = elastic.base
            if elastic.own_forward is not None:
                vars(module)["forward"] = elastic.own_forward
    return model


def _rewrite(modules: Mapping[str, nn.Module], plan: Plan, path: str, widths: dict[str, int]) -> None:
    module, rewrite = modules[path], plan.rewrites[path]
    for name, formula in rewrite.sizes.items():
        vars(module)[name] = plan.value(formula, widths)
    vars(module).update(forward=Rewritten(module, rewrite.routine), _get_name=Untraced(module))
    for holder, name, routine in rewrite.methods:
        vars(modules[holder])[name] = Method(module, routine, modules[holder], name)


def _swap(module: nn.Module, swap: Swap, widths: dict[str, int]) -> bool:
    """Give a layer the plain class that can have its widths, where its own cannot."""
    adapter = adapter_for(module)
    sizes = {name: layout.width(dim, widths) for name, dim in swap.axes.items()}
    if adapter is None or adapter.expresses(sizes):
        return False
    module.__class__ = swap.replacement
    return True

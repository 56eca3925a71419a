"""A copy of a model made elastic by a plan, and made plain again."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from surgery.adapters.base import decisions
from surgery.errors import InputError
from surgery.modules.code.bytecode import assigned, mentions
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.containers import holders, located, open_tensors, unregistered
from surgery.modules.copying import copy_of
from surgery.modules.inputs import Examples, detached
from surgery.modules.modes import refresh
from surgery.modules.tensors import Parts
from surgery.modules.tree import named_modules
from surgery.plan.plan import Draw, Plan, per_group
from surgery.training.draws import DEFAULT
from surgery.twin.elastic import KEY, Absent, Elastic, put_back
from surgery.twin.members import elastic_class
from surgery.twin.state import State


def twin_of(parts: Parts, plan: Plan, examples: Examples) -> nn.Module:
    """A twin for a plan that is made already: what a plain model is cut and proven by."""
    twin = copy_of(parts, lambda _, tensor: tensor).model
    install(twin, plan, State(None, detached(examples), DEFAULT))
    return twin


def install(twin: nn.Module, plan: Plan, state: State, minimum: int | Mapping[str, int] | None = None) -> None:
    """Make every module of a copy of a model elastic. Raises InputError where the plan has nothing to cut."""
    if not plan.groups:
        reasons = "; ".join(dict.fromkeys(item.reason for item in plan.fixed[:3]))
        raise InputError(
            f"{plan.model} has no axis that can change its width ({reasons or 'it has no parameters'}). "
            "surgery.inspect(model, example_inputs) lists what is fixed and why."
        )
    _check_scales(plan, state.draw)
    state.plan, state.minimum = plan, _minimum(plan, minimum)
    state.use(plan.full())
    state.chosen = plan.full()
    strip(twin)
    refresh(twin)
    replacements = {swap.path: swap.replacement for swap in plan.swaps}
    modules = dict(named_modules(twin))
    elastics = {path: Elastic(state, path, type(module)) for path, module in modules.items()}
    places: dict[str, list[str]] = {}
    for path, place, _ in unregistered(twin):
        places.setdefault(path, []).append(place)
    for path, module in modules.items():
        _fill(elastics[path], module, plan, places.get(path, []))
    for path, (name, *keys), formula in plan.formulas:
        if path in elastics:
            elastics[path].attributes.setdefault(name, []).append((tuple(keys), formula))
    stores = _stores(modules, plan)
    before: dict[int, Any] = {}  # of what is stored, by id: modules that share a container share what it held before
    owners = _owners(modules, elastics)
    classes: set[Any] = {type(module) for module in modules.values()}
    anything = any(mentions(cls, {"setattr", "register_buffer"}) for cls in classes)
    rebound = frozenset(name for cls in classes for name in assigned(cls))
    for path, module in modules.items():
        elastic = elastics[path]
        if path in plan.rewrites:
            rewrite = plan.rewrites[path]
            elastic.forward = Rewritten(module, rewrite.routine)
            for name, formula in rewrite.sizes.items():
                elastic.attributes[name] = [((), formula)]
        elastic.own_forward = vars(module).pop("forward", None)  # it would hide the elastic one
        elastic.rebound = frozenset(name for name in module._buffers if anything or name in rebound)
        held = tuple(_held(elastic, module, owners))
        stored = stores.get(path, set())
        for name in held:
            changes = anything or name in rebound or isinstance(vars(module)[name], dict | list)
            if changes and _is_unregistered(elastic, name, vars(module)[name]):
                stored.add(name)
        own = places.get(path, [])
        for name in sorted(stored):
            value = vars(module).get(name, Absent)
            if id(value) not in before:
                before[id(value)] = _before(elastic, name, value, plan, own)
            elastic.stored[name] = before[id(value)]
        if elastic.stored:
            state.storing.append(module)
        enter(module, elastic, held, replacements.get(path))
    for path, module in modules.items():
        decided = {name: decide(module) for name, decide in decisions(module).items() if hasattr(module, name)}
        if decided:
            elastics[path].constants = decided
            cls: Any = type(module)
            enter(module, elastics[path], cls.surgery_names[2], cls.surgery_base)
    put_back((module, vars(module)[KEY].stored) for module in state.storing)


def _stores(modules: Mapping[str, nn.Module], plan: Plan) -> dict[str, set[str]]:
    """What forwards were seen to store, by module; containers that they fill, in every module that shares them."""
    stores: dict[str, set[str]] = {}
    for path, name in plan.stored:
        stores.setdefault(path, set()).add(name)
    values = (vars(modules[path]).get(name) for path, names in stores.items() if path in modules for name in names)
    filled = {id(value) for value in values if isinstance(value, dict | list | set)}
    for path, module in modules.items() if filled else ():
        for name, value in vars(module).items():
            if id(value) in filled:
                stores.setdefault(path, set()).add(name)
    return stores


def _owners(modules: Mapping[str, nn.Module], elastics: Mapping[str, Elastic]) -> dict[int, nn.Module]:
    """The module that each cut tensor belongs to, by the tensor's id."""
    return {
        id(tensor): module
        for path, module in modules.items()
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if name in elastics[path].tensors
    }


def _held(elastic: Elastic, module: nn.Module, owners: Mapping[int, nn.Module]) -> Iterator[str]:
    """The attributes of a module in which a forward would find cut tensors: as they are, or in containers."""
    for name, value in holders(module):
        found = [owners[id(tensor)] for tensor in open_tensors(value) if id(tensor) in owners]
        if found or _is_unregistered(elastic, name, value):
            elastic.lenders += [owner for owner in dict.fromkeys(found) if owner is not module]
            elastic.state.lent = WeakTensorKeyDictionary() if elastic.state.lent is None else elastic.state.lent
            yield name


def _is_unregistered(elastic: Elastic, name: str, value: Any) -> bool:
    return any(place in elastic.unregistered for place, _ in located(name, value))


def _before(elastic: Elastic, name: str, value: Any, plan: Plan, places: Container[str]) -> Any:
    """What an attribute holds before any forward. A dict that forwards fill is without what they have not read."""
    if not isinstance(value, dict) or (elastic.path, name) not in plan.stored:
        return value
    result = copy.copy(value)
    for key, item in value.items():
        names = [plan.canonical(elastic.full(place)) for place, _ in located(name, {key: item}) if place in places]
        if names and not any(full in plan.layouts for full in names):
            del result[key]
    return result


def _fill(elastic: Elastic, module: nn.Module, plan: Plan, places: Iterable[str]) -> None:
    elastic.unregistered = frozenset(
        place for place in places if plan.canonical(elastic.full(place)) in plan.cut_tensors
    )
    for name in (*module._parameters, *module._buffers, *elastic.unregistered):
        full = plan.canonical(elastic.full(name))
        if full in plan.cut_tensors:
            elastic.tensors[name] = plan.layouts[full]
            if _rescales(elastic.state.draw) and full in plan.scales:
                elastic.scales[name] = plan.scales[full]


def enter(module: nn.Module, elastic: Elastic, held: tuple[str, ...] = (), base: type | None = None) -> None:
    """Turn a module into an instance of its elastic class. `base` is a plain subclass that can have more widths."""
    vars(module)[KEY] = elastic
    tensors = (
        *(name for name in elastic.tensors if name not in elastic.unregistered),
        *(name for name in module._buffers if name not in elastic.tensors),
    )
    attributes = (*elastic.attributes, *elastic.constants)
    module.__class__ = elastic_class(base or elastic.base, tensors, attributes, held)


def _rescales(draw: Draw) -> bool:
    return bool(getattr(draw, "rescale", False))


def _check_scales(plan: Plan, draw: Draw) -> None:
    if _rescales(draw) and plan.unscaled:
        name, reason = next(iter(plan.unscaled.items()))
        raise InputError(
            f"rescale=True cannot be folded into the weights for group {name}: {reason}. "
            "Keep that group fixed, or draw without rescaling."
        )


def _minimum(plan: Plan, minimum: int | Mapping[str, int] | None) -> dict[str, int]:
    result = {name: min(group.granularity, group.size) for name, group in plan.groups.items()}
    for name, value in per_group(plan, "minimum", {} if minimum is None else minimum).items():
        group = plan.groups[name]
        result[name] = min(group.size, -(-value // group.granularity) * group.granularity)
    return result


def strip(model: nn.Module) -> nn.Module:
    """Make the modules of a twin plain again, in place: their own classes, at full width."""
    for _, module in named_modules(model):
        elastic = vars(module).pop(KEY, None)
        if elastic is not None:
            module.__class__ = elastic.base
            if elastic.own_forward is not None:
                vars(module)["forward"] = elastic.own_forward
    return model

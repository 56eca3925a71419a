"""A copy of a model made elastic by a plan, and made plain again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from surgery.adapters.base import decisions
from surgery.errors import InputError, some
from surgery.modules.batchnorm import statistics_layers
from surgery.modules.caches import forget
from surgery.modules.code.bytecode import assigned, mentions, reads
from surgery.modules.code.rewritten import Method, Rewritten
from surgery.modules.containers import holders, located, open_tensors, unregistered
from surgery.modules.copying import copy_of
from surgery.modules.inputs import Examples, detached
from surgery.modules.modes import refresh
from surgery.modules.tensors import Parts
from surgery.modules.tree import named_modules
from surgery.plan.plan import Draw, Plan, per_group
from surgery.twin.elastic import KEY, Elastic
from surgery.twin.members import elastic_class
from surgery.twin.memory import Absent, Stored
from surgery.twin.plain import strip
from surgery.twin.state import State
from surgery.twin.writing import clear_stored

M = TypeVar("M", bound=nn.Module)


def twin_of(parts: Parts, plan: Plan, examples: Examples) -> nn.Module:
    """A twin for a plan that is made already: what a plain model is cut and proven by."""
    twin = copy_of(parts, lambda _, tensor: tensor).model
    install(twin, plan, State(None, detached(examples)))
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
    state.set_current(plan.full())
    state.setting.chosen = plan.full()
    strip(twin)
    refresh(twin)
    _Installer(twin, plan, state).run()
    clear_stored(state.writes.storing)
    state.norms, state.estimated = statistics_layers(twin), plan.full()
    state.momenta = [layer.momentum for layer in state.norms]
    counts = [layer.num_batches_tracked for layer in state.norms]
    state.counted = any(count is not None and not count.is_meta and bool(count) for count in counts)


class _Installer:
    """Fills in what each module reads, and turns modules into members of the twin."""

    def __init__(self, twin: nn.Module, plan: Plan, state: State):
        self.plan, self.state = plan, state
        self.modules = dict(named_modules(twin))
        self.elastics = {path: Elastic(state, path, type(module)) for path, module in self.modules.items()}
        self.places: dict[str, list[str]] = {}
        for path, place, _ in unregistered(twin):
            self.places.setdefault(path, []).append(place)
        classes: set[Any] = {type(module) for module in self.modules.values()}
        self.sets_by_name = any(mentions(cls, {"setattr", "register_buffer"}) for cls in classes)
        self.checks_class = any(reads(cls, "Parameter") for cls in classes)
        self.assigned = frozenset(name for cls in classes for name in assigned(cls))

    def run(self) -> None:
        for path, name, absent in self.plan.caches:
            forget(self.modules[path], name, absent)
        for path in self.modules:
            self.fill(path)
        for path, (name, *keys), formula in self.plan.formulas:
            if path in self.elastics:
                self.elastics[path].attributes.setdefault(name, []).append((tuple(keys), formula))
        owners = self.owners()
        holders = {path: tuple(self.holders(path, owners)) for path in self.modules}
        self.store(holders)
        members = [path for path in self.modules if self.is_member(path, holders[path])]
        replacements = {swap.path: swap.replacement for swap in self.plan.swaps}
        for path in members:
            enter(self.modules[path], self.elastics[path], holders[path], replacements.get(path))
        for path in members:
            self.decide(path)
        self.state.members, self.state.plain = frozenset(members), frozenset(self.modules) - frozenset(members)

    def fill(self, path: str) -> None:
        """The tensors of a module that are cut, its new forward, and its own one, which would hide the elastic one."""
        elastic, module, plan = self.elastics[path], self.modules[path], self.plan
        places = self.places.get(path, [])
        elastic.unregistered = frozenset(p for p in places if plan.canonical(elastic.full(p)) in plan.cut_tensors)
        for name in (*module._parameters, *module._buffers, *elastic.unregistered):
            full = plan.canonical(elastic.full(name))
            if full in plan.cut_tensors:
                elastic.tensors[name] = plan.layouts[full]
                if _rescales(self.state.draw) and full in plan.scales:
                    elastic.scales[name] = plan.scales[full]
        elastic.viewed = frozenset(n for n in elastic.tensors if plan.canonical(elastic.full(n)) in plan.viewed)
        if path in plan.rewrites:
            elastic.rewritten = Rewritten(module, plan.rewrites[path].routine)
            elastic.attributes |= {name: [((), size)] for name, size in plan.rewrites[path].sizes.items()}
            for holder, name, routine in plan.rewrites[path].methods:
                vars(self.modules[holder])[name] = Method(module, routine, self.modules[holder], name)
                self.elastics[holder].methods.append(name)
        elastic.own_forward = vars(module).pop("forward", None)
        elastic.listed = not all(listed.own for _, listed in plan.units.lists.get(path, ()))
        for _, listed in plan.units.lists.get(path.rpartition(".")[0], ()) if path else ():
            if path in map(listed.child, (name for names in listed.units for name in names)):
                elastic.passing = listed.passing
        elastic.writes_data = mentions(type(module), {"data"})
        elastic.checks_class = self.checks_class
        elastic.rebound = frozenset(n for n in module._buffers if self.sets_by_name or n in self.assigned)

    def owners(self) -> dict[int, nn.Module]:
        """The module that each cut tensor belongs to, by the tensor's id."""
        return {
            id(tensor): module
            for path, module in self.modules.items()
            for table in (module._parameters, module._buffers)
            for name, tensor in table.items()
            if name in self.elastics[path].tensors
        }

    def holders(self, path: str, owners: Mapping[int, nn.Module]) -> Iterator[str]:
        """The attributes of a module in which a forward would find cut tensors: as they are, or in containers."""
        elastic, module = self.elastics[path], self.modules[path]
        for name, value in holders(module):
            found = [owners[id(tensor)] for tensor in open_tensors(value) if id(tensor) in owners]
            if found or _is_unregistered(elastic, name, value):
                elastic.lenders += [owner for owner in dict.fromkeys(found) if owner is not module]
                if self.state.slice_owners is None:
                    self.state.slice_owners = WeakTensorKeyDictionary()
                yield name

    def store(self, holders: Mapping[str, Sequence[str]]) -> None:
        """What each attribute that forwards set held before any of them. Modules that share a container share that."""
        stores = self.stores()
        for path, names in holders.items():
            for name in names:
                value = vars(self.modules[path])[name]
                changes = self.sets_by_name or name in self.assigned or isinstance(value, dict | list)
                if changes and _is_unregistered(self.elastics[path], name, value):
                    stores.setdefault(path, {})[name] = True
        before: dict[int, Any] = {}
        for path, found in stores.items():
            if path not in self.modules:
                continue
            for name, follows in sorted(found.items()):
                value = vars(self.modules[path]).get(name, Absent)
                if id(value) not in before:
                    before[id(value)] = self.before(path, name, value)
                self.elastics[path].stored[name] = Stored(before[id(value)], follows)
            self.state.writes.storing.append(self.modules[path])

    def stores(self) -> dict[str, dict[str, bool]]:
        """What forwards were seen to store, by module, and whether that follows the widths.

        Containers that they fill count in every module that shares them.
        """
        stores: dict[str, dict[str, bool]] = {}
        for path, name, follows in self.plan.stored:
            stores.setdefault(path, {})[name] = follows
        filled = {
            id(value): follows
            for path, found in stores.items()
            for name, follows in found.items()
            if path in self.modules and isinstance(value := vars(self.modules[path]).get(name), dict | list | set)
        }
        for path, module in self.modules.items() if filled else ():
            for name, value in vars(module).items():
                if id(value) in filled:
                    stores.setdefault(path, {}).setdefault(name, filled[id(value)])
        return stores

    def before(self, path: str, name: str, value: Any) -> Any:
        """What an attribute holds before any forward. A dict that forwards fill is without what they have not read."""
        elastic, plan = self.elastics[path], self.plan
        if not isinstance(value, dict) or not any((path, name) == item[:2] for item in plan.stored):
            return value
        places, result = self.places.get(path, []), copy.copy(value)
        for key, item in value.items():
            found = [plan.canonical(elastic.full(p)) for p, _ in located(name, {key: item}) if p in places]
            if found and not any(full in plan.layouts for full in found):
                del result[key]
        return result

    def is_member(self, path: str, holders: Sequence[str]) -> bool:
        """Whether a module has something to follow with. Others, such as activations, keep their very class."""
        elastic, module = self.elastics[path], self.modules[path]
        own = elastic.attributes or elastic.rewritten or elastic.methods or elastic.stored or holders or elastic.listed
        if own or elastic.own_forward or not path or decisions(module):
            return True
        return any(True for _ in (*module.parameters(), *module.buffers()))

    def decide(self, path: str) -> None:
        """Attributes that a constructor decides by the layers in a module are decided anew."""
        module = self.modules[path]
        decided = {name: decide(module) for name, decide in decisions(module).items() if hasattr(module, name)}
        if decided:
            self.elastics[path].constants = decided
            cls: Any = type(module)
            enter(module, self.elastics[path], cls.surgery_names[2], cls.surgery_base)


def _is_unregistered(elastic: Elastic, name: str, value: Any) -> bool:
    return any(place in elastic.unregistered for place, _ in located(name, value))


def enter(module: nn.Module, elastic: Elastic, holders: tuple[str, ...] = (), base: type | None = None) -> None:
    """Turn a module into a member of a twin. `base` is a plain subclass that can have more widths."""
    vars(module)[KEY] = elastic
    tensors = (
        *(name for name in elastic.tensors if name not in elastic.unregistered),
        *(name for name in module._buffers if name not in elastic.tensors),
    )
    attributes = (*elastic.attributes, *elastic.constants)
    module.__class__ = elastic_class(base or elastic.base, tensors, attributes, holders, elastic.listed)


def _rescales(draw: Draw) -> bool:
    return bool(getattr(draw, "rescale", False))


def _check_scales(plan: Plan, draw: Draw) -> None:
    if _rescales(draw) and plan.unscaled:
        name, reason = next(iter(plan.unscaled.items()))
        raise InputError(
            f"rescale=True cannot be folded into the weights for group {name}: {reason}. "
            "Keep that group fixed, or draw without rescaling."
        )


SHOWN = 4  # groups named in a warning


def _minimum(plan: Plan, minimum: int | Mapping[str, int] | None) -> dict[str, int]:
    result = {name: group.smallest for name, group in plan.groups.items()}
    asked = per_group(plan, "minimum", {} if minimum is None else minimum)
    sizes = {name: plan.groups[name].size for name in asked}
    whole = [f"{name} ({sizes[name]})" for name, value in asked.items() if value > sizes[name] > 1]
    if whole:
        warnings.warn(
            f"minimum: {some(whole, SHOWN)} have fewer units than that, so that no narrower width of theirs is "
            "trained. Give them a smaller one, minimum={'*': 16, 'a.group': 1}, or name them in fixed= if that is "
            "meant",
            stacklevel=6,
        )
    for name, value in asked.items():
        group = plan.groups[name]
        result[name] = group.at_least(value)
    for tie in plan.ties:
        share = max(Fraction(result[name], plan.groups[name].size) for name in tie.groups)
        result.update({name: plan.groups[name].at_least(share * plan.groups[name].size) for name in tie.groups})
    return result

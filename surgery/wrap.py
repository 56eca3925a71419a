"""`wrap`: a trainable twin that runs at any width; and the widths it runs at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from surgery.adapter import decisions
from surgery.copying import copy_tree
from surgery.draws import DEFAULT, Draw
from surgery.elastic import KEY, Elastic, is_wrapped, state_of
from surgery.errors import InputError
from surgery.held import holders, open_tensors
from surgery.inputs import Examples, Inputs, detached
from surgery.members import elastic_class
from surgery.mentions import assigned, mentions
from surgery.plan import Plan, WidthSpec
from surgery.planning import check_model, make_plan, per_group
from surgery.rewrite import Rewritten
from surgery.state import State


def wrap(
    model: nn.Module,
    example_inputs: Examples | None = None,
    *,
    fixed: str | Iterable[str] = (),
    only: str | Iterable[str] = (),
    granularity: int | Mapping[str, int] = 1,
    minimum: int | Mapping[str, int] | None = None,
    draw: Draw | None = None,
    generator: torch.Generator | None = None,
) -> Any:
    """A twin of `model` that draws its widths at every training forward; `model` stays as it is.

    The twin is a new module tree over the same parameters and buffers: train it, and `model` follows. It has the class,
    module paths and state_dict keys of `model`. In eval mode it runs at the widths that are set, full at first.

    Args:
        model: any nn.Module.
        example_inputs: a tensor, a tuple (positional arguments), a dict (keyword arguments), `surgery.inputs(...)` or
            `surgery.batches([...])`. Without it, the model is analysed at the twin's first forward.
        fixed: globs over group names, or module paths, to keep at full width.
        only: globs or module paths to make elastic; everything else is kept at full width.
        granularity: widths are multiples of this; an int, or a mapping of globs to ints.
        minimum: the smallest width that is drawn; an int, or a mapping of globs to ints. Default: the granularity.
        draw: how widths are drawn, see `surgery.paper`. Default: mostly one log-uniform fraction for all groups.
        generator: a seeded CPU generator for the draws. Default: a new one with seed 0.

    Raises InputError for a model that is wrapped or parallelised already, or that has nothing to cut; CaptureError
    where the model does not run on the example inputs; WidthError for a name that no group has.
    """
    check_model(model)
    if is_wrapped(model):
        raise InputError(f"{type(model).__name__} is wrapped already: use it as it is, or surgery.unwrap it first")
    draw = DEFAULT if draw is None else draw
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    if not callable(draw):
        raise InputError(f"draw is a callable (plan, generator) -> mapping, such as surgery.paper(), got {draw!r}")
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise InputError(f"generator is a torch.Generator on the CPU, got {generator!r}")
    twin = copy_tree(model, lambda _, tensor: tensor)
    state = State(None, None, draw, generator)

    prepare = _Preparation(fixed, only, granularity, minimum)
    if example_inputs is not None:
        prepare(twin, model, state, example_inputs)
    else:
        state.pending = prepare
        _enter(twin, Elastic(state, "", type(twin)))
    return twin


@dataclass(frozen=True)
class _Preparation:
    """What makes a copy of a model elastic; for a twin without example inputs, at its first forward."""

    fixed: str | Iterable[str]
    only: str | Iterable[str]
    granularity: int | Mapping[str, int]
    minimum: int | Mapping[str, int] | None

    def __call__(self, twin: nn.Module, model: nn.Module, state: State, examples: Examples) -> None:
        plan = make_plan(model, examples, self.fixed, self.only, self.granularity)
        install(twin, model, plan, state, self.minimum)
        state.examples, state.pending = detached(examples), None

    def first(self, twin: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self(twin, unwrap(twin), state_of(twin), Inputs(args, kwargs))


def twin_of(model: nn.Module, plan: Plan, examples: Examples) -> nn.Module:
    """A twin for a plan that is made already: what a plain model is cut and proven by."""
    twin = copy_tree(model, lambda _, tensor: tensor)
    install(twin, model, plan, State(None, detached(examples), DEFAULT))
    return twin


def install(
    twin: nn.Module, model: nn.Module, plan: Plan, state: State, minimum: int | Mapping[str, int] | None = None
) -> None:
    """Make every module of a copy of `model` elastic. Raises InputError where the plan has nothing to cut."""
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
    replacements = {swap.path: swap.replacement for swap in plan.swaps}
    modules = {path: module for path, module in twin.named_modules()}
    elastics = {path: Elastic(state, path, type(module)) for path, module in modules.items()}
    for path, module in modules.items():
        _fill(elastics[path], module, path, plan)
    owners = _owners(modules, elastics)
    classes: set[Any] = {type(module) for module in modules.values()}
    anything = any(mentions(cls, {"setattr", "register_buffer"}) for cls in classes)
    rebound = frozenset(name for cls in classes for name in assigned(cls))
    for path, module in modules.items():
        elastic = elastics[path]
        if path in plan.rewrites:
            rewrite = plan.rewrites[path]
            elastic.forward = Rewritten(module, rewrite.programs)
            for name, formula in rewrite.sizes.items():
                elastic.attributes[name] = [((), formula)]
        elastic.own_forward = vars(module).pop("forward", None)  # it would hide the elastic one
        elastic.rebound = frozenset(name for name in module._buffers if anything or name in rebound)
        elastic.stored = {name: vars(module).get(name) for owner, name in plan.stored if owner == path}
        if elastic.stored:
            state.storing.append(module)
        held = tuple(_held(elastic, module, owners))
        _enter(module, elastic, held, replacements.get(path))
    for path, module in modules.items():
        decided = {name: decide(module) for name, decide in decisions(module).items() if hasattr(module, name)}
        if decided:
            elastics[path].constants = decided
            cls: Any = type(module)
            _enter(module, elastics[path], cls.surgery_names[2], cls.surgery_base)


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
        if found:
            elastic.lenders += [owner for owner in dict.fromkeys(found) if owner is not module]
            elastic.state.lent = WeakTensorKeyDictionary() if elastic.state.lent is None else elastic.state.lent
            yield name


def _fill(elastic: Elastic, module: nn.Module, path: str, plan: Plan) -> None:
    prefix = f"{path}." if path else ""
    for name in (*module._parameters, *module._buffers):
        full = plan.aliases.get(prefix + name, prefix + name)
        if full in plan.cut_tensors:
            elastic.tensors[name] = plan.layouts[full]
            if _rescales(elastic.state.draw) and full in plan.scales:
                elastic.scales[name] = plan.scales[full]
    for owner, (name, *keys), formula in plan.formulas:
        if owner == path:
            elastic.attributes.setdefault(name, []).append((tuple(keys), formula))


def _enter(module: nn.Module, elastic: Elastic, held: tuple[str, ...] = (), base: type | None = None) -> None:
    """Turn a module into an instance of its elastic class. `base` is a plain subclass that can have more widths."""
    vars(module)[KEY] = elastic
    tensors = (*elastic.tensors, *(name for name in module._buffers if name not in elastic.tensors))
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
    for module in model.modules():
        elastic = vars(module).pop(KEY, None)
        if elastic is not None:
            module.__class__ = elastic.base
            if elastic.own_forward is not None:
                vars(module)["forward"] = elastic.own_forward
    return model


def unwrap(wrapped: nn.Module) -> Any:
    """A plain model at full width over the same parameters and buffers. Raises InputError if it is not wrapped."""
    state = state_of(wrapped)
    return strip(copy_tree(wrapped, lambda _, tensor: tensor, {id(state): state}))


def ready(wrapped: nn.Module) -> State:
    """The state of a wrapped model whose plan is made. Raises InputError before the first forward of a deferred one."""
    state = state_of(wrapped)
    if state.plan is None:
        raise InputError(
            f"{type(wrapped).__name__} was wrapped without example inputs and has not run yet: call it once, "
            "or wrap it with example inputs"
        )
    return state


def plan_of(wrapped: nn.Module) -> Plan:
    """The plan of a wrapped model."""
    plan = ready(wrapped).plan
    assert plan is not None
    return plan


def widths(wrapped: nn.Module) -> dict[str, int]:
    """The widths that are set: what eval mode runs at."""
    return dict(ready(wrapped).chosen)


def set_widths(wrapped: nn.Module, widths: WidthSpec) -> None:
    """Set the widths of eval mode: a fraction, a mapping of group names or globs, or a point of a curve.

    Raises WidthError for a width that a group cannot have; nothing is changed then.
    """
    state = ready(wrapped)
    chosen = plan_of(wrapped).widths(widths)
    state.chosen = chosen
    state.use(chosen)


@contextlib.contextmanager
def at_widths(wrapped: nn.Module, widths: WidthSpec) -> Iterator[None]:
    """Run at these widths, in training mode too: nothing is drawn inside. Afterwards everything is as before."""
    state = ready(wrapped)
    before = state.chosen
    chosen = plan_of(wrapped).widths(widths)
    state.chosen = chosen
    state.held += 1
    try:
        with state.using(chosen):
            yield
    finally:
        state.held -= 1
        state.chosen = before


def inspect(model: nn.Module, example_inputs: Examples | None = None) -> Plan:
    """What can change its width in a model, and what cannot and why. Print it: it is a table.

    Args:
        model: any nn.Module; it stays as it is. A wrapped model has its plan already.
        example_inputs: as for `surgery.wrap`. A wrapped model needs none.

    Raises InputError or CaptureError where the model cannot be analysed on these inputs.
    """
    check_model(model)
    if is_wrapped(model):
        return plan_of(model)
    if example_inputs is None:
        raise InputError(f"{type(model).__name__} is not wrapped: give example inputs to analyse it on")
    return make_plan(model, example_inputs)

"""What knows nothing of plans: the original code with features zeroed, and the original code made smaller.

**Zeroed.** Where features that are zero are as good as none (a fragment says so: `exact`), the original model gives
with their weights zeroed what the small model gives without them. Which weights those are is enumerated here from the
plan's layouts, position by position, and not cut by the library: a wrong plan, and code that slices elsewhere, is seen.

**Rebuilt.** The program made with one smaller integer is the code that a user would write for a smaller model. If its
tensors have the shapes of a shrunk model at exactly one group and width, it must compute the same with these tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import nn

import surgery
from surgery.modules.inputs import Inputs
from tests.laws.fuzz import alike
from tests.laws.fuzz.checks import Check, Trial, Wrong, kept, ran, same
from tests.laws.without import leaves, leaving_out_is_handing_on

TRIED = 3  # groups
GATED = "zip(self.gates, self.blocks)"
Shapes: TypeAlias = "tuple[tuple[str, tuple[int, ...]], ...]"  # of all parameters


def zeroed(trial: Trial) -> None:
    """The original model without the weights of features, against the small model without the features."""
    plan = trial.plan
    model = trial.build()
    owners = {path: type(module).__name__ for path, module in model.named_modules()}
    groups = {name: group for name, group in plan.groups.items() if not group.lists}
    free = [name for name, group in groups.items() if all(_exact(trial, owners, t) for t, _ in group.cuts)]
    for name in free[:TRIED]:
        group = plan.groups[name]
        width = max(group.granularity, group.size // 2 // group.granularity * group.granularity)
        small = surgery.shrink(copy.deepcopy(trial.twin), {name: width}).eval()
        whole = trial.build()
        tensors = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
        with torch.no_grad():
            for tensor, dim in group.cuts:
                gone = [i for i, there in enumerate(kept(plan.layouts[tensor][dim], {name: width})) if not there]
                tensors[tensor].index_fill_(dim, torch.tensor(gone, dtype=torch.long), 0.0)
            for inputs in trial.taken[False]:
                same(f"zeroed beyond {name}={width}", ran(whole, inputs), ran(small, inputs), 1e-8)


def _exact(trial: Trial, owners: Mapping[str, str], tensor: str) -> bool:
    """Whether a tensor belongs to a piece in which zero features are none, or to a plain layer around the pieces."""
    classes = [owners.get(path, "") for path in _above(tensor)]
    known = [name for name in classes if name in trial.program.exact]
    return bool(known) and not any("Norm" in name for name in classes)


def _above(tensor: str) -> list[str]:
    """The paths of the modules that hold a tensor, apart from the root, where there is a piece among them."""
    parts = tensor.split(".")[:-1]
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def rebuilt(trial: Trial) -> None:
    """The program with one smaller integer, against the small model at the width that it stands for."""
    if not trial.program.rebuilds:
        return
    plan, full = trial.plan, trial.plan.full()
    shapes: dict[Shapes, list[tuple[str, int]]] = {}
    whole = {name: tuple(p.shape) for name, p in trial.build().named_parameters()}
    for name, group in plan.groups.items():
        for width in range(group.granularity, group.size, group.granularity) if not group.lists else ():
            shapes.setdefault(_shapes(plan, whole, {**full, name: width}), []).append((name, width))
    found: dict[Shapes, list[tuple[str, int]]] = {}
    for key, size in trial.program.sizes.items():
        for value in range(1, size) if key not in ("i", "o") else ():
            try:
                model = trial.build(**{key: value})
            except Exception:
                continue
            made = tuple((n, tuple(p.shape)) for n, p in model.named_parameters())
            found.setdefault(made, []).append((key, value))
    for made in [made for made in found if len(found[made]) == 1 and len(shapes.get(made, ())) == 1][:TRIED]:
        _compare(trial, found[made][0], shapes[made][0])


def _shapes(plan: surgery.Plan, whole: Mapping[str, tuple[int, ...]], widths: Mapping[str, int]) -> Shapes:
    cut = {n: tuple(sum(kept(dim, widths)) for dim in dims) for n, dims in plan.layouts.items()}
    return tuple((name, cut.get(name, shape)) for name, shape in whole.items())


def _compare(trial: Trial, changed: tuple[str, int], cut: tuple[str, int]) -> None:
    small = surgery.shrink(copy.deepcopy(trial.twin), dict([cut])).eval()
    again = trial.build(**dict([changed]))
    if _integers(small) != _integers(again):
        return  # the same shapes by other integers: fewer heads, or narrower ones
    state = small.state_dict()
    if any(state[name].shape != tensor.shape for name, tensor in again.state_dict().items()):
        raise Wrong(f"{cut} has not the shapes of {changed}")
    again.load_state_dict(state)
    _floats(small, again)
    with torch.no_grad():
        for inputs in trial.taken[False]:
            same(f"made again with {changed} for {cut}", ran(again, inputs), ran(small, inputs), 1e-8)


def _integers(model: nn.Module) -> list[tuple[str, str, int]]:
    """Integers that modules hold, in objects and containers too."""
    return [
        (path, name, value)
        for path, module in model.named_modules()
        for name, value in sorted(inside(vars(module)))
        if not name.startswith("surgery_")
    ]


def inside(values: object, place: str = "", depth: int = 3) -> Iterator[tuple[str, int]]:
    """Integers in values within values, and where they are."""
    if type(values) is int:
        yield place, values
    elif depth and (parts := alike.parts(values)) is not None:
        for key, value in parts.items():
            yield from inside(value, f"{place}.{key}" if place else str(key), depth - 1)


def _floats(model: nn.Module, other: nn.Module) -> None:
    """Factors that a constructor has computed of sizes stay in a small model what they were."""
    modules = dict(other.named_modules())
    for path, module in model.named_modules():
        vars(modules[path]).update({name: v for name, v in vars(module).items() if type(v) is float})


def left_out(trial: Trial) -> None:
    """Law 13, for each list: the original code, in which what is left out hands on what it is given."""
    if GATED in trial.program.source or _draws(trial.build(), trial.program.inputs[0]):
        return  # a module that is left out takes its gate with it, and draws no numbers
    full = trial.plan.full()
    for name, group in trial.plan.groups.items():
        if group.kind == "depth" and not any(one.own for one in group.lists):
            twin, units = copy.deepcopy(trial.twin), torch.randperm(group.size, generator=trial.generator)
            surgery.set_depth_order(twin, {name: units})
            widths = {**full, name: group.at_least(group.size // 2)}
            small, plan = surgery.shrink(twin, widths).eval(), surgery.inspect(twin)
            for inputs in trial.taken[False]:
                if dict(leaves(ran(copy.deepcopy(small), inputs))):  # not of records; models keep what they have seen
                    leaving_out_is_handing_on(trial.build(), copy.deepcopy(small), plan, widths, inputs, 1e-8)


def _draws(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a forward draws random numbers."""
    ran(model, inputs)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    return not torch.equal(after, torch.get_rng_state())


ORACLES: tuple[Check, ...] = (zeroed, rebuilt, left_out)

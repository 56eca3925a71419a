"""What is checked of a program: a table of checks, each of which raises Wrong, or whatever the library raises."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import nn

import surgery
from surgery.axes.layout import Layout, Sum
from surgery.modules.inputs import Inputs, cloned
from tests.laws import laws
from tests.laws.fuzz import alike
from tests.laws.fuzz.program import Program, built

MODES = (False, True)  # training or not
ALONE = 4  # groups that are cut alone, at most
MIXES = 2


def kept(layout: Layout, widths: Mapping[str, int]) -> list[bool]:
    """For every position of a dimension, whether it is there at these widths: by enumeration, not by arithmetic."""
    found = [True]
    for factor in layout:
        if isinstance(factor, Sum):
            inner = [one for term in factor.terms for one in kept(term, widths)]
        else:
            inner = [i < widths.get(factor.group or "", factor.size) for i in range(factor.size)]
        found = [a and b for a in found for b in inner]
    return found


class Wrong(AssertionError):
    """Two models that must agree do not."""


@dataclass
class Trial:
    """A program, its plan and its twin."""

    program: Program
    module: ModuleType
    plan: surgery.Plan
    twin: nn.Module
    generator: torch.Generator
    taken: dict[bool, list[Inputs]] = field(default_factory=dict)  # by mode: what the model takes at full width

    def build(self, **changed: int) -> nn.Module:
        return built(self.module, **changed)


def ran(model: nn.Module, inputs: Inputs, seed: int = 0) -> Any:
    """What a model returns in its mode, with a random state of its own. Inputs are copied: forwards may change them."""
    torch.manual_seed(seed)
    given = cloned(inputs)
    return model(*given.args, **given.kwargs)


def same(what: str, a: Any, b: Any, tolerance: float = alike.EXACT) -> None:
    found = alike.gap("output" if "keeps" not in what else "", a, b, tolerance)
    if found is not None:
        raise Wrong(f"{what}: {found}")


def takes(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a model runs on inputs at all, and gives numbers."""
    try:
        with torch.no_grad():
            made = ran(model, inputs)
    except Exception:
        return False
    return all(bool(t.isfinite().all()) for t in alike.tensors(made) if t.is_floating_point())


def full_width(trial: Trial) -> None:
    """Law 1, over several forwards in a row: outputs, gradients, and what modules keep."""
    model, names = trial.build(), alike.attributes(trial.build())
    twin = copy.deepcopy(trial.twin)
    for training in MODES:
        model.train(training), twin.train(training)
        for i, inputs in enumerate([*trial.taken[training], *trial.taken[training][:1]]):
            with surgery.at_widths(twin, 1.0):
                forwards(f"at full width, forward {i}, training {training}", (model, twin), inputs, names)


def forwards(what: str, pair: tuple[nn.Module, nn.Module], inputs: Inputs, names: Mapping[str, list[str]]) -> None:
    """One forward and backward of two models that must agree."""
    given = [ran(model, inputs) for model in pair]
    same(what, *given)
    state = [alike.kept(model, names) for model in pair]
    same(f"{what}, what it keeps", *state)
    found = []
    for model, output in zip(pair, given, strict=True):
        model.zero_grad(set_to_none=True)
        alike.loss(output).backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    left, right = found
    if set(left) - set(right):
        raise Wrong(f"{what}: no gradients of {sorted(set(left) - set(right))}")
    scale = max((float(g.abs().max()) for g in left.values()), default=0.0)
    for name in left:
        if left[name].shape == right[name].shape and (left[name] - right[name]).abs().max() > 1e-8 * max(scale, 1e-3):
            raise Wrong(f"{what}: the gradient of {name} differs")


def untouched(trial: Trial) -> None:
    """What is made of a model and of a twin leaves them as they were, what modules keep included."""
    least = laws.smallest(trial.plan)
    plain = 0.5 if trial.program.recipe.lists else least  # a plain model has no lists that are groups
    for twin, makes in ((False, ("wrap", "inspect", "shrink")), (True, ("shrink", "reorder", "inspect"))):
        model = copy.deepcopy(trial.twin) if twin else trial.build()
        names, example = alike.attributes(trial.build()), trial.program.inputs[0]
        if twin:  # what a model has kept from a forward would be analysed with it
            with torch.no_grad():
                ran(model, example)
        before = alike.kept(model, names), {key: t.clone() for key, t in model.state_dict().items()}
        for name in makes:
            more = ({"shrink": least if twin else plain, "reorder": {}}[name],) if name in ("shrink", "reorder") else ()
            getattr(surgery, name)(model, *more, *(() if twin else (example,)))
            same(
                f"{name} of a {'twin' if twin else 'model'} changes what it keeps", before[0], alike.kept(model, names)
            )
            same(f"{name} of a {'twin' if twin else 'model'} changes what keeps", before[1], dict(model.state_dict()))


def widths_to_try(trial: Trial) -> Iterator[dict[str, int]]:
    """Each group alone at its smallest, all at their smallest, and mixtures."""
    full, least = trial.plan.full(), laws.smallest(trial.plan)
    names = list(full)
    order = torch.randperm(len(names), generator=trial.generator).tolist()
    for i in order[:ALONE]:
        yield {**full, names[i]: least[names[i]]}
    if len(names) > 1:
        yield least
    for _ in range(MIXES):
        yield laws.random_widths(trial.plan, trial.generator)


def every_width(trial: Trial) -> None:
    """Law 2, over several forwards in a row, on each input that the model takes, in both modes."""
    for n, widths in enumerate(widths_to_try(trial)):
        twin = copy.deepcopy(trial.twin)
        if n % 2 and widths != trial.plan.full():  # what the twin has kept of other widths is not for these
            with torch.no_grad():
                ran(twin, trial.taken[False][-1])
        small = surgery.shrink(twin, widths)
        names = alike.attributes(small)
        whole = all(widths[name] == group.size for name, group in trial.plan.groups.items() if group.lists)
        short = {name: width for name, width in widths.items() if width != trial.plan.groups[name].size}
        for training in MODES:
            twin.train(training), small.train(training)
            for i, inputs in enumerate([*trial.taken[training], *trial.taken[training][:1]]):
                what = f"at {short}, forward {i}, training {training}"
                with surgery.at_widths(twin, widths):
                    narrow(what, (small, twin), inputs, names if whole else {})


def narrow(what: str, pair: tuple[nn.Module, nn.Module], inputs: Inputs, names: Mapping[str, list[str]]) -> None:
    given = []
    for model, kind in zip(pair, ("small model", "twin"), strict=True):
        try:
            given.append(ran(model, inputs))
        except surgery.SurgeryError:
            raise
        except Exception as error:
            raise Wrong(f"{what}: the {kind} does not run: {type(error).__name__}: {error}") from error
    same(what, *given)
    same(f"{what}, what it keeps", *(alike.kept(model, names) for model in pair))
    if not all(bool(t.isfinite().all()) for t in alike.tensors(given[0]) if t.is_floating_point()):
        raise Wrong(f"{what}: infinity or no number")


def order(trial: Trial) -> None:
    """Law 4, on each input that the model takes."""
    plan = trial.plan
    free = {name: group for name, group in plan.groups.items() if group.kind != "depth"}
    orders = {name: torch.randperm(group.size, generator=trial.generator) for name, group in free.items()}
    permuted = surgery.reorder(copy.deepcopy(trial.twin), orders).eval()
    model = trial.build()
    for inputs in trial.taken[False]:
        with torch.no_grad():
            same(f"in the order {orders}", ran(model, inputs), ran(permuted, inputs), 1e-8)


def gradients_inside(trial: Trial) -> None:
    """Law 5, at one mixture of widths."""
    widths, twin = laws.random_widths(trial.plan, trial.generator), copy.deepcopy(trial.twin)
    with surgery.at_widths(twin, widths):
        alike.loss(ran(twin, trial.program.inputs[0])).backward()
    for name, parameter in twin.named_parameters():
        if parameter.grad is None or name not in trial.plan.layouts:
            continue
        for dim, layout in enumerate(trial.plan.layouts[name]):
            gone = [i for i, there in enumerate(kept(layout, widths)) if not there]
            if parameter.grad.index_select(dim, torch.tensor(gone, dtype=torch.long)).any():
                raise Wrong(f"at {widths}: a gradient beyond the width, in {name}")


def smaller_again(trial: Trial) -> None:
    """Law 3: a small model is a model like any other, and smaller ones nest. For every other program."""
    if trial.program.recipe.seed % 2 or trial.program.recipe.lists:
        return
    widths, example = laws.random_widths(trial.plan, trial.generator), trial.program.inputs[0]
    small = surgery.shrink(copy.deepcopy(trial.twin), widths).eval()
    try:
        again = surgery.wrap(small, example).eval()
    except surgery.InputError as error:
        if "no axis that can change its width" in str(error):
            return
        raise
    further = laws.smallest(surgery.inspect(again))
    least = surgery.shrink(again, further).eval()
    if set(further) != {name for name, width in widths.items() if width > 1}:
        return  # groups of width 1 are gone, and with them the numbers in the names of their neighbours
    steps = {name: trial.plan.groups[name].granularity for name in further}
    if steps != further:
        return
    at_once = surgery.shrink(copy.deepcopy(trial.twin), {**widths, **further}).eval()
    for inputs in trial.taken[False]:
        with torch.no_grad():
            same(f"first to {widths}, then to {further}", ran(at_once, inputs), ran(least, inputs), 1e-8)


@contextmanager
def quiet() -> Iterator[None]:
    """Models in float64, random states that are put back, no warnings."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


Check = Callable[[Trial], None]
CHECKS: Sequence[Check] = (full_width, untouched, every_width, order, gradients_inside, smaller_again)

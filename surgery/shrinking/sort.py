"""`sort`: a trained model whose features are ordered by importance, so that slicing keeps those that matter most."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from surgery.axes.layout import units
from surgery.errors import InputError
from surgery.modules.arguments import counted
from surgery.modules.inputs import Examples
from surgery.modules.modes import evaluating
from surgery.modules.tree import named_modules
from surgery.plan.groups import DEPTH, EXPERTS, Group
from surgery.plan.plan import Plan
from surgery.refitting.orders import ByReaders, absorbed
from surgery.refitting.statistics import apart, parameters_of
from surgery.shrinking.reorder import reorder, unsaved
from surgery.shrinking.shrink import M, prepared, unsharded
from surgery.twin.setting import at_widths
from surgery.twin.statistics import calibrated

B = TypeVar("B")
Criterion: TypeAlias = "Callable[[nn.Module, Plan], dict[str, Tensor]]"


@counted()
def order(
    model: nn.Module, example_inputs: Examples | None = None, *, by: Criterion | None = None
) -> dict[str, Tensor]:
    """The order in which `sort` would put the units of each group: permutations, which `reorder` takes.

    Unit `order[name][i]` of the model is unit i of the sorted one. Arguments and errors are those of `sort`.
    """
    wrapped, plan, examples = prepared(model, example_inputs)
    return _orders(model, wrapped, plan, examples, by)


@counted()
def sort(model: M, example_inputs: Examples | None = None, *, by: Criterion | None = None) -> M:
    """An independent plain copy of a model in which each group's units go from the most to the least important.

    It computes what `model` computes, which `surgery.reorder` proves before it is returned. Wrap and train it: a
    pretrained model then starts from slices that are as good as its features allow. Groups that cut a tensor which the
    state_dict does not hold, such as rotary frequencies, stay as they are: a saved model would lose their order. So do
    modules that run one after another (kind "depth"), which `surgery.set_depth_order` is for.

    Args:
        model: a wrapped model, or any model together with example inputs.
        example_inputs: what the proof runs on. Default: the inputs that the model was wrapped with.
        by: `surgery.absorbed(batches)`, which is the best for a trained model, `surgery.activation(batches)`,
            `surgery.magnitude(...)`, `surgery.taylor(...)`, or a callable (wrapped model, plan) -> scores, a tensor of
            one number per unit for each group that is to be sorted; higher is more important. Default: `absorbed` on
            the batches that the model was wrapped with (`calibration=`); without any, `magnitude()`. Branches that are
            modules, with no axis that goes with them, are always sorted by the size of their weights.

    Raises InputError for scores that are not finite or not one per unit, and what `reorder` raises.
    """
    wrapped, plan, examples = prepared(model, example_inputs)
    return reorder(wrapped, _orders(model, wrapped, plan, examples, by), examples)


def _orders(
    model: nn.Module, wrapped: nn.Module, plan: Plan, examples: Examples, by: Criterion | None
) -> dict[str, Tensor]:
    if by is None:
        known = calibrated(wrapped)
        by = absorbed(known) if known else magnitude()
    makers = {"magnitude": "", "absorbed": "batches", "activation": "batches", "taylor": "batches, loss"}
    name = by if isinstance(by, str) else getattr(by, "__name__", "")
    if not callable(by) or (name in makers and not isinstance(by, type)):
        called = f"surgery.{name}({makers[name]})" if name in makers else "surgery.magnitude()"
        raise InputError(f"by is a criterion, such as {called}, got {by!r}")
    whole = unsharded(wrapped, plan, examples)
    scores = by(whole, plan)
    if isinstance(by, ByReaders):
        scores = {**_of_modules(whole, plan, scores), **scores}
    chains = [name for name in scores if plan.groups[name].kind == DEPTH]
    if chains:
        raise InputError(
            f"scores of {', '.join(chains)}: modules that run one after another cannot be sorted. "
            "surgery.set_depth_order(wrapped, orders) says which of them small depths keep"
        )
    silent = [name for name, value in scores.items() if not torch.as_tensor(value).count_nonzero()]
    if silent:
        warnings.warn(
            f"all scores are zero, so that these groups keep their order: {', '.join(silent[:6])}"
            f"{' and more' if len(silent) > 6 else ''}. A loss at its minimum has no gradients to sort by: try "
            "surgery.magnitude(), or a loss that is not at its minimum",
            stacklevel=3,
        )
    return {
        name: _descending(plan.groups[name], value) for name, value in scores.items() if not unsaved(model, plan, name)
    }


def _of_modules(wrapped: nn.Module, plan: Plan, known: Container[str]) -> dict[str, Tensor]:
    """Scores of groups that are made of modules side by side alone, by the size of their weights: no axis is read."""
    alone = {name for name, group in plan.groups.items() if group.kind == EXPERTS and not group.cuts}
    found = magnitude()(wrapped, plan) if any(name not in known for name in alone) else {}
    return {name: score for name, score in found.items() if name in alone}


def _descending(group: Group, scores: object) -> Tensor:
    values = torch.as_tensor(scores).detach().cpu().double()
    if values.shape != (group.size,) or not values.isfinite().all():
        raise InputError(f"group {group.name}: scores are {group.size} finite numbers, one per unit, got {scores!r}")
    return values.argsort(descending=True, stable=True)


@dataclass(frozen=True)
class Magnitude:
    """The size of weights; see `magnitude`."""

    p: float

    @torch.no_grad()
    def __call__(self, wrapped: nn.Module, plan: Plan) -> dict[str, Tensor]:
        powers = {
            name: tensor.detach().abs().double() ** self.p
            for name, tensor in parameters_of(wrapped, plan).items()
            if tensor.dim() > 1
        }
        found = {}
        for group in plan.groups.values():
            if normed(wrapped, plan, group):
                continue
            norms = [part ** (1 / self.p) for part in per_unit(plan, group, powers)]
            if norms:
                found[group.name] = torch.stack([_relative(norm).log() for norm in norms]).mean(0).exp()
        return found


def magnitude(p: float = 2.0) -> Magnitude:
    """Importance by the p-norms of a unit's weights: 2 for squares, 1 for absolute values.

    It is their geometric mean over the tensors of two or more dimensions that the group cuts. So a unit that is made
    twice as large and read half as much counts as before, as it should: under ReLU it computes the same. Groups that
    cut no such tensor keep their order, and so do those whose features are normalised together (LayerNorm, RMSNorm,
    GroupNorm): weights do not tell what matters there. See `activation`.
    """
    if isinstance(p, bool) or not isinstance(p, int | float) or not p > 0:
        raise InputError(f"p is a positive number, got {p!r}")
    return Magnitude(float(p))


def normed(wrapped: nn.Module, plan: Plan, group: Group) -> bool:
    """Whether the features of a group are normalised together, by a layer that has numbers for each of them."""
    owners: dict[str, list[str]] = {}
    for name, _ in group.cuts:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    alone = [path for path, names in owners.items() if all(len(plan.layouts[name]) == 1 for name in names)]
    modules = dict(named_modules(wrapped))  # tensors in containers have names that are no paths
    return any(_mixes(modules[path], group.size) for path in alone if path in modules)


@torch.no_grad()
def _mixes(layer: nn.Module, size: int) -> bool:
    """Whether one feature of a layer's input changes others of its output, by trying it."""
    first = next(layer.parameters(), None)
    if first is None or next(layer.children(), None) is not None:
        return False
    copied = apart(layer).eval()
    for shape, dim in (((2, 3, size), 2), ((2, size, 3, 3), 1)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(first)
        other = x.clone()
        other.select(dim, 0).mul_(10.0)
        try:
            before, after = (copied(one).movedim(dim, 0)[1:] for one in (x, other))
        except Exception:  # it takes inputs of another shape
            continue
        # what is made of each feature alone stays as it was, but for rounding; a norm moves by ten times in one feature
        if len(before) == size - 1 and not torch.allclose(before, after, rtol=1e-3):
            return True
    return False


def _relative(norms: Tensor) -> Tensor:
    mean = norms.mean()
    return norms / mean if mean > 0 else norms


@dataclass(frozen=True)
class Taylor(Generic[B]):
    """What a loss would change by; see `taylor`."""

    batches: Iterable[B]
    loss: Callable[[nn.Module, B], Tensor]

    def __call__(self, wrapped: nn.Module, plan: Plan) -> dict[str, Tensor]:
        groups = {name: group for name, group in plan.groups.items() if group.kind != DEPTH}
        found = {name: torch.zeros(group.size, dtype=torch.float64) for name, group in groups.items()}
        empty = True
        with evaluating(wrapped), at_widths(wrapped, 1.0), torch.enable_grad():
            for batch in self.batches:
                empty = False
                products = _products(wrapped, plan, self.loss(wrapped, batch))
                for name, group in groups.items():
                    for part in per_unit(plan, group, products):
                        found[name] += part.square()
        if empty:
            raise InputError("taylor was given no batches: pass a few batches of training data")
        return found


def taylor(batches: Iterable[B], loss: Callable[[nn.Module, B], Tensor]) -> Taylor[B]:
    """Importance by what the loss would change by without a unit, to first order (Molchanov 2019, arXiv:1906.10771).

    That is the sum of weight times gradient over a unit, squared, for each tensor that its group cuts and each batch.

    Args:
        batches: anything that `loss` takes; gradients are taken on one after another. Many small batches tell more
            than a few large ones, whose gradients cancel in a trained model.
        loss: `loss(model, batch)`, a scalar. The model is in eval mode and at full width; its `.grad` stay as they are.
    """
    return Taylor(batches, loss)


def _products(wrapped: nn.Module, plan: Plan, loss: Tensor) -> dict[str, Tensor]:
    """Weight times gradient, for every parameter that has one."""
    tensors = {name: t for name, t in parameters_of(wrapped, plan).items() if t.requires_grad}
    gradients = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    pairs = zip(tensors.items(), gradients, strict=True)
    return {name: (t.detach() * gradient).double() for (name, t), gradient in pairs if gradient is not None}


def per_unit(plan: Plan, group: Group, elements: dict[str, Tensor]) -> Iterator[Tensor]:
    """For each tensor and dimension that a group cuts, the sum of the elements of each unit, float64 on the CPU.

    Of units that are modules side by side, tensors that correspond count as one.
    """
    for name, dim in group.cuts:
        if name in elements:
            tensor = elements[name]
            sums = tensor.sum([d for d in range(tensor.dim()) if d != dim]) if tensor.dim() > 1 else tensor
            owner = units(plan.layouts[name][dim], group.name)
            total = torch.zeros(group.size, dtype=torch.float64)
            yield total.index_add(0, owner[owner >= 0], sums.double().cpu()[owner >= 0])
    for names in _corresponding(group, elements):
        yield torch.stack([elements[name].sum().double().cpu() for name in names])


def _corresponding(group: Group, names: Iterable[str]) -> Iterator[list[str]]:
    """The tensors of a group's modules, those of all units that do the same together."""
    known = set(names)
    for listed in group.lists if group.kind != DEPTH else ():
        for children in zip(*listed.units, strict=True):
            first, *others = (f"{listed.child(child)}." for child in children)
            for name in sorted(name for name in known if name.startswith(first)):
                found = [name, *(other + name.removeprefix(first) for other in others)]
                if known.issuperset(found):
                    yield found

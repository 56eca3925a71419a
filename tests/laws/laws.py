"""The laws, as functions that raise AssertionError: the same ones run over random programs and over the case table."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import surgery
from surgery.axes import layout
from surgery.modules.inputs import Examples, call, tensors
from surgery.modules.verify import compare, output
from surgery.twin.setting import plan_of

EXACT = 1e-9  # of the output's scale, in float64


def random_widths(plan: surgery.Plan, generator: torch.Generator) -> dict[str, int]:
    """A width for every group: a random multiple of its granularity."""

    def draw(group: surgery.Group) -> int:
        steps = group.size // group.granularity
        return max(group.least, group.granularity * int(torch.randint(1, steps + 1, (1,), generator=generator)))

    return {name: draw(group) for name, group in plan.groups.items()}


def smallest(plan: surgery.Plan) -> dict[str, int]:
    return {name: group.smallest for name, group in plan.groups.items()}


def loss(result: Any) -> Tensor:
    """A scalar in which every output matters."""
    parts = [t for t in tensors(result) if t.is_floating_point()]
    return sum((t * torch.linspace(-1, 2, t.numel(), dtype=t.dtype).view(t.shape)).sum() for t in parts)  # type: ignore[return-value]


def called(model: nn.Module, inputs: Examples) -> Any:
    """What a model returns in the mode that it is in."""
    run = call(inputs)
    return model(*run.args, **run.kwargs)


def gradients(model: nn.Module, inputs: Examples) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    loss(called(model, inputs)).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def full_width_is_the_model(model: nn.Module, wrapped: nn.Module, inputs: tuple) -> None:
    """Law 1: outputs and gradients are equal."""
    surgery.verify(model, wrapped, inputs, tolerance=EXACT)
    mine, theirs = gradients(wrapped, inputs), gradients(model, inputs)
    assert set(mine) >= set(theirs)
    scale = max(gradient.abs().max().item() for gradient in theirs.values())  # some are zero but for rounding
    for name, gradient in theirs.items():
        assert (gradient - mine[name]).abs().max() <= EXACT * scale, f"the gradient of {name} differs"


def shrunk_is_wrapped(
    wrapped: nn.Module, widths: Mapping[str, int], inputs: Examples, tolerance: float = EXACT
) -> nn.Module:
    """Law 2: the shrunk model computes what the wrapped one computes, on inputs that the plan has not seen."""
    small = surgery.shrink(wrapped, widths, recalibrate=False)  # nobody has trained it
    with surgery.at_widths(wrapped, widths):
        surgery.verify(wrapped, small, inputs, tolerance=tolerance)
        assert surgery.widths(wrapped) == dict(widths)
    return small


def slices_nest(wrapped: nn.Module, small: nn.Module, widths: Mapping[str, int], inputs: tuple, **lists: bool) -> None:
    """Law 3: shrinking to `widths` and then further is shrinking there at once."""
    left = surgery.inspect(small, inputs, **lists).groups
    if not left or set(left) != {name for name, width in widths.items() if width > 1}:
        return  # groups of width 1 are gone, and with them the numbers in the names of their neighbours
    least = {name: group.least for name, group in plan_of(wrapped).groups.items()}
    further = {name: group.at_least(max(least[name], group.size // 2)) for name, group in left.items()}
    again = surgery.shrink(surgery.wrap(small, inputs, **lists), further, recalibrate=False)
    surgery.verify(again, surgery.shrink(wrapped, {**widths, **further}, recalibrate=False), inputs, tolerance=EXACT)


def order_is_free(
    model: nn.Module,
    plan: surgery.Plan,
    inputs: Examples,
    generator: torch.Generator,
    tolerance: float = EXACT,
    wrapped: nn.Module | None = None,
) -> None:
    """Law 4: permuting the units of every group changes no output. Modules that run one after another have an order.

    A plan that has lists of modules as groups is that of a wrapped model.
    """
    free = {name: group for name, group in plan.groups.items() if group.kind != "depth"}
    orders = {name: torch.randperm(group.size, generator=generator) for name, group in free.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "reorder permuted buffers"
        )  # RoPE's frequencies; said so, and tested elsewhere
        permuted = surgery.reorder(model, orders, inputs) if wrapped is None else surgery.reorder(wrapped, orders)
    compare(model, permuted, inputs, tolerance, ("the model", "the permuted model"), apart=plan.states)


def gradients_stay_inside(wrapped: nn.Module, widths: Mapping[str, int], inputs: tuple) -> None:
    """Law 5: no gradient reaches a feature beyond the width, or a module that is left out."""
    plan = plan_of(wrapped)
    with surgery.at_widths(wrapped, widths):
        found = gradients(wrapped, inputs)
    assert not [name for name, gradient in found.items() if gradient.any() and not plan.units.there(name, widths)]
    for name, group in plan.groups.items():
        for tensor, _ in group.cuts:
            if tensor in found:
                beyond = found[tensor].clone()
                for dim, parts in enumerate(plan.layouts[tensor]):
                    inside = layout.positions(parts, {g: torch.arange(w) for g, w in widths.items()})
                    rest = sorted(set(range(beyond.shape[dim])) - set(inside.tolist()))
                    assert not beyond.index_select(dim, torch.tensor(rest, dtype=torch.long)).any(), f"{tensor}: {name}"


def cost_is_counted(
    wrapped: nn.Module, small: nn.Module, widths: Mapping[str, int], inputs: Examples, macs: bool = True
) -> None:
    """Law 7: predicted parameters, bytes and multiply-adds are those of the shrunk model."""
    predicted = surgery.cost(wrapped, widths)
    assert predicted.params == sum(p.numel() for p in small.parameters())
    unique = {id(t): t for t in small.state_dict(keep_vars=True).values() if isinstance(t, Tensor)}
    assert predicted.bytes == sum(t.numel() * t.element_size() for t in unique.values())
    if macs:
        assert predicted.macs == counted_macs(small, inputs)


def _grouped(x: torch.Size, weight: torch.Size, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Each row of x (S, K) meets one of the matrices (E, K, N)."""
    return 2 * x.numel() * weight[-1]


def _fused(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Attention by a kernel that the model has chosen itself."""
    return sdpa_flop_count(q, k, v)


def _vector(x: torch.Size, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Each element of a matrix, or of a vector, meets one of a vector."""
    return 2 * x.numel()


OPERATIONS = {
    "_grouped_mm": _grouped,
    "_scaled_dot_product_flash_attention_for_cpu": _fused,
    "mv": _vector,
    "dot": _vector,
}
UNCOUNTED = {
    getattr(torch.ops.aten, name): count for name, count in OPERATIONS.items() if hasattr(torch.ops.aten, name)
}


def counted_macs(model: nn.Module, inputs: Examples) -> int:
    """Multiply-adds as torch counts them, from the operations that run. Attention is counted as its two matmuls."""
    # gradients are on, since the fused inference paths are not counted
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        output_of(model, inputs)
    return counter.get_total_flops() // 2


def output_of(model: nn.Module, inputs: Examples) -> Any:
    was = model.training
    try:
        return called(model.eval(), inputs)
    finally:
        model.train(was)


def everything_is_accounted_for(plan: surgery.Plan, model: nn.Module) -> None:
    """Law 8: elastic and fixed elements add up, and everything fixed has a reason."""
    fixed = sum(item.elements for item in plan.fixed)
    elastic = 0
    for name, parameter in model.named_parameters():
        goes = any(unit not in plan.groups[group].stays for group, unit in plan.units.homes(name))
        inside = torch.full(parameter.shape, goes)
        for dim, parts in enumerate(plan.layouts.get(name, ())):
            mark = torch.tensor([bool(owner) for owner in owners(parts)], dtype=torch.bool)
            shape = [1] * parameter.dim()
            shape[dim] = -1
            inside |= mark.view(shape)
        elastic += int(inside.sum())
    assert elastic + fixed == sum(p.numel() for p in model.parameters()) == plan.total
    assert all(item.reason for item in plan.fixed)
    assert math.isclose(plan.elastic_share, elastic / plan.total)


def owners(parts: tuple) -> list[set[str]]:
    """For every position of a dimension, the groups it belongs to: by enumeration, not by arithmetic."""
    result: list[set[str]] = [set()]
    for factor in parts:
        if hasattr(factor, "terms"):
            inner = [owner for term in factor.terms for owner in owners(term)]
        else:
            inner = [{factor.group} if factor.group else set()] * factor.size
        result = [a | b for a in result for b in inner]
    return result


class untouched:
    """The model is bit for bit as it was: tensors, attributes, mode, hooks and outputs."""

    def __init__(self, model: nn.Module, inputs: tuple):
        self.model, self.inputs = model, inputs

    def __enter__(self) -> None:
        self.state = {name: t.clone() for name, t in self.model.state_dict().items()}
        self.attributes = [{k: copy.copy(v) for k, v in vars(m).items()} for m in self.model.modules()]
        self.types = [type(m) for m in self.model.modules()]
        self.output = output(self.model, call(self.inputs))

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            return
        assert all(torch.equal(t, self.state[name]) for name, t in self.model.state_dict().items())
        assert [type(m) for m in self.model.modules()] == self.types
        for before, module in zip(self.attributes, self.model.modules(), strict=True):
            assert list(before) == list(vars(module))
            for key, value in before.items():
                if isinstance(value, int | float | str | tuple | type(None)) and not tensors(value):
                    assert vars(module)[key] == value and type(vars(module)[key]) is type(value), key
        for a, b in zip(tensors(self.output), tensors(output(self.model, call(self.inputs))), strict=True):
            assert torch.equal(a, b)


def all_laws(
    model: nn.Module, inputs: tuple, others: tuple, seed: int, macs: bool = True, **lists: bool
) -> surgery.Plan:
    """Every law on one model, with `lists` of modules as asked for. Returns the plan, for what it had to offer."""
    generator = torch.Generator().manual_seed(seed)
    plan = surgery.inspect(model, inputs, **lists)
    everything_is_accounted_for(plan, model)
    if not plan.groups:
        return plan
    with untouched(model, inputs):
        wrapped = surgery.wrap(model, inputs, draw=surgery.paper(p=0.8), generator=generator, **lists)
        full_width_is_the_model(model, wrapped, others)
        order_is_free(model, plan, others, generator, wrapped=wrapped if lists else None)
        for i, widths in enumerate((smallest(plan), *(random_widths(plan, generator) for _ in range(2)))):
            small = shrunk_is_wrapped(wrapped, widths, others)
            assert type(small) is type(model)
            assert lists or list(small.state_dict()) == list(model.state_dict())  # names move up in shorter lists
            gradients_stay_inside(wrapped, widths, others)
            cost_is_counted(wrapped, small, widths, inputs, macs)
            if i == 2:
                slices_nest(wrapped, small, widths, others, **lists)
    return plan

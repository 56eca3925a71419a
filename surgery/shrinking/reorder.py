"""`reorder`: the same model with the units of some groups permuted. The independent proof that a plan is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from surgery.axes import layout
from surgery.errors import InputError, ProofError
from surgery.modules.arguments import counted
from surgery.modules.copying import unrun
from surgery.modules.inputs import Examples
from surgery.modules.sharded import whole
from surgery.modules.tensors import named_tensors
from surgery.modules.verify import compare
from surgery.plan.groups import DEPTH, Group
from surgery.plan.plan import Plan
from surgery.shrinking.proof import tolerance_of
from surgery.shrinking.shrink import M, like, plain_copy, prepared
from surgery.twin.setting import own_precision, proven_at


@counted()
def reorder(model: M, orders: Mapping[str, Sequence[int] | Tensor], example_inputs: Examples | None = None) -> M:
    """An independent copy of a model in which `new[i] = old[order[i]]` for the units of each named group.

    A wrong coupling or layout is consistent with itself when it is sliced, but changes outputs when it is permuted: so
    the outputs of the copy are compared with those of `model` before it is returned.

    Args:
        model: a wrapped model, or any model together with example inputs; the copy is plain and at full width.
        orders: group names or globs to permutations of their units. Of units that are modules side by side (kind
            "experts") the tensors change places; modules that run one after another cannot, `surgery.set_depth_order`
            is for them.
        example_inputs: what the comparison runs on. Default: the inputs that the model was wrapped with.

    Raises InputError for an order that is no permutation, WidthError for an unknown group, ProofError where the outputs
    change. Warns where a permuted buffer is not in the state_dict.
    """
    wrapped, plan, examples = prepared(model, example_inputs)
    if not isinstance(orders, Mapping):
        raise InputError(f"orders is a mapping of group names or globs to permutations, got {type(orders).__name__}")
    chosen = {
        name: _order(plan.groups[name], order) for pattern, order in orders.items() for name in plan.find(pattern)
    }
    permuted = _permuted(wrapped, plan, chosen)
    _warn(model, plan, chosen)
    try:
        with own_precision(wrapped), proven_at(wrapped, plan.full()):
            names = "the wrapped model at full width", "the reordered model"
            tolerance, other = tolerance_of(plan, wrapped), unrun(permuted)
            compare(wrapped, other, examples, tolerance, names, plan.states, dropout=False, outputs=plan.outputs)
    except ProofError as error:
        cause = error.__cause__ or error
        raise ProofError(f"reordering {', '.join(chosen)} changes what {plan.model} computes: {error}") from cause
    return permuted


def _order(group: Group, order: Sequence[int] | Tensor) -> Tensor:
    if group.kind == DEPTH:
        raise InputError(
            f"group {group.name} is of modules that run one after another, which cannot change places: "
            "surgery.set_depth_order(wrapped, orders) says which of them small depths keep"
        )
    try:
        index = torch.as_tensor(order).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"group {group.name}: an order is a LongTensor or ints, got {type(order).__name__} ({error})"
        ) from None
    if index.dtype.is_floating_point or index.dtype == torch.bool:
        raise InputError(f"group {group.name}: an order is a LongTensor or ints, got {index.dtype}")
    if index.shape != (group.size,) or not torch.equal(index.long().sort().values, torch.arange(group.size)):
        raise InputError(
            f"group {group.name}: an order is a permutation of range({group.size}), got {index.numel()} values, "
            f"{len(set(index.flatten().tolist()))} different"
        )
    return index.long()


def _permuted(wrapped: M, plan: Plan, orders: Mapping[str, Tensor]) -> M:
    moves = {name: order.tolist() for name, order in orders.items() if name in plan.units.groups}
    tensors = dict(named_tensors(wrapped)) if moves else {}

    def take(name: str, tensor: Tensor) -> Tensor:
        source = plan.canonical(plan.units.moved(name, moves))
        value = tensor.detach() if source == name else whole(tensors[source]).detach()
        for dim, parts in enumerate(plan.layouts.get(source, ())):
            if set(orders) & set(layout.groups(parts)):
                value = value.index_select(dim, layout.positions(parts, orders).to(value.device))
        if value.shape != tensor.shape:
            raise InputError(
                f"{name} is {list(tensor.shape)} and {source} {list(value.shape)}: modules of {plan.model} that differ "
                "in size cannot change places"
            )
        return like(tensor, value)

    return plain_copy(wrapped, plan, take, plan.full())


def _warn(model: nn.Module, plan: Plan, orders: Mapping[str, Tensor]) -> None:
    import warnings

    lost = sorted({tensor for name in orders for tensor in unsaved(model, plan, name)})
    if lost:
        warnings.warn(
            f"reorder permuted buffers that are not in the state_dict: {', '.join(lost)}. "
            "Keep the model itself, or use surgery.save, which stores them.",
            stacklevel=3,
        )


def unsaved(model: nn.Module, plan: Plan, group: str) -> set[str]:
    """The tensors of a group that the state_dict does not hold, such as rotary frequencies."""
    kept = set(model.state_dict(keep_vars=True))
    return {tensor for tensor, _ in plan.groups[group].cuts} - kept - set(plan.parameters)

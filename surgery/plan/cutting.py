"""Cutting tensors to widths: views where the kept part is a prefix, gathered copies where it is not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.modules.sharded import gathered, is_sharded, spread_as

Kept: TypeAlias = "tuple[int | Tensor | None, ...]"
Scale: TypeAlias = "tuple[int, frozenset[str]]"  # of a producing parameter: its dimension, and the groups that it makes


def cut(tensor: Tensor, layouts: Sequence[Layout], widths: Mapping[str, int], scale: Scale | None = None) -> Tensor:
    """A tensor at the given widths, times H/c (size over width) of the groups that it makes, where `scale` names them.

    Gradients flow back into the whole.
    """
    part = read(tensor, kept(layouts, widths))
    return part if scale is None else rescale(part, scale[0], layouts, scale[1], widths)


def kept(layouts: Sequence[Layout], widths: Mapping[str, int]) -> Kept | None:
    """What remains of each dimension of a tensor, or None where all of the tensor does."""
    parts = tuple(layout.kept(dim, widths) for dim in layouts)
    return None if all(part is None for part in parts) else parts


def read(tensor: Tensor, parts: Kept | None) -> Tensor:
    """The kept part of a tensor. Gradients flow back into the whole, zero outside the part.

    That of a sharded tensor is spread over ranks in the same way.
    """
    if parts is None:
        return tensor
    if is_sharded(tensor):
        return spread_as(tensor, read(gathered(tensor), parts))
    several = sum(part is not None for part in parts) > 1 or not is_view(parts)
    if several and tensor.requires_grad and torch.is_grad_enabled():
        return _cut(tensor, parts)
    return _take(tensor, parts)  # one prefix: torch's own gradient allocates the whole once as well


def write(tensor: Tensor, part: Tensor, parts: Kept) -> None:
    """Put a kept part back into its tensor, in place."""
    with torch.no_grad():
        if is_sharded(tensor):
            value = gathered(tensor.detach())
            _put(value, gathered(part.detach()), parts)
            tensor.detach().copy_(spread_as(tensor, value))
        else:
            _put(tensor.detach(), part.detach(), parts)


def is_view(parts: Kept | None) -> bool:
    """Whether reading gives a view of the tensor, if that is not sharded."""
    return parts is None or not any(isinstance(part, Tensor) for part in parts)


def _take(tensor: Tensor, parts: Kept) -> Tensor:
    for dim, part in enumerate(parts):
        if isinstance(part, int):
            tensor = tensor.narrow(dim, 0, part)
    for dim, part in enumerate(parts):
        if isinstance(part, Tensor):
            tensor = tensor.index_select(dim, part.to(tensor.device))
    return tensor


def _put(tensor: Tensor, part: Tensor, parts: Kept) -> None:
    for dim, kept_ in enumerate(parts):
        if isinstance(kept_, int):
            tensor = tensor.narrow(dim, 0, kept_)
    gathered = [(dim, kept_) for dim, kept_ in enumerate(parts) if isinstance(kept_, Tensor)]
    if not gathered:
        tensor.copy_(part)
        return
    where: list[slice | Tensor] = [slice(None)] * tensor.dim()
    for place, (dim, index) in enumerate(gathered):
        shape = [1] * len(gathered)
        shape[place] = -1
        where[dim] = index.to(tensor.device).view(shape)
    if len(gathered) == 1:
        tensor.index_copy_(gathered[0][0], gathered[0][1].to(tensor.device), part)
    else:
        first = gathered[0][0]
        moved = [dim for dim, _ in gathered]
        adjacent = moved == list(range(first, first + len(moved)))
        tensor[tuple(where)] = part if adjacent else part.movedim(moved, tuple(range(len(moved))))


def _whole(part: Tensor, parts: Kept, shape: torch.Size) -> Tensor:
    """A part with zeros around it."""
    whole = part.new_zeros(shape)
    _put(whole, part, parts)
    return whole


class _Context(Protocol):
    """What a backward needs to know of its forward."""

    shape: torch.Size
    parts: Kept


class _Cut(torch.autograd.Function):
    """One node for a cut: its backward allocates the whole gradient once.

    It saves no tensor, as a gathering of torch's would. A pass has one slice of a parameter, so a checkpoint that
    computes a part of the pass again reads it and does not cut again; it must save as many tensors as before.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Tensor, parts: Kept) -> Tensor:
        return _take(tensor, parts)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor, Kept], output: Tensor) -> None:
        ctx.shape, ctx.parts = inputs[0].shape, inputs[1]

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            return _uncut(gradient, ctx.parts, ctx.shape), None
        return _whole(gradient, ctx.parts, ctx.shape), None


class _Uncut(torch.autograd.Function):
    """The adjoint of `_Cut`, itself differentiable."""

    generate_vmap_rule = True

    @staticmethod
    def forward(part: Tensor, parts: Kept, shape: torch.Size) -> Tensor:
        return _whole(part, parts, shape)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor, Kept, torch.Size], output: Tensor) -> None:
        ctx.parts = inputs[1]

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _cut(gradient, ctx.parts), None, None


class _Scaled(torch.autograd.Function):
    """A slice times constants, which saves no tensor either."""

    generate_vmap_rule = True

    @staticmethod
    def forward(part: Tensor, factors: Tensor) -> Tensor:
        return part * factors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.factors = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factors, None


_scaled: Callable[[Tensor, Tensor], Tensor] = _Scaled.apply
_cut: Callable[[Tensor, Kept], Tensor] = _Cut.apply
_uncut: Callable[[Tensor, Kept, torch.Size], Tensor] = _Uncut.apply


@functools.lru_cache(maxsize=1024)
def _factors(dim: Layout, inside: frozenset[str], widths: tuple[tuple[str, int], ...]) -> Tensor:
    """A factor for each entry of a dimension.

    An entry of a map from a group to itself is scaled once: what the map is multiplied with has the factor too.
    """
    chosen = dict(widths)
    result = torch.ones(1, dtype=torch.float64)
    for factor in dim:
        if isinstance(factor, layout.Sum):
            inner = torch.cat([_factors(term, inside, widths) for term in factor.terms])
        else:
            width = chosen.get(factor.group or "", factor.size)
            inner = torch.full((width,), factor.size / width if factor.group in inside else 1.0, dtype=torch.float64)
        inside -= set(layout.groups((factor,)))
        result = (result[:, None] * inner).flatten()
    return result


def rescale(
    part: Tensor, dim: int, layouts: Sequence[Layout], groups: frozenset[str], widths: Mapping[str, int]
) -> Tensor:
    """The kept part of a producing parameter times H/c (size over width) of the groups that it makes."""
    relevant = tuple((name, widths.get(name, size)) for name, size in layout.sizes(layouts[dim]))
    factors = _factors(layouts[dim], groups, relevant)
    if bool((factors == 1).all()):
        return part
    shape = [1] * part.dim()
    shape[dim] = -1
    if is_sharded(part):
        return spread_as(part, gathered(part) * factors.to(part.device, part.dtype).view(shape))
    return _scaled(part, factors.to(part).view(shape))

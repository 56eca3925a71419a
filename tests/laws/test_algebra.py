"""Law 6: what the algebra says of shape operations is what they do to integer index tensors.

A random chain of operations is applied to a tensor of distinct integers. Permuting or cutting the axes that the
analysis found free, at the input, must be the same as permuting or cutting the output where the analysis says they are.
For cuts, the sizes that the chain was written with are replaced by what the requirements of the rules ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor, nn

from surgery import layout
from surgery.analysis import Analysis
from surgery.axes import Dims, axes_of, fresh
from surgery.capture import capture
from surgery.inputs import Inputs
from surgery.layout import Layout
from surgery.planning import freeze
from surgery.rewrite import Rewritten
from surgery.solve import group_axes, solve, width


class Chain(nn.Module):
    """Operations on one parameter, with their sizes written out as literals."""

    def __init__(self, values: Tensor, operations: list[Callable[[Tensor], Tensor]]):
        super().__init__()
        self.values = nn.Parameter(values)
        self.operations = operations

    def forward(self) -> Tensor:
        x = self.values
        for operation in self.operations:
            x = operation(x)
        return x


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _operation(draw: Callable, shape: list[int]) -> tuple[str, Callable[[Tensor], Tensor]]:
    """One operation that is possible on this shape, with literal arguments."""
    dim = draw(st.integers(0, len(shape) - 1))
    n = shape[dim]
    divisor = draw(st.sampled_from(_divisors(n)))
    other = draw(st.integers(0, len(shape) - 1))
    at = draw(st.integers(1, max(1, n - 1)))
    kinds: dict[str, Callable[[Tensor], Any]] = {
        "split-dim": lambda x: x.reshape(*x.shape[:dim], divisor, n // divisor, *x.shape[dim + 1 :]),
        "unflatten": lambda x: x.unflatten(dim, (n // divisor, divisor)),
        "transpose": lambda x: x.transpose(dim, other),
        "flatten": lambda x: x.flatten(min(dim, other), max(dim, other)),
        "merge-view": lambda x: x.reshape(-1, shape[-1]),
        "movedim": lambda x: x.movedim(dim, other),
        "narrow": lambda x: x.narrow(dim, 0, at),
        "slice": lambda x: x[(slice(None),) * dim + (slice(n - at, None),)],
        "swap": lambda x: torch.cat([x.narrow(dim, at, n - at), x.narrow(dim, 0, at)], dim) if n > 1 else x,
        "double": lambda x: torch.cat([x, x + 10_000], dim),
        "chunk": lambda x: x.chunk(divisor, dim)[-1],
        "split": lambda x: torch.cat(x.split([at, n - at], dim)[::-1], dim) if n > 1 else x,
        "split-equal": lambda x: x.split(n // divisor, dim)[0],
        "select-last": lambda x: x.select(dim, n - 1) if x.dim() > 1 else x,
        "index-negative": lambda x: x[(slice(None),) * dim + (-1,)] if x.dim() > 1 else x,
        "stack": lambda x: torch.stack([x, x + 20_000], dim),
        "unbind": lambda x: x.unbind(dim)[0] if x.dim() > 1 else x,
        "unsqueeze": lambda x: x.unsqueeze(dim),
        "expand": lambda x: x.unsqueeze(dim).expand(*shape[:dim], 2, *shape[dim:]),
        "repeat": lambda x: x.repeat(*(2 if i == dim else 1 for i in range(len(shape)))),
        "repeat-interleave": lambda x: x.repeat_interleave(2, dim),
        "stride": lambda x: x[(slice(None),) * dim + (slice(divisor - 1, None, divisor),)],
        "pad": lambda x: torch.nn.functional.pad(x, (1, 2)),
        "flip": lambda x: x.flip(dim),
        "roll": lambda x: x.roll(1, dim),
        "add-transposed": lambda x: x + x.transpose(dim, other) if shape[dim] == shape[other] else x,
        "add-rolled": lambda x: x + torch.cat([x.narrow(dim, at, n - at), x.narrow(dim, 0, at)], dim) if n > 1 else x,
    }
    name = draw(st.sampled_from(list(kinds)))
    return f"{name}(dim={dim}, n={n}, divisor={divisor}, at={at}, other={other})", kinds[name]


@st.composite
def chains(draw: Callable) -> tuple[Chain, list[str]]:
    shape = draw(st.lists(st.sampled_from([2, 3, 4, 6, 8, 12]), min_size=1, max_size=3))
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).view(shape)
    operations, story = [], [f"start {shape}"]
    y = x
    for _ in range(draw(st.integers(1, 6))):
        name, operation = _operation(draw, list(y.shape))
        z = operation(y)
        if 0 < z.numel() <= 20_000 and 0 < z.dim() <= 6:
            y = z
            operations.append(operation)
            story.append(name)
    return Chain(x, operations), story


def taken(x: Tensor, layouts: tuple[Layout, ...], chosen: dict[str, Tensor]) -> Tensor:
    for dim, parts in enumerate(layouts):
        x = x.index_select(dim, layout.positions(parts, chosen))
    return x


@given(drawn=chains(), seed=st.integers(0, 2**16))
def test_algebra_agrees_with_brute_force(drawn: tuple[Chain, list[str]], seed: int) -> None:
    chain, story = drawn
    note(" > ".join(story))
    analysis = Analysis(chain)
    (out,) = analysis.run(capture(chain, Inputs()), ())
    solution = solve(analysis)
    axes = group_axes(analysis)
    names = {axis: f"axis{i}" for i, axis in enumerate(axes)}
    before = tuple(freeze(dim, names) for dim in analysis.tensors["values"])
    after = tuple(freeze(dim, names) for dim in out)
    generator = torch.Generator().manual_seed(seed)
    orders = {names[a]: torch.randperm(a.size, generator=generator) for a in axes}
    plain = chain().detach()
    assert tuple(plain.shape) == tuple(layout.width(dim, {}) for dim in after)

    permuted = Chain(taken(chain.values.detach(), before, orders), chain.operations)
    assert torch.equal(permuted().detach(), taken(plain, after, orders)), (
        "permuting the input permutes the output alike"
    )

    widths = {a: int(torch.randint(1, a.size + 1, (1,), generator=generator)) for a in axes}
    kept = {names[a]: torch.arange(w) for a, w in widths.items()}
    cut = Chain(taken(chain.values.detach(), before, kept), chain.operations)
    rewritten = solution.rewrites.get("")
    if rewritten is not None:
        for name, target in rewritten.sizes.items():
            setattr(cut, name, _value(target, widths))
        cut.forward = Rewritten(cut, rewritten.programs)  # type: ignore[method-assign]
    assert torch.equal(cut().detach(), taken(plain, after, kept)), "cutting the input cuts the output alike"


def _value(target: Any, widths: dict) -> int:
    from surgery.sizes import evaluate

    return evaluate(target, lambda leaf: width(leaf.dim, widths))


def test_free_axes_are_found() -> None:
    """The test above is not empty: common chains leave their axes free."""
    for operations in ([lambda x: x.reshape(2, 3, 4)], [lambda x: x.t()], [lambda x: torch.cat([x, x], 1)]):
        analysis = Analysis(Chain(torch.zeros(6, 4), operations))
        analysis.run(capture(analysis.model, Inputs()), ())
        solve(analysis)
        assert len(group_axes(analysis)) >= 2
    assert not list(axes_of(Dims([fresh(1)])[0]))

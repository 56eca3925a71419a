"""Law 6: what the algebra says of shape operations is what they do to integer index tensors.

A random chain of operations is applied to a tensor of distinct integers. Permuting or cutting the axes that the
analysis found free, at the input, must be the same as permuting or cutting the output where the analysis says they are.
For cuts, the sizes that the chain was written with are replaced by what the requirements of the rules ask for.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor, nn

from surgery.axes import layout
from surgery.axes.algebra import Dims, axes_of, fresh
from surgery.axes.layout import Layout
from surgery.capture.record import capture
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.inputs import Inputs
from surgery.modules.tensors import parts_of
from surgery.planning.analysis import Analysis, group_axes
from surgery.planning.freeze import freeze
from surgery.planning.solving.solve import solve
from tests.laws.conformance import value


class Chain(nn.Module):
    """Operations on one parameter, written as code with their sizes as literals."""

    def __init__(self, values: Tensor, operations: list[str]):
        super().__init__()
        self.values = nn.Parameter(values)
        self.operations = operations

    def forward(self) -> Tensor:
        raise NotImplementedError


def written(values: Tensor, operations: list[str]) -> Chain:
    """A chain of a class of its own, whose source Python can find."""
    code = "def forward(self):\n    x = self.values\n" + "".join(f"    x = {line}\n" for line in operations)
    code += "    return x\n"
    file = f"<chain {hash(code)}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    space: dict[str, Any] = {"torch": torch}
    exec(compile(code, file, "exec"), space)
    return type("Chain", (Chain,), {"forward": space["forward"]})(values, operations)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _operation(draw: Callable, shape: list[int]) -> tuple[str, str]:
    """One operation that is possible on this shape, with literal arguments."""
    dim = draw(st.integers(0, len(shape) - 1))
    n = shape[dim]
    divisor = draw(st.sampled_from(_divisors(n)))
    other = draw(st.integers(0, len(shape) - 1))
    at = draw(st.integers(1, max(1, n - 1)))
    cut = f"torch.cat([x.narrow({dim}, {at}, {n - at}), x.narrow({dim}, 0, {at})], {dim})"
    before = f"(slice(None),) * {dim}"
    kinds = {
        "split-dim": f"x.reshape(*x.shape[:{dim}], {divisor}, {n // divisor}, *x.shape[{dim + 1}:])",
        "unflatten": f"x.unflatten({dim}, ({n // divisor}, {divisor}))",
        "transpose": f"x.transpose({dim}, {other})",
        "flatten": f"x.flatten({min(dim, other)}, {max(dim, other)})",
        "merge-view": f"x.reshape(-1, {shape[-1]})",
        "movedim": f"x.movedim({dim}, {other})",
        "narrow": f"x.narrow({dim}, 0, {at})",
        "slice": f"x[{before} + (slice({n - at}, None),)]",
        "swap": cut if n > 1 else "x",
        "double": f"torch.cat([x, x + 10_000], {dim})",
        "chunk": f"x.chunk({divisor}, {dim})[-1]",
        "split": f"torch.cat(x.split([{at}, {n - at}], {dim})[::-1], {dim})" if n > 1 else "x",
        "split-equal": f"x.split({n // divisor}, {dim})[0]",
        "select-last": f"x.select({dim}, {n - 1})" if len(shape) > 1 else "x",
        "index-negative": f"x[{before} + (-1,)]" if len(shape) > 1 else "x",
        "stack": f"torch.stack([x, x + 20_000], {dim})",
        "unbind": f"x.unbind({dim})[0]" if len(shape) > 1 else "x",
        "unsqueeze": f"x.unsqueeze({dim})",
        "expand": f"x.unsqueeze({dim}).expand(*{shape[:dim]}, 2, *{shape[dim:]})",
        "repeat": f"x.repeat(*{[2 if i == dim else 1 for i in range(len(shape))]})",
        "repeat-interleave": f"x.repeat_interleave(2, {dim})",
        "stride": f"x[{before} + (slice({divisor - 1}, None, {divisor}),)]",
        "pad": "torch.nn.functional.pad(x, (1, 2))",
        "flip": f"x.flip({dim})",
        "roll": f"x.roll(1, {dim})",
        "add-transposed": f"x + x.transpose({dim}, {other})" if shape[dim] == shape[other] else "x",
        "add-rolled": f"x + {cut}" if n > 1 else "x",
    }
    name = draw(st.sampled_from(list(kinds)))
    return f"{name}(dim={dim}, n={n}, divisor={divisor}, at={at}, other={other})", kinds[name]


def applied(x: Tensor, operation: str) -> Tensor:
    return eval(operation, {"torch": torch, "x": x})


@st.composite
def chains(draw: Callable) -> tuple[Chain, list[str]]:
    shape = draw(st.lists(st.sampled_from([2, 3, 4, 6, 8, 12]), min_size=1, max_size=3))
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).view(shape)
    operations, story = [], [f"start {shape}"]
    y = x
    for _ in range(draw(st.integers(1, 6))):
        name, operation = _operation(draw, list(y.shape))
        z = applied(y, operation)
        if 0 < z.numel() <= 20_000 and 0 < z.dim() <= 6:
            y = z
            operations.append(operation)
            story.append(name)
    return written(x, operations), story


def taken(x: Tensor, layouts: tuple[Layout, ...], chosen: dict[str, Tensor]) -> Tensor:
    for dim, parts in enumerate(layouts):
        x = x.index_select(dim, layout.positions(parts, chosen))
    return x


@given(drawn=chains(), seed=st.integers(0, 2**16))
def test_algebra_agrees_with_brute_force(drawn: tuple[Chain, list[str]], seed: int) -> None:
    chain, story = drawn
    note(" > ".join(story))
    analysis = Analysis(parts_of(chain))
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

    permuted = written(taken(chain.values.detach(), before, orders), chain.operations)
    assert torch.equal(permuted().detach(), taken(plain, after, orders)), (
        "permuting the input permutes the output alike"
    )

    widths = {a: int(torch.randint(1, a.size + 1, (1,), generator=generator)) for a in axes}
    kept = {names[a]: torch.arange(w) for a, w in widths.items()}
    cut = written(taken(chain.values.detach(), before, kept), chain.operations)
    rewritten = solution.rewrites.get("")
    if rewritten is not None:
        for name, size in rewritten.sizes.items():
            setattr(cut, name, value(size, widths))
        cut.forward = Rewritten(cut, rewritten.routine)  # type: ignore[method-assign]
    assert torch.equal(cut().detach(), taken(plain, after, kept)), "cutting the input cuts the output alike"


def test_free_axes_are_found() -> None:
    """The test above is not empty: common chains leave their axes free."""
    for operations in (["x.reshape(2, 3, 4)"], ["x.t()"], ["torch.cat([x, x], 1)"]):
        analysis = Analysis(parts_of(written(torch.zeros(6, 4), operations)))
        analysis.run(capture(analysis.model, Inputs()), ())
        solve(analysis)
        assert len(group_axes(analysis)) >= 2
    assert not list(axes_of(Dims([fresh(1)])[0]))

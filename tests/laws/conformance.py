"""One call of one operation, held against its rule.

The call runs on tensors. Permuting the units of every axis that the rule leaves free, in what goes in, must permute
what comes out as the rule says. The same at smaller widths, where the integers that the rule asks for follow; and if
the operation computes each position by itself, what comes out must be the cut of what came out at full width.

What comes out are the results, and the arguments themselves, since an operation may write into them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from surgery.axes import layout
from surgery.axes.algebra import Axis, axes_of
from surgery.axes.formulas import Origin, evaluate
from surgery.axes.samples import Samples
from surgery.capture.record import Capture, capture
from surgery.modules.inputs import Inputs
from surgery.modules.tensors import parts_of
from surgery.planning.analysis import Analysis
from surgery.planning.freeze import freeze
from surgery.planning.values import fill


@dataclass
class Verdict:
    """What a rule said of a call."""

    free: int  # how many axes it left free
    explained: bool  # whether the rule covered the call


View = tuple[Tensor, Callable[[Tensor], Tensor]]  # a tensor, and how an argument is made from it


class Apply(nn.Module):
    """An operation on parameters: on copies of them, or on views of copies."""

    def __init__(self, function: Callable, args: Any, kwargs: Any, view: Callable[[Tensor], View] | None = None):
        super().__init__()
        leaves, tree = pytree.tree_flatten((args, kwargs), is_leaf=lambda leaf: isinstance(leaf, slice))
        self._places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        views = {i: view(leaves[i]) if view else (leaves[i], _itself) for i in self._places}
        for i, (base, _) in views.items():
            self.register_parameter(f"t{i}", nn.Parameter(base, requires_grad=False))

        def run(bases: dict[int, Tensor]) -> Any:
            given = [views[i][1](bases[i]) if i in bases else leaf for i, leaf in enumerate(leaves)]
            args, kwargs = pytree.tree_unflatten(given, tree)
            return function(*args, **kwargs)

        self._run = run  # a function is not copied with the module, as what it holds would be

    def forward(self) -> Any:
        bases = {i: getattr(self, f"t{i}").clone() for i in self._places}
        return self._run(bases), list(bases.values())


def _itself(x: Tensor) -> Tensor:
    return x


def through_a_view(random: Random) -> Callable[[Tensor], View]:
    """Makes of a tensor a larger or differently shaped one, and the view of it that is the tensor."""

    def view(x: Tensor) -> View:
        kind = random.choice(("narrow", "tail", "chunk", "stride", "transpose", "flat", "select", "none"))
        if kind == "none" or not x.numel() or (x.dim() == 0 and kind != "select"):
            return x, _itself
        i = random.randrange(max(x.dim(), 1))
        n, shape, last = x.shape[i] if x.dim() else 1, tuple(x.shape), x.dim() - 1
        rest = (slice(None),) * i
        views: dict[str, Callable[[], View]] = {
            "narrow": lambda: (torch.cat([x, x], i), lambda base: base.narrow(i, 0, n)),
            "tail": lambda: (torch.cat([x, x], i), lambda base: base[(*rest, slice(-n, None))]),
            "chunk": lambda: (torch.cat([x, x], i), lambda base: base.chunk(2, i)[1]),
            "stride": lambda: (x.repeat_interleave(2, i), lambda base: base[(*rest, slice(None, None, 2))]),
            "transpose": lambda: (x.transpose(i, last).contiguous(), lambda base: base.transpose(i, last)),
            "flat": lambda: (x.flatten(), lambda base: base.view(shape)),
            "select": lambda: (torch.stack([x, x]), lambda base: base.select(0, 1)),
        }
        return views[kind]()

    return view


def replay(record: Capture, tensors: dict[str, Tensor], sizes: dict[Any, int]) -> list[Tensor]:
    """The recorded calls on other tensors, with other integers at some sites."""
    values: dict[fx.Node, Any] = {}
    for node in record.graph.nodes:
        if node.op == "get_attr":
            values[node] = tensors[node.target]
            continue
        given = [fill(node.args, values.get), fill(node.kwargs, values.get)]
        for (where, path), size in sizes.items():
            given = _replaced(given, path, size) if where is node else given
        values[node] = node.target(*given[0], **given[1])
    return [leaf for leaf in pytree.tree_leaves(fill(record.root.output, values.get)) if isinstance(leaf, Tensor)]


def _replaced(tree: Any, path: Sequence[Any], value: int) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(tree, slice):
        ends = {end: getattr(tree, end) for end in ("start", "stop", "step")}
        return slice(*{**ends, key: _replaced(ends[key], rest, value)}.values())
    if isinstance(tree, dict):
        return {**tree, key: _replaced(tree[key], rest, value)}
    return type(tree)(_replaced(item, rest, value) if i == key else item for i, item in enumerate(tree))


class Disagreement(AssertionError):
    """A rule says something else than the operation does."""


def conforms(
    model: Apply, generator: torch.Generator, local: bool = True, least: int = 1, filled: bool = True
) -> Verdict:
    """Hold the rule of a call against the call. Raises Disagreement.

    Args:
        local: whether the operation computes each position of every axis that it leaves by itself.
        least: how many units each axis keeps.
        filled: whether the results have values; else their sizes are compared alone.
    """
    record = capture(model, Inputs())
    analysis = Analysis(parts_of(model))
    outputs = analysis.run(record, ())
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    inputs = {name: analysis.tensors[name] for name in tensors if name in analysis.tensors}
    every = dict.fromkeys(axis for dims in (*inputs.values(), *outputs) for dim in dims for axis in axes_of(dim))
    free = [axis for axis in every if not axis.pin]
    names = {axis: f"axis{i}" for i, axis in enumerate(free)}
    before = {name: tuple(freeze(dim, names) for dim in dims) for name, dims in inputs.items()}
    after = [tuple(freeze(dim, names) for dim in dims) for dims in outputs]
    story = f"{ {n: layouts for n, layouts in before.items()} } -> {after}"

    def run(given: dict[str, Tensor], widths: dict[Axis, int]) -> list[Tensor]:
        try:
            torch.default_generator.manual_seed(0)  # every run draws the same numbers
            results = replay(record, given, _sizes(analysis, widths))
        except Exception as error:
            raise Disagreement(f"at the widths {_named(widths, names)} it raises {error!r}\n{story}") from error
        for result, layouts in zip(results, after, strict=True):
            expected = [layout.width(parts, _named(widths, names)) for parts in layouts]
            if list(result.shape) != expected:
                raise Disagreement(f"the rule says {expected}, it made {list(result.shape)}\n{story}")
        return results

    def shuffled(given: dict[str, Tensor], results: list[Tensor], widths: dict[Axis, int]) -> None:
        counts = {axis: widths.get(axis, axis.size) for axis in free}
        orders = {names[a]: torch.randperm(n, generator=generator) for a, n in counts.items()}
        narrow = {name: tuple(_narrowed(part, counts, names) for part in parts) for name, parts in before.items()}
        wanted = [tuple(_narrowed(part, counts, names) for part in parts) for parts in after]
        moved = {name: taken(x, narrow.get(name, ()), orders) for name, x in given.items()}
        for got, plain, parts in zip(run(moved, widths), results, wanted, strict=True):
            if filled:
                _same(got, taken(plain, parts, orders), f"permuting what goes in\n{story}")

    plain = run(tensors, {})
    shuffled(tensors, plain, {})
    pairs = {axis for dim, _ in analysis.min_units for axis in axes_of(dim)}
    for draw in (lambda n, low: low, lambda n, low: int(torch.randint(low, n + 1, (1,), generator=generator))):
        widths = {axis: draw(axis.size, min(axis.size, 2 if axis in pairs else least)) for axis in free}
        kept = {names[axis]: torch.arange(n) for axis, n in widths.items()}
        cut = {name: taken(x, before.get(name, ()), kept) for name, x in tensors.items()}
        results = run(cut, widths)
        shuffled(cut, results, widths)
        for got, full, parts in zip(results, plain, after, strict=True):
            if local and filled:
                _same(got, taken(full, parts, kept), f"cutting what goes in\n{story}")
    reasons = [str(axis.pin) for axis in every]
    return Verdict(len(free), not any("does not cover" in reason or "no rule for" in reason for reason in reasons))


def taken(x: Tensor, layouts: Sequence[layout.Layout], chosen: dict[str, Tensor]) -> Tensor:
    for dim, parts in enumerate(layouts):
        x = x.index_select(dim, layout.positions(parts, chosen))
    return x


def _named(widths: dict[Axis, int], names: dict[Axis, str]) -> dict[str, int]:
    return {names[axis]: n for axis, n in widths.items()}


def _narrowed(parts: layout.Layout, counts: dict[Axis, int], names: dict[Axis, str]) -> layout.Layout:
    """A layout whose groups have other full sizes."""
    sizes = _named(counts, names)

    def narrowed(part: Any) -> Any:
        if isinstance(part, layout.Sum):
            return layout.Sum(tuple(tuple(map(narrowed, term)) for term in part.terms))
        return layout.Unit(sizes.get(part.group, part.size) if part.group else part.size, part.group)

    return tuple(map(narrowed, parts))


def value(size: Origin, widths: dict[Axis, int]) -> int:
    """What an expression over dimensions comes to at some widths."""
    points = Samples(1, {axis: [width] for axis, width in widths.items()})
    return evaluate(size, lambda leaf: points.width(leaf.dim)[0])  # type: ignore[attr-defined]


def _sizes(analysis: Analysis, widths: dict[Axis, int]) -> dict[Any, int]:
    """What the rule wants at each site. Raises Disagreement where it wants two things of one integer."""
    sizes: dict[Any, int] = {}
    for constraint in analysis.constraints:
        site = constraint.site
        if site is None:
            continue
        size = value(constraint.target, widths)
        if sizes.setdefault((site[0], tuple(site[1])), size) != size:
            raise Disagreement(f"one integer of the call would be both {sizes[site[0], tuple(site[1])]} and {size}")
    return sizes


def _same(got: Tensor, expected: Tensor, what: str) -> None:
    exact = not (got.is_floating_point() or got.is_complex())
    tolerance = 0 if exact else 1e-12 if got.dtype in (torch.float64, torch.complex128) else 1e-4
    scale = 0 if exact or not expected.numel() else float(expected.abs().nan_to_num(0, 0, 0).max())
    if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance * max(scale, 1), equal_nan=True):
        raise Disagreement(f"what comes out does not follow {what}")

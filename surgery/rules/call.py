"""The call that a rule explains, how a rule is applied to it, and what it may require of sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import CodeType
from typing import Protocol, TypeAlias

import torch
from torch import fx, nn

from surgery.axes.algebra import Dim, Dims, axes_of, extent, hold, pin, unify
from surgery.axes.formulas import Origin
from surgery.axes.sizes import Site
from surgery.nested import Shapes
from surgery.rules.places import handed_on
from surgery.rules.registry import Rule

Chain: TypeAlias = "tuple[tuple[CodeType, int], ...]"  # functions, outermost first, with the instruction each is at


class Caller(Protocol):
    """The call of a module in which an operation is called."""

    @property
    def path(self) -> str | None: ...
    @property
    def module(self) -> nn.Module: ...


@dataclass(frozen=True)
class SizeConstraint:
    """`origin` must come to `target` at every width; where not `equal`, at none.

    What a call asks for has that call as `node`, and the place of the integer among its arguments as `site`. One
    without a site was computed by the rule, from other arguments. What a comparison asks for has neither.

    Attributes:
        caller: the call of a module whose forward it is about.
        chain: the functions from that forward to the place, and the instruction that each is at.
    """

    origin: Origin
    target: Origin
    caller: Caller
    chain: Chain
    where: str
    node: fx.Node | None = None
    site: Site | None = None
    equal: bool = True

    @property
    def place(self) -> tuple[str | None, Chain]:
        """A module's path, and where in its forward."""
        return self.caller.path, self.chain


@dataclass
class Call:
    """The call that a rule is explaining.

    Attributes:
        shape: of the result: one, or nested as that is.
        order: of the dimensions of the first argument in memory, where that is known.
        shape_of, dtype_of: the recorded shape and type of an earlier node.
        returned: the nodes that leave the recorded run.
        values: the dimensions of earlier nodes.
        candidates: the sizes of dimensions that may turn out to be experts, though their order seems to be read.
        constraints, macs, min_units, kinds: what the rule has stated.
        least: dimensions, and how many units each must keep.
        counted: dimensions that are read unit by unit.
    """

    node: fx.Node
    where: str
    shape: Shapes
    caller: Caller
    chain: Chain
    order: tuple[int, ...] | None
    shape_of: Callable[[fx.Node], Shapes]
    returned: Sequence[fx.Node] = ()
    values: Mapping[fx.Node, object] = field(default_factory=dict)
    training: bool = False
    dtype_of: Callable[[fx.Node], torch.dtype | None] = lambda _: None
    candidates: frozenset[int] = frozenset()
    constraints: list[SizeConstraint] = field(default_factory=list)
    macs: list[Dim] = field(default_factory=list)
    min_units: list[Dim] = field(default_factory=list)
    kinds: list[tuple[str, Dim]] = field(default_factory=list)
    least: list[tuple[Dim, int]] = field(default_factory=list)
    counted: list[Dim] = field(default_factory=list)

    def open(self, dim: Dim) -> bool:
        """Whether a dimension may turn out to be experts."""
        axes = list(axes_of(dim)) if self.candidates else []
        if not axes or any(axis.pin for axis in axes):
            return False
        return extent(dim) in self.candidates or all(axis.size in self.candidates for axis in axes)

    def address(self, dim: Dim, why: str) -> None:
        """Pin a dimension whose positions are read; where it may turn out to be experts, leave that open."""
        reason = f"{why} at {self.where}"
        if self.open(dim):
            hold(dim, reason)
        else:
            pin(dim, reason)


_CALL: ContextVar[Call] = ContextVar("the call that a rule explains")


def current() -> Call:
    """The call that the rule which runs now explains."""
    return _CALL.get()


def run(call: Call, rule: Rule, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """Apply a rule to a call. What the call writes into (`out=`, in-place) has the dimensions of what it makes."""
    token = _CALL.set(call)
    try:
        out = kwargs.get("out")
        result = rule(*args, **_spelt(rule, {key: value for key, value in kwargs.items() if key != "out"}))
        if out is not None:
            _written(result, out)
        elif _in_place(call.node.target) and args:
            _written(result, args[0])
        name = str(getattr(call.node.target, "__name__", ""))
        return handed_on(name, args, kwargs, result, lambda dim: call.address(dim, "places are read as numbers"))
    finally:
        _CALL.reset(token)


_NUMPY = {"axis": "dim", "keepdims": "keepdim", "axis0": "dim0", "axis1": "dim1"}  # torch takes these names, too
_RESHAPING = frozenset(
    "t_ transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ as_strided_".split()
)  # these write nothing


def _spelt(rule: Rule, kwargs: dict[str, object]) -> dict[str, object]:
    """Keyword arguments by the names that rules know, unless a rule names the others itself."""
    if not any(key in kwargs for key in _NUMPY):
        return kwargs
    own = inspect.signature(rule).parameters
    return {key if key in own else _NUMPY.get(key, key): value for key, value in kwargs.items()}


def _in_place(operation: object) -> bool:
    name = getattr(operation, "__name__", "")
    return name.endswith("_") and not name.endswith("__") and name not in _RESHAPING


def _written(made: object, into: object) -> None:
    """State that a result was written into a tensor, which may be a view of another."""
    where = current().where
    if isinstance(made, Dims) and isinstance(into, Dims):
        if any(extent(dim) == 0 for dim in into):
            return  # an empty tensor takes the shape of what is made
        if [*map(extent, made)] == [*map(extent, into)]:
            for a, b in zip(made, into, strict=True):
                unify(a, b, where)
            return
        for dim in (*made, *into):
            pin(dim, f"written into a tensor of another shape at {where}")
    elif isinstance(made, list | tuple) and isinstance(into, list | tuple):
        for one, other in zip(made, into, strict=True):
            _written(one, other)

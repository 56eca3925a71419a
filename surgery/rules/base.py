"""The registry of operations, and what a rule may ask for while it runs.

A rule takes the arguments of a call with `Dims` in place of tensors and says where each dimension of the result came
from. It sees no tensors and keeps no state; `unify` and `pin` of `surgery.axes` state what it has learnt.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Protocol

from torch import fx, nn

from surgery.axes import algebra as axes
from surgery.axes import signature
from surgery.axes.algebra import Dim, Dims
from surgery.axes.formulas import Arithmetic, Constant, Origin, SizeOf
from surgery.axes.sizes import origin_of
from surgery.nested import fold
from surgery.rules.registry import Rule


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
    chain: tuple[tuple[CodeType, int], ...]
    where: str
    node: fx.Node | None = None
    site: tuple[fx.Node, tuple[Any, ...]] | None = None
    equal: bool = True

    @property
    def place(self) -> tuple[str | None, tuple[tuple[CodeType, int], ...]]:
        """A module's path, and where in its forward."""
        return self.caller.path, self.chain


@dataclass
class Call:
    """The call that a rule is explaining.

    Attributes:
        shape: of the result: one, or nested as that is.
        order: of the dimensions of the first argument in memory, where that is known.
        shape_of: the recorded shape of an earlier node.
        returned: the nodes that leave the recorded run.
        values: the dimensions of earlier nodes.
        constraints, macs, min_units: what the rule has stated.
    """

    node: fx.Node
    where: str
    shape: Any
    caller: Caller
    chain: tuple[tuple[CodeType, int], ...]
    order: tuple[int, ...] | None
    shape_of: Callable[[fx.Node], Any]
    returned: Sequence[fx.Node] = ()
    values: Mapping[fx.Node, Any] = field(default_factory=dict)
    training: bool = False
    constraints: list[SizeConstraint] = field(default_factory=list)
    macs: list[Dim] = field(default_factory=list)
    min_units: list[Dim] = field(default_factory=list)


_CALL: ContextVar[Call] = ContextVar("the call that a rule explains")


def run(call: Call, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Apply a rule to a call. What the call writes into (`out=`, in-place) has the dimensions of what it makes."""
    token = _CALL.set(call)
    try:
        out = kwargs.get("out")
        result = rule(*args, **_spelt(rule, {key: value for key, value in kwargs.items() if key != "out"}))
        if out is not None:
            _written(result, out)
        elif _in_place(call.node.target) and args:
            _written(result, args[0])
        return result
    finally:
        _CALL.reset(token)


_NUMPY = {"axis": "dim", "keepdims": "keepdim", "axis0": "dim0", "axis1": "dim1"}  # torch takes these names, too
_RESHAPING = frozenset(
    "t_ transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ as_strided_".split()
)  # these write nothing


def _spelt(rule: Rule, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments by the names that rules know, unless a rule names the others itself."""
    if not any(key in kwargs for key in _NUMPY):
        return kwargs
    own = inspect.signature(rule).parameters
    return {key if key in own else _NUMPY.get(key, key): value for key, value in kwargs.items()}


def _in_place(operation: Any) -> bool:
    name = getattr(operation, "__name__", "")
    return name.endswith("_") and not name.endswith("__") and name not in _RESHAPING


def _written(made: Any, into: Any) -> None:
    """State that a result was written into a tensor, which may be a view of another."""
    if isinstance(made, Dims) and isinstance(into, Dims):
        if any(axes.extent(dim) == 0 for dim in into):
            return  # an empty tensor takes the shape of what is made
        if len(made) == len(into) and all(axes.extent(a) == axes.extent(b) for a, b in zip(made, into, strict=True)):
            for a, b in zip(made, into, strict=True):
                unify(a, b)
            return
        for dim in (*made, *into):
            ordered(dim, "written into a tensor of another shape")
    elif isinstance(made, list | tuple) and isinstance(into, list | tuple):
        for one, other in zip(made, into, strict=True):
            _written(one, other)


def here() -> str:
    """The operation and source line that the current rule explains."""
    return _CALL.get().where


def result_shape() -> Any:
    """The recorded shape of the result: one shape, or a list of them."""
    return _CALL.get().shape


def current_node() -> fx.Node:
    return _CALL.get().node


def recorded_shape(node: fx.Node) -> Any:
    """The shape that an earlier call has made."""
    return _CALL.get().shape_of(node)


def memory_order() -> tuple[int, ...] | None:
    """The order in which the dimensions of the first argument lie in memory; None where that is not known."""
    return _CALL.get().order


def in_training() -> bool:
    """Whether the call was made in training mode only."""
    return _CALL.get().training


def operation_name() -> str:
    """The name of the operation, for rules of several."""
    return str(getattr(current_node().target, "__name__", ""))


def made_from() -> list[Dims]:
    """The first argument of the call, and everything that it was made from by its own first argument."""
    found, node = [], current_node().args[0]
    while isinstance(node, fx.Node):
        found += tensors_in(_CALL.get().values.get(node))
        node = node.args[0] if node.args else None
    return found


def used(output: int) -> bool:
    """Whether anything reads this output of an operation with several."""
    users = [user for user in current_node().users if user.args[1] == output]
    return any(user.users or user in _CALL.get().returned for user in users)


def require(size: Any, target: Dim | Origin) -> None:
    """State that an integer argument of the call is the width of a dimension, at every width.

    A size that the model computes as a tensor cannot follow: it pins the dimension.
    """
    if isinstance(size, Dims) and not isinstance(target, Origin):
        ordered(target, "its size is computed")
    target = target if isinstance(target, Origin) else SizeOf(target)
    if isinstance(size, int):
        call, site = _CALL.get(), getattr(size, "site", None)
        constraint = SizeConstraint(origin_of(size), target, call.caller, call.chain, call.where, call.node, site)
        call.constraints.append(constraint)


def computed(size: Any) -> bool:
    """Whether an integer argument is no number that stands in the code: it may come to another at other widths."""
    return isinstance(size, int) and not isinstance(origin_of(size), Constant)


def at_least_two(*dims: Dim) -> None:
    """State that the call would treat these dimensions differently if the product of their widths were 1."""
    _CALL.get().min_units.append(tuple(factor for dim in dims for factor in dim))


def minus(value: int, target: Dim) -> Origin:
    """`value - width(target)`, for positions that are counted from the end."""
    return Arithmetic("-", Constant(value), SizeOf(target))


def multiply(*dims: Dim) -> None:
    """State the multiply-adds of the call: the product of these dimensions' widths."""
    _CALL.get().macs.append(tuple(factor for dim in dims for factor in dim))


def unify(left: Dim, right: Dim) -> Dim:
    return axes.unify(left, right, here())


def ordered(dim: Dim, why: str) -> None:
    """Pin a dimension whose order means something."""
    axes.pin(dim, f"{why} at {here()}")


def positions(size: int, why: str = "positions") -> Dim:
    """A new dimension that can be neither cut nor permuted."""
    return axes.fresh(size, f"{why} at {here()}")


def tensors_in(*values: Any) -> list[Dims]:
    """The `Dims` among arguments, also nested, in order."""
    return list(fold(values, Dims))


def axis(dims: Dims, dim: int) -> int:
    """A dimension number, counted from the front."""
    return int(dim) % max(len(dims), 1)


def axis_list(dims: Dims, dim: Any) -> list[int]:
    """Dimension numbers from an int, a sequence, or None for all."""
    if dim is None or dim == ():
        return list(range(len(dims)))
    return [axis(dims, d) for d in (dim if isinstance(dim, tuple | list) else (dim,))]


def contraction(text: str, *inputs: Dims | None, macs: str = "", **sizes: int) -> Any:
    """Apply a signature to the inputs; None stands for an optional tensor that was left out."""
    parsed = signature.parse(text)
    given = [(p, x) for p, x in zip(parsed.inputs, inputs, strict=False) if x is not None]
    binding = signature.Binding(here(), dict(sizes))
    shape = result_shape()
    shapes = shape if isinstance(shape, list) else [shape]
    reduced = signature.Signature(tuple(p for p, _ in given), parsed.outputs)
    outputs = signature.bind(reduced, [x for _, x in given], shapes, binding)
    if macs:
        (names,) = signature.parse_tensors(macs)
        multiply(*outputs[0], *(binding.dim(name) for name in names))
    return outputs if isinstance(shape, list) else outputs[0]

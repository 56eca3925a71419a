"""What a rule may ask for while it runs, and what it may state.

A rule takes the arguments of a call with `Dims` in place of tensors and says where each dimension of the result came
from. It sees no tensors and keeps no state: the call that it explains is at hand while it runs (`call.py`). `unify` and
`pin` of `surgery.axes` state what it has learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import fx

from surgery.axes import algebra as axes
from surgery.axes import signature
from surgery.axes.algebra import Dim
from surgery.axes.algebra import Dims as Dims
from surgery.axes.formulas import Arithmetic, Constant, Origin, SizeOf
from surgery.axes.sizes import origin_of
from surgery.nested import Shapes, fold
from surgery.rules.call import Call as Call
from surgery.rules.call import Caller as Caller
from surgery.rules.call import SizeConstraint as SizeConstraint
from surgery.rules.call import current
from surgery.rules.call import run as run

Result: TypeAlias = "Dims | Sequence[Dims | None] | None"  # of a rule: one, one for each of several, or nothing
Numbers: TypeAlias = "int | Sequence[int]"  # one, or several: `dim`, `kernel_size`


def here() -> str:
    """The operation and source line that the current rule explains."""
    return current().where


def result_shape() -> Shapes:
    """The recorded shape of the result: one shape, or a list of them."""
    return current().shape


def each_result(make: Callable[[Sequence[int]], Dims]) -> Result:
    """What `make` gives for the recorded shape of the result; where there are several, for each of them."""
    shape = result_shape()
    return [make(one) for one in shape] if isinstance(shape, list) else make(shape)


def current_node() -> fx.Node:
    return current().node


def recorded_shape(node: fx.Node) -> Shapes:
    """The shape that an earlier call has made."""
    return current().shape_of(node)


def recorded_dtype(node: fx.Node) -> torch.dtype | None:
    """The type of the tensor that an earlier call has made."""
    return current().dtype_of(node)


def memory_order() -> tuple[int, ...] | None:
    """The order in which the dimensions of the first argument lie in memory; None where that is not known."""
    return current().order


def in_training() -> bool:
    """Whether the call was made in training mode only."""
    return current().training


def operation_name() -> str:
    """The name of the operation, for rules of several."""
    return str(getattr(current_node().target, "__name__", ""))


def made_from() -> list[Dims]:
    """The first argument of the call, and everything that it was made from by its own first argument."""
    found, node = [], current_node().args[0]
    while isinstance(node, fx.Node):
        found += tensors_in(current().values.get(node))
        node = node.args[0] if node.args else None
    return found


def used(output: int) -> bool:
    """Whether anything reads this output of an operation with several."""
    users = [user for user in current_node().users if user.args[1] == output]
    return any(user.users or user in current().returned for user in users)


def require(size: object, target: Dim | Origin) -> None:
    """State that an integer argument of the call is the width of a dimension, at every width.

    A size that the model computes as a tensor cannot follow: it pins the dimension.
    """
    if isinstance(size, Dims) and not isinstance(target, Origin):
        ordered(target, "its size is computed")
    target = target if isinstance(target, Origin) else SizeOf(target)
    if isinstance(size, int):
        call, site = current(), getattr(size, "site", None)
        constraint = SizeConstraint(origin_of(size), target, call.caller, call.chain, call.where, call.node, site)
        call.constraints.append(constraint)


def computed(size: object) -> bool:
    """Whether an integer argument is no number that stands in the code: it may come to another at other widths."""
    return isinstance(size, int) and not isinstance(origin_of(size), Constant)


def at_least_two(*dims: Dim) -> None:
    """State that the call would treat these dimensions differently if the product of their widths were 1."""
    current().min_units.append(tuple(factor for dim in dims for factor in dim))


def kind(name: str, *dims: Dim) -> None:
    """State what the axes of these dimensions are, such as "heads"; see `surgery.plan.groups.KINDS`."""
    current().kinds += [(name, dim) for dim in dims]


def minus(value: int, target: Dim) -> Origin:
    """`value - width(target)`, for positions that are counted from the end."""
    return Arithmetic("-", Constant(value), SizeOf(target))


def multiply(*dims: Dim) -> None:
    """State the multiply-adds of the call: the product of these dimensions' widths."""
    current().macs.append(tuple(factor for dim in dims for factor in dim))


def unify(left: Dim, right: Dim) -> Dim:
    return axes.unify(left, right, here())


def ordered(dim: Dim, why: str) -> None:
    """Pin a dimension whose order means something."""
    axes.pin(dim, f"{why} at {here()}")


def addressed(dim: Dim, why: str) -> None:
    """Pin a dimension whose positions are read; where it may turn out to be experts, leave that open."""
    current().address(dim, why)


def places_in(dim: Dim, least: int = 1) -> Dim | None:
    """The dimension that places are told of, unless it is pinned: of `least` units, which it must keep."""
    current().least.append((dim, int(least)))
    addressed(dim, "positions are read")
    return None if axes.pinned(dim) else dim


def one_by_one(dim: Dim) -> bool:
    """Whether units that are read each by itself may be experts: that is left open, and the dimension stays whole."""
    call = current()
    if not call.open(dim):
        return False
    call.address(dim, "units are read one by one")
    call.counted.append(dim)
    return True


def pointed(dim: Dim, index: object, why: str) -> None:
    """State that an index reads or writes a dimension: its values are places in it, if it knows of what they are."""
    into = index.into if isinstance(index, Dims) else None
    if into is None or axes.pinned(into):
        addressed(dim, why)
        return
    inside, size = axes.extent(into), axes.extent(dim)
    if inside > size:
        into = axes.pieces(into, [size, inside - size], here())[0]
    elif inside < size:
        dim, rest = axes.pieces(dim, [inside, size - inside], here())
        ordered(rest, why)
    unify(dim, into)


def same_place(into: Dim, other: object) -> None:
    """State that places in a dimension are compared with others, or with a number.

    What lies beside the units of an axis, such as the class of what goes to none, has a place of its own.
    """
    if isinstance(other, Dims) and other.into is not None:
        unify(into, other.into)
        return
    (*factors,) = axes.resolve(into)
    terms = factors[0].terms if len(factors) == 1 and isinstance(factors[0], axes.Sum) else ()
    for i, term in enumerate(terms):
        before = axes.concat(terms[:i])
        if isinstance(other, int) and i and axes.extent(term) == 1 and axes.extent(before) == other:
            require(other, before)
            return
    if not one_by_one(into):
        addressed(into, "places are read as numbers")


def positions(size: int, why: str = "positions") -> Dim:
    """A new dimension that can be neither cut nor permuted."""
    return axes.fresh(size, f"{why} at {here()}")


def tensors_in(*values: object) -> list[Dims]:
    """The `Dims` among arguments, also nested, in order."""
    return list(fold(values, Dims))


def axis(dims: Dims, dim: int) -> int:
    """A dimension number, counted from the front."""
    return int(dim) % max(len(dims), 1)


def axis_list(dims: Dims, dim: Numbers | None) -> list[int]:
    """Dimension numbers from an int, a sequence, or None for all."""
    if dim is None or dim == ():
        return list(range(len(dims)))
    return [axis(dims, d) for d in ((dim,) if isinstance(dim, int) else dim)]


def listed(values: Sequence[Any]) -> Sequence[Any]:
    """`f(2, 3)` and `f((2, 3))` alike."""
    return values[0] if len(values) == 1 and isinstance(values[0], tuple | list) else values


def contraction(text: str, *inputs: Dims | None, macs: str = "", **sizes: int) -> Result:
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

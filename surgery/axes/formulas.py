"""Where integers come from, as small expressions: attributes, sizes of tensors, and arithmetic of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import fx

from surgery.axes.algebra import Dim
from surgery.axes.layout import Layout

AttributePath: TypeAlias = "tuple[str, *tuple[Hashable, ...]]"  # the name of an attribute, and steps into its value
Steps: TypeAlias = "tuple[Hashable, ...]"  # into nested values: keys and indices, or `Field`s of objects

OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


class Origin:
    """Where an integer came from. Every subclass is a leaf, except `Arithmetic` and `Agreed`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Constant(Origin):
    """An integer written in the code, or one whose history was lost."""

    value: int


@dataclass(frozen=True, slots=True)
class Attribute(Origin):
    """An integer held by the module at `module`: attribute `path[0]`, then keys, or `Field`s of objects."""

    module: str
    path: AttributePath
    value: int

    def __str__(self) -> str:
        keys = "".join(str(key) if isinstance(key, Field) else f"[{key!r}]" for key in self.path[1:])
        return f"{self.module}.{self.path[0]}{keys}".lstrip(".")


@dataclass(frozen=True, slots=True)
class Extent(Origin):
    """The size of dimension `dim` of the tensor that graph node `node` produced."""

    node: fx.Node
    dim: int
    value: int


@dataclass(frozen=True, slots=True)
class Untracked(Origin):
    """An integer that an earlier run computed from sizes, and that a cache has kept: nothing says how it follows."""

    value: int


@dataclass(frozen=True, slots=True)
class Arithmetic(Origin):
    """`left sign right`, with `sign` one of `OPERATORS`."""

    sign: str
    left: Origin
    right: Origin


@dataclass(frozen=True, slots=True)
class Agreed(Origin):
    """What several expressions come to, of which one is right; where they differ, the number `otherwise`."""

    options: tuple[Origin, ...]
    otherwise: int


def evaluate(origin: Origin, leaf: Callable[[Origin], int]) -> int:
    """The value of an expression, given the value of each leaf. Raises ZeroDivisionError as the code would."""
    if isinstance(origin, Arithmetic):
        return OPERATORS[origin.sign](evaluate(origin.left, leaf), evaluate(origin.right, leaf))
    if isinstance(origin, Agreed):
        return agreed([evaluate(option, leaf) for option in origin.options], origin.otherwise)
    return origin.value if isinstance(origin, Constant) else leaf(origin)


def agreed(values: Sequence[int], otherwise: int) -> int:
    """The one value that there is, or the other number."""
    return values[0] if len(set(values)) == 1 else otherwise


def leaves(origin: Origin) -> Iterator[Origin]:
    """The leaves of an expression, left to right."""
    if isinstance(origin, Arithmetic):
        yield from leaves(origin.left)
        yield from leaves(origin.right)
    elif isinstance(origin, Agreed):
        for option in origin.options:
            yield from leaves(option)
    else:
        yield origin


def is_untracked(origin: Origin) -> bool:
    """Whether nothing says how an expression follows."""
    return any(isinstance(leaf, Untracked) for leaf in leaves(origin))


@dataclass(frozen=True)
class Field:
    """A step into an object: its attribute `name`, where a plain key is one into a container."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@dataclass(frozen=True, slots=True)
class SizeOf(Origin):
    """The width of a dimension."""

    dim: Dim


@dataclass(frozen=True, slots=True)
class LayoutSize(Origin):
    """The width of a layout: what formulas in a plan are made of."""

    layout: Layout


@dataclass(frozen=True, slots=True)
class Rank(Origin):
    """The place of a module among those of its group that are there, plus an offset: what numbers itself in a list."""

    group: str
    unit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Picked(Origin):
    """A sequence with `each` entries for every unit of a group: those of the units that are there, in order.

    In a small model, those `of_first` are as many, but the first: names, which units that stay take over.
    """

    group: str
    each: int = 1
    of_first: bool = False


_Solved: TypeAlias = "Callable[[Origin, Origin], Origin]"
_INVERSES: dict[str, tuple[_Solved, _Solved]] = {
    # sign: (the left operand, the right operand) from the result and the other operand
    "+": (lambda t, r: Arithmetic("-", t, r), lambda t, left: Arithmetic("-", t, left)),
    "-": (lambda t, r: Arithmetic("+", t, r), lambda t, left: Arithmetic("-", left, t)),
    "*": (lambda t, r: Arithmetic("//", t, r), lambda t, left: Arithmetic("//", t, left)),
    "//": (lambda t, r: Arithmetic("*", t, r), lambda t, left: Arithmetic("//", left, t)),
}


def invert(origin: Origin, leaf: Origin, target: Origin) -> Origin | None:
    """The value of `leaf` that gives `origin` the value `target`; None where the leaf stands in two places."""
    if origin == leaf:
        return target
    if not isinstance(origin, Arithmetic) or origin.sign not in _INVERSES:
        return None
    in_left, in_right = leaf in leaves(origin.left), leaf in leaves(origin.right)
    if in_left == in_right:
        return None
    for_left, for_right = _INVERSES[origin.sign]
    if in_left:
        return invert(origin.left, leaf, for_left(target, origin.right))
    return invert(origin.right, leaf, for_right(target, origin.left))

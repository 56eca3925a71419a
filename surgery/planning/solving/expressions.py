"""What the code of a model computes from sizes, as expressions of the widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from surgery.axes import formulas
from surgery.axes.algebra import Axis, Dim, axes_of, resolve
from surgery.axes.formulas import Agreed, Arithmetic, Attribute, Constant, Extent, Origin, SizeOf, Untracked, leaves
from surgery.axes.samples import MANY, Column, Samples, every, many
from surgery.planning.analysis import Analysis

Key: TypeAlias = "tuple[str, tuple[Any, ...]]"  # a module's path, and the path of an attribute in it


class Expressions:
    """Expressions over the axes of an analysis, where attributes follow `formulas`, or stay as they are."""

    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        self.formulas: dict[Key, Origin] = {}
        known = [dim for name in analysis.parameters for dim in analysis.tensors.get(name, ())]
        self.features = {axis for dim in known for axis in axes_of(dim)}

    def known(self, origin: Origin) -> Origin:
        """An origin with the dimensions of tensors in place of their extents."""
        if isinstance(origin, Arithmetic):
            return replace(origin, left=self.known(origin.left), right=self.known(origin.right))
        if isinstance(origin, Extent):
            dims = self.analysis.values.get(origin.node)
            return Untracked(origin.value) if dims is None else SizeOf(resolve(dims[origin.dim]))
        return SizeOf(resolve(origin.dim)) if isinstance(origin, SizeOf) else origin

    def values(self, origin: Origin, points: Samples) -> Column:
        """What an expression comes to at some widths.

        Raises ZeroDivisionError as the code would, and another ArithmeticError where that cannot be told.
        """
        if isinstance(origin, Arithmetic):
            sides = self.values(origin.left, points), self.values(origin.right, points)
            return list(map(formulas.OPERATORS[origin.sign], *sides))
        if isinstance(origin, Agreed):
            options = [self.values(option, points) for option in origin.options]
            return [formulas.agreed(values, origin.otherwise) for values in zip(*options, strict=True)]
        if isinstance(origin, Constant):
            return points.constant(origin.value)
        if isinstance(origin, SizeOf):
            return points.width(origin.dim)
        if isinstance(origin, Untracked):
            raise ArithmeticError("an earlier run has computed it")
        assert isinstance(origin, Attribute)
        formula = self.formulas.get((origin.module, origin.path))
        return points.constant(origin.value) if formula is None else self.values(formula, points)

    def width(self, origin: Origin) -> Dim | None:
        """The dimension whose width a plain expression is."""
        if isinstance(origin, Attribute):
            origin = self.formulas.get((origin.module, origin.path), origin)
        return resolve(origin.dim) if isinstance(origin, SizeOf) else None

    def divides(self, origin: Origin) -> bool:
        """Whether an expression holds a division, which a few widths may satisfy by chance."""
        if isinstance(origin, Arithmetic):
            return origin.sign in ("//", "%") or self.divides(origin.left) or self.divides(origin.right)
        formula = self.formulas.get((origin.module, origin.path)) if isinstance(origin, Attribute) else None
        return formula is not None and self.divides(formula)

    def dims(self, origin: Origin) -> Iterator[Dim]:
        """The dimensions that the value of an expression depends on."""
        for leaf in leaves(origin):
            if isinstance(leaf, SizeOf):
                yield leaf.dim
            elif isinstance(leaf, Attribute) and (leaf.module, leaf.path) in self.formulas:
                yield from self.dims(self.formulas[leaf.module, leaf.path])

    def axes(self, sides: Sequence[Origin]) -> list[Axis]:
        """The axes that expressions depend on and that may be cut."""
        dims = [dim for side in sides for dim in self.dims(side)]
        return list(dict.fromkeys(axis for dim in dims for axis in axes_of(dim) if not axis.pin))

    def features_in(self, *sides: Origin) -> list[Axis]:
        """The axes of parameters that expressions depend on and that may be cut."""
        return [axis for axis in self.axes(sides) if axis in self.features]

    def of_features(self, origin: Origin) -> Origin:
        """An expression without the factors that are no parameter's: what other inputs may have in another size."""
        if isinstance(origin, Arithmetic):
            return replace(origin, left=self.of_features(origin.left), right=self.of_features(origin.right))
        if isinstance(origin, SizeOf):
            return SizeOf(tuple(f for f in resolve(origin.dim) if self.features.intersection(axes_of((f,)))))
        return origin

    def attributes(self, origin: Origin) -> Iterator[Attribute]:
        """The attributes that an expression reads, also through the formulas of others."""
        for leaf in leaves(origin):
            if isinstance(leaf, Attribute):
                yield leaf
                formula = self.formulas.get((leaf.module, leaf.path))
                yield from () if formula is None else self.attributes(formula)

    def outcomes(self, compare: Callable[[int, int], bool], left: Origin, right: Origin) -> set[bool] | None:
        """What a comparison comes to at all widths; None where they are too many, or where the code would fail."""
        axes = self.features_in(left, right)
        if len(axes) > 1 and math.prod(axis.size for axis in axes) > MANY:
            return None
        points = every(axes[0]) if len(axes) == 1 else many(axes)
        try:
            return set(map(compare, self.values(left, points), self.values(right, points)))
        except ArithmeticError:
            return None

    def sampled(self, compare: Callable[[int, int], bool], left: Origin, right: Origin, points: Samples) -> set[bool]:
        """What a comparison comes to at some widths; both, where the code would fail at one of them."""
        try:
            return set(map(compare, self.values(left, points), self.values(right, points)))
        except ArithmeticError:
            return {True, False}

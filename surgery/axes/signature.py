"""A signature at work: the names of its patterns are bound to the dimensions of tensors.

What a signature looks like is said in `pattern.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from surgery.axes.algebra import Dim, Dims, concat, extent, fresh, pin, resolve, unify
from surgery.axes.pattern import (
    Concatenation,
    Name,
    Pattern,
    Product,
    Rest,
    Signature,
    Term,
    names,
    parse,
    parse_tensors,
    parts,
)
from surgery.errors import AxisError

__all__ = [
    "Binding", "Concatenation", "Name", "Pattern", "Product", "Rest", "Signature", "Term", "bind", "broadcast", "names",
    "parse", "parse_tensors",
]  # fmt: skip


@dataclass
class Binding:
    """Axis names bound to dimensions, one signature's use at one place of a model."""

    where: str
    sizes: dict[str, int] = field(default_factory=dict)
    dims: dict[str, Dim] = field(default_factory=dict)
    rest: list[Dim] | None = None

    def dim(self, term: Term, size: int | None = None) -> Dim:
        """The dimension that a term stands for, new axes made where a name is met for the first time."""
        if isinstance(term, int):
            return fresh(term, f"the constant {term} in the declaration of {self.where}")
        if isinstance(term, Product):
            self._infer(term, size)
            return resolve(tuple(factor for part in term.factors for factor in self.dim(part)))
        if isinstance(term, Concatenation):
            return concat([self.dim(part) for part in term.terms])
        assert isinstance(term, Name)
        if term.name not in self.dims:
            size = self.sizes.get(term.name, size)
            if size is None:
                raise AxisError(f"{self.where}: nothing says how large axis {term.name!r} is")
            self.sizes[term.name] = size
            self.dims[term.name] = fresh(size, f"positions of {self.where}" if term.ordered else None)
        if term.ordered:
            pin(self.dims[term.name], f"positions of {self.where}")
        return resolve(self.dims[term.name])

    def size(self, term: Term) -> int | None:
        """The size of a term, as far as it is known."""
        if isinstance(term, int):
            return term
        if isinstance(term, Name):
            return extent(self.dims[term.name]) if term.name in self.dims else self.sizes.get(term.name)
        known = [size for part in parts(term) if (size := self.size(part)) is not None]
        if len(known) < len(parts(term)):
            return None
        return math.prod(known) if isinstance(term, Product) else sum(known)

    def _infer(self, product: Product, size: int | None) -> None:
        """Solve the one unknown factor of a product whose size is known."""
        unknown = [part for part in product.factors if self.size(part) is None]
        if len(unknown) == 1 and isinstance(unknown[0], Name) and size is not None:
            known = math.prod(self.size(part) or 1 for part in product.factors if part is not unknown[0])
            if size % known:
                raise AxisError(f"{self.where}: {size} features do not divide into {known} equal parts")
            self.sizes[unknown[0].name] = size // known

    def match(self, pattern: Pattern, dims: Sequence[Dim]) -> None:
        """Unify the dimensions of a tensor with a pattern. Raises AxisError if their numbers differ."""
        place = next((i for i, term in enumerate(pattern) if isinstance(term, Rest)), None)
        spare = len(dims) - len(pattern) + (place is not None)
        if spare < 0 or (place is None and spare):
            raise AxisError(f"{self.where}: a tensor of {len(dims)} dimensions does not fit {len(pattern)} terms")
        if place is not None:
            rest, term = list(dims[place : place + spare]), pattern[place]
            assert isinstance(term, Rest)
            if term.ordered:
                for dim in rest:
                    pin(dim, f"positions of {self.where}")
            else:
                self.rest = rest if self.rest is None else _broadcast(self.rest, rest, self.where)
            dims = [*dims[:place], *dims[place + spare :]]
            pattern = pattern[:place] + pattern[place + 1 :]
        for term, dim in zip(pattern, dims, strict=True):
            size = extent(dim)
            expected = self.size(term)
            if expected is not None and expected != size:
                raise AxisError(f"{self.where}: {' '.join(names((term,)))!r} is {expected}, but the tensor has {size}")
            unify(self.dim(term, size), dim, self.where)
            if isinstance(term, Name) and term.ordered:
                pin(dim, f"positions of {self.where}")

    def build(self, pattern: Pattern, shape: Sequence[int]) -> Dims:
        """The dimensions of an output of the given shape."""
        dims: list[Dim] = []
        spare = len(shape) - len(pattern) + 1
        for term in pattern:
            if isinstance(term, Rest) and term.ordered:
                dims += [fresh(n, f"positions of {self.where}") for n in shape[len(dims) : len(dims) + spare]]
            elif isinstance(term, Rest):
                dims += self.rest or []
            else:
                dims.append(self.dim(term, shape[len(dims)] if len(dims) < len(shape) else None))
        return Dims(resolve(dim) for dim in dims)


def _broadcast(a: list[Dim], b: list[Dim], where: str) -> list[Dim]:
    """Align two lists of dimensions from the right, as torch broadcasts shapes."""
    if len(a) < len(b):
        a, b = b, a
    tail = len(a) - len(b)
    return a[:tail] + [y if x == () else x if y == () else unify(x, y, where) for x, y in zip(a[tail:], b, strict=True)]


def broadcast(tensors: Sequence[Sequence[Dim]], where: str) -> Dims:
    """The dimensions of an element-wise result."""
    first, *others = (list(dims) for dims in tensors)
    for other in others:
        first = _broadcast(first, other, where)
    return Dims(first)


def bind(
    signature: Signature, inputs: Sequence[Sequence[Dim]], shapes: Sequence[Sequence[int]], binding: Binding
) -> tuple[Dims, ...]:
    """Apply a signature: match every input tensor, then build every output."""
    for pattern, dims in zip(signature.inputs, inputs, strict=False):
        binding.match(pattern, dims)
    return tuple(binding.build(pattern, shape) for pattern, shape in zip(signature.outputs, shapes, strict=False))

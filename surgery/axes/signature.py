"""One string declares a layer or an operation: `... i -> ... o`, `b (g i) ~... -> b (g o) ~...`.

Tensors are separated by commas, dimensions by spaces. A dimension is a name, `(g i)` (a product, major first),
`(a + b)` (a sum), an integer, or `...` (any number of leading, batch-like dimensions, the same in every tensor).
`~` marks positions: their order means something, so they can be neither cut nor permuted (`~t`, `~...`).
A pattern is parsed once and cached.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from surgery.axes.algebra import Dim, Dims, concat, extent, fresh, pin, resolve, unify
from surgery.errors import AxisError

_TOKEN = re.compile(r"\s*(->|\.\.\.|[~(),+]|[A-Za-z_]\w*|\d+)")


@dataclass(frozen=True)
class Name:
    """A named axis. `ordered` axes are positions."""

    name: str
    ordered: bool = False


@dataclass(frozen=True)
class Product:
    factors: tuple[Term, ...]


@dataclass(frozen=True)
class Concatenation:
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Rest:
    """`...`: the dimensions that no other term takes. `ordered` ones belong to their own tensor only."""

    ordered: bool = False


Term: TypeAlias = "Name | Product | Concatenation | Rest | int"
Pattern: TypeAlias = "tuple[Term, ...]"


@dataclass(frozen=True)
class Signature:
    """Parsed patterns of the input tensors and of the output tensors."""

    inputs: tuple[Pattern, ...]
    outputs: tuple[Pattern, ...]


@functools.cache
def parse(text: str) -> Signature:
    """Parse `inputs -> outputs`. Raises AxisError that shows the place of a fault."""
    if text.count("->") != 1:
        raise AxisError(f"a signature has exactly one '->', as in '... i -> ... o'; got {text!r}")
    left, right = text.split("->")
    return Signature(parse_tensors(left), parse_tensors(right))


@functools.cache
def parse_tensors(text: str) -> tuple[Pattern, ...]:
    """Parse comma-separated patterns of tensors."""
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise _fault(text, position, "is no part of a pattern")
        tokens.append((match.group(1), match.start(1)))
        position = match.end()
    patterns: list[list[Term]] = [[]]
    while tokens:
        if tokens[0][0] == ",":
            tokens.pop(0)
            patterns.append([])
        else:
            patterns[-1].append(_term(text, tokens))
    for pattern in patterns:
        if sum(isinstance(term, Rest) for term in pattern) > 1:
            raise _fault(text, text.find("..."), "stands more than once in one tensor")
    return tuple(tuple(pattern) for pattern in patterns)


def names(term: Term | Pattern) -> tuple[str, ...]:
    """The axis names in a term or pattern, in order."""
    if isinstance(term, Name):
        return (term.name,)
    parts = term if isinstance(term, tuple) else getattr(term, "factors", getattr(term, "terms", ()))
    return tuple(name for part in parts for name in names(part))


def _fault(text: str, position: int, what: str) -> AxisError:
    return AxisError(f"{text[position : position + 3].strip()!r} {what}:\n  {text}\n  {' ' * position}^")


def _term(text: str, tokens: list[tuple[str, int]]) -> Term:
    token, position = tokens.pop(0)
    ordered = token == "~"
    if ordered:
        if not tokens:
            raise _fault(text, position, "must stand before a name")
        token, position = tokens.pop(0)
    if token == "...":
        return Rest(ordered)
    if token.isdigit():
        return int(token)
    if token.isidentifier():
        return Name(token, ordered)
    if token != "(":
        raise _fault(text, position, "cannot stand here")
    terms: list[list[Term]] = [[]]
    while tokens and tokens[0][0] != ")":
        if tokens[0][0] == "+":
            tokens.pop(0)
            terms.append([])
        else:
            terms[-1].append(_term(text, tokens))
    if not tokens:
        raise _fault(text, position, "is never closed")
    tokens.pop(0)
    products: list[Term] = [Product(tuple(factors)) for factors in terms]
    return products[0] if len(products) == 1 else Concatenation(tuple(products))


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
        parts = [
            self.size(part) for part in (term.factors if isinstance(term, Product) else getattr(term, "terms", ()))
        ]
        if any(part is None for part in parts):
            return None
        known = [part for part in parts if part is not None]
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

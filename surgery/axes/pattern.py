"""One string declares a layer or an operation: `... i -> ... o`, `b (g i) ~... -> b (g o) ~...`.

Tensors are separated by commas, dimensions by spaces. A dimension is a name, `(g i)` (a product, major first),
`(a + b)` (a sum), an integer, or `...` (any number of leading, batch-like dimensions, the same in every tensor).
`~` marks positions: their order means something, so they can be neither cut nor permuted. It stands before a name or
`...` (`~t`, `~...`); a group is marked inside, `(c ~t)`, and an integer is fixed as it is.
A pattern is parsed once and cached.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from surgery.errors import AxisError

_TOKEN = re.compile(r"->|\.\.\.|[~(),+]|[A-Za-z_]\w*|\d+")


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
    arrow = text.index("->")
    return Signature(_Reader(text, 0, arrow).tensors(), _Reader(text, arrow + 2, len(text)).tensors())


@functools.cache
def parse_tensors(text: str) -> tuple[Pattern, ...]:
    """Parse comma-separated patterns of tensors."""
    return _Reader(text, 0, len(text)).tensors()


class _Reader:
    """Reads the patterns between two places of a text; a fault is shown in all of it."""

    def __init__(self, text: str, start: int, end: int):
        self.text, self.end = text, end
        self.tokens = self._tokens(start)

    def _tokens(self, position: int) -> deque[tuple[str, int]]:
        found: deque[tuple[str, int]] = deque()
        while rest := self.text[position : self.end].lstrip():
            position = self.end - len(rest)
            match = _TOKEN.match(self.text, position, self.end)
            if match is None:
                raise self._fault(position, "is no part of a pattern")
            found.append((match.group(), position))
            position = match.end()
        return found

    def _fault(self, position: int, what: str) -> AxisError:
        seen = self.text[position : min(position + 3, self.end)].strip()
        return AxisError(f"{seen!r} {what}:\n  {self.text}\n  {' ' * position}^")

    def tensors(self) -> tuple[Pattern, ...]:
        patterns = [self._pattern()]
        while self.tokens:  # a comma
            self.tokens.popleft()
            patterns.append(self._pattern())
        return tuple(patterns)

    def _pattern(self) -> Pattern:
        """The terms of one tensor, up to a comma or the end."""
        terms: list[Term] = []
        while self.tokens and self.tokens[0][0] != ",":
            position = self.tokens[0][1]
            term = self._term()
            if isinstance(term, Rest) and any(isinstance(other, Rest) for other in terms):
                raise self._fault(self.text.index("...", position), "stands more than once in one tensor")
            terms.append(term)
        return tuple(terms)

    def _term(self) -> Term:
        token, position = self.tokens.popleft()
        if token == "~":
            return self._positions(position)
        if token == "(":
            return self._group(position)
        if token == "...":
            return Rest()
        if token.isdigit():
            return int(token)
        if not token.isidentifier():
            raise self._fault(position, "cannot stand here")
        return Name(token)

    def _positions(self, mark: int) -> Name | Rest:
        """What stands behind `~`."""
        if not self.tokens or self.tokens[0][0] == "(" or self.tokens[0][0].isdigit():
            raise self._fault(mark, "must stand before a name")
        token, position = self.tokens.popleft()
        if token != "..." and not token.isidentifier():
            raise self._fault(position, "cannot stand here")
        return Rest(ordered=True) if token == "..." else Name(token, ordered=True)

    def _group(self, start: int) -> Product | Concatenation:
        """What stands behind `(`, up to and with the bracket that closes it."""
        products: list[Product] = []
        factors: list[Term] = []
        while self.tokens:
            token, position = self.tokens[0]
            if token not in ("+", ")"):
                term = self._term()
                if isinstance(term, Rest):
                    raise self._fault(self.text.index("...", position), "cannot stand inside of brackets")
                factors.append(term)
                continue
            self.tokens.popleft()
            if not factors:
                raise self._fault(position, "has no dimension before it")
            products.append(Product(tuple(factors)))
            if token == ")":
                return products[0] if len(products) == 1 else Concatenation(tuple(products))
            factors = []
        raise self._fault(start, "is never closed")


def parts(term: Term) -> tuple[Term, ...]:
    """What a product or a sum is made of; of other terms nothing."""
    return term.factors if isinstance(term, Product) else term.terms if isinstance(term, Concatenation) else ()


def names(term: Term | Pattern) -> tuple[str, ...]:
    """The axis names in a term or pattern, in order."""
    if isinstance(term, Name):
        return (term.name,)
    return tuple(name for part in (term if isinstance(term, tuple) else parts(term)) for name in names(part))

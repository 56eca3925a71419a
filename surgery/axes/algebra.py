"""The algebra of axes, while a model is analysed.

A dimension (`Dim`) is a product of factors, major first; a factor is an `Axis` or a `Sum` of dimensions:
`(3 h d)` is three axes, `(a + b)` is one sum. Axes are refined as more is learnt: `unify` says that two dimensions are
the same one, `divide` and `cut` find structure inside one. What cannot be reconciled is pinned, never guessed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_serial = itertools.count()


class Axis:
    """A set of `size` interchangeable units, until it is pinned (`pin` holds why) or refined (`is_` holds its Dim).

    Where `held` says why, that they are interchangeable is still to be shown.
    """

    __slots__ = ("held", "is_", "pin", "serial", "size")

    def __init__(self, size: int, pin: str | None = None):
        self.size = size
        self.pin = pin
        self.held: str | None = None
        self.is_: Dim | None = None
        self.serial = next(_serial)

    def __repr__(self) -> str:
        return f"a{self.serial}:{self.size}{'!' if self.pin else ''}"


@dataclass(frozen=True, slots=True)
class Sum:
    """Dimensions laid one after another, as `cat` lays them."""

    terms: tuple[Dim, ...]

    @property
    def size(self) -> int:
        return sum(extent(term) for term in self.terms)


Factor: TypeAlias = "Axis | Sum"
Dim: TypeAlias = "tuple[Factor, ...]"


class Dims(tuple[Dim, ...]):
    """The dimensions of one tensor; `into`, where its values are places in a dimension, is that dimension."""

    into: Dim | None = None

    def pointing(self, into: Dim | None) -> Dims:
        """The same dimensions, of values that are places in `into`."""
        made = Dims(self)
        made.into = into
        return made


def fresh(size: int, pin: str | None = None) -> Dim:
    """A new dimension about which nothing is known. A dimension of size 1 has no axis, one of size 0 nothing to cut."""
    return () if size == 1 else (Axis(int(size), pin if size else pin or "it is empty"),)


def extent(dim: Dim) -> int:
    """The size of a dimension at full width."""
    size = 1
    for factor in dim:
        size *= factor.size
    return size


def resolve(dim: Dim) -> Dim:
    """The dimension with every refinement that is known so far."""
    if _known(dim):
        return dim
    factors: list[Factor] = []
    for factor in dim:
        if isinstance(factor, Sum):
            factors += concat(factor.terms)
        elif factor.is_ is None:
            factors.append(factor)
        else:
            factor.is_ = resolve(factor.is_)
            factors += factor.is_
    return tuple(factors)


def _known(dim: Dim) -> bool:
    """Whether a dimension is as it would be made anew. Most are, and this is the hottest loop of an analysis."""
    for factor in dim:
        if isinstance(factor, Axis):
            if factor.is_ is not None or not factor.size:
                return False
        elif not (factor.terms and all(map(_known_term, factor.terms))):
            return False
    return True


def _known_term(term: Dim) -> bool:
    return _known(term) and not (len(term) == 1 and isinstance(term[0], Sum))


def concat(terms: Sequence[Dim]) -> Dim:
    """The dimension of a concatenation, its nested sums flattened."""
    flat: list[Dim] = []
    for term in map(resolve, terms):
        if len(term) == 1 and isinstance(term[0], Sum):
            flat += term[0].terms
        elif extent(term):
            flat.append(term)
    return flat[0] if len(flat) == 1 else (Sum(tuple(flat)),)


def axes_of(dim: Dim) -> Iterator[Axis]:
    """The irreducible axes of a dimension, in order, with repeats."""
    for factor in resolve(dim):
        if isinstance(factor, Axis):
            yield factor
        else:
            for term in factor.terms:
                yield from axes_of(term)


def pin(dim: Dim, reason: str) -> None:
    """Forbid to cut or permute anything in this dimension. The first reason is kept."""
    for axis in axes_of(dim):
        axis.pin = axis.pin or reason


def hold(dim: Dim, reason: str) -> None:
    """Leave open whether the units of this dimension are interchangeable. The first reason is kept."""
    for axis in axes_of(dim):
        axis.held = axis.held or reason


def pinned(dim: Dim) -> bool:
    return all(axis.pin for axis in axes_of(dim))


def unify(left: Dim, right: Dim, where: str) -> Dim:
    """State that two dimensions are the same one, and return it. If they cannot be reconciled, both are pinned."""
    left, right = resolve(left), resolve(right)
    if left == right:
        return left
    if extent(left) != extent(right) or not _merge(left, right):
        reason = f"two layouts of {extent(left)} features that have no common refinement meet at {where}"
        pin(left, reason)
        pin(right, reason)
    return resolve(left)


def divide(dim: Dim, inner: int) -> tuple[Dim, Dim] | None:
    """`dim` as (outer, inner) with `inner` minor units, or None where no layout fits."""
    outer: list[Factor] = list(resolve(dim))
    minor: Dim = ()
    while extent(minor) != inner:
        outer[-1:] = resolve(tuple(outer[-1:]))
        if not outer:
            return None
        factor, missing = outer.pop(), inner // extent(minor)
        if missing % factor.size == 0:
            minor = (factor, *minor)
            continue
        parts = _divide_factor(factor, missing)
        if parts is None:
            return None
        outer += parts[0]
        minor = (*parts[1], *minor)
    return resolve(tuple(outer)), resolve(minor)


def cut(dim: Dim, at: int) -> tuple[Dim, Dim] | None:
    """`dim` as two parts, the first `at` positions and the rest, or None where the cut would split a unit."""
    dim = resolve(dim)
    if not 0 <= at <= extent(dim):
        return None
    if at in (0, extent(dim)):
        nothing: Dim = (Sum(()),)
        return (nothing, dim) if at == 0 else (dim, nothing)
    lead, rest = dim[0], dim[1:]
    if at % extent(rest):
        return None
    at //= extent(rest)
    if isinstance(lead, Axis):
        first, second = fresh(at), fresh(lead.size - at)
        _bind(lead, (Sum((first, second)),))
        return first + rest, second + rest
    before, after = [], list(lead.terms)
    while after and at >= extent(after[0]):
        at -= extent(after[0])
        before.append(after.pop(0))
    if at:
        halves = cut(after[0], at)
        if halves is None:
            return None
        before.append(halves[0])
        after[0] = halves[1]
    return concat(before) + rest, concat(after) + rest


def pieces(dim: Dim, sizes: Sequence[int], where: str) -> list[Dim]:
    """`dim` as consecutive parts of the given sizes. Where a boundary would split a unit, everything is pinned."""
    parts, rest = [], dim
    for size in sizes[:-1]:
        halves = cut(rest, size)
        if halves is None:
            reason = f"cut at a position inside a unit at {where}"
            pin(dim, reason)
            return [fresh(size, reason) for size in sizes]
        parts.append(halves[0])
        rest = halves[1]
    return [*map(resolve, parts), resolve(rest)]


def _bind(axis: Axis, dim: Dim) -> None:
    axis.is_ = dim
    if axis.pin:
        pin(dim, axis.pin)
    if axis.held:
        hold(dim, axis.held)


def _divide_factor(factor: Factor, inner: int) -> tuple[Dim, Dim] | None:
    if factor.size % inner:
        return None
    if isinstance(factor, Axis):
        outer, minor = fresh(factor.size // inner), fresh(inner)
        _bind(factor, outer + minor)
        return outer, minor
    outers, common = [], None
    for term in factor.terms:
        parts = divide(term, inner) if extent(term) % inner == 0 else None
        if parts is None or (common is not None and not _merge(common, parts[1])):
            return None
        common = common or parts[1]
        outers.append(parts[0])
    return (Sum(tuple(outers)),), common or ()


def _merge(left: Dim, right: Dim) -> bool:
    """Match two products factor by factor from the minor end, refining both."""
    a, b = list(left), list(right)
    while a and b:
        a[-1:], b[-1:] = resolve((a[-1],)), resolve((b[-1],))
        if not a or not b:
            continue
        if a[-1].size < b[-1].size:
            a, b = b, a
        if a[-1].size == b[-1].size:
            if not _join(a.pop(), b.pop()):
                return False
            continue
        parts = _divide_factor(a.pop(), b[-1].size)
        if parts is None:
            return False
        a += parts[0] + parts[1]
    return extent(tuple(a)) == extent(tuple(b)) == 1


def _join(a: Factor, b: Factor) -> bool:
    """Make two factors of one size the same."""
    if a == b:
        return True
    if isinstance(a, Sum) and isinstance(b, Sum):
        return _align(list(a.terms), list(b.terms))
    if isinstance(a, Sum) or (isinstance(b, Axis) and b.serial > a.serial):
        a, b = b, a  # the older axis stays, so that results do not depend on the order of arguments
    assert isinstance(a, Axis)
    if a in axes_of((b,)):
        return False
    _bind(a, (b,))
    return True


def _align(a: list[Dim], b: list[Dim]) -> bool:
    """Match two sums term by term, cutting the longer term where the boundaries differ."""
    while a and b:
        a[0], b[0] = resolve(a[0]), resolve(b[0])
        if extent(a[0]) < extent(b[0]):
            a, b = b, a
        if extent(a[0]) > extent(b[0]):
            halves = cut(a[0], extent(b[0]))
            if halves is None:
                return False
            a[:1] = halves
        if not _merge(a.pop(0), b.pop(0)):
            return False
    return True
